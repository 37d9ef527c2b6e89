//! The commands that make and check filesystems. Values from a manifest are validated and become separate
//! arguments: none is passed through a shell or can be taken for an option.

mod btrfs;
pub(super) mod call;
mod error;
mod ext;
mod fat;
mod made;
pub(super) mod names;
mod xfs;

use std::ffi::OsString;

use self::btrfs::btrfs;
use self::call::{Arguments, ToolCall};
use self::error::MakeError;
use self::ext::{Wanted, ext};
use self::fat::{fat, fat_serial};
use self::made::Made;
use self::names::{label_of, uuid};
use self::xfs::xfs;
use crate::layout::{Holds, MadeWith};

pub(super) use self::ext::{default_journal_bytes, tune2fs};
pub(super) use self::made::Maker;

/// A built-in maker without a program.
pub(super) const BUILT_IN: ToolCall = ToolCall { program: "built-in", args: Vec::new() };

/// The command to make a region's content. `size_bytes` is its new size, `entries` the number of files it must
/// hold, `shrunk` whether it is smaller than before. An error says why it cannot be made.
pub(super) fn maker(holds: &Holds, size_bytes: u64, entries: u64, shrunk: bool) -> Result<Maker, MakeError> {
    let fs = holds.fs.as_deref().unwrap_or_default();
    let mut remarks = Vec::new();
    let mut differs = Vec::new();
    let mut finish = Vec::new();
    let known = MadeWith::default();
    let made = holds.made_with.as_ref().unwrap_or(&known);
    if holds.made_with.is_none() && fs != "swap" {
        remarks.push("the manifest does not say what it was made with: it gets its mkfs's own defaults".to_owned());
    }
    let label = label_of(holds, fs, &mut differs);
    let mut args = Arguments::default();
    let mut more = Made::default();
    let program = match fs {
        "ext2" | "ext3" | "ext4" => {
            args.flags(&["-q", "-F"]);
            let uuid = holds.uuid.is_some().then(|| uuid(holds)).transpose()?;
            if uuid.is_none() {
                remarks.push("it had no UUID, and gets none".to_owned());
            }
            args.label("-L", label);
            finish = ext::finish(made);
            ext(made, uuid, &Wanted { size_bytes, entries, shrunk }, holds, &mut args, &mut differs);
            if made.superblock.is_none() && holds.made_with.is_some() {
                let what = "this older backup does not have its settings (errors=, mount options, checks, stripe, owner of \
                            the reserved blocks, journal size): it gets mke2fs's own";
                remarks.push(what.to_owned());
            }
            match fs {
                _ if made.superblock.is_some() => "mkfs.ext4",
                // The features decide which of the three it is; without them, the name does.
                _ if !made.features.is_empty() => "mkfs.ext4",
                "ext2" => "mkfs.ext2",
                "ext3" => "mkfs.ext3",
                _ => "mkfs.ext4",
            }
        }
        "xfs" => {
            args.0 = xfs(made, (size_bytes, shrunk), &uuid(holds)?, label.as_deref(), &mut more)?;
            "mkfs.xfs"
        }
        "btrfs" => {
            args.flags(&["-q", "-f"]);
            args.label("-L", label);
            btrfs(made, &uuid(holds)?, &mut args, &mut more)?;
            if made.btrfs.is_none() {
                remarks.push(
                    "the manifest does not say which directories were subvolumes: they come back as directories, and it \
                     does not boot or mount where fstab or the boot loader names one (subvol=)"
                        .to_owned(),
                );
            }
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
            if let Some(page) = made.block_bytes {
                args.pair("-p", page.to_string());
            }
            if !made.features.is_empty() {
                differs
                    .push("its header is in the byte order of another machine, which mkswap does not make".to_owned());
            }
            "mkswap"
        }
        other => return Err(MakeError::Filesystem(other.to_owned())),
    };
    differs.append(&mut more.differs);
    let call = ToolCall { program, args: args.0 };
    Ok(Maker { call, remarks, differs, otherwise: more.otherwise, after: more.after, finish })
}

/// The command that checks a filesystem without changing it; `None` if there is none.
pub(super) fn checker(holds: &Holds) -> Option<ToolCall> {
    let has_one_group = holds.made_with.as_ref().and_then(|made| made.xfs.as_ref()).is_some_and(|own| own.groups == 1);
    let (program, args): (_, &[&str]) = match holds.fs.as_deref()? {
        "ext2" | "ext3" | "ext4" => ("e2fsck", &["-f", "-n"]),
        // Without the option it requires two superblocks to compare.
        "xfs" if has_one_group => ("xfs_repair", &["-n", "-o", "force_geometry"]),
        "xfs" => ("xfs_repair", &["-n"]),
        "btrfs" => ("btrfs", &["check", "--readonly"]),
        "vfat" => ("fsck.vfat", &["-n"]),
        _ => return None,
    };
    Some(ToolCall { program, args: args.iter().map(OsString::from).collect() })
}

/// The Debian package of a program.
pub(super) fn package_of(program: &str) -> &'static str {
    match program {
        "mkfs.xfs" | "xfs_repair" | "xfs_admin" | "xfs_db" => "xfsprogs",
        "mkfs.btrfs" | "btrfs" | "btrfstune" => "btrfs-progs",
        "mkfs.vfat" | "fsck.vfat" => "dosfstools",
        "mkswap" => "util-linux",
        "dmsetup" => "dmsetup",
        _ => "e2fsprogs",
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::maker;
    use super::names::can_have_label;
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
    }

    #[test]
    fn invalid_uuids_and_sizes_are_refused() {
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
        // Half the size: half the number of inodes, but at least the number of files.
        let inodes = |entries| {
            let args = maker(&holds, 1 << 29, entries, true).unwrap().call.args;
            args[args.iter().position(|arg| arg == "-N").unwrap() + 1].clone()
        };
        assert_eq!(inodes(5000), OsString::from("6336"));
        assert_eq!(inodes(0), OsString::from("1024"));
    }
}
