//! Disk image files: whether an image is raw, and whether it changed while it was read.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{Mode, OFlags};

use crate::image::format::Format;
use crate::image::qcow2::Qcow2;
use crate::outside::{BlockRead, FileBlocks};
use crate::source::device::{Node, user_of, writable_loops_of};
use crate::source::error::SourceError;
use crate::source::refusal::Refusal;

/// The bytes at an image's start and end that identify its format.
const LOOKED_AT_BYTES: u64 = 512;
/// The format that is read beside raw.
const QCOW2: &str = "qcow2";

/// Detects that a file was changed or replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fingerprint {
    file: (u64, u64),
    size_bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Fingerprint {
    pub(crate) fn of(metadata: &fs::Metadata) -> Self {
        Self {
            file: (metadata.dev(), metadata.ino()),
            size_bytes: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// The fingerprint of a file without a recent write. File times are as coarse as the kernel's clock tick, so
    /// two writes within one tick look alike. `None` if the file is written continuously.
    pub(crate) fn settled(file: &fs::File) -> io::Result<Option<Self>> {
        const TICK: Duration = Duration::from_millis(50);
        for _ in 0..20 {
            let metadata = file.metadata()?;
            let newest = (metadata.mtime(), metadata.mtime_nsec()).max((metadata.ctime(), metadata.ctime_nsec()));
            if !is_recent(newest, SystemTime::now(), TICK) {
                return Ok(Some(Self::of(&metadata)));
            }
            thread::sleep(TICK);
        }
        Ok(None)
    }

    pub(crate) fn of_path(path: &Path) -> io::Result<Self> {
        Ok(Self::of(&opened(path)?.metadata()?))
    }

    /// Of a file that others may write all the time: without a recent write, if there is such a moment.
    pub(crate) fn settled_of_path(path: &Path) -> io::Result<Self> {
        let file = opened(path)?;
        match Self::settled(&file)? {
            Some(settled) => Ok(settled),
            None => Ok(Self::of(&file.metadata()?)),
        }
    }

    pub(crate) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Whether both are of one file, changed or not.
    pub(crate) fn is_of_the_file_of(&self, other: &Self) -> bool {
        self.file == other.file
    }

    /// The difference to `now`, in words.
    pub(crate) fn difference(&self, now: &Self) -> Option<&'static str> {
        if self.file != now.file {
            Some("it was replaced by another file while it was read")
        } else if self.size_bytes != now.size_bytes {
            Some("its size changed while it was read")
        } else if self.modified != now.modified {
            Some("it was written to while it was read (its time of modification changed)")
        } else if self.changed != now.changed {
            Some("it was changed while it was read (its ctime changed)")
        } else {
            None
        }
    }
}

/// NFS answers stat(2) from what it remembers, for seconds; open(2) asks the server.
fn opened(path: &Path) -> io::Result<fs::File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    Ok(fs::File::from(rustix::fs::open(path, flags, Mode::empty())?))
}

/// Whether a file's time (seconds and nanoseconds since 1970) is within `span` of `now`, before or after.
fn is_recent((seconds, nanoseconds): (i64, i64), now: SystemTime, span: Duration) -> bool {
    let (Ok(now), Ok(seconds), Ok(nanoseconds)) =
        (now.duration_since(UNIX_EPOCH), u64::try_from(seconds), u32::try_from(nanoseconds))
    else {
        return false;
    };
    now.abs_diff(Duration::from_secs(seconds).saturating_add(Duration::from_nanos(u64::from(nanoseconds)))) < span
}

/// Checks an image file: refuses one that is empty, neither raw nor qcow2, or in use through a loop device. Gives the disk in a
/// qcow2 image; `None` for a raw one. Without a format, the first bytes decide, which the guest of a raw image can choose.
pub(crate) fn check(node: &Node, name: &str, format: Option<Format>) -> Result<Option<Arc<Qcow2>>, SourceError> {
    let refused = |reason| SourceError::Refused { name: name.to_owned(), reason };
    let size_bytes = node.metadata.len();
    if size_bytes == 0 {
        return Err(refused(Refusal::Empty));
    }
    let file = node
        .open(rustix::fs::OFlags::empty())
        .map_err(|error| SourceError::io("opening it for reading", &node.path, error))?;
    let blocks = FileBlocks::new(file, size_bytes);
    let found = match format {
        Some(Format::Raw) => None,
        Some(Format::Qcow2) => Some(QCOW2),
        None => format_of(&blocks).map_err(|error| SourceError::io("reading it", &node.path, error))?,
    };
    if let Some(format) = found.filter(|format| *format != QCOW2) {
        return Err(SourceError::NotRaw { name: name.to_owned(), format });
    }
    for (loop_name, number) in writable_loops_of(&node.path) {
        if let Some(who) = user_of(number) {
            return Err(refused(Refusal::InUse(format!("it is attached to /dev/{loop_name}, which is {who}"))));
        }
    }
    if found.is_none() {
        return Ok(None);
    }
    if is_written_by_qemu(&node.metadata) {
        let who = "QEMU writes to it: an instance runs from it; back up a copy, or shut the instance down";
        return Err(refused(Refusal::InUse(who.to_owned())));
    }
    let disk = Qcow2::open(Arc::new(blocks));
    let disk = disk.map_err(|error| SourceError::Qcow2 { name: name.to_owned(), source: error.into() })?;
    if disk.len_bytes() == 0 {
        return Err(refused(Refusal::Empty));
    }
    Ok(Some(Arc::new(disk)))
}

/// Whether a process holds the lock with which QEMU keeps others from writing: a read lock on one byte for each thing that it
/// may do (`RAW_LOCK_PERM_BASE`, 100, and `BLK_PERM_WRITE`, bit 1). Filesystems without locks show none.
fn is_written_by_qemu(metadata: &fs::Metadata) -> bool {
    let device = metadata.dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    has_write_lock(&locks, &format!("{major:02x}:{minor:02x}:{}", metadata.ino()))
}

/// Whether /proc/locks, `1: OFDLCK ADVISORY READ -1 DEVICE:INODE FIRST LAST`, has QEMU's lock of a file that it writes to.
fn has_write_lock(locks: &str, file: &str) -> bool {
    const WRITE_LOCK_AT: u64 = 101;
    locks.lines().any(|line| {
        let mut fields = line.split_whitespace().skip_while(|field| *field != file).skip(1);
        let range = fields.next().zip(fields.next());
        range.is_some_and(|(first, last)| {
            let last = last.parse().unwrap_or(u64::MAX);
            first.parse::<u64>().is_ok_and(|first| (first..=last).contains(&WRITE_LOCK_AT) && first >= 100)
        })
    })
}

/// The format of an image that is not raw.
pub(crate) fn format_of(blocks: &dyn BlockRead) -> io::Result<Option<&'static str>> {
    let size_bytes = blocks.len_bytes();
    let looked_at = usize::try_from(LOOKED_AT_BYTES.min(size_bytes)).unwrap_or(0);
    let (mut head, mut tail) = (vec![0; looked_at], vec![0; looked_at]);
    blocks.read_at(0, &mut head)?;
    blocks.read_at(size_bytes - looked_at as u64, &mut tail)?;
    Ok(other_format(&head, &tail))
}

/// The format of an image that is not raw, by the magic numbers at its start and end.
fn other_format(head: &[u8], tail: &[u8]) -> Option<&'static str> {
    const AT_START: [(&[u8], &str); 9] = [
        (b"QFI\xfb", QCOW2),
        (b"QED\0", "QED"),
        (b"KDMV", "VMDK"),
        (b"COWD", "VMDK"),
        (b"# Disk DescriptorFile", "VMDK"),
        (b"vhdxfile", "VHDX"),
        (b"conectix", "VHD"),
        (b"WithoutFreeSpace", "Parallels"),
        (b"WithouFreSpacExt", "Parallels"),
    ];
    // VirtualBox: a text of 64 bytes, then the signature 0xbeda107f, little-endian.
    if head.get(0x40..0x44) == Some(&[0x7f, 0x10, 0xda, 0xbe]) {
        return Some("VDI");
    }
    // A fixed VHD is raw except for its footer of 512 bytes, which would be read as the disk's last sector.
    if tail.len() == 512 && tail.starts_with(b"conectix") {
        return Some("VHD");
    }
    AT_START.iter().find(|(magic, _)| head.starts_with(magic)).map(|(_, format)| *format)
}

#[cfg(test)]
mod tests {
    use super::{Fingerprint, check, has_write_lock, is_recent, other_format};
    use crate::image::format::Format;
    use crate::source::device::Node;
    use crate::source::error::SourceError;
    use crate::source::refusal::Refusal;
    use std::fs;
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    #[test]
    fn images_that_are_not_raw_are_recognised() {
        let mut vdi = vec![0; 512];
        vdi[..16].copy_from_slice(b"<<< Oracle VM Vi");
        vdi[0x40..0x44].copy_from_slice(&0xbeda_107f_u32.to_le_bytes());
        assert_eq!(other_format(&vdi, &[]), Some("VDI"));
        assert_eq!(other_format(b"QFI\xfb\0\0\0\x03", &[]), Some("qcow2"));
        let mut footer = b"conectix".to_vec();
        footer.resize(512, 0);
        assert_eq!(other_format(&[0; 512], &footer), Some("VHD"));
        assert_eq!(other_format(&[0; 512], &[0; 512]), None);
        assert_eq!(other_format(b"Q", b"Q"), None);
    }

    #[test]
    fn empty_images_and_other_formats_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk.img");
        let checked = |content: &[u8]| {
            fs::write(&path, content).unwrap();
            check(&Node::look(&path).unwrap(), "disk.img", None)
        };
        assert!(matches!(checked(b""), Err(SourceError::Refused { reason: Refusal::Empty, .. })));
        assert!(matches!(checked(b"QFI\xfb\0\0\0\x03"), Err(SourceError::Qcow2 { .. })));
        assert!(matches!(checked(b"KDMV"), Err(SourceError::NotRaw { format: "VMDK", .. })));
        assert!(checked(b"x").is_ok());
        // What the guest of a raw image can write is no format.
        let as_raw = |content: &[u8]| {
            fs::write(&path, content).unwrap();
            check(&Node::look(&path).unwrap(), "disk.img", Some(Format::Raw))
        };
        for content in [&b"QFI\xfb\0\0\0\x03"[..], b"KDMV", b"x"] {
            assert!(matches!(as_raw(content), Ok(None)), "{content:?}");
        }
        assert!(matches!(as_raw(b""), Err(SourceError::Refused { reason: Refusal::Empty, .. })));
        assert!(checked(&[0; 4096]).is_ok());
    }

    #[test]
    fn an_image_that_qemu_writes_to_is_known_by_its_locks() {
        let locks = "1: OFDLCK ADVISORY  READ -1 fe:01:77 100 101\n2: FLOCK  ADVISORY  WRITE 9 fe:01:78 0 EOF\n\
            3: OFDLCK ADVISORY  READ -1 fe:01:79 100 100\n3: OFDLCK ADVISORY  READ -1 fe:01:79 201 201\n";
        assert!(has_write_lock(locks, "fe:01:77"));
        for other in ["fe:01:78", "fe:01:79", "fe:01:7"] {
            assert!(!has_write_lock(locks, other), "{other}");
        }
    }

    #[test]
    fn a_file_that_was_written_to_just_now_is_waited_for() {
        let at = |millis| UNIX_EPOCH + Duration::from_millis(millis);
        let span = Duration::from_millis(50);
        assert!(is_recent((10, 20_000_000), at(10_030), span));
        assert!(is_recent((10, 20_000_000), at(10_000), span), "clocks differ a little");
        assert!(!is_recent((10, 20_000_000), at(10_070), span));
        assert!(!is_recent((-5, 0), at(10_070), span));
        assert!(!is_recent((i64::MAX, 999_999_999), at(10_070), span));
        let started = SystemTime::now();
        let file = tempfile::tempfile().unwrap();
        assert!(Fingerprint::settled(&file).unwrap().is_some());
        assert!(started.elapsed().unwrap() >= Duration::from_millis(20));
    }

    #[test]
    fn every_kind_of_change_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk.img");
        fs::write(&path, [1; 4096]).unwrap();
        let before = Fingerprint::of_path(&path).unwrap();
        assert_eq!(before.difference(&Fingerprint::of_path(&path).unwrap()), None);
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.set_times(fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH)).unwrap();
        assert!(before.difference(&Fingerprint::of_path(&path).unwrap()).unwrap().contains("written"));
        file.set_len(8192).unwrap();
        assert!(before.difference(&Fingerprint::of_path(&path).unwrap()).unwrap().contains("size"));
        fs::write(directory.path().join("other"), [1; 4096]).unwrap();
        fs::rename(directory.path().join("other"), &path).unwrap();
        assert!(before.difference(&Fingerprint::of_path(&path).unwrap()).unwrap().contains("replaced"));
    }
}
