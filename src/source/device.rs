//! Block devices and other nodes of the file tree: what they are, whether somebody uses them, and how long they are.
//! Whatever a path leads to, opening it here cannot hang and has no effect on it.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use crate::source::error::SourceError;
use crate::source::refusal::Refusal;

/// A device number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct DeviceNumber {
    pub(crate) major: u32,
    pub(crate) minor: u32,
}

impl DeviceNumber {
    pub(crate) fn of_rdev(rdev: u64) -> Self {
        Self { major: rustix::fs::major(rdev), minor: rustix::fs::minor(rdev) }
    }

    /// Reads `8:1`.
    fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.trim().split_once(':')?;
        Some(Self { major: major.parse().ok()?, minor: minor.parse().ok()? })
    }

    /// Its directory in sysfs.
    pub(crate) fn sysfs(self) -> PathBuf {
        PathBuf::from(format!("/sys/dev/block/{}:{}", self.major, self.minor))
    }
}

/// What a path leads to, held by a descriptor that neither reads nor keeps it busy, so that what is opened later is
/// what was looked at.
#[derive(Debug)]
pub(crate) struct Node {
    held: File,
    pub(crate) path: PathBuf,
    pub(crate) metadata: fs::Metadata,
}

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NodeKind {
    File,
    BlockDevice(DeviceNumber),
    Other(&'static str),
}

impl Node {
    /// Looks at a path, following symbolic links.
    pub(crate) fn look(path: &Path) -> io::Result<Self> {
        let held = File::from(rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?);
        let metadata = held.metadata()?;
        Ok(Self { held, path: path.to_owned(), metadata })
    }

    pub(crate) fn kind(&self) -> NodeKind {
        let kind = self.metadata.file_type();
        if kind.is_file() {
            NodeKind::File
        } else if kind.is_block_device() {
            NodeKind::BlockDevice(DeviceNumber::of_rdev(self.metadata.rdev()))
        } else if kind.is_dir() {
            NodeKind::Other("a directory")
        } else if kind.is_char_device() {
            NodeKind::Other("a character device")
        } else if kind.is_fifo() {
            NodeKind::Other("a fifo")
        } else if kind.is_socket() {
            NodeKind::Other("a socket")
        } else {
            NodeKind::Other("no file and no block device")
        }
    }

    /// Opens exactly this node for reading. Call it on files and block devices only.
    pub(crate) fn open(&self, more: OFlags) -> io::Result<File> {
        let through = format!("/proc/self/fd/{}", self.held.as_raw_fd());
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY | more;
        Ok(File::from(rustix::fs::open(through, flags, Mode::empty())?))
    }
}

/// The length of an open block device or file, in bytes.
pub(crate) fn length_bytes(file: &File) -> io::Result<u64> {
    let mut file = file;
    file.seek(SeekFrom::End(0))
}

/// The logical sector size of an open block device, in bytes.
pub(crate) fn sector_size_bytes(file: &File) -> io::Result<u32> {
    Ok(rustix::fs::ioctl_blksszget(file)?)
}

/// Opens a block device for itself alone (`O_EXCL`), so that nobody mounts it or builds on it while it is read. When
/// somebody already does, the refusal says who, as far as the kernel tells.
pub(crate) fn open_unused(node: &Node, number: DeviceNumber, name: &str) -> Result<File, SourceError> {
    let refused = |who| SourceError::Refused { name: name.to_owned(), reason: Refusal::InUse(who) };
    if let Some(who) = user_of(number) {
        return Err(refused(who));
    }
    node.open(OFlags::EXCL).map_err(|error| {
        if error.raw_os_error() == Some(rustix::io::Errno::BUSY.raw_os_error()) {
            refused(holder_of(number))
        } else {
            SourceError::io("opening it", &node.path, error)
        }
    })
}

/// What holds a device that cannot be opened exclusively, in words.
pub(crate) fn holder_of(number: DeviceNumber) -> String {
    let disk = disk_of(number);
    let of_disk = || Some(format!("its disk is {}", user_of_one(disk?)?));
    mounted_elsewhere(number).or_else(of_disk).unwrap_or_else(|| {
        "the kernel holds it for something that it does not name: ZFS, DRBD, a cluster, or a mount that /proc does not show"
            .to_owned()
    })
}

/// A mount of a device, or of one of its partitions, in the mount namespace of any process.
pub(crate) fn mounted_elsewhere(number: DeviceNumber) -> Option<String> {
    let mut all = vec![(number, String::new())];
    all.extend(partitions_of(number));
    let mut seen = std::collections::HashSet::new();
    for process in names_in(Path::new("/proc")).iter().filter_map(|name| name.parse::<u32>().ok()) {
        let directory = Path::new("/proc").join(process.to_string());
        let Ok(namespace) = fs::read_link(directory.join("ns/mnt")) else { continue };
        if !seen.insert(namespace) {
            continue;
        }
        let mounts = fs::read(directory.join("mountinfo")).unwrap_or_default();
        for (number, partition) in &all {
            let is_it = |path: &Path| number_of_path(path) == Some(*number);
            if let Some(mount_point) = mount_point_of(&mounts, *number, is_it) {
                let what = if partition.is_empty() { String::new() } else { format!("its partition {partition} is ") };
                let at = mount_point.display();
                return Some(format!("{what}mounted on {at} in the mount namespace of process {process}"));
            }
        }
    }
    None
}

/// What uses the bytes of a device by another way than through it, in words: a second loop device over the same file, what
/// uses the block device that a loop device shows, or the disk that a partition lies on; and so on downwards.
pub(crate) fn other_way_to(number: DeviceNumber) -> Option<String> {
    /// No stack of devices is deeper.
    const DEPTH_MAX: usize = 32;
    let mut level = vec![number];
    for _ in 0..DEPTH_MAX {
        let mut below = Vec::new();
        for number in level {
            let directory = number.sysfs();
            below.extend(disk_of(number));
            let slaves = names_in(&directory.join("slaves")).into_iter();
            below.extend(slaves.filter_map(|name| number_in(&directory.join("slaves").join(name))));
            let Some(backing) = backing_of(&directory) else { continue };
            let own = fs::canonicalize(&directory).ok()?;
            let own = own.file_name()?.to_string_lossy().into_owned();
            let shown = backing.display();
            if let Some(other) = loops_over_backing(&backing).into_iter().find(|other| *other != own) {
                let use_of_it = number_in(&Path::new("/sys/block").join(&other))
                    .and_then(|number| user_of(number).or_else(|| mounted_elsewhere(number)));
                let use_of_it = use_of_it.map_or_else(String::new, |what| format!(", which is {what}"));
                return Some(format!("what it lies on, {shown}, is shown by /dev/{other}, too{use_of_it}"));
            }
            if swap_paths(&fs::read("/proc/swaps").unwrap_or_default()).contains(&backing) {
                return Some(format!("what it lies on, {shown}, is used as swap space"));
            }
            if let Some(number) = number_of_path(&backing) {
                if let Some(what) = user_of(number).or_else(|| mounted_elsewhere(number)) {
                    return Some(format!("what it lies on, {shown}, is used: {what}"));
                }
                below.push(number);
            }
        }
        if below.is_empty() {
            return None;
        }
        level = below;
    }
    None
}

/// What a loop device shows; `None` for another device, or one that shows nothing.
fn backing_of(directory: &Path) -> Option<PathBuf> {
    let backing = fs::read(directory.join("loop/backing_file")).ok()?;
    Some(PathBuf::from(std::ffi::OsStr::from_bytes(backing.trim_ascii_end())))
}

/// The loop devices over a file or device. A file that has no name any more is known by the one that it had.
fn loops_over_backing(wanted: &Path) -> Vec<String> {
    let id = |path: &Path| fs::metadata(path).ok().map(|found| (found.dev(), found.ino(), found.rdev()));
    let wanted_id = id(wanted);
    let is_it = |name: &String| {
        let backing = backing_of(&Path::new("/sys/block").join(name));
        backing.is_some_and(|backing| match (wanted_id, id(&backing)) {
            (Some(wanted), Some(found)) if wanted.2 != 0 || found.2 != 0 => wanted.2 == found.2,
            (Some(wanted), Some(found)) => wanted == found,
            _ => backing == wanted,
        })
    };
    names_in(Path::new("/sys/block")).into_iter().filter(|name| name.starts_with("loop")).filter(is_it).collect()
}

fn number_in(directory: &Path) -> Option<DeviceNumber> {
    DeviceNumber::parse(&fs::read_to_string(directory.join("dev")).ok()?)
}

/// Whether a file is swap space.
pub(crate) fn is_swap_file(path: &Path) -> bool {
    let Ok(wanted) = fs::metadata(path) else { return false };
    let same = |found: &PathBuf| fs::metadata(found).is_ok_and(|f| (f.dev(), f.ino()) == (wanted.dev(), wanted.ino()));
    swap_paths(&fs::read("/proc/swaps").unwrap_or_default()).iter().any(same)
}

/// Makes sure that [`user_of`] and [`loop_over`] can see: without /proc or /sys (a bare chroot or container) they would
/// find nothing in use.
pub(crate) fn check_kernel_is_seen() -> Result<(), SourceError> {
    let unseen = |path: &str, source| SourceError::KernelUnseen { path: path.into(), source };
    for (path, is_directory) in [("/proc/self/mountinfo", false), ("/sys/block", true)] {
        let seen = if is_directory { fs::read_dir(path).map(drop) } else { fs::File::open(path).map(drop) };
        seen.map_err(|error| unseen(path, error))?;
    }
    Ok(())
}

/// Who uses this device or one of its partitions, in words. `None` when nobody seems to; only an exclusive open is
/// sure.
pub(crate) fn user_of(number: DeviceNumber) -> Option<String> {
    let of_partition =
        |(number, name): (DeviceNumber, String)| Some(format!("its partition {name} is {}", user_of_one(number)?));
    user_of_one(number).or_else(|| partitions_of(number).into_iter().find_map(of_partition))
}

fn user_of_one(number: DeviceNumber) -> Option<String> {
    let is_it = |path: &Path| number_of_path(path) == Some(number);
    let mounts = fs::read("/proc/self/mountinfo").unwrap_or_default();
    if let Some(mount_point) = mount_point_of(&mounts, number, is_it) {
        return Some(format!("mounted on {}", mount_point.display()));
    }
    if swap_paths(&fs::read("/proc/swaps").unwrap_or_default()).iter().any(|path| is_it(path)) {
        return Some("used as swap space".to_owned());
    }
    let holders = names_in(&number.sysfs().join("holders"));
    (!holders.is_empty()).then(|| format!("held by {}", shown_holders(&holders)))
}

/// Sectors written to and discarded from a device since the kernel knows it; `None` where the kernel does not say.
pub(crate) fn written_sectors(number: DeviceNumber) -> Option<(u64, u64)> {
    parse_written(&fs::read_to_string(number.sysfs().join("stat")).ok()?)
}

/// Documentation/block/stat.rst: field 7 is the sectors written, field 14 the sectors discarded (Linux 4.18).
fn parse_written(text: &str) -> Option<(u64, u64)> {
    let fields: Vec<&str> = text.split_ascii_whitespace().collect();
    let written = fields.get(6)?.parse().ok()?;
    Some((written, fields.get(13).and_then(|field| field.parse().ok()).unwrap_or(0)))
}

/// The UUID that device-mapper has for a device, `None` when it is none of device-mapper's.
pub(crate) fn dm_uuid(number: DeviceNumber) -> Option<String> {
    Some(fs::read_to_string(number.sysfs().join("dm/uuid")).ok()?.trim().to_owned())
}

/// The loop devices that are attached read-write to this file.
pub(crate) fn writable_loops_of(image: &Path) -> Vec<(String, DeviceNumber)> {
    let Ok(image) = fs::canonicalize(image) else { return Vec::new() };
    let is_writable_loop = |directory: &Path| {
        let backing = fs::read(directory.join("loop/backing_file")).ok()?;
        let backing = Path::new(std::ffi::OsStr::from_bytes(backing.trim_ascii_end()));
        let read_only = fs::read_to_string(directory.join("ro")).ok()?;
        if backing != image || read_only.trim() != "0" {
            return None;
        }
        DeviceNumber::parse(&fs::read_to_string(directory.join("dev")).ok()?)
    };
    names_in(Path::new("/sys/block"))
        .into_iter()
        .filter(|name| name.starts_with("loop"))
        .filter_map(|name| is_writable_loop(&Path::new("/sys/block").join(&name)).map(|number| (name, number)))
        .collect()
}

/// A loop device over this file, or over this block device, its partitions or its disk, writable or not.
pub(crate) fn loop_over(path: &Path) -> Option<String> {
    let wanted = fs::metadata(path).ok()?;
    let family = related_to(wanted.rdev());
    let is_it = |name: &String| {
        let Ok(backing) = fs::read(Path::new("/sys/block").join(name).join("loop/backing_file")) else { return false };
        let backing = Path::new(std::ffi::OsStr::from_bytes(backing.trim_ascii_end()));
        fs::metadata(backing).is_ok_and(|found| {
            if wanted.file_type().is_block_device() {
                found.file_type().is_block_device() && family.contains(&found.rdev())
            } else {
                (found.dev(), found.ino()) == (wanted.dev(), wanted.ino())
            }
        })
    };
    names_in(Path::new("/sys/block")).into_iter().filter(|name| name.starts_with("loop")).find(is_it)
}

/// The device numbers, as `st_rdev` has them, under which bytes of this block device can be reached: its own, its
/// partitions', and that of the disk that it is a partition of.
pub(crate) fn related_to(rdev: u64) -> Vec<u64> {
    let number = DeviceNumber::of_rdev(rdev);
    let mut all = vec![number];
    all.extend(partitions_of(number).into_iter().map(|(partition, _)| partition));
    all.extend(disk_of(number));
    all.into_iter().map(|number| rustix::fs::makedev(number.major, number.minor)).collect()
}

/// The disk that a device is a partition of. A partition's directory in sysfs lies in its disk's.
fn disk_of(number: DeviceNumber) -> Option<DeviceNumber> {
    let directory = fs::canonicalize(number.sysfs()).ok().filter(|directory| directory.join("partition").exists())?;
    DeviceNumber::parse(&fs::read_to_string(directory.parent()?.join("dev")).ok()?)
}

fn partitions_of(number: DeviceNumber) -> Vec<(DeviceNumber, String)> {
    let directory = number.sysfs();
    let partition = |name: String| {
        let directory = directory.join(&name);
        let text = fs::read_to_string(directory.join("dev")).ok()?;
        directory.join("partition").exists().then_some((DeviceNumber::parse(&text)?, name))
    };
    names_in(&directory).into_iter().filter_map(partition).collect()
}

fn number_of_path(path: &Path) -> Option<DeviceNumber> {
    let metadata = fs::metadata(path).ok()?;
    metadata.file_type().is_block_device().then(|| DeviceNumber::of_rdev(metadata.rdev()))
}

fn names_in(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned())).collect();
    names.sort();
    names
}

fn shown_holders(holders: &[String]) -> String {
    let shown = |holder: &String| {
        let name = fs::read_to_string(Path::new("/sys/block").join(holder).join("dm/name"));
        name.map_or_else(|_| holder.clone(), |name| format!("{holder} ({})", name.trim()))
    };
    holders.iter().map(shown).collect::<Vec<_>>().join(", ")
}

/// Where a device is mounted, from proc(5) `/proc/self/mountinfo`: field 3 is the device number, field 5 the mount
/// point; the second field after the separator `-` is the source, which counts too since btrfs has device numbers
/// of its own.
fn mount_point_of(mountinfo: &[u8], number: DeviceNumber, is_it: impl Fn(&Path) -> bool) -> Option<PathBuf> {
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

/// The paths in `/proc/swaps`, after its heading.
fn swap_paths(swaps: &[u8]) -> Vec<PathBuf> {
    let first = |line: &[u8]| line.split(u8::is_ascii_whitespace).next().map(unescaped);
    swaps.split(|byte| *byte == b'\n').skip(1).filter(|line| !line.is_empty()).filter_map(first).collect()
}

/// The kernel writes space, tab, newline and backslash as a backslash and three octal digits.
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
    use super::{DeviceNumber, Node, NodeKind, mount_point_of, parse_written, swap_paths, unescaped};
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

    #[test]
    fn what_was_written_is_counted() {
        let line = "  100 0 800 5 7 0 56 1 0 4 6 2 0 16 0 0 0\n";
        assert_eq!(parse_written(line), Some((56, 16)));
        assert_eq!(parse_written("100 0 800 5 7 0 56 1 0 4 6"), Some((56, 0)));
        assert_eq!(parse_written("1 2 3"), None);
    }

    #[test]
    fn looking_at_odd_nodes_does_not_hang() {
        let directory = tempfile::tempdir().unwrap();
        let fifo = directory.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
        assert_eq!(Node::look(&fifo).unwrap().kind(), NodeKind::Other("a fifo"));
        assert_eq!(Node::look(Path::new("/dev/null")).unwrap().kind(), NodeKind::Other("a character device"));
        assert_eq!(Node::look(directory.path()).unwrap().kind(), NodeKind::Other("a directory"));
    }
}
