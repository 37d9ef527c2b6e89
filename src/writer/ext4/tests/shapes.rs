//! What can be in a filesystem, in filesystems of all shapes.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use super::{Image, add, add_file, attributes, make_directory, make_file};
use crate::entry::{DeviceNumber, Timestamp, Xattr};
use crate::writer::ext4::{Attributes, Ext4Writer, Kind, WriteError};

const MIB: u64 = 1 << 20;

fn xattr(name: &str, value: &[u8]) -> Xattr {
    Xattr { name: name.as_bytes().to_vec(), value: value.to_vec() }
}

fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(permissions.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

/// Everything once, `many` names in a directory, `parts` extents in a file.
fn fill(writer: &mut Ext4Writer, many: u32, parts: u64) {
    let mut root = writer.root().unwrap();
    for size in [0, 1, 1023, 1024, 4095, 4096, 4097, MIB + 3] {
        add_file(writer, &mut root, &format!("size-{size}"), size);
    }
    let plain = attributes(Kind::File, 0o4755);
    let runs: Vec<(u64, u64)> = (0..parts).map(|part| (part * 8192 + 100, 3000)).collect();
    let named = make_file(writer, parts * 8192 + 5, &runs, 8, &plain).unwrap();
    add(writer, &mut root, b"fragmented", named);
    let named =
        make_file(writer, 1 << 40, &[(5, 10), (20, 10), (1 << 39, 5000), ((1 << 40) - 1, 1)], 9, &plain).unwrap();
    add(writer, &mut root, b"sparse", named);
    let named = make_file(writer, 1 << 33, &[], 0, &plain).unwrap();
    add(writer, &mut root, b"hole", named);
    for len in [1, 59, 60, 1000] {
        let target = vec![b'x'; len];
        let (named, _) = writer.make_symlink(&target, &attributes(Kind::Symlink, 0o777)).unwrap();
        add(writer, &mut root, format!("link-{len}").as_bytes(), named);
    }
    for (major, minor) in [(8, 1), (259, 70_000)] {
        let kind = Kind::Device { is_block: major == 8, number: DeviceNumber { major, minor } };
        let (named, _) = writer.make_special(&attributes(kind, 0o660)).unwrap();
        add(writer, &mut root, format!("device-{major}").as_bytes(), named);
    }
    let (named, _) = writer.make_special(&attributes(Kind::Fifo, 0o600)).unwrap();
    add(writer, &mut root, b"fifo", named);
    // Extended attributes: in the inode, in a block, shared by several, and none that do not fit.
    let mut small = attributes(Kind::File, 0o644);
    small.set_xattr(&xattr("user.small", b"value")).unwrap();
    small.set_xattr(&xattr("user.empty", b"")).unwrap();
    let mut large = small.clone();
    large.set_xattr(&xattr("trusted.large", &[5; 700])).unwrap();
    large.set_xattr(&xattr("security.other", &[6; 30])).unwrap();
    let access = acl(&[(1, 6, !0), (2, 4, 1000), (4, 4, !0), (8, 7, 70_000), (16, 5, !0), (32, 0, !0)]);
    large.set_xattr(&xattr("system.posix_acl_access", &access)).unwrap();
    assert_eq!(large.mode, 0o650, "the ACL's mask");
    for (name, attributes) in [("attr-small", &small), ("attr-large", &large), ("attr-shared", &large)] {
        let named = make_file(writer, 10, &[(0, 10)], 1, attributes).unwrap();
        add(writer, &mut root, name.as_bytes(), named);
    }
    for (number, sec) in [-1, -(1 << 31), (1 << 31) + 5, 1 << 33].into_iter().enumerate() {
        let at = Attributes::new(Kind::File, 0o600, Timestamp { sec, nsec: 999_999_999 });
        let named = make_file(writer, 0, &[], 1, &at).unwrap();
        add(writer, &mut root, format!("time-{number}").as_bytes(), named);
    }
    let mut flags = attributes(Kind::File, 0o600);
    flags.flags = 0x10 | 0x80;
    let named = make_file(writer, 0, &[], 1, &flags).unwrap();
    add(writer, &mut root, b"immutable", named);
    // A file that is given up leaves nothing.
    let mut given = false;
    let mut whole = || Ok((!std::mem::replace(&mut given, true)).then(|| crate::units::ByteRange::new(0, 3 * MIB)));
    let mut file = writer.begin_file(3 * MIB, &mut whole).unwrap();
    writer.write(&mut file, 0, &[1; 5000]).unwrap();
    assert!(!writer.end_data(&mut file).unwrap());
    writer.abandon(file).unwrap();

    let mut dir = make_directory(writer, &mut root, "many");
    let first = make_file(writer, 3, &[(0, 3)], 2, &plain).unwrap();
    for number in 0..many {
        writer.link(first.inode).unwrap_or_else(|error| panic!("{number}: {error}"));
        let name = format!("{:0width$}", number, width = 5 + number as usize % 60);
        add(writer, &mut dir, name.as_bytes(), first);
    }
    add(writer, &mut dir, &[0xFF; 255], first);
    let many = dir.inode;
    writer.close_directory(dir).unwrap();
    // Entered again.
    let mut dir = writer.open_directory(many).unwrap();
    add_file(writer, &mut dir, "later", 10);
    writer.close_directory(dir).unwrap();
    let found = root.find(b"lost+found").unwrap();
    let mut lost = writer.open_directory(found.inode).unwrap();
    add_file(writer, &mut lost, "#12", 10);
    writer.close_directory(lost).unwrap();
    let mut path = vec![make_directory(writer, &mut root, "deep")];
    for level in 0..300 {
        let inner = make_directory(writer, path.last_mut().unwrap(), &format!("level-{level}"));
        path.push(inner);
    }
    add_file(writer, path.last_mut().unwrap(), "file", 5);
    while let Some(inner) = path.pop() {
        writer.close_directory(inner).unwrap();
    }
    writer.set_attributes(&mut root, attributes(Kind::Directory, 0o1777)).unwrap();
    writer.close_directory(root).unwrap();
}

fn look(root: &Path, many: u32, parts: u64, inode_bytes: u64) {
    let read = |name: &str| std::fs::read(root.join(name)).unwrap();
    for size in [0, 1, 1023, 1024, 4095, 4096, 4097, MIB + 3] {
        assert_eq!(read(&format!("size-{size}")), vec![7; usize::try_from(size).unwrap()]);
    }
    let facts = std::fs::symlink_metadata(root.join("size-1")).unwrap();
    assert_eq!((facts.uid(), facts.gid(), facts.mode()), (70_000, 1_000_000, 0o100_640));
    let nsec = if inode_bytes > 128 { 123_456_789 } else { 0 };
    assert_eq!((facts.mtime(), facts.mtime_nsec(), facts.blocks()), (1_700_000_001, nsec, facts.blksize() / 512));
    let fragmented = read("fragmented");
    let expected = |at: usize| if (100..3100).contains(&(at % 8192)) && at < fragmented.len() - 5 { 8 } else { 0 };
    assert!(fragmented.iter().enumerate().all(|(at, byte)| *byte == expected(at)));
    assert_eq!(fragmented.len() as u64, parts * 8192 + 5);
    let sparse = std::fs::File::open(root.join("sparse")).unwrap();
    let at = |offset| {
        let mut byte = [0];
        std::os::unix::fs::FileExt::read_exact_at(&sparse, &mut byte, offset).unwrap();
        byte[0]
    };
    assert_eq!([0, 5, 14, 15, 20, 1 << 39, (1 << 39) + 5000, (1 << 40) - 1].map(at), [0, 9, 9, 0, 9, 9, 0, 9]);
    for len in [1, 59, 60, 1000] {
        let target = std::fs::read_link(root.join(format!("link-{len}"))).unwrap();
        assert_eq!(target.as_os_str().as_bytes(), vec![b'x'; len]);
    }
    let device = |name: &str| std::fs::symlink_metadata(root.join(name)).unwrap();
    assert!(device("device-8").file_type().is_block_device() && device("device-259").file_type().is_char_device());
    assert_eq!(
        [device("device-8").rdev(), device("device-259").rdev()],
        [rustix::fs::makedev(8, 1), rustix::fs::makedev(259, 70_000)]
    );
    assert!(device("fifo").file_type().is_fifo());
    let xattr = |file: &str, name: &str| {
        let mut value = vec![0; 1000];
        let len = rustix::fs::getxattr(root.join(file), name, &mut value).unwrap();
        value.truncate(len);
        value
    };
    for file in ["attr-small", "attr-large", "attr-shared"] {
        assert_eq!((xattr(file, "user.small"), xattr(file, "user.empty")), (b"value".to_vec(), Vec::new()), "{file}");
    }
    for file in ["attr-large", "attr-shared"] {
        assert_eq!((xattr(file, "trusted.large"), xattr(file, "security.other")), (vec![5; 700], vec![6; 30]));
        let access = acl(&[(1, 6, !0), (2, 4, 1000), (4, 4, !0), (8, 7, 70_000), (16, 5, !0), (32, 0, !0)]);
        assert_eq!(xattr(file, "system.posix_acl_access"), access);
    }
    let time = |number: usize| device(&format!("time-{number}")).mtime();
    let last = if inode_bytes > 128 { [(1 << 31) + 5, 1 << 33] } else { [(1 << 31) - 1; 2] };
    assert_eq!([0, 1, 2, 3].map(time), [-1, -(1 << 31), last[0], last[1]]);
    let count = std::fs::read_dir(root.join("many")).unwrap().count();
    assert_eq!(count, many as usize + 2);
    for number in 0..many {
        let name = format!("many/{:0width$}", number, width = 5 + number as usize % 60);
        assert!(root.join(name).metadata().is_ok_and(|facts| facts.nlink() == u64::from(many) + 1), "{number}");
    }
    assert_eq!(read("many/later"), [7; 10]);
    assert_eq!(read("lost+found/#12"), [7; 10]);
    let deep: std::path::PathBuf = (0..300).map(|level| format!("level-{level}")).collect();
    assert_eq!(read(&format!("deep/{}/file", deep.display())), [7; 5]);
    let facts = root.metadata().unwrap();
    assert_eq!((facts.mode(), facts.uid()), (0o041_777, 70_000));
}

/// The kernel goes on in it.
fn write_more(root: &Path) {
    for number in 0..300 {
        std::fs::write(root.join(format!("many/new-{number}")), vec![1; 20_000]).unwrap();
    }
    for number in 0..200 {
        std::fs::remove_file(root.join(format!("many/{:0width$}", number, width = 5 + number % 60))).unwrap();
    }
    std::fs::create_dir(root.join("deep/new")).unwrap();
    std::fs::remove_file(root.join("fragmented")).unwrap();
    std::fs::remove_file(root.join("attr-shared")).unwrap();
    std::fs::write(root.join("sparse"), b"short").unwrap();
}

#[test]
fn filesystems_of_all_shapes_are_clean_and_hold_what_was_written() {
    let shapes: &[&[&str]] = &[
        &[],
        &["-b", "1024"],
        &["-b", "2048", "-I", "128"],
        &["-b", "4096", "-I", "128", "-O", "^metadata_csum,^64bit"],
        &["-b", "1024", "-I", "256", "-O", "^metadata_csum"],
        &["-b", "4096", "-O", "^flex_bg,^resize_inode"],
        &["-b", "1024", "-O", "^64bit,^flex_bg,^has_journal"],
        &["-b", "2048", "-I", "512", "-O", "^dir_index,^metadata_csum"],
        &["-b", "4096", "-O", "^dir_index,^sparse_super,^resize_inode", "-g", "4096"],
        &["-b", "4096", "-O", "metadata_csum_seed,orphan_file", "-N", "200000"],
    ];
    for (number, shape) in shapes.iter().enumerate() {
        let image = Image::new(shape, 300 * MIB);
        let (many, parts) = if number == 1 { (20_000, 5_000) } else { (3_000, 700) };
        let mut writer = image.open().unwrap_or_else(|error| panic!("{shape:?}: {error}"));
        fill(&mut writer, many, parts);
        writer.finish().unwrap();
        image.assert_clean(&format!("{shape:?}"));
        let inode_bytes = if shape.contains(&"128") { 128 } else { 256 };
        image.mounted("ro", |root| look(root, many, parts, inode_bytes));
        image.mounted("rw", write_more);
        image.assert_clean(&format!("{shape:?}, after the kernel wrote"));
    }
}

#[test]
fn what_the_writer_does_not_know_is_left_to_the_kernel() {
    for shape in [
        &["-O", "inline_data"][..],
        &["-O", "bigalloc"],
        &["-O", "quota"],
        &["-O", "encrypt"],
        &["-O", "casefold"],
        &["-O", "verity"],
        &["-O", "ea_inode"],
        &["-O", "^metadata_csum,uninit_bg"],
        &["-O", "^extent,^64bit"],
        &["-O", "meta_bg,^resize_inode"],
        &["-O", "mmp"],
    ] {
        let image = Image::new(shape, 64 * MIB);
        let before = std::fs::read(image.path()).unwrap();
        assert!(matches!(image.open(), Err(WriteError::LeftToKernel(_))), "{shape:?}");
        assert_eq!(std::fs::read(image.path()).unwrap(), before, "{shape:?}");
    }
}

#[test]
fn a_full_filesystem_refuses_and_stays_clean() {
    for shape in [&["-b", "1024", "-N", "4000"][..], &["-b", "4096", "-N", "20000"], &["-b", "4096", "-N", "300"]] {
        let image = Image::new(shape, 24 * MIB);
        let mut writer = image.open().unwrap();
        let mut root = writer.root().unwrap();
        let mut refused = 0;
        let mut dir = make_directory(&mut writer, &mut root, "a directory");
        for number in 0..20_000_u32 {
            let size = u64::from(number % 7) * 3000;
            let name = format!("file with a rather long name, number {number}");
            let made = writer
                .reserve_name(&mut dir, name.as_bytes())
                .and_then(|()| make_file(&mut writer, size, &[(0, size)], 3, &attributes(Kind::File, 0o600)));
            match made {
                Ok(named) => dir.add_name(name.as_bytes(), named),
                Err(WriteError::Refused(rustix::io::Errno::NOSPC)) => refused += 1,
                Err(error) => panic!("{error}"),
            }
        }
        assert!(refused > 1000, "{refused}");
        writer.close_directory(dir).unwrap();
        writer.close_directory(root).unwrap();
        writer.finish().unwrap();
        image.assert_clean(&format!("{shape:?}"));
    }
}

#[test]
fn an_unfinished_filesystem_cannot_be_mounted() {
    let image = Image::new(&[], 64 * MIB);
    let mut writer = image.open().unwrap();
    let mut root = writer.root().unwrap();
    add_file(&mut writer, &mut root, "file", 100);
    drop(writer);
    assert!(image.open().is_err());
    let kind = std::process::Command::new("blkid").args(["-p"]).arg(image.path()).output().unwrap();
    assert!(!String::from_utf8_lossy(&kind.stdout).contains("ext4"));
}
