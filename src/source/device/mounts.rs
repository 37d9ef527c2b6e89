//! Mounts and swap space, from /proc.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::node::DeviceNumber;

/// Whether a file is swap space.
pub(crate) fn is_swap_file(path: &Path) -> bool {
    let Ok(wanted) = fs::metadata(path) else { return false };
    let same = |found: &PathBuf| fs::metadata(found).is_ok_and(|f| (f.dev(), f.ino()) == (wanted.dev(), wanted.ino()));
    swap_paths(&fs::read("/proc/swaps").unwrap_or_default()).iter().any(same)
}

/// The mount point of a device in proc(5) `/proc/self/mountinfo`: field 3 is the device number, field 5 the mount
/// point. The second field after the separator `-`, the source, is matched too, since btrfs has device numbers of
/// its own.
pub(super) fn mount_point_of(mountinfo: &[u8], number: DeviceNumber, is_it: impl Fn(&Path) -> bool) -> Option<PathBuf> {
    mountinfo.split(|byte| *byte == b'\n').find_map(|line| {
        let mut fields = line.split(|byte| *byte == b' ');
        let device = std::str::from_utf8(fields.nth(2)?).ok()?;
        let mount_point = fields.nth(1)?;
        let source = fields.skip_while(|field| *field != b"-").nth(2);
        let matches = DeviceNumber::parse(device) == Some(number)
            || source.is_some_and(|source| source.starts_with(b"/") && is_it(&unescaped(source)));
        matches.then(|| unescaped(mount_point))
    })
}

/// The paths in `/proc/swaps`, after its header line.
pub(super) fn swap_paths(swaps: &[u8]) -> Vec<PathBuf> {
    let first = |line: &[u8]| line.split(u8::is_ascii_whitespace).next().map(unescaped);
    swaps.split(|byte| *byte == b'\n').skip(1).filter(|line| !line.is_empty()).filter_map(first).collect()
}

/// Decodes the kernel's escapes: space, tab, newline and backslash are written as a backslash and three octal
/// digits.
fn unescaped(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, after)) = rest.split_first() {
        let octal = after
            .get(..3)
            .filter(|_| first == b'\\')
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        bytes.push(octal.unwrap_or(first));
        rest = if octal.is_some() { &after[3..] } else { after };
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::{DeviceNumber, mount_point_of, swap_paths, unescaped};
    use std::path::{Path, PathBuf};

    const MOUNTS: &[u8] = b"22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
        30 22 0:45 /@home /mnt/my\\040disk rw master:1 shared:2 - btrfs /dev/vdb rw,space_cache\n\
        31 22 0:46 / /proc rw - proc proc rw\ngarbage\n\n";

    #[test]
    fn the_mount_point_is_named() {
        let number = |major, minor| DeviceNumber { major, minor };
        let of = |number, path: &str| mount_point_of(MOUNTS, number, |source| source == Path::new(path));
        assert_eq!(of(number(8, 1), "none"), Some(PathBuf::from("/")));
        assert_eq!(of(number(252, 16), "/dev/vdb"), Some(PathBuf::from("/mnt/my disk")), "btrfs");
        assert_eq!(of(number(8, 2), "none"), None);
    }

    #[test]
    fn swap_files_and_devices_are_read() {
        let swaps =
            b"Filename\tType\tSize\tUsed\tPriority\n/dev/vdc1    partition\t1024\t0\t-2\n/a\\040b file 1 0 -3\n";
        assert_eq!(swap_paths(swaps), [PathBuf::from("/dev/vdc1"), PathBuf::from("/a b")]);
    }

    #[test]
    fn escapes_that_are_none_stay() {
        assert_eq!(unescaped(b"a\\134b\\9\\12"), PathBuf::from("a\\b\\9\\12"));
    }
}
