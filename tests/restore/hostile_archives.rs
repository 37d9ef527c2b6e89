//! Promise: whatever an archive holds, restoring it touches nothing outside of the directory that it is restored into,
//! ends, and says what it did not do.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::testkit::proof::{restore_options, restore_with, verify_level, with};
use crate::testkit::tree;
use crate::testkit::tree::fingerprint;
use flate2::Compression;
use flate2::write::GzEncoder;
use volbak::archive::gzip::MemberEncoder;
use volbak::run::check::{CheckLevel, Verdict};
use volbak::run::restore::Existing;
use volbak::store::Backup;

/// Builds tar streams, also such as no tar would make.
#[derive(Default)]
struct Tar(Vec<u8>);

impl Tar {
    fn header(flag: u8, path: &[u8], link: &[u8], size: &[u8]) -> [u8; 512] {
        let mut block = [0; 512];
        block[..path.len().min(100)].copy_from_slice(&path[..path.len().min(100)]);
        block[100..108].copy_from_slice(b"0006755\0");
        block[108..116].copy_from_slice(b"0000000\0");
        block[116..124].copy_from_slice(b"0000000\0");
        block[124..124 + size.len()].copy_from_slice(size);
        block[136..148].copy_from_slice(b"07777777777\0");
        block[156] = flag;
        block[157..157 + link.len().min(100)].copy_from_slice(&link[..link.len().min(100)]);
        block[257..265].copy_from_slice(b"ustar\x0000");
        // A device's number: /dev/null.
        block[329..337].copy_from_slice(b"0000001\0");
        block[337..345].copy_from_slice(b"0000003\0");
        Self::sealed(block)
    }

    fn sealed(mut block: [u8; 512]) -> [u8; 512] {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        block
    }

    fn raw(mut self, flag: u8, path: &[u8], link: &[u8], size: u64, data: &[u8]) -> Self {
        self.0.extend_from_slice(&Self::header(flag, path, link, format!("{size:011o}\0").as_bytes()));
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn file(self, path: &str, data: &[u8]) -> Self {
        self.raw(b'0', path.as_bytes(), b"", data.len() as u64, data)
    }

    fn dir(self, path: &str) -> Self {
        self.raw(b'5', path.as_bytes(), b"", 0, b"")
    }

    fn link(self, flag: u8, path: &str, target: &str) -> Self {
        self.raw(flag, path.as_bytes(), target.as_bytes(), 0, b"")
    }

    fn pax(self, records: &[u8]) -> Self {
        self.raw(b'x', b"././@PaxHeader", b"", records.len() as u64, records)
    }

    fn record(key: &str, value: &[u8]) -> Vec<u8> {
        let rest = key.len() + value.len() + 3;
        let len = (rest + 1..rest + 9).find(|len| len.to_string().len() + rest == *len).unwrap();
        [len.to_string().as_bytes(), b" ", key.as_bytes(), b"=", value, b"\n"].concat()
    }

    fn records(records: &[(&str, &[u8])]) -> Vec<u8> {
        records.iter().flat_map(|(key, value)| Self::record(key, value)).collect()
    }

    fn end(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        self.0
    }
}

/// An archive of our members around a tar stream.
fn in_members(tar: &[u8]) -> Vec<u8> {
    let mut encoder = MemberEncoder::new(1).unwrap();
    let (mut archive, mut member) = (Vec::new(), Vec::new());
    for piece in tar.chunks(1 << 20) {
        encoder.encode(piece, &mut member);
        archive.extend_from_slice(&member);
    }
    archive
}

fn in_gzip(tar: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(tar).unwrap();
    encoder.finish().unwrap()
}

/// The world that a restore must not touch, and the target in it.
struct World {
    dir: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        // Each restore ends with a sync, which takes its time on a disk.
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let outside = dir.path().join("outside");
        fs::create_dir_all(outside.join("sub")).unwrap();
        fs::write(outside.join("canary"), "alive\n").unwrap();
        fs::write(outside.join("sub/canary"), "alive\n").unwrap();
        fs::create_dir(dir.path().join("target")).unwrap();
        Self { dir }
    }

    fn target(&self) -> PathBuf {
        self.dir.path().join("target")
    }

    fn empty_target(&self) {
        fs::remove_dir_all(self.target()).unwrap();
        fs::create_dir(self.target()).unwrap();
    }

    fn outside(&self) -> PathBuf {
        self.dir.path().join("outside")
    }

    /// Writes an archive; its directory is made anew.
    fn archive(&self, bytes: &[u8]) -> Backup {
        let directory = self.dir.path().join("backups");
        fs::create_dir_all(&directory).unwrap();
        let files = Backup::in_directory(directory, "vol_01_01_2026");
        fs::write(files.archive_path(), bytes).unwrap();
        files
    }
}

/// A kind of hostile archive.
struct Kind {
    name: &'static str,
    tar: Vec<u8>,
    /// What must not be complete: the restore has to say something.
    refused: bool,
}

fn kinds(outside: &Path) -> Vec<Kind> {
    let mut all = Vec::new();
    let mut add = |name: &'static str, refused: bool, tar: Tar| all.push(Kind { name, tar: tar.end(), refused });
    let out = outside.to_str().unwrap();
    let tar = Tar::default;

    // Ways up and out.
    add("a path with ..", true, tar().file("../outside/new", b"x"));
    add("a path with .. in the middle", true, tar().dir("./a").file("./a/../../outside/canary", b"dead"));
    add("a path that ends with ..", true, tar().dir("./a/.."));
    add("an absolute path", false, tar().file(&format!("{out}/canary"), b"dead"));
    add("a path with many slashes", false, tar().file("//////etc////x", b"x"));
    add("a pax path with ..", true, tar().pax(&Tar::record("path", b"../outside/canary")).file("harmless", b"dead"));
    add(
        "a GNU long name with ..",
        true,
        tar().raw(b'L', b"././@LongLink", b"", 18, b"../outside/canary\0").file("h", b"dead"),
    );
    add(
        "a sparse name with ..",
        true,
        tar()
            .pax(&Tar::records(&[
                ("GNU.sparse.major", b"1"),
                ("GNU.sparse.minor", b"0"),
                ("GNU.sparse.name", b"../outside/canary"),
                ("GNU.sparse.realsize", b"4"),
            ]))
            .file("GNUSparseFile.0/x", &[b"1\n0\n4\n".as_slice(), &[0; 506], b"dead"].concat()),
    );
    add(
        "a global path with ..",
        true,
        tar()
            .raw(
                b'g',
                b"g",
                b"",
                Tar::record("path", b"../outside/canary").len() as u64,
                &Tar::record("path", b"../outside/canary"),
            )
            .file("harmless", b"dead"),
    );

    // Symbolic links as bridges.
    add(
        "a file through a symlink to outside",
        true,
        tar().link(b'2', "./bridge", out).file("./bridge/canary", b"dead"),
    );
    add(
        "a directory through a symlink",
        true,
        tar().link(b'2', "./bridge", out).dir("./bridge/new").file("./bridge/new/x", b"x"),
    );
    add(
        "a directory over a symlink",
        true,
        tar().link(b'2', "./bridge", out).dir("./bridge").file("./bridge/canary", b"dead"),
    );
    add(
        "a file over a symlink to a file",
        true,
        tar().link(b'2', "./bridge", &format!("{out}/canary")).file("./bridge", b"dead"),
    );
    add("a symlink through a symlink", true, tar().link(b'2', "./b", out).link(b'2', "./b/c", "/etc"));
    add(
        "a relative symlink chain",
        true,
        tar().link(b'2', "./a", "..").link(b'2', "./b", "a/outside").file("./b/canary", b"dead"),
    );
    add("a fifo through a symlink", true, tar().link(b'2', "./b", out).link(b'6', "./b/fifo", ""));
    add("a device through a symlink", true, tar().link(b'2', "./b", out).link(b'3', "./b/null", ""));
    add("a symlink over the root", true, tar().link(b'2', "./", out).file("./canary", b"dead"));

    // Hard links.
    add("a hard link to outside", true, tar().link(b'1', "./link", "../outside/canary").file("./link", b"dead"));
    add("a hard link to an absolute path", true, tar().link(b'1', "./link", &format!("{out}/canary")));
    add("a hard link through a symlink", true, tar().link(b'2', "./b", out).link(b'1', "./link", "./b/canary"));
    add(
        "a hard link into a symlink's directory",
        true,
        tar().file("./f", b"x").link(b'2', "./b", out).link(b'1', "./b/link", "./f"),
    );
    add(
        "a file over a hard link to a symlink",
        true,
        tar().link(b'2', "./s", &format!("{out}/canary")).link(b'1', "./h", "./s").file("./h", b"dead"),
    );
    add("a hard link to nothing", true, tar().link(b'1', "./h", "./none"));
    add("a hard link to itself", true, tar().link(b'1', "./h", "./h"));
    add("a hard link to a directory", true, tar().dir("./d").link(b'1', "./h", "./d"));

    // Names.
    add("a name with a zero byte", true, tar().pax(&Tar::record("path", b"a\0b")).file("x", b"x"));
    add("an empty name", true, tar().file("", b"x"));
    add("a name of 300 bytes", true, tar().pax(&Tar::record("path", &[b'n'; 300])).file("x", b"x"));
    add("a path of 500 directories", false, tar().pax(&Tar::record("path", &b"d/".repeat(500))).dir("x"));
    add("our own temporary name", false, tar().file("./.volbak-tmp.restore-1-2-3", b"x").file("./b", b"y"));
    add("a file in place of a directory", true, tar().file("./a", b"x").file("./a/b", b"y"));

    // Numbers and lengths that lie.
    let size = |field: &[u8]| Tar(Tar::header(b'0', b"./f", b"", field).to_vec());
    add("a negative size", true, size(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"));
    add("a size of 2^63", true, size(b"\x80\0\0\0\x80\0\0\0\0\0\0\0"));
    add("a size of 8 GiB without data", true, size(b"77777777777\0"));
    add("a pax size of 2^64 - 1", true, tar().pax(&Tar::record("size", b"18446744073709551615")).file("f", b"x"));
    add("an owner of 2^40", false, tar().pax(&Tar::record("uid", b"1099511627776")).file("f", b"x"));
    add("a time beyond 64 bits", true, tar().pax(&Tar::record("mtime", b"99999999999999999999.5")).file("f", b"x"));
    add("an extended header of 4 GiB", true, tar().raw(b'x', b"x", b"", 1 << 32, b"").file("f", b"x"));
    add("a record longer than its header", true, tar().pax(b"99999 path=x\n").file("f", b"x"));
    add("a record of length zero", true, tar().pax(b"0 path=x\n").file("f", b"x"));
    add(
        "an endless row of extended headers",
        true,
        (0..5000).fold(tar(), |tar, _| tar.pax(&Tar::record("uid", b"1"))).file("f", b"x"),
    );
    add("an extended header and nothing after it", true, tar().pax(&Tar::record("path", b"x")));
    let sparse = |map: &[u8], real: &[u8]| {
        let records: [(&str, &[u8]); 4] = [
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.name", b"s"),
            ("GNU.sparse.realsize", real),
        ];
        let mut data = map.to_vec();
        data.resize(512, 0);
        data.extend_from_slice(b"data");
        tar().pax(&Tar::records(&records)).file("GNUSparseFile.0/s", &data)
    };
    add("a sparse map beyond the file's end", true, sparse(b"1\n100\n4\n", b"50"));
    add("a sparse map with overlaps", true, sparse(b"2\n0\n3\n1\n1\n", b"50"));
    add("a sparse map of 2^60 runs", true, sparse(b"1152921504606846976\n", b"50"));
    add("a sparse map without an end", true, sparse(&[b'1'; 512], b"50"));
    add("a sparse map that wraps around", true, sparse(b"2\n18446744073709551615\n2\n0\n2\n", b"18446744073709551615"));
    let mut old = Tar::header(b'S', b"./old", b"", b"00000000004\0");
    old[257..265].copy_from_slice(b"ustar  \0");
    old[345..500].fill(0);
    old[386..410].copy_from_slice(b"77777777777\x0000000000004\0");
    old[483..495].copy_from_slice(b"00000000010\0");
    add("an old sparse header that lies", true, Tar([Tar::sealed(old).as_slice(), b"dead", &[0; 508]].concat()));
    add("a header with a wrong checksum", true, {
        let mut block = Tar::header(b'0', b"./f", b"", b"00000000000\0");
        block[0] ^= 1;
        Tar(block.to_vec()).file("./good", b"x")
    });
    add("an unknown type", true, tar().raw(b'Q', b"./q", b"", 4, b"data"));
    add("nothing but noise", true, Tar(tree::noise(1, 51_200)));
    add("a tar archive in a file", false, tar().file("./inner.tar", &tar().file("../outside/canary", b"dead").end()));
    add("setuid files and devices", false, tar().file("./suid", b"x").link(b'3', "./null", ""));
    add(
        "attributes that say no",
        false,
        tar()
            .pax(&Tar::records(&[
                ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
                ("SCHILY.xattr.nonsense", b"z"),
                ("SCHILY.xattr.", b""),
            ]))
            .file("./f", b"x"),
    );
    add(
        "an ACL that is none",
        true,
        tar().pax(&Tar::record("SCHILY.acl.access", b"user::rwx,bogus")).file("./f", b"x"),
    );
    all
}

#[test]
fn nothing_outside_is_touched() {
    let mut tried = 0;
    let world = World::new();
    let kinds = kinds(&world.outside());
    let count = kinds.len();
    assert!(count >= 25);
    let before = fingerprint(&world.outside());
    for kind in kinds {
        for compress in [in_members, in_gzip] {
            let archive = compress(&kind.tar);
            for existing in [Existing::Keep, Existing::Resume, Existing::Overwrite] {
                world.empty_target();
                let files = world.archive(&archive);
                let options = with(restore_options(&world.target()), |options| options.existing = existing);
                let (report, problems) = restore_with(&files, &options);
                let what = format!("{}, {existing:?}", kind.name);
                tree::assert_equal_trees(&before, &fingerprint(&world.outside()));
                let beside: Vec<_> =
                    fs::read_dir(world.dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
                assert_eq!(beside.len(), 3, "{what}: {beside:?}");
                if existing == Existing::Keep && kind.refused {
                    let said = report.as_ref().map_or(true, |report| !report.is_complete());
                    assert!(said && !problems.is_empty(), "{what} was called complete: {report:?}");
                }
                let left = fs::read_dir(world.target()).unwrap();
                let temporary = left.filter(|entry| {
                    entry.as_ref().unwrap().file_name().to_str().is_some_and(|name| name.starts_with(".volbak-tmp."))
                });
                assert_eq!(temporary.count(), usize::from(kind.name == "our own temporary name"), "{what}");
                // Whatever it is, verifying it ends.
                if existing == Existing::Keep {
                    let report = verify_level(&files, CheckLevel::Full);
                    assert_ne!(report.verdict, Verdict::Good, "{what}");
                }
                tried += 1;
            }
        }
    }
    println!("{count} kinds of hostile archives, {tried} restores, nothing outside was touched");
}

#[test]
fn what_is_in_the_target_already_is_no_bridge_and_is_not_overwritten() {
    let world = World::new();
    symlink(world.outside(), world.target().join("bridge")).unwrap();
    fs::write(world.target().join("mine"), "mine\n").unwrap();
    let before = fingerprint(&world.outside());
    let tar = Tar::default().file("./bridge/canary", b"dead").file("./mine", b"theirs").file("./new", b"new").end();
    let files = world.archive(&in_members(&tar));
    let (report, _) = restore_with(&files, &restore_options(&world.target()));
    let report = report.unwrap();
    assert_eq!((report.restored, report.failed), (1, 2));
    tree::assert_equal_trees(&before, &fingerprint(&world.outside()));
    assert_eq!(fs::read(world.target().join("mine")).unwrap(), b"mine\n");

    let options = with(restore_options(&world.target()), |options| options.existing = Existing::Overwrite);
    let (report, _) = restore_with(&files, &options);
    assert_eq!(report.unwrap().failed, 1, "the link that leads out stays in the way");
    assert_eq!(fs::read(world.target().join("mine")).unwrap(), b"theirs");
    tree::assert_equal_trees(&before, &fingerprint(&world.outside()));
}

#[test]
fn no_entry_lends_its_owners_rights_in_an_open_directory() {
    let world = World::new();
    let mut kinds: Vec<Vec<u8>> = kinds(&world.outside()).into_iter().map(|kind| kind.tar).collect();
    let tar = || Tar::default().file("./f", b"x");
    kinds.push(tar().raw(b'1', b"./link", b"./none", 4, b"data").end());
    kinds.push(tar().raw(b'1', b"./link", b"./f", 1, b"x").link(b'1', "./again", "./f").end());
    kinds.push(tar().raw(b'7', b"./contiguous", b"", 4, b"data").raw(b'N', b"./n", b"", 4, b"data").end());
    for tar in kinds {
        world.empty_target();
        for directory in [world.dir.path().to_owned(), world.target()] {
            fs::set_permissions(directory, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        }
        let files = world.archive(&in_gzip(&tar));
        let options = with(restore_options(&world.target()), |options| {
            options.top = false;
            options.keep_set_id = false;
        });
        let _ = restore_with(&files, &options);
        for (path, attributes) in fingerprint(&world.target()) {
            let lends = attributes.mode & 0o6000 != 0 && matches!(attributes.kind, tree::Kind::File { .. });
            assert!(!lends, "{}: {:o}", tree::shown(&path), attributes.mode);
        }
    }
}

#[test]
fn devices_are_made_only_when_asked_for() {
    let world = World::new();
    let files = world.archive(&in_members(&Tar::default().link(b'3', "./null", "").link(b'6', "./fifo", "").end()));
    let options = with(restore_options(&world.target()), |options| options.devices = false);
    let (report, _) = restore_with(&files, &options);
    assert_eq!(report.unwrap().left_out, 1);
    assert!(!world.target().join("null").exists() && world.target().join("fifo").exists());
}
