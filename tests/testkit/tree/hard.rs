//! Makes trees with what guests really have and what backup programs lose.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Timespec, Timestamps, XattrFlags, makedev};

/// A filesystem that hard trees are made on, for what differs between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filesystem {
    Ext4,
    Xfs,
    Btrfs,
    Vfat,
}

impl Filesystem {
    /// The name that mount(8) and mkfs know it by.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
            Self::Vfat => "vfat",
        }
    }

    /// XFS keeps a symlink's target in at most 1024 bytes, the others in PATH_MAX or a little less.
    fn longest_symlink(self) -> usize {
        if self == Self::Xfs { 1023 } else { 3900 }
    }

    /// The largest value of an extended attribute: ext4 has one block for all of an inode's, btrfs a part of a node.
    fn largest_xattr(self) -> usize {
        match self {
            Self::Ext4 => 3000,
            Self::Xfs => 60_000,
            Self::Btrfs => 15_000,
            Self::Vfat => 0,
        }
    }
}

/// Makes the hard tree in `dir`, which exists and lies on `filesystem`. The longest path in it has 4065 bytes below
/// `dir`, so that a short directory and GNU tar's `/proc/self/fd/N/` still fit before it.
///
/// A vfat has neither owners, modes, links, devices nor attributes: it gets names, sizes and times alone.
pub fn make_hard_tree(dir: &Path, filesystem: Filesystem) {
    if filesystem == Filesystem::Vfat {
        sizes(&made(dir, "sizes"));
        vfat_names(&made(dir, "names"));
        return;
    }
    names(&made(dir, "names"));
    sizes(&made(dir, "sizes"));
    sparse(&made(dir, "sparse"));
    specials(&made(dir, "special"), filesystem);
    symlinks(&made(dir, "symlinks"), filesystem);
    owners_and_modes(&made(dir, "owners"));
    attributes(&made(dir, "attributes"), filesystem);
    acls(&made(dir, "acls"));
    deep(dir);
    links(&made(dir, "links"));
    traps(&made(dir, "traps"));
    if filesystem == Filesystem::Btrfs {
        subvolume(dir);
    }
    times(&made(dir, "times"));
}

/// `count` empty files in one directory.
pub fn make_many_entries(dir: &Path, count: usize) {
    fs::create_dir_all(dir).unwrap();
    let fd = opened(dir);
    for number in 0..count {
        let name = format!("entry-{number:06}");
        rustix::fs::mknodat(&fd, name, FileType::RegularFile, Mode::from(0o644), 0).unwrap();
    }
}

/// Bytes that do not compress, the same for the same seed.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Bytes that compress well, the same for the same seed.
pub fn text(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + 64);
    let mut line = seed;
    while bytes.len() < length {
        bytes
            .extend_from_slice(format!("{line:08} the quick brown fox {:x}\n", line.wrapping_mul(seed | 7)).as_bytes());
        line += 1;
    }
    bytes.truncate(length);
    bytes
}

fn made(parent: &Path, name: &str) -> PathBuf {
    let dir = parent.join(name);
    fs::create_dir(&dir).unwrap();
    dir
}

fn opened(dir: &Path) -> OwnedFd {
    rustix::fs::openat(CWD, dir, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

fn file_at(dir: &OwnedFd, name: &[u8], content: &[u8]) {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(dir, name, flags, Mode::from(0o644))
        .unwrap_or_else(|error| panic!("create {}: {error}", name.escape_ascii()));
    File::from(fd).write_all_at(content, 0).unwrap();
}

fn names(dir: &Path) {
    let fd = opened(dir);
    let every_byte: Vec<u8> = (1..=255).filter(|&byte| byte != b'/').collect();
    let longest = [b"n".repeat(251).as_slice(), b".txt"].concat();
    let long_umlauts = "ä".repeat(127);
    let named: &[&[u8]] = &[
        b"-rf",
        b"--checkpoint-action=exec=false",
        b" leading and trailing ",
        b"two\nlines\n",
        b"tab\tcarriage\rreturn",
        b"back\\slash\\n",
        b"percent%41 and %",
        b"equals=sign=",
        b"'single' \"double\" `backtick` $HOME",
        b"*?[a-z]{b,c}!#~",
        b"latin1-\xe4\xf6\xfc",
        b"\xff\xfe\x80",
        "prefix-e\u{301}-é-日本語-🦀".as_bytes(),
        b"...",
        b".hidden",
        b"3",
        b"@",
        &every_byte,
        &longest,
        long_umlauts.as_bytes(),
    ];
    for name in named {
        file_at(&fd, name, name);
        let mut directory = b"d".to_vec();
        directory.extend_from_slice(&name[..name.len().min(254)]);
        rustix::fs::mkdirat(&fd, directory.as_slice(), Mode::from(0o755)).unwrap();
    }
    // Exactly 100 bytes and one more: the borders of a ustar header's name.
    for length in 99..=101 {
        file_at(&fd, &b"u".repeat(length), b"");
    }
}

fn vfat_names(dir: &Path) {
    for name in ["SHORT.TXT", "a name with spaces.text", "umlaut-ä-日本語", ".hidden"] {
        fs::write(dir.join(name), name).unwrap();
    }
    fs::write(dir.join("n".repeat(255)), "longest").unwrap();
    fs::create_dir_all(dir.join("one/two/three")).unwrap();
    fs::write(dir.join("one/two/three/file"), "deep").unwrap();
}

fn sizes(dir: &Path) {
    let record = [0, 1, 511, 512, 513, 1024, 4095, 4096, 4097, 10_239, 10_240, 10_241];
    let member =
        [(512 << 10) - 512, (512 << 10) - 1, 512 << 10, (512 << 10) + 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1];
    for (seed, length) in (0..).zip(record.into_iter().chain(member)) {
        fs::write(dir.join(format!("noise-{length}")), noise(seed, length)).unwrap();
        fs::write(dir.join(format!("text-{length}")), text(seed, length)).unwrap();
    }
    // First what does not compress, then what does, and the other way round: a probe of the start misjudges both.
    let halves = [noise(1, 1_500_000), text(1, 1_500_000)];
    fs::write(dir.join("noise-then-text"), [halves[0].as_slice(), &halves[1]].concat()).unwrap();
    fs::write(dir.join("text-then-noise"), [halves[1].as_slice(), &halves[0]].concat()).unwrap();
    fs::write(dir.join("zeros-written-out"), vec![0; 300_000]).unwrap();
    fs::create_dir(dir.join("empty-directory")).unwrap();
}

fn sparse(dir: &Path) {
    const GIB: u64 = 1 << 30;
    let create = |name: &str| OpenOptions::new().write(true).create_new(true).open(dir.join(name)).unwrap();
    let huge = create("20-GB-with-data-at-start-middle-and-end");
    huge.set_len(20 * GIB).unwrap();
    huge.write_all_at(&text(1, 100_000), 0).unwrap();
    huge.write_all_at(&noise(2, 70_000), 10 * GIB + 12_345).unwrap();
    huge.write_all_at(b"the last bytes", 20 * GIB - 14).unwrap();

    create("only-a-hole").set_len(5 * GIB + 1).unwrap();
    create("only-a-small-hole").set_len(1).unwrap();

    let ends = create("ends-in-a-hole");
    ends.write_all_at(&text(3, 50_001), 0).unwrap();
    ends.set_len(3 * GIB + 777).unwrap();

    let begins = create("begins-with-a-hole");
    begins.write_all_at(&noise(4, 5000), 1 << 20).unwrap();

    // More extents than fit in one record of the map, and not aligned to anything.
    let many = create("many-small-extents");
    many.set_len(64 << 20).unwrap();
    for number in 0..700_u64 {
        many.write_all_at(&noise(number, 100), number * 90_000 + number).unwrap();
    }

    // Allocated, and never written: reads as zeros, whatever lay there before.
    let unwritten = create("allocated-and-not-written");
    rustix::fs::fallocate(&unwritten, rustix::fs::FallocateFlags::empty(), 0, 400_000).unwrap();
    unwritten.write_all_at(b"in the middle", 200_000).unwrap();
    let past_the_end = create("allocated-past-its-end");
    past_the_end.write_all_at(b"short", 0).unwrap();
    rustix::fs::fallocate(&past_the_end, rustix::fs::FallocateFlags::KEEP_SIZE, 0, 64 << 10).unwrap();
}

fn specials(dir: &Path, filesystem: Filesystem) {
    let fd = opened(dir);
    // XFS keeps device numbers as System V did, with 9 bits for the major number and 18 for the minor one.
    let (major, minor) = if filesystem == Filesystem::Xfs { (511, 262_143) } else { (4095, 1_048_575) };
    let node = |name: &str, kind: FileType, mode: u32, device: u64| {
        rustix::fs::mknodat(&fd, name, kind, Mode::from(mode), device)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        fs::set_permissions(dir.join(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    node("null", FileType::CharacterDevice, 0o666, makedev(1, 3));
    node("large-minor", FileType::CharacterDevice, 0o600, makedev(259, minor));
    node("large-major", FileType::BlockDevice, 0o660, makedev(major, 256));
    node("block", FileType::BlockDevice, 0o660, makedev(8, 65_536));
    node("zero-zero", FileType::CharacterDevice, 0o000, makedev(0, 0));
    node("fifo", FileType::Fifo, 0o640, 0);
    node("socket", FileType::Socket, 0o755, 0);
    lchown(dir.join("block"), Some(6), Some(3_000_000_000)).unwrap();
    set_xattr(&dir.join("block"), "trusted.on-a-device", b"\0yes");
    set_xattr(&dir.join("fifo"), "trusted.on-a-fifo", b"yes");
}

fn symlinks(dir: &Path, filesystem: Filesystem) {
    symlink("nowhere", dir.join("dangling")).unwrap();
    symlink("/etc/passwd", dir.join("absolute")).unwrap();
    symlink("../../../../etc", dir.join("upwards")).unwrap();
    symlink(".", dir.join("loop")).unwrap();
    symlink("with spaces \n and =% ", dir.join("odd-target")).unwrap();
    let fd = opened(dir);
    rustix::fs::symlinkat(b"\xff\xfe\xe4".as_slice(), &fd, "not-utf-8").unwrap();
    for length in [99, 100, 101, 255, 256, 1000, filesystem.longest_symlink()] {
        let target = b"t/".repeat(length / 2 + 1)[..length].to_vec();
        rustix::fs::symlinkat(target.as_slice(), &fd, format!("target-of-{length}")).unwrap();
    }
    let owned = dir.join("owned");
    symlink("anything", &owned).unwrap();
    lchown(&owned, Some(2_097_152), Some(4_000_000_000)).unwrap();
    set_xattr(&owned, "trusted.on-a-symlink", b"a\0b");
    set_mtime(&owned, -3, 250_000_000);
}

fn owners_and_modes(dir: &Path) {
    let owners = [1000, 65_534, 65_536, 2_097_151, 2_097_152, 2_147_483_648, 4_294_967_294];
    for owner in owners {
        let file = dir.join(format!("of-{owner}"));
        fs::write(&file, "").unwrap();
        lchown(&file, Some(owner), Some(owner)).unwrap();
    }
    let modes = [0o0000, 0o0111, 0o0400, 0o0777, 0o1644, 0o2755, 0o4755, 0o6711, 0o7777];
    for mode in modes {
        let file = dir.join(format!("file-{mode:04o}"));
        fs::write(&file, format!("{mode:o}")).unwrap();
        lchown(&file, Some(33), Some(44)).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        let inner = made(dir, &format!("dir-{mode:04o}"));
        fs::write(inner.join("inside"), "inside").unwrap();
        lchown(&inner, Some(44), Some(33)).unwrap();
        fs::set_permissions(&inner, fs::Permissions::from_mode(mode)).unwrap();
    }
}

fn attributes(dir: &Path, filesystem: Filesystem) {
    let file = |name: &str| {
        let path = dir.join(name);
        fs::write(&path, name).unwrap();
        path
    };
    let user = file("user");
    set_xattr(&user, "user.text", b"plain");
    set_xattr(&user, "user.binary", b"\0\x01\xff\n=\0");
    set_xattr(&user, "user.empty", b"");
    set_xattr(&user, "user.key=with=equals", b"=");
    set_xattr(&user, "user.key%3Dwith%percent", b"%");
    set_xattr(&user, "user.newline\nin the key", b"\n");
    set_xattr(&user, "user.\u{e4}-not-ascii", b"\xc3\xa4");
    let large = file("large");
    set_xattr(&large, "user.large", &noise(5, filesystem.largest_xattr()));
    let many = file("many");
    for number in 0..40 {
        set_xattr(&many, &format!("user.number-{number}"), format!("{number}").as_bytes());
    }
    set_xattr(&file("trusted"), "trusted.overlay.opaque", b"y");
    // VFS capabilities, version 2, effective: cap_net_raw, as ping has it.
    let mut capability = [0_u8; 20];
    capability[0] = 1;
    capability[3] = 2;
    capability[5] = 0x20;
    let ping = file("capable");
    lchown(&ping, Some(0), Some(1234)).unwrap();
    fs::set_permissions(&ping, fs::Permissions::from_mode(0o755)).unwrap();
    set_xattr(&ping, "security.capability", &capability);
    set_xattr(&file("labelled"), "security.volbak-label", b"system_u:object_r:etc_t:s0\0");
    let inner = made(dir, "directory");
    set_xattr(&inner, "user.on-a-directory", b"d");
    set_xattr(&inner, "trusted.on-a-directory", b"");
    let read_only = file("mode-0000");
    set_xattr(&read_only, "user.behind-no-permission", b"x");
    fs::set_permissions(&read_only, fs::Permissions::from_mode(0o000)).unwrap();
}

fn acls(dir: &Path) {
    let set = |arguments: &[&str], path: &Path| {
        let output = Command::new("setfacl").args(arguments).arg(path).output().expect("setfacl runs");
        assert!(output.status.success(), "setfacl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    let file = dir.join("file");
    fs::write(&file, "acl").unwrap();
    set(&["-m", "u:1:r,u:3000000:rwx,g:2:-,g:4000000000:x,m::rx"], &file);
    let masked = dir.join("masked");
    fs::write(&masked, "acl").unwrap();
    set(&["-m", "u:7:rwx,m::---"], &masked);
    let defaults = made(dir, "only-defaults");
    set(&["-d", "-m", "u::rwx,g::r,o::-,u:5:rw"], &defaults);
    let both = made(dir, "both");
    set(&["-m", "u:9:rwx,d:u:9:rx,d:g:3000000000:w,d:m::rwx"], &both);
    fs::set_permissions(&both, fs::Permissions::from_mode(0o2770)).unwrap();
    // Made below a default ACL: inherits it, and must not inherit it a second time when it is restored.
    fs::write(both.join("inherits"), "").unwrap();
    fs::create_dir(both.join("inherits-too")).unwrap();
    let plain = both.join("does-not-inherit");
    fs::write(&plain, "").unwrap();
    set(&["-b"], &plain);
    set_mtime(&both, 1_000_000_000, 1);
}

/// Paths around the borders that formats have, up to the longest that a system call takes.
fn deep(dir: &Path) {
    let level = |parent: &OwnedFd, name: &[u8]| {
        rustix::fs::mkdirat(parent, name, Mode::from(0o755)).unwrap();
        rustix::fs::openat(parent, name, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap()
    };
    let top = opened(dir);
    let mut fd = level(&top, b"deep");
    let mut length = b"deep/".len();
    for depth in 0.. {
        if length + 251 + 255 > 4065 {
            break;
        }
        fd = level(&fd, format!("{depth:0>250}").as_bytes());
        length += 251;
        file_at(&fd, b"f", format!("at {length}").as_bytes());
        rustix::fs::symlinkat("f", &fd, "s").unwrap();
        rustix::fs::linkat(&fd, "f", &fd, "h", AtFlags::empty()).unwrap();
    }
    // The rest is split so that neither part is longer than a name may be.
    let rest = 4065 - length;
    let fd = level(&fd, &b"x".repeat(rest / 2 - 1));
    file_at(&fd, &b"y".repeat(rest - rest / 2), b"the longest path");

    let mut fd = level(&top, b"many-levels");
    for _ in 0..300 {
        fd = level(&fd, b"l");
    }
    file_at(&fd, b"bottom", b"bottom");

    // The prefix of a ustar header has 155 bytes, its name 100, and the path may be split at a slash only.
    let border = made(dir, "borders");
    for prefix in [154, 155, 156] {
        let parent = border.join("p".repeat(prefix));
        fs::create_dir(&parent).unwrap();
        fs::write(parent.join("n".repeat(100)), "").unwrap();
        fs::write(parent.join("n".repeat(101)), "").unwrap();
    }
}

fn links(dir: &Path) {
    let (one, two) = (made(dir, "one"), made(dir, "two"));
    fs::write(one.join("file"), text(9, 100_000)).unwrap();
    set_xattr(&one.join("file"), "user.linked", b"once");
    for name in ["a", "b", "c"] {
        fs::hard_link(one.join("file"), two.join(name)).unwrap();
    }
    let long = two.join("n".repeat(200));
    fs::hard_link(one.join("file"), &long).unwrap();
    symlink("a target", one.join("symlink")).unwrap();
    symlink("/an/absolute/target", one.join("absolute")).unwrap();
    let fd = opened(&one);
    rustix::fs::mknodat(&fd, "device", FileType::CharacterDevice, Mode::from(0o600), makedev(5, 77)).unwrap();
    rustix::fs::mknodat(&fd, "fifo", FileType::Fifo, Mode::from(0o600), 0).unwrap();
    fs::write(one.join("empty"), "").unwrap();
    fs::write(one.join("setuid"), "#!").unwrap();
    fs::set_permissions(one.join("setuid"), fs::Permissions::from_mode(0o4755)).unwrap();
    let hole = File::create_new(one.join("sparse")).unwrap();
    hole.set_len(1 << 30).unwrap();
    hole.write_all_at(b"data", 1 << 29).unwrap();
    for name in ["symlink", "absolute", "device", "fifo", "empty", "setuid", "sparse"] {
        fs::hard_link(one.join(name), two.join(name)).unwrap();
    }
}

/// Names that mean something to an archiver, and must not.
fn traps(dir: &Path) {
    for name in ["lost+found", "GNUSparseFile.1", "PaxHeaders.0", ".volbak-tmp.1", "p1", "CVS"] {
        fs::write(made(dir, name).join("inside"), name).unwrap();
    }
    fs::write(dir.join("p1.img"), "not an image").unwrap();
    fs::write(dir.join(".gitignore"), "*\n").unwrap();
    // A file that looks like an archive itself.
    let mut header = text(1, 512);
    header[257..263].copy_from_slice(b"ustar\0");
    fs::write(dir.join("looks-like-a-header"), [header.as_slice(), &[0; 1024]].concat()).unwrap();
}

/// A subvolume has inode numbers of its own: equal numbers there are not hard links.
fn subvolume(dir: &Path) {
    let path = dir.join("subvolume");
    let output = Command::new("btrfs").args(["subvolume", "create"]).arg(&path).output().expect("btrfs runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for name in ["first", "second", "third"] {
        fs::write(path.join(name), name).unwrap();
        fs::hard_link(path.join(name), path.join(format!("{name}-again"))).unwrap();
    }
}

/// Last, since making an entry changes its directory's time.
fn times(dir: &Path) {
    let seconds = [
        -2_147_483_648,
        -2_000_000_000,
        -86_400,
        -2,
        -1,
        0,
        1,
        999_999_999,
        2_147_483_647,
        2_147_483_648,
        4_294_967_296,
        8_589_934_592,
    ];
    for (number, second) in (0..).zip(seconds) {
        for nanosecond in [0, 1, 500_000_000, 999_999_999] {
            let file = dir.join(format!("file-{number}-{nanosecond}"));
            fs::write(&file, "").unwrap();
            set_mtime(&file, second, nanosecond);
        }
        let inner = made(dir, &format!("directory-{number}"));
        fs::write(inner.join("inside"), "").unwrap();
        set_mtime(&inner, second, 123_456_789);
    }
    set_mtime(dir, 1_234_567_890, 987_654_321);
}

fn set_xattr(path: &Path, name: &str, value: &[u8]) {
    rustix::fs::lsetxattr(path, name, value, XattrFlags::empty()).unwrap_or_else(|error: rustix::io::Errno| {
        panic!("set {name:?} ({} bytes) on {}: {}", value.len(), path.display(), io::Error::from(error))
    });
}

fn set_mtime(path: &Path, seconds: i64, nanoseconds: i64) {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let both = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path, &both, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}
