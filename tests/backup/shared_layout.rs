//! Nights in the shared layout, onto a directory that cannot share blocks.
//!
//! Promises: thirty nights take little more room than one; each archive has the tar stream of the plain layout, and a shell
//! makes it; all that reads backups reads these; what nobody needs is freed, and removing one night, also by hand, harms no
//! other.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::testkit::guest::backups::{beside, files_below, run_expecting, snapshot};
use crate::testkit::guest::{Mounted, make_image, quoted, sh};
use crate::testkit::tree::{Filesystem, noise, text};

const NIGHTS: u32 = 5;

/// The loop of docs/restore-without-volbak.md.
const LOOP: &str = r#"grep -v '^#' "$F.parts" | while read -r s o l; do dd if="segments/$s" bs=1M iflag=skip_bytes,count_bytes skip="$o" count="$l" status=none; done"#;
/// What makes an index of what the loop prints for it.
const AWK: &str = r#"awk 'BEGIN { FS = OFS = "\t" } $1 == "M" { if ($2 == "") $2 = n + 0; if ($3 == "") $3 = a + 0; if ($5 == "") $5 = t + 0; n = $2 + 1; a = $3 + $4; t = $5 + $6 } $1 == "E" { if ($3 == "") $3 = e + 0; e = $3 + $4 } 1'"#;

struct Guest {
    scratch: tempfile::TempDir,
}

impl Guest {
    fn new() -> Self {
        let guest = Self { scratch: tempfile::tempdir().unwrap() };
        make_image(&guest.image(), "64M", Filesystem::Ext4);
        let mounted = guest.mount();
        for number in 0..3 {
            fs::write(guest.at("mnt").join(format!("large-{number}")), noise(number, 4 << 20)).unwrap();
        }
        for number in 0..300 {
            let content = if number % 3 == 0 { text(number, 30_000) } else { noise(number, 9000) };
            fs::write(guest.at("mnt").join(format!("small-{number}")), content).unwrap();
        }
        mounted.unmount();
        // What is so much older than the youngest is carried.
        sleep(Duration::from_millis(2100));
        for dest in ["plain", "shared", "copy"] {
            fs::create_dir(guest.at(dest)).unwrap();
        }
        guest
    }

    fn at(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    fn image(&self) -> PathBuf {
        self.at("vol.img")
    }

    fn mount(&self) -> Mounted {
        Mounted::partition(&self.image(), &self.at("mnt"))
    }

    fn change(&self, night: u32) {
        let mounted = self.mount();
        fs::write(self.at("mnt").join(format!("small-{}", 40 * night)), noise(night.into(), 9000 + 512)).unwrap();
        fs::write(self.at("mnt/new"), text(night.into(), 5000)).unwrap();
        if night == 3 {
            fs::remove_file(self.at("mnt/small-100")).unwrap();
        }
        mounted.unmount();
    }

    /// A backup in the shared layout, without any that are due to be read again.
    fn night(&self, more: &[&str]) -> PathBuf {
        snapshot(
            &self.image(),
            &self.at("shared"),
            &[&["--layout", "shared", "--full-read-every-days", "0"], more].concat(),
        )
    }

    fn shared(&self, verb: &str, status: i32, more: &[&str]) -> String {
        let shared = self.at("shared");
        run_expecting(status, &[&[verb, "--destination", shared.to_str().unwrap()], more].concat())
    }
}

/// The room that a directory takes.
fn room(path: &Path) -> u64 {
    sh(&format!("sync -f {0}; du -s --block-size=1 {0}", quoted(path)))
        .split_whitespace()
        .next()
        .unwrap()
        .parse()
        .unwrap()
}

/// Makes the file `name` of the folder, as a shell does.
fn composed(folder: &Path, name: &str, filter: &str) -> Vec<u8> {
    let out = folder.parent().unwrap().join("composed");
    sh(&format!("cd {}; F={}; {LOOP}{filter} > {}", quoted(folder), quoted(Path::new(name)), quoted(&out)));
    let bytes = fs::read(&out).unwrap();
    fs::remove_file(out).unwrap();
    bytes
}

/// The SHA-256 of the bytes, in hex.
fn sha256(bytes: &[u8]) -> String {
    volbak::shown::hex(&Sha256::digest(bytes))
}

/// The lines of an index for entries.
fn entries(index: &str) -> Vec<&str> {
    index.lines().filter(|line| line.starts_with("E\t")).collect()
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

/// `VOLUME@DATE` of a backup.
fn dated(archive: &Path) -> String {
    let name = name_of(archive);
    format!("vol@{}", name.split_once('.').unwrap().0.strip_prefix("vol_").unwrap())
}

#[test]
fn nights_share_their_bytes_and_are_read_everywhere() {
    let guest = Guest::new();
    let mut nights = Vec::new();
    let mut first_room = 0;
    for night in 0..NIGHTS {
        guest.change(night);
        let plain = snapshot(&guest.image(), &guest.at("plain"), &["--full-read-every-days", "0"]);
        let shared = guest.night(&[]);
        assert!(name_of(&shared).ends_with(".tar.gz.parts"));
        nights.push((plain, shared));
        first_room = if night == 0 { room(&guest.at("shared/vol")) } else { first_room };
    }
    let taken = room(&guest.at("shared/vol"));
    assert!(taken < first_room * 6 / 5, "{taken} for {NIGHTS} nights, {first_room} for one");

    // A shell makes the archives and the indexes. Their members are smaller than in the plain layout.
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/restore-without-volbak.md")).unwrap();
    assert!(page.contains(LOOP) && page.contains(AWK), "the page has other commands");
    let folder = guest.at("shared/vol");
    for (plain, shared) in &nights {
        let name = name_of(shared).replace(".parts", "");
        let archive = composed(&folder, &name, "");
        let index = name.replace(".tar.gz", ".index");
        let text = composed(&folder, &index, &format!(" | {AWK}"));
        let manifest = fs::read_to_string(folder.join(name.replace(".tar.gz", ".manifest.json"))).unwrap();
        assert!(manifest.contains(&sha256(&text)), "{index} is not the index of the manifest");
        let (of_plain, of_shared) =
            (fs::read_to_string(beside(plain, "index")).unwrap(), String::from_utf8(text).unwrap());
        assert!(entries(&of_shared) == entries(&of_plain), "{index} has other entries");
        assert!(
            of_shared.matches("\nM\t").count() > of_plain.matches("\nM\t").count(),
            "{index} has no smaller members"
        );
        fs::write(folder.join(&name), archive).unwrap();
        let (one, other) = (quoted(plain), quoted(&folder.join(&name)));
        sh(&format!("bash -c 'cmp <(gzip -dc \"$0\") <(gzip -dc \"$1\")' {one} {other}"));
        let stem = name.replace(".tar.gz", "");
        let listed = sh(&format!(
            "cd {}; gzip -t {1}.tar.gz; sha1sum --quiet -c {1}.checksum; tar tzf {1}.tar.gz",
            quoted(&folder),
            quoted(Path::new(&stem))
        ));
        assert!(listed.contains("./small-299"), "{listed}");
        fs::remove_file(folder.join(&name)).unwrap();
    }

    // All verbs.
    guest.shared("verify", 0, &["--all", "--second-opinion", "--no-record"]);
    guest.shared("verify", 0, &["--all", "--quick"]);
    guest.shared("verify", 0, &["--restore-test", "vol@last"]);
    let (before, last) = (dated(&nights[1].1), dated(&nights[4].1));
    assert_eq!(
        guest.shared("cat", 0, &[&format!("{last}:new")]).trim_end(),
        String::from_utf8(text(4, 5000)).unwrap().trim_end()
    );
    assert!(guest.shared("browse", 0, &[&last]).contains("small-299"));
    assert!(guest.shared("diff", 0, &[&before, &last]).contains("small-160"));
    assert!(guest.shared("list", 0, &["vol"]).contains("vol"));
    let target = guest.at("restored");
    let shared = guest.at("shared");
    let by_path = shared.join("vol").join(name_of(&nights[4].1));
    run_expecting(0, &["restore", by_path.to_str().unwrap(), "--to", target.to_str().unwrap()]);
    assert!(fs::read(target.join("large-2")).unwrap() == noise(2, 4 << 20));
    guest.shared("copy", 0, &["--all", "--to", guest.at("copy").to_str().unwrap()]);
    for (_, shared) in &nights {
        let name = name_of(shared).replace(".parts", "");
        let copied = fs::read(guest.at("copy/vol").join(&name)).unwrap();
        assert!(copied == composed(&folder, &name, ""), "a copy is a plain file of the same archive");
    }

    // Removal frees what only the removed nights had.
    let removed: Vec<String> = nights[..4].iter().map(|(_, shared)| dated(shared)).collect();
    let removed: Vec<&str> = removed.iter().map(String::as_str).collect();
    guest.shared("remove", 0, &removed[1..3]);
    guest.shared("verify", 0, &["--all", "--no-record"]);
    // By hand, all files of one night.
    let stem = name_of(&nights[0].1).replace(".tar.gz.parts", "");
    sh(&format!("rm {}/{stem}.*", quoted(&folder)));
    guest.shared("remove", 0, &removed[3..]);
    guest.shared("verify", 0, &["--all", "--no-record"]);
    let left = room(&folder);
    assert!(left < first_room * 21 / 20, "{left} are left for one night, which took {first_room}");

    // The next night carries on; without its segment it says what is missing.
    guest.change(6);
    guest.night(&[]);
    let segments: Vec<_> = files_below(&folder.join("segments"));
    let oldest = segments.iter().filter(|path| !name_of(path).contains("index")).min().unwrap();
    fs::rename(oldest, guest.at("moved")).unwrap();
    let said = guest.shared("verify", 1, &["--all", "--quick"]);
    assert_eq!(said.matches(&format!("segments/{}", name_of(oldest))).count(), 2, "{said}");
    fs::rename(guest.at("moved"), oldest).unwrap();
    guest.shared("verify", 0, &["--all", "--quick"]);
}

/// The goal of issue 17: thirty nights in which 1 % changes take at most 1.6 times the room of one. Ten nights may take a third
/// of what is beyond one.
#[test]
fn nights_in_which_one_percent_changes_take_little_room() {
    const FILES: u64 = 400;
    let guest = Guest::new();
    let mounted = guest.mount();
    for number in 0..FILES {
        let len = 2000 + usize::try_from(number * number % 17).unwrap() * 1500;
        let folder = guest.at(&format!("mnt/d{}", number / 20));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(format!("f{number}")), noise(100 + number, len)).unwrap();
    }
    mounted.unmount();
    sleep(Duration::from_millis(2100));
    let mut rooms = Vec::new();
    for night in 0..10_u64 {
        if night > 0 {
            let mounted = guest.mount();
            // Small files anywhere grow by a line, and of each large one a block is written again.
            for number in (0..4).map(|number| (night * 97 + number * 131) % FILES) {
                let path = guest.at(&format!("mnt/d{}/f{number}", number / 20));
                let content = [fs::read(&path).unwrap(), b"a line more\n".to_vec()].concat();
                fs::write(path, content).unwrap();
            }
            for number in 0..3 {
                let path = guest.at("mnt").join(format!("large-{number}"));
                let mut content = fs::read(&path).unwrap();
                let at = usize::try_from((night * 37 + number * 11) % 256).unwrap() << 14;
                content[at..at + (16 << 10)].copy_from_slice(&noise(1000 + 3 * night + number, 16 << 10));
                fs::write(path, content).unwrap();
            }
            mounted.unmount();
        }
        guest.night(&[]);
        rooms.push(room(&guest.at("shared/vol")));
    }
    println!("room after each night: {rooms:?}");
    assert!(rooms[9] < rooms[0] * 6 / 5, "{rooms:?}");
    guest.shared("verify", 0, &["--all", "--no-record"]);
}

#[test]
fn the_first_night_after_a_change_of_the_layout_has_small_members() {
    let guest = Guest::new();
    snapshot(&guest.image(), &guest.at("shared"), &[]);
    let (image, shared) = (guest.image(), guest.at("shared"));
    let arguments = ["snapshot", image.to_str().unwrap(), "--to", shared.to_str().unwrap()];
    let said = run_expecting(0, &[&arguments[..], &["--layout", "shared"]].concat());
    assert!(said.contains("members of the shared one are smaller"), "{said}");
    let said = run_expecting(0, &[&arguments[..], &["--layout", "shared"]].concat());
    assert!(!said.contains("nothing is carried forward"), "{said}");
    // In the plain layout, those of the shared one are copied.
    let said = run_expecting(0, &arguments);
    assert!(!said.contains("nothing is carried forward"), "{said}");
    guest.shared("verify", 0, &["--all", "--no-record"]);
}

#[test]
fn images_frames_and_encrypted_archives_are_shared_as_well() {
    let guest = Guest::new();
    let key = guest.at("key");
    sh(&format!("umask 077; age-keygen -o {0} 2>/dev/null; ssh-keygen -q -t ed25519 -N '' -f {0}.sign", quoted(&key)));
    let config = guest.at("config");
    let encryption = format!(
        "backup_destination = '{0}'\nrequire_mount = false\n[archive]\nlayout = 'shared'\nfull_read_every_days = 0\n\
         [encryption]\nrecipients = ['{1}']\nsigning_key = '{2}.sign'\nindex_cache = '{3}'\n\
         allow_one_recipient = true\n",
        guest.at("sealed").display(),
        sh(&format!("age-keygen -y {}", quoted(&key))).trim(),
        key.display(),
        guest.at("cache").display(),
    );
    fs::write(&config, encryption).unwrap();
    fs::create_dir(guest.at("sealed")).unwrap();
    let (image, config) = (guest.image(), config.to_str().unwrap().to_owned());
    let with_names = |name: &str| -> Vec<String> {
        vec![
            "--layout".into(),
            "shared".into(),
            "--name".into(),
            name.into(),
            "--to".into(),
            guest.at("shared").display().to_string(),
        ]
    };
    let mut rooms: Vec<[u64; 3]> = Vec::new();
    for night in 0..3 {
        guest.change(night);
        for (name, more) in [("image", "--image"), ("frames", "--format=tar.zst")] {
            let mut arguments = vec!["snapshot".to_owned(), image.display().to_string(), more.to_owned()];
            arguments.extend(["--full-read-every-days".to_owned(), "0".to_owned()]);
            arguments.extend(with_names(name));
            run_expecting(0, &arguments);
        }
        run_expecting(0, &["snapshot", image.to_str().unwrap(), "--name", "sealed", "--config", &config]);
        rooms.push(
            [guest.at("shared/image"), guest.at("shared/frames"), guest.at("sealed/sealed")].map(|path| room(&path)),
        );
    }
    for (first, last) in rooms[0].iter().zip(rooms[2]) {
        assert!(last < first * 5 / 4, "{rooms:?}");
    }
    guest.shared("verify", 0, &["--all", "--no-record"]);
    let sealed = guest.at("sealed");
    run_expecting(0, &["verify", "--all", "--no-record", "--destination", sealed.to_str().unwrap()]);
    let target = guest.at("restored");
    let identity = key.to_str().unwrap();
    run_expecting(
        0,
        &[
            "restore",
            "sealed@last",
            "--destination",
            sealed.to_str().unwrap(),
            "--identity",
            identity,
            "--to",
            target.to_str().unwrap(),
        ],
    );
    assert!(fs::read(target.join("large-1")).unwrap() == noise(1, 4 << 20));
    let folder = guest.at("shared/image");
    let recipe =
        files_below(&folder).into_iter().filter(|path| name_of(path).ends_with(".img.gz.parts")).max().unwrap();
    let archive = composed(&folder, &name_of(&recipe).replace(".parts", ""), "");
    let unpacked = guest.at("unpacked");
    fs::write(guest.at("image.gz"), archive).unwrap();
    sh(&format!("gzip -dc {} > {}", quoted(&guest.at("image.gz")), quoted(&unpacked)));
    run_expecting(0, &["inspect", unpacked.to_str().unwrap()]);
    assert_eq!(fs::metadata(&unpacked).unwrap().len(), fs::metadata(&image).unwrap().len());
}

/// A segment that is lost is not made again under its name: the next one of that day has other data, which the older archives would
/// be read with.
#[test]
fn what_refers_to_a_lost_segment_stays_damaged() {
    let guest = Guest::new();
    let image = guest.image();
    let first = guest.night(&[]);
    let segments = guest.at("shared/vol/segments");
    for entry in fs::read_dir(&segments).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    let mounted = guest.mount();
    fs::write(guest.at("mnt/large-0"), noise(77, 6 << 20)).unwrap();
    mounted.unmount();
    let shared = guest.at("shared");
    let said = run_expecting(
        3,
        &["snapshot", image.to_str().unwrap(), "--to", shared.to_str().unwrap(), "--layout", "shared"],
    );
    assert!(said.contains("warning: ") && said.contains("nothing is carried forward, everything is read"), "{said}");
    let listed = guest.shared("list", 0, &["vol"]);
    assert!(listed.contains("DAMAGED") && listed.contains("it is missing"), "{listed}");
    guest.shared("verify", 1, &["--quick", "--no-record", &dated(&first)]);
    guest.shared("verify", 0, &["--no-record", "vol@last"]);
    // A third night goes on from the second, and frees nothing that is needed.
    guest.night(&[]);
    guest.shared("verify", 0, &["--no-record", "vol@last"]);
}
