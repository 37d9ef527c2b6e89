//! Filesystems of all shapes are filled, checked by e2fsck, and read by the kernel and by volbak's own reader.

mod room;
mod shapes;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::{Attributes, Directory, Ext4Writer, Kind, Named, WriteError};
use crate::entry::Timestamp;
use crate::units::ByteRange;

/// An image that mkfs.ext4 has just made.
struct Image {
    dir: tempfile::TempDir,
}

impl Image {
    fn new(mkfs: &[&str], bytes: u64) -> Self {
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        let image = Self { dir };
        let mut file = File::create(image.path()).unwrap();
        file.set_len(bytes).unwrap();
        // A disk that was used before: mkfs leaves what is on it where it need not write.
        let garbage = vec![0xA5; 1 << 20];
        for _ in 0..64 {
            file.write_all(&garbage).unwrap();
        }
        run("mkfs.ext4", &[&["-q", "-F", "-E", "nodiscard"], mkfs, &[image.path().to_str().unwrap()]].concat());
        image
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("fs.img")
    }

    fn open(&self) -> Result<Ext4Writer, WriteError> {
        let file = File::options().read(true).write(true).open(self.path()).unwrap();
        let len = file.metadata().unwrap().len();
        Ext4Writer::open(file, ByteRange::new(0, len))
    }

    /// e2fsck finds nothing.
    fn assert_clean(&self, when: &str) {
        let output = Command::new("e2fsck").args(["-f", "-n"]).arg(self.path()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{when}: {said}");
    }

    /// Runs `look` in the kernel's mount; not without root.
    fn mounted(&self, options: &str, look: impl FnOnce(&Path)) {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let at = self.dir.path().join("mnt");
        std::fs::create_dir_all(&at).unwrap();
        let (image, mount) = (self.path(), at.to_str().unwrap());
        run("mount", &["-o", &format!("loop,{options}"), image.to_str().unwrap(), mount]);
        look(&at);
        // A child that another test has just forked may hold a descriptor in it for a moment.
        let is_unmounted = || Command::new("umount").arg(mount).output().unwrap().status.success();
        let ends_by = Instant::now() + Duration::from_secs(20);
        while !is_unmounted() {
            assert!(Instant::now() < ends_by, "{mount} stays busy");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn run(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn attributes(kind: Kind, mode: u32) -> Attributes {
    let mut attributes = Attributes::new(kind, mode, Timestamp { sec: 1_700_000_001, nsec: 123_456_789 });
    (attributes.uid, attributes.gid) = (70_000, 1_000_000);
    attributes
}

/// A file whose data are these runs, each filled with `fill`.
fn make_file(
    writer: &mut Ext4Writer,
    size: u64,
    runs: &[(u64, u64)],
    fill: u8,
    attributes: &Attributes,
) -> Result<Named, WriteError> {
    let mut left = runs.iter();
    let mut file = writer.begin_file(size, &mut || Ok(left.next().map(|(start, len)| ByteRange::new(*start, *len))))?;
    for (start, len) in runs {
        let mut at = *start;
        while at < start + len {
            let part = (start + len - at).min(100_000);
            writer.write(&mut file, at, &vec![fill; usize::try_from(part).unwrap()])?;
            at += part;
        }
    }
    assert!(writer.end_data(&mut file)?);
    let (named, left) = writer.complete(&file, attributes)?;
    assert!(left.is_empty(), "{left:?}");
    Ok(named)
}

fn add(writer: &mut Ext4Writer, directory: &mut Directory, name: &[u8], named: Named) {
    writer.reserve_name(directory, name).unwrap();
    directory.add_name(name, named);
}

fn add_file(writer: &mut Ext4Writer, directory: &mut Directory, name: &str, size: u64) {
    let named = make_file(writer, size, &[(0, size)], 7, &attributes(Kind::File, 0o640)).unwrap();
    add(writer, directory, name.as_bytes(), named);
}

fn make_directory(writer: &mut Ext4Writer, parent: &mut Directory, name: &str) -> Directory {
    writer.reserve_name(parent, name.as_bytes()).unwrap();
    let mut made = writer.new_directory(parent).unwrap();
    parent.add_name(name.as_bytes(), Ext4Writer::named(&made));
    writer.set_attributes(&mut made, attributes(Kind::Directory, 0o2750)).unwrap();
    made
}
