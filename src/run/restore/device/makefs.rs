//! The commands that make and check filesystems. What a manifest says goes into them as arguments of their own, after a
//! look whether it is something that the tool takes: nothing of it is ever read by a shell, or taken for an option.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use serde::Serialize;

use crate::layout::{Holds, MadeWith};
use crate::shown;

/// A program and its arguments; the device comes after them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ToolCall {
    /// Its name.
    pub program: &'static str,
    /// Its arguments.
    #[serde(serialize_with = "as_text")]
    pub args: Vec<OsString>,
}

fn as_text<S: serde::Serializer>(args: &[OsString], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(args.iter().map(|arg| arg.to_string_lossy()))
}

/// A filesystem's maker, and what it could not be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Maker {
    /// The call.
    pub call: ToolCall,
    /// What will be other than it was, one line each.
    pub remarks: Vec<String>,
}

/// mkfs.xfs refuses anything smaller without being told that it is meant.
const XFS_SUPPORTED_BYTES: u64 = 300 << 20;

/// How the content of a region is made anew. `size_bytes` is what it will have, `entries` how many files it must have
/// room for, `shrunk` whether it is less than it was. An error says why it cannot be made.
pub(super) fn maker(holds: &Holds, size_bytes: u64, entries: u64, shrunk: bool) -> Result<Maker, String> {
    let fs = holds.fs.as_deref().unwrap_or_default();
    let mut remarks = Vec::new();
    let known = MadeWith::default();
    let made = holds.made_with.as_ref().unwrap_or(&known);
    if holds.made_with.is_none() && fs != "swap" {
        remarks.push("the manifest does not say what it was made with: it gets its mkfs's own defaults".to_owned());
    }
    let label = label_of(holds, fs, &mut remarks);
    let mut args = Arguments::default();
    let program = match fs {
        "ext2" | "ext3" | "ext4" => {
            args.flags(&["-q", "-F"]);
            match holds.uuid {
                Some(_) => args.pair("-U", uuid(holds)?),
                None => remarks.push("it had no UUID, and gets one".to_owned()),
            }
            args.label("-L", label);
            ext(made, size_bytes, entries, shrunk, holds, &mut args);
            match fs {
                // The features say which of the three it is; without them the name does.
                _ if !made.features.is_empty() => "mkfs.ext4",
                "ext2" => "mkfs.ext2",
                "ext3" => "mkfs.ext3",
                _ => "mkfs.ext4",
            }
        }
        "xfs" => {
            args.flags(&["-q", "-f"]);
            args.label("-L", label);
            xfs(made, size_bytes, &uuid(holds)?, &mut args)?;
            "mkfs.xfs"
        }
        "btrfs" => {
            args.flags(&["-q", "-f"]);
            args.pair("-U", uuid(holds)?);
            args.label("-L", label);
            btrfs(made, &mut args)?;
            remarks.push(
                "its subvolumes come back as directories, as they are in the archive: it does not boot or mount where \
                 fstab or the boot loader names one (subvol=)"
                    .to_owned(),
            );
            "mkfs.btrfs"
        }
        "vfat" => {
            match holds.uuid.as_deref() {
                Some(serial) => args.pair("-i", fat_serial(serial)?),
                None => remarks.push("it had no serial number, and gets one".to_owned()),
            }
            args.label("-n", label);
            fat(made, holds.version.as_deref(), &mut args)?;
            "mkfs.vfat"
        }
        "swap" => {
            args.flags(&["-f"]);
            if holds.uuid.is_some() {
                args.pair("-U", uuid(holds)?);
            } else {
                args.pair("-U", "clear");
                remarks.push("it had no UUID, and gets none".to_owned());
            }
            args.label("-L", label);
            "mkswap"
        }
        other => return Err(format!("nothing here makes {}", shown::text(other))),
    };
    Ok(Maker { call: ToolCall { program, args: args.0 }, remarks })
}

/// How a filesystem is looked at without changing it; `None` where there is nothing to look with.
pub(super) fn checker(fs: &str) -> Option<ToolCall> {
    let (program, args): (_, &[&str]) = match fs {
        "ext2" | "ext3" | "ext4" => ("e2fsck", &["-f", "-n"]),
        "xfs" => ("xfs_repair", &["-n"]),
        "btrfs" => ("btrfs", &["check", "--readonly"]),
        "vfat" => ("fsck.vfat", &["-n"]),
        _ => return None,
    };
    Some(ToolCall { program, args: args.iter().map(OsString::from).collect() })
}

/// The Debian package that a program comes with.
pub(super) fn package_of(program: &str) -> &'static str {
    match program {
        "mkfs.xfs" | "xfs_repair" => "xfsprogs",
        "mkfs.btrfs" | "btrfs" => "btrfs-progs",
        "mkfs.vfat" | "fsck.vfat" => "dosfstools",
        "mkswap" => "util-linux",
        "dmsetup" => "dmsetup",
        _ => "e2fsprogs",
    }
}

#[derive(Default)]
struct Arguments(Vec<OsString>);

impl Arguments {
    fn flags(&mut self, flags: &[&str]) {
        self.0.extend(flags.iter().map(OsString::from));
    }

    fn pair(&mut self, option: &str, value: impl Into<OsString>) {
        self.0.push(option.into());
        self.0.push(value.into());
    }

    fn label(&mut self, option: &str, label: Option<Vec<u8>>) {
        if let Some(label) = label {
            self.pair(option, OsString::from_vec(label));
        }
    }
}

/// The UUID, in the one form that all tools take.
fn uuid(holds: &Holds) -> Result<String, String> {
    let Some(text) = holds.uuid.as_deref() else {
        return Err("it has no UUID in the manifest, so nothing like it can be made".to_owned());
    };
    let fits = text.len() == 36
        && text.bytes().enumerate().all(|(index, byte)| match index {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        });
    if fits { Ok(text.to_owned()) } else { Err(format!("its UUID {} is none", shown::text(text))) }
}

fn fat_serial(text: &str) -> Result<String, String> {
    let digits: String = text.chars().filter(|c| *c != '-').collect();
    let fits = text.len() == 9 && digits.len() == 8 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    if fits { Ok(digits) } else { Err(format!("its serial number {} is none", shown::text(text))) }
}

/// Whether the label that the manifest has can be given to a filesystem of its kind.
pub(super) fn can_have_label(holds: &Holds) -> bool {
    let fs = holds.fs.as_deref().unwrap_or_default();
    holds.label.as_deref().is_none_or(|label| unescaped(label).is_some_and(|bytes| fits_label(&bytes, fs)))
}

fn label_of(holds: &Holds, fs: &str, remarks: &mut Vec<String>) -> Option<Vec<u8>> {
    let text = holds.label.as_deref()?;
    let bytes = unescaped(text).filter(|bytes| fits_label(bytes, fs));
    if bytes.is_none() {
        remarks.push(format!("its label {} cannot be given to it, and it gets none", shown::text(text)));
    }
    bytes
}

fn fits_label(bytes: &[u8], fs: &str) -> bool {
    let longest = match fs {
        "ext2" | "ext3" | "ext4" => 16,
        "xfs" => 12,
        "vfat" => 11,
        "swap" => 15,
        _ => 255,
    };
    let allowed = |byte: &u8| match fs {
        "vfat" => (byte.is_ascii_graphic() || *byte == b' ') && !b"*?.,;:/\\|+=<>[]\"".contains(byte),
        "btrfs" => !byte.is_ascii_control() && *byte != b'/' && *byte != b'\\',
        _ => !byte.is_ascii_control(),
    };
    bytes.len() <= longest && bytes.iter().all(allowed)
}

/// Undoes what the layout does to labels: a backslash is doubled, a byte that is not UTF-8 is `\xNN`.
fn unescaped(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = match (first, after) {
            (b'\\', [b'\\', after @ ..]) => {
                bytes.push(b'\\');
                after
            }
            (b'\\', [b'x', high, low, after @ ..]) => {
                let digits = [*high, *low];
                bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
                after
            }
            (b'\\', _) => return None,
            (byte, after) => {
                bytes.push(*byte);
                after
            }
        };
    }
    Some(bytes)
}

/// A feature's name is a word: a manifest's own is not made a list, or an option.
fn is_word(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 32
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
        && !name.starts_with('-')
}

fn has(made: &MadeWith, feature: &str) -> bool {
    made.features.iter().any(|name| name == feature)
}

fn ext(made: &MadeWith, size_bytes: u64, entries: u64, shrunk: bool, holds: &Holds, args: &mut Arguments) {
    let block = made.block_bytes.filter(|bytes| bytes.is_power_of_two());
    if let Some(bytes) = block {
        args.pair("-b", bytes.to_string());
    }
    if let Some(bytes) = made.inode_bytes {
        args.pair("-I", bytes.to_string());
    }
    if let Some(bytes) = made.cluster_bytes {
        args.pair("-C", bytes.to_string());
    }
    if let Some(inodes) = made.inodes {
        let inodes = match holds.size_bytes {
            // As many to the byte as there were, and room for what is in the archive.
            Some(was) if shrunk && was > 0 => {
                let scaled = u128::from(inodes) * u128::from(size_bytes) / u128::from(was);
                u64::try_from(scaled).unwrap_or(inodes).max(entries + entries / 16 + 1024)
            }
            _ => inodes,
        };
        args.pair("-N", inodes.to_string());
    }
    if let (Some(reserved), Some(block), Some(was)) = (made.reserved_blocks, block, holds.size_bytes) {
        let blocks = was / u64::from(block);
        if let Some(hundredths) = reserved.checked_mul(10_000).and_then(|part| part.checked_div(blocks)) {
            let hundredths = hundredths.min(5_000);
            args.pair("-m", format!("{}.{:02}", hundredths / 100, hundredths % 100));
        }
    }
    let features: Vec<&str> = made.features.iter().map(String::as_str).filter(|name| is_word(name)).collect();
    if !features.is_empty() {
        args.pair("-O", format!("none,{}", features.join(",")));
    }
}

fn xfs(made: &MadeWith, size_bytes: u64, uuid: &str, args: &mut Arguments) -> Result<(), String> {
    let on = |feature: &str| u8::from(has(made, feature));
    if made.features.is_empty() {
        args.pair("-m", format!("uuid={uuid}"));
    } else if has(made, "crc") {
        let flags = ["finobt", "rmapbt", "reflink", "inobtcount", "bigtime", "metadir"]
            .map(|feature| format!("{feature}={}", on(feature)))
            .join(",");
        args.pair("-m", format!("uuid={uuid},crc=1,{flags}"));
    } else {
        args.pair("-m", format!("uuid={uuid},crc=0,finobt=0"));
    }
    for (option, key, value) in [
        ("-b", "size", made.block_bytes),
        ("-s", "size", made.sector_bytes),
        ("-i", "size", made.inode_bytes),
        ("-n", "size", made.directory_block_bytes),
    ] {
        let Some(bytes) = value else { continue };
        if !bytes.is_power_of_two() {
            return Err(format!("its {key} of {bytes} bytes is impossible"));
        }
        let more = match option {
            "-i" if has(made, "crc") => {
                format!(",sparse={},nrext64={},exchange={}", on("sparse"), on("nrext64"), on("exchange"))
            }
            "-n" if has(made, "crc") => format!(",parent={}", on("parent")),
            "-n" if !made.features.is_empty() && !has(made, "crc") => format!(",ftype={}", on("ftype")),
            _ => String::new(),
        };
        args.pair(option, format!("{key}={bytes}{more}"));
    }
    if size_bytes < XFS_SUPPORTED_BYTES {
        args.flags(&["--unsupported"]);
    }
    Ok(())
}

fn btrfs(made: &MadeWith, args: &mut Arguments) -> Result<(), String> {
    for (option, value) in [("-s", made.block_bytes), ("-n", made.inode_bytes)] {
        if let Some(bytes) = value {
            if !bytes.is_power_of_two() {
                return Err(format!("its blocks of {bytes} bytes are impossible"));
            }
            args.pair(option, bytes.to_string());
        }
    }
    match made.checksum.as_deref() {
        Some(name @ ("crc32c" | "xxhash" | "sha256" | "blake2")) => args.pair("--csum", name),
        Some(name) => return Err(format!("its checksum {} is not known", shown::text(name))),
        None => {}
    }
    if has(made, "mixed-bg") {
        args.flags(&["--mixed"]);
    }
    if !made.features.is_empty() {
        let flag = |name: &str| if has(made, name) { name.to_owned() } else { format!("^{name}") };
        args.pair("-O", ["extref", "skinny-metadata", "no-holes", "block-group-tree"].map(flag).join(","));
        args.pair("-R", flag("free-space-tree"));
    }
    Ok(())
}

fn fat(made: &MadeWith, version: Option<&str>, args: &mut Arguments) -> Result<(), String> {
    if let Some(bits) = version.and_then(|version| version.strip_prefix("FAT")) {
        if !["12", "16", "32"].contains(&bits) {
            return Err(format!("FAT{} is not known", shown::text(bits)));
        }
        args.pair("-F", bits);
    }
    if let (Some(sector), Some(cluster)) = (made.sector_bytes, made.block_bytes) {
        let sectors = cluster.checked_div(sector).filter(|sectors| sectors.is_power_of_two() && *sectors <= 128);
        let Some(sectors) = sectors else { return Err(format!("its clusters of {cluster} bytes are impossible")) };
        args.pair("-S", sector.to_string());
        args.pair("-s", sectors.to_string());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::{can_have_label, maker, unescaped};
    use crate::layout::{Holds, HoldsKind, MadeWith};

    fn holds(fs: &str, label: &str) -> Holds {
        Holds {
            kind: HoldsKind::Filesystem,
            fs: Some(fs.to_owned()),
            uuid: Some("66666666-7777-8888-9999-aaaaaaaaaaaa".to_owned()),
            label: Some(label.to_owned()),
            size_bytes: Some(1 << 30),
            ..Holds::default()
        }
    }

    fn args(holds: &Holds) -> Vec<OsString> {
        maker(holds, 1 << 30, 10, false).unwrap().call.args
    }

    #[test]
    fn a_label_is_one_argument_or_none() {
        let label_in = |fs, label: &str| {
            let args = args(&holds(fs, label));
            let at = args.iter().position(|arg| arg == "-L" || arg == "-n")?;
            args.get(at + 1).cloned()
        };
        assert_eq!(label_in("ext4", "-O quota"), Some("-O quota".into()));
        assert_eq!(label_in("ext4", "a\\\\b'\"$x"), Some("a\\b'\"$x".into()));
        for bad in ["a\nb", "a\0b", "a\\q", &"x".repeat(128)] {
            assert_eq!(label_in("ext4", bad), None, "{bad:?}");
            assert!(!can_have_label(&holds("ext4", bad)));
        }
        assert_eq!(unescaped("a\\xff\\\\"), Some(b"a\xff\\".to_vec()));
        assert_eq!(unescaped("a\\"), None);
    }

    #[test]
    fn what_is_no_uuid_or_size_is_refused() {
        for uuid in ["", "-U", "66666666-7777-8888-9999-aaaaaaaaaaa,", "random"] {
            for fs in ["ext4", "xfs", "btrfs", "vfat", "swap"] {
                let bad = Holds { uuid: Some(uuid.to_owned()), ..holds(fs, "") };
                assert!(maker(&bad, 1 << 30, 10, false).is_err(), "{fs} {uuid}");
            }
        }
        let odd = MadeWith { block_bytes: Some(3), features: vec!["crc".to_owned()], ..MadeWith::default() };
        assert!(maker(&Holds { made_with: Some(odd), ..holds("xfs", "") }, 1 << 30, 10, false).is_err());
        assert!(maker(&holds("ntfs", ""), 1 << 30, 10, false).is_err());
    }

    #[test]
    fn features_are_words_and_all_others_are_off() {
        let features = ["has_journal", "extent", "a,b", "-x", "", "64bit"].map(str::to_owned).to_vec();
        let made = MadeWith { features, inodes: Some(1000), block_bytes: Some(4096), ..MadeWith::default() };
        let holds = Holds { made_with: Some(made), ..holds("ext4", "") };
        assert!(args(&holds).contains(&"none,has_journal,extent,64bit".into()));
        // Half as large: half as many inodes, and never fewer than there are files.
        let inodes = |entries| {
            let args = maker(&holds, 1 << 29, entries, true).unwrap().call.args;
            args[args.iter().position(|arg| arg == "-N").unwrap() + 1].clone()
        };
        assert_eq!(inodes(5000), OsString::from("6336"));
        assert_eq!(inodes(0), OsString::from("1024"));
    }
}
