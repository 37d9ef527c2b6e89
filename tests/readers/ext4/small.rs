//! A little of everything that can lie on an ext2, ext3 or ext4, for the many ways in which these can be made.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, PermissionsExt, lchown, symlink};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FallocateFlags, FileType, Mode, Timespec, Timestamps, XattrFlags, makedev};
use rustix::io::Errno;

use crate::testkit::guest::{quoted, sh};
use crate::testkit::tree::{noise, text};

/// Makes the tree. What this filesystem has no room or no means for is left out.
pub(crate) fn make_small_tree(root: &Path, block: usize) {
    sizes(&made(root, "sizes"), block);
    holes(&made(root, "holes"), block);
    links(&made(root, "links"), block);
    specials(&made(root, "specials"));
    attributes(&made(root, "attributes"), block);
    names(&made(root, "names"));
    times(&made(root, "times"));
}

fn made(parent: &Path, name: &str) -> std::path::PathBuf {
    let path = parent.join(name);
    fs::create_dir(&path).unwrap();
    path
}

fn sizes(dir: &Path, block: usize) {
    for (seed, length) in
        (0..).zip([0, 1, 59, 60, 61, 155, 156, 157, block - 1, block, block + 1, 12 * block, 13 * block, 300 * block])
    {
        fs::write(dir.join(format!("noise-{length}")), noise(seed, length)).unwrap();
        fs::write(dir.join(format!("text-{length}")), text(seed, length)).unwrap();
    }
}

/// The first byte behind each level of indirect blocks is where the next one begins.
fn holes(dir: &Path, block: usize) {
    let pointers = block as u64 / 4;
    let borders = [12, 12 + pointers, 12 + pointers + pointers.pow(2)].map(|number| number * block as u64);
    let far = create(dir, "far");
    for border in borders {
        for at in [border - 3, border + 100 * block as u64, 2 * border + 1234] {
            write_at(&far, &text(at, 5000), at);
        }
    }
    write_at(&create(dir, "very-far"), b"at 15 GiB", 15 << 30);
    write_at(&create(dir, "behind-4-gib"), b"at 5 GiB", 5 << 30);
    create(dir, "only-a-hole").set_len(10 * block as u64 + 7).unwrap();
    let begins = create(dir, "begins-with-a-hole");
    begins.write_all_at(&noise(1, 3 * block), 20 * block as u64).unwrap();
    let ends = create(dir, "ends-with-a-hole");
    ends.write_all_at(&noise(2, 3 * block + 1), 0).unwrap();
    ends.set_len(50 * block as u64 + 1).unwrap();
    let every_second = create(dir, "every-second-block");
    for number in 0..100 {
        every_second.write_all_at(&[7; 100], number * 2 * block as u64).unwrap();
    }
    let allocated = create(dir, "allocated");
    allow(rustix::fs::fallocate(&allocated, FallocateFlags::empty(), 0, 64 * block as u64));
    allocated.write_all_at(b"written", 10 * block as u64).unwrap();
    let behind = create(dir, "allocated-behind-its-end");
    behind.write_all_at(&text(3, 2 * block + 5), 0).unwrap();
    allow(rustix::fs::fallocate(&behind, FallocateFlags::KEEP_SIZE, 0, 64 * block as u64));
}

fn links(dir: &Path, block: usize) {
    for length in [1, 58, 59, 60, 61, 255, 1000, block - 2, block - 1, 4093] {
        let target = b"t/".repeat(length / 2 + 1)[..length].to_vec();
        allow(rustix::fs::symlinkat(target.as_slice(), CWD, dir.join(format!("to-{length}"))));
    }
    rustix::fs::symlinkat(b"\xff\xfe".as_slice(), CWD, dir.join("not-utf-8")).unwrap();
    let owned = dir.join("owned");
    symlink("nowhere", &owned).unwrap();
    lchown(&owned, Some(70_000), Some(4_000_000_000)).unwrap();
    set_xattr(&owned, "trusted.link", b"on a link");
    fs::write(dir.join("one"), "one").unwrap();
    fs::hard_link(dir.join("one"), dir.join("two")).unwrap();
    fs::hard_link(&owned, dir.join("owned-too")).unwrap();
}

fn specials(dir: &Path) {
    let node =
        |name: &str, kind, device| rustix::fs::mknodat(CWD, dir.join(name), kind, Mode::from(0o640), device).unwrap();
    for (major, minor) in [(0, 0), (1, 3), (8, 255), (255, 255), (8, 256), (256, 1), (259, 70_000), (4095, 1_048_575)] {
        node(&format!("char-{major}-{minor}"), FileType::CharacterDevice, makedev(major, minor));
        node(&format!("block-{major}-{minor}"), FileType::BlockDevice, makedev(major, minor));
    }
    node("fifo", FileType::Fifo, 0);
    node("socket", FileType::Socket, 0);
    set_xattr(&dir.join("fifo"), "trusted.fifo", b"on a fifo");
    set_xattr(&dir.join("block-8-256"), "security.device", b"on a device");
    for mode in [0o0000, 0o1777, 0o2755, 0o4711, 0o7777] {
        let file = dir.join(format!("mode-{mode:o}"));
        fs::write(&file, "").unwrap();
        lchown(&file, Some(65_536 + mode), Some(65_535)).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        let inner = made(dir, &format!("dir-{mode:o}"));
        fs::set_permissions(&inner, fs::Permissions::from_mode(mode)).unwrap();
    }
}

fn attributes(dir: &Path, block: usize) {
    let file = |name: &str| {
        let path = dir.join(name);
        fs::write(&path, name).unwrap();
        path
    };
    let few = file("few");
    set_xattr(&few, "user.a", b"b");
    set_xattr(&few, "user.empty", b"");
    let many = file("many");
    for number in 0..40 {
        set_xattr(&many, &format!("user.number-{number}"), format!("{number}").as_bytes());
    }
    for fraction in [4, 2, 1] {
        set_xattr(&file(&format!("large-{fraction}")), "user.large", &noise(1, block / fraction - 64));
    }
    let odd = file("odd");
    set_xattr(&odd, "user.\u{e4}=%\n", b"\0\xff");
    set_xattr(&odd, "trusted.t", b"t");
    set_xattr(&odd, "security.s", b"s\0");
    // The same attributes on many files share one block.
    for number in 0..10 {
        set_xattr(&file(&format!("shared-{number}")), "user.shared", &noise(2, block / 2));
    }
    let inner = made(dir, "inner");
    set_xattr(&inner, "user.on-a-directory", b"yes");
    sh(&format!(
        "cd {}; setfacl -m u:1:r,u:3000000:rwx,g:4000000000:x,m::rx few odd
         setfacl -m u:7:rwx,d:u:9:rx,d:g:5:w inner; touch inner/inherits; mkdir inner/inherits-too
         setcap cap_net_raw,cap_chown+ep odd",
        quoted(dir)
    ));
}

fn names(dir: &Path) {
    for name in [
        b"\xff\xfe".as_slice(),
        b"with space",
        b" ",
        b"\n",
        b"\\",
        b"-rf",
        b"umlaut-\xc3\xa4",
        &[b'n'; 255],
        &[0xe4; 255],
        b"...",
    ] {
        rustix::fs::mknodat(CWD, dir.join(os(name)), FileType::RegularFile, Mode::from(0o600), 0).unwrap();
    }
    let many = made(dir, "many");
    for number in 0..400 {
        fs::write(many.join(format!("{number}{}", "x".repeat(number % 150))), "").unwrap();
    }
    for number in (0..400).step_by(3) {
        fs::remove_file(many.join(format!("{number}{}", "x".repeat(number % 150)))).unwrap();
    }
    // Removed, and in part made anew in what was left.
    for number in (0..400).step_by(9) {
        fs::create_dir(many.join(format!("d{number}"))).unwrap();
    }
    let mut deep = dir.to_owned();
    for level in 0..20 {
        deep = made(&deep, &format!("level-{level}"));
        fs::write(deep.join("file"), format!("{level}")).unwrap();
    }
    made(dir, "empty");
}

fn os(name: &[u8]) -> &std::ffi::OsStr {
    std::os::unix::ffi::OsStrExt::from_bytes(name)
}

/// Those that a filesystem cannot hold are cut to its first or last by the kernel.
fn times(dir: &Path) {
    let seconds = [
        -2_147_483_648,
        -86_400,
        -1,
        0,
        1,
        2_147_483_647,
        2_147_483_648,
        4_294_967_295,
        4_294_967_296,
        5_000_000_000,
        8_589_934_592,
        15_032_385_535,
    ];
    for (number, second) in (0..).zip(seconds) {
        for nanosecond in [0, 1, 999_999_999] {
            let file = dir.join(format!("{number}-{nanosecond}"));
            fs::write(&file, "").unwrap();
            set_mtime(&file, second, nanosecond);
        }
    }
    let inner = made(dir, "directory");
    set_mtime(&inner, -77, 123_456_789);
}

pub(crate) fn create(dir: &Path, name: &str) -> File {
    OpenOptions::new().read(true).write(true).create_new(true).open(dir.join(name)).unwrap()
}

fn write_at(file: &File, bytes: &[u8], at: u64) {
    allow(file.write_all_at(bytes, at).map_err(|error| Errno::from_io_error(&error).unwrap()));
}

pub(crate) fn set_xattr(path: &Path, name: &str, value: &[u8]) {
    allow(rustix::fs::lsetxattr(path, name, value, XattrFlags::empty()));
}

pub(crate) fn set_mtime(path: &Path, seconds: i64, nanoseconds: i64) {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let both = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path, &both, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// Lets pass what some of these filesystems cannot do.
fn allow(done: rustix::io::Result<()>) {
    if let Err(error) = done {
        let known = [Errno::OPNOTSUPP, Errno::NOSPC, Errno::FBIG, Errno::RANGE, Errno::TOOBIG, Errno::NAMETOOLONG];
        assert!(known.contains(&error), "{error}");
    }
}
