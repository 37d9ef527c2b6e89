//! Encrypted backups: what they hold is what plain ones hold, whoever has one of the keys reads them, and nobody else does.
//!
//! Promises: `age` and `tar` restore them without volbak; later nights are carried without a private key; without a key a
//! machine finds every change of a file; losing one key of two loses nothing.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use sha2::{Digest, Sha256};
use volbak::run::check::Verdict;
use volbak::store::Backup;

use crate::testkit::cases;
use crate::testkit::guest::backups::{beside, manifest, run_expecting, snapshot};
use crate::testkit::guest::{Mounted, make_image, quoted, sh};
use crate::testkit::proof::{Random, verify_level};
use crate::testkit::tree::{Filesystem, noise, text};

/// A host that encrypts for two recipients, and their keys, which it does not have.
struct Host {
    scratch: tempfile::TempDir,
}

impl Host {
    fn new() -> Self {
        let host = Self { scratch: tempfile::tempdir().unwrap() };
        for key in ["one", "two", "other"] {
            let path = host.path(key);
            sh(&format!("umask 077; age-keygen -o {} 2>/dev/null", quoted(&path)));
        }
        sh(&format!("ssh-keygen -q -t ed25519 -N '' -C volbak -f {}", quoted(&host.path("signing"))));
        host.write_config(&["one", "two"]);
        host
    }

    /// A host whose image has files.
    fn with_files() -> Self {
        let host = Self::new();
        make_image(&host.image(), "64M", Filesystem::Ext4);
        let mounted = Mounted::partition(&host.image(), &host.path("mnt"));
        make_tree(&host.path("mnt"));
        mounted.unmount();
        host
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    fn public(&self, key: &str) -> String {
        sh(&format!("age-keygen -y {}", quoted(&self.path(key)))).trim().to_owned()
    }

    fn write_config(&self, keys: &[&str]) {
        let recipients: Vec<String> = keys.iter().map(|key| format!("\"{}\"", self.public(key))).collect();
        let text = format!(
            "backup_destination = \"{}\"\nrequire_mount = false\n[encryption]\nrecipients = [{}]\nsigning_key = \"{}\"\n\
             index_cache = \"{}\"\n",
            self.path("b").display(),
            recipients.join(", "),
            self.path("signing").display(),
            self.path("cache").display()
        );
        fs::create_dir_all(self.path("b")).unwrap();
        fs::write(self.path("config"), text).unwrap();
    }

    fn image(&self) -> PathBuf {
        self.path("image")
    }

    /// Backs the image up; returns the archive and what was printed.
    fn back_up(&self) -> (PathBuf, String) {
        self.back_up_expecting(0)
    }

    fn back_up_expecting(&self, status: i32) -> (PathBuf, String) {
        self.back_up_with(status, &[])
    }

    fn back_up_with(&self, status: i32, more: &[&str]) -> (PathBuf, String) {
        let before = archives_of(&self.path("b"));
        let image = self.image();
        let verb = ["snapshot", image.to_str().unwrap(), "--name", "vol", "--config", self.config()];
        let said = run_expecting(status, &[&verb, more].concat());
        let after = archives_of(&self.path("b"));
        (after.into_iter().find(|archive| !before.contains(archive)).unwrap(), said)
    }

    fn config(&self) -> &'static str {
        // The argument lives as long as the test.
        Box::leak(self.path("config").into_os_string().into_string().unwrap().into_boxed_str())
    }

    /// Runs a verb with the key of this recipient.
    fn with_key(&self, key: &str, status: i32, arguments: &[&str]) -> String {
        let key = self.path(key);
        let signer = self.path("signing.pub");
        let keys = ["--identity", key.to_str().unwrap(), "--signer", signer.to_str().unwrap()];
        run_expecting(status, &[arguments, &keys].concat())
    }

    /// Runs a verb without a key for decrypting.
    fn without_key(&self, status: i32, arguments: &[&str]) -> String {
        let signer = self.path("signing.pub");
        run_expecting(status, &[arguments, &["--signer", signer.to_str().unwrap()]].concat())
    }
}

/// The encrypted archives in a destination, sorted.
fn archives_of(dest: &Path) -> Vec<PathBuf> {
    let found = sh(&format!("find {} -name '*.age' ! -name '*.index.age' | sort", quoted(dest)));
    found.lines().map(PathBuf::from).collect()
}

/// A filesystem with enough files for many members.
fn make_tree(root: &Path) {
    make_files(root, 10, 60_000);
    fs::write(root.join("large"), noise(7, 2_500_000)).unwrap();
}

fn make_files(root: &Path, directories: u64, longest: u64) {
    for directory in 0..directories {
        let path = root.join(format!("secret-directory-{directory}"));
        fs::create_dir_all(&path).unwrap();
        for file in 0..30_u64 {
            let seed = directory * 100 + file;
            let length = usize::try_from(seed.pow(3) % longest).unwrap();
            let data = if file % 3 == 0 { noise(seed + 1, length) } else { text(seed + 1, length) };
            fs::write(path.join(format!("secret-file-{file:03}")), data).unwrap();
        }
    }
}

/// Decrypts an archive with `age`, as docs/restore-without-volbak.md says.
fn decrypt_with_age(archive: &Path, key: &Path, into: &Path) {
    let table = beside(archive, "segments");
    sh(&format!(
        "set +o pipefail; while read -r offset length sha256; do tail -c +$((offset + 1)) {archive} | head -c $length | age -d -i {key}; \
         done < {table} > {into}",
        archive = quoted(archive),
        key = quoted(key),
        table = quoted(&table),
        into = quoted(into)
    ));
}

#[test]
fn age_and_tar_restore_what_volbak_does_and_the_members_are_those_of_a_plain_backup() {
    let host = Host::new();
    make_image(&host.image(), "600M", Filesystem::Ext4);
    let mounted = Mounted::partition(&host.image(), &host.path("mnt"));
    make_tree(&host.path("mnt"));
    sh(&format!("cd {} && mkdir wanted && cp -a mnt/secret* mnt/large wanted", quoted(host.scratch.path())));
    mounted.unmount();
    let (archive, _) = host.back_up();
    fs::create_dir(host.path("plain")).unwrap();
    let plain = snapshot(&host.image(), &host.path("plain"), &["--name", "vol"]);

    for key in ["one", "two"] {
        let decrypted = host.path(&format!("{key}.tar.gz"));
        decrypt_with_age(&archive, &host.path(key), &decrypted);
        assert!(
            fs::read(&decrypted).unwrap() == fs::read(&plain).unwrap(),
            "{key}: the members are those of a plain backup"
        );
        let to = host.path(&format!("own-{key}"));
        host.with_key(key, 0, &["restore", archive.to_str().unwrap(), "--to", to.to_str().unwrap()]);
        sh(&format!(
            "cd {} && mkdir gnu-{key} && tar -xzf {key}.tar.gz -C gnu-{key} --exclude './hard*' && \
             for made in gnu-{key} own-{key}; do diff -r wanted/large $made/large && \
             for directory in wanted/*; do diff -r $directory $made/${{directory#wanted/}}; done; done",
            quoted(host.scratch.path())
        ));
    }
    // The index is another one only in the places of the members.
    let entries =
        |index: &str| index.lines().filter(|line| line.starts_with('E')).map(str::to_owned).collect::<Vec<String>>();
    let index = sh(&format!(
        "age -d -i {} {}",
        quoted(&host.path("one")),
        quoted(Path::new(&archive.to_str().unwrap().replace(".tar.gz.age", ".index.age")))
    ));
    assert_eq!(entries(&index), entries(&fs::read_to_string(beside(&plain, "index")).unwrap()));
}

#[test]
fn names_are_not_in_what_is_published_and_plain_backups_stay_plain() {
    let host = Host::with_files();
    let (archive, _) = host.back_up();
    let found = sh(&format!("grep -rlE 'secret-(file|directory)' {} || true", quoted(&host.path("b"))));
    assert_eq!(found, "", "a name is in the destination");
    let head = fs::read(&archive).unwrap();
    assert!(head.starts_with(b"age-encryption.org/v1\n"), "the first bytes say what it is");
    // What the host keeps is for its own user.
    for name in ["vol.index", "vol.manifest.json"] {
        let mode = fs::metadata(host.path("cache").join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let listed = run_expecting(0, &["list", "--destination", host.path("b").to_str().unwrap()]);
    assert!(listed.contains("encrypted"), "{listed}");
}

#[test]
fn without_a_key_each_verb_says_who_has_one_and_makes_nothing() {
    let host = Host::with_files();
    let (archive, _) = host.back_up();
    let archive = archive.to_str().unwrap();
    let file = format!("{archive}:secret-directory-1/secret-file-002");
    let target = host.path("target");
    let disk = host.path("disk");
    let verbs: [&[&str]; 6] = [
        &["restore", archive, "--to", target.to_str().unwrap()],
        &["restore", archive, "--to-image", disk.to_str().unwrap()],
        &["browse", archive],
        &["cat", &file],
        &["diff", archive, archive],
        &["export", archive, "--format", "raw", "--to", disk.to_str().unwrap()],
    ];
    for verb in verbs {
        for said in [host.without_key(1, verb), host.with_key("other", 1, verb)] {
            for key in ["one", "two"] {
                assert!(said.contains(&host.public(key)), "{verb:?}: {said}");
            }
        }
        assert!(!target.exists() && !disk.exists(), "{verb:?} made something");
    }
    let said = host.without_key(1, &["restore", archive, "--to", target.to_str().unwrap()]);
    assert!(said.contains("--identity FILE") && said.lines().count() < 4, "{said}");
    // An encrypted image is nothing that gunzip reads.
    let (image, _) = host.back_up_with(0, &["--image"]);
    let said = host.without_key(1, &["restore", image.to_str().unwrap(), "--to-image", disk.to_str().unwrap()]);
    assert!(said.contains("--identity FILE") && !said.contains("gunzip"), "{said}");
    assert!(host.with_key("two", 0, &["cat", &file]).len() > 100);
    host.with_key("two", 0, &["restore", archive, "--to-image", disk.to_str().unwrap()]);
    assert!(disk.exists());

    let said = host.without_key(0, &["verify", archive]);
    assert!(said.contains("as far as it can be checked") && said.contains("the contents of files"), "{said}");
    let said = host.with_key("one", 0, &["verify", archive, "--restore-test"]);
    assert!(said.contains("good") && said.contains("second opinion") && !said.contains("as far as"), "{said}");

    // A verification that restored nothing does not end well, and does not hide the one that did.
    for said in [
        host.without_key(3, &["verify", archive, "--restore-test"]),
        host.with_key("other", 3, &["verify", archive, "--restore-test"]),
    ] {
        assert!(said.contains("nothing is restored for a test"), "{said}");
    }
    let destination = host.path("b");
    let listed = run_expecting(0, &["list", destination.to_str().unwrap()]);
    assert!(listed.contains("restore-test: good"), "{listed}");
}

#[test]
fn a_plain_backup_that_is_newer_than_encrypted_ones_is_told() {
    let host = Host::with_files();
    host.back_up();
    let (destination, target) = (host.path("b"), host.path("target"));
    let (destination, target) = (destination.to_str().unwrap(), target.to_str().unwrap());
    let restore = ["restore", "vol", "--destination", destination, "--to", target];
    let told = "is not encrypted, and earlier backups of vol are: it has no signature, so that anyone";
    assert!(!host.with_key("one", 0, &restore).contains(told));
    // Whoever can write there needs no key for it.
    let image = host.image();
    run_expecting(0, &["snapshot", image.to_str().unwrap(), "--name", "vol", "--destination", destination]);
    fs::remove_dir_all(target).unwrap();
    let said = host.with_key("one", 0, &restore);
    assert!(said.contains(told), "{said}");
    let forged = sh(&format!("ls {destination}/vol/*.tar.gz")).trim().to_owned();
    let stem = Path::new(&forged).file_name().unwrap().to_str().unwrap().strip_suffix(".tar.gz").unwrap();
    let dated = format!("vol@{}", stem.strip_prefix("vol_").unwrap());
    let with_config =
        |status: i32, arguments: &[&str]| run_expecting(status, &[arguments, &["--config", host.config()]].concat());
    let from = ["--destination", destination];
    for said in [
        with_config(3, &["verify", "--all"]),
        with_config(3, &["verify", "vol"]),
        with_config(0, &["list"]),
        with_config(0, &["list", "--json"]),
        // No run left a report yet, which is a warning, too.
        with_config(1, &["status"]),
        // Without a config or a key, by what is there.
        run_expecting(0, &[&["verify", "--all"], &from[..]].concat()),
        run_expecting(0, &[&["verify", &dated], &from[..]].concat()),
        run_expecting(0, &["verify", &forged]),
        run_expecting(0, &["list", destination]),
        run_expecting(0, &["browse", &forged]),
        run_expecting(1, &[&["status"], &from[..]].concat()),
    ] {
        assert_eq!(said.matches(&format!("{stem} {told}")).count(), 1, "{said}");
    }
    let status = |arguments: &[&str]| -> serde_json::Value {
        let said = run_expecting(1, &[&["status", "--json"], arguments].concat());
        serde_json::from_str(&said).unwrap()
    };
    let with_encryption = status(&["--config", host.config()]);
    let reasons = with_encryption["reasons"].as_array().unwrap();
    assert!(reasons.iter().any(|reason| reason["what"].as_str().unwrap().contains(told)), "{reasons:?}");
    let without = status(&from);
    assert!(without["notices"][0].as_str().unwrap().contains(told), "{without:#}");
}

#[test]
fn plain_backups_from_before_the_encryption_are_told_together() {
    let host = Host::with_files();
    let (destination, image) = (host.path("b"), host.image());
    let destination = destination.to_str().unwrap();
    run_expecting(0, &["snapshot", image.to_str().unwrap(), "--name", "vol", "--destination", destination]);
    let together = "backups are not encrypted: vol (1); they have no signature";
    for is_encrypted in [false, true] {
        for verb in [&["list"][..], &["verify", "--all"], &["status"]] {
            let status = i32::from(verb == ["status"]);
            let said = run_expecting(status, &[verb, &["--config", host.config()]].concat());
            assert_eq!(said.matches(together).count(), 1, "{said}");
        }
        let plain = sh(&format!("ls {destination}/vol/*.tar.gz")).trim().to_owned();
        let said = run_expecting(0, &["browse", &plain, "--config", host.config()]);
        let why = if is_encrypted { "later backups of vol are" } else { "though keys for encrypted backups are given" };
        assert!(said.contains("is not encrypted, ") && said.contains(why), "{said}");
        // Who has no key, and sees no encrypted backup, expects none.
        let said = run_expecting(0, &["browse", &plain]);
        assert_eq!(said.contains("is not encrypted"), is_encrypted, "{said}");
        host.back_up();
    }
}

#[test]
fn files_are_found_by_the_encrypted_index() {
    let host = Host::with_files();
    host.back_up();
    let destination = host.path("b");
    let of_file = ["find", "secret-file-002", "--destination", destination.to_str().unwrap()];
    for key in ["one", "two"] {
        let said = host.with_key(key, 0, &of_file);
        assert!(said.contains("1 backup searched") && said.contains("secret-directory-1/secret-file-002"), "{said}");
    }
    for said in [host.without_key(1, &of_file), host.with_key("other", 1, &of_file)] {
        assert!(said.contains("is not searched: it is encrypted for") && said.contains(&host.public("one")), "{said}");
    }
}

#[test]
fn later_nights_are_carried_without_a_key_until_the_recipients_change() {
    let host = Host::new();
    make_image(&host.image(), "64M", Filesystem::Ext4);
    let mounted = Mounted::partition(&host.image(), &host.path("mnt"));
    make_tree(&host.path("mnt"));
    // Change times must be older than the doubt about a filesystem in use.
    sleep(Duration::from_secs(3));
    fs::write(host.path("mnt/last"), "the newest change").unwrap();
    mounted.unmount();
    let (first, _) = host.back_up();
    let mounted = Mounted::partition(&host.image(), &host.path("mnt"));
    fs::write(host.path("mnt/secret-directory-3/secret-file-007"), "changed").unwrap();
    mounted.unmount();
    let (second, _) = host.back_up();
    let carried = manifest(&second)["carried"]["members"].as_u64().unwrap();
    let members = manifest(&second)["sizes"]["members"].as_u64().unwrap();
    assert!(carried * 10 >= members * 8, "{carried} of {members} members are carried");
    // What is carried is the same ciphertext.
    let (one, two) = (segments(&first), segments(&second));
    assert!(two.iter().filter(|segment| one.contains(segment)).count() as u64 >= carried);
    host.with_key("two", 0, &["verify", second.to_str().unwrap(), "--restore-test"]);
    assert!(first.exists());

    // A member of last night's archive that was damaged is read again.
    damage(&second, fs::metadata(&second).unwrap().len() / 2);
    let (third, said) = host.back_up_expecting(3);
    assert!(said.contains("damaged"), "{said}");
    host.with_key("one", 0, &["verify", third.to_str().unwrap(), "--restore-test"]);

    // A lost cache costs one full night.
    fs::remove_dir_all(host.path("cache")).unwrap();
    let (fourth, said) = host.back_up();
    assert!(manifest(&fourth)["carried"].is_null() && said.contains("this host has no index of it"), "{said}");
    let (fifth, _) = host.back_up();
    assert!(manifest(&fifth)["carried"]["members"].as_u64().unwrap() > 0);

    // What is in a table that was changed does not get into the next one.
    damage(&beside(&fifth, "segments"), 100);
    let (next, _) = host.back_up();
    damage(&beside(&fifth, "segments"), 100);
    assert!(manifest(&next)["carried"]["members"].as_u64().unwrap() > 0);
    host.with_key("two", 0, &["verify", next.to_str().unwrap()]);

    // Key rotation: one night without carrying, and the new key alone reads the new backups.
    host.write_config(&["two", "other"]);
    let (sixth, said) = host.back_up();
    assert!(manifest(&sixth)["carried"].is_null() && said.contains("recipients"), "{said}");
    host.with_key("other", 0, &["verify", sixth.to_str().unwrap(), "--restore-test"]);
    let target = host.path("target");
    host.with_key("one", 1, &["restore", sixth.to_str().unwrap(), "--to", target.to_str().unwrap()]);
    host.with_key("one", 0, &["restore", fifth.to_str().unwrap(), "--to", target.to_str().unwrap()]);
}

/// The lengths and digests of an archive's segments.
fn segments(archive: &Path) -> Vec<String> {
    let table = fs::read_to_string(beside(archive, "segments")).unwrap();
    table.lines().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect()
}

fn damage(path: &Path, at: u64) {
    let mut file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.seek(SeekFrom::Start(at)).unwrap();
    file.read_exact(&mut byte).unwrap();
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(&[byte[0] ^ 0x10]).unwrap();
}

/// The files of a backup, by their suffixes.
const SUFFIXES: [&str; 6] = [".tar.gz.age", ".segments", ".manifest.json", ".manifest.sig", ".checksum", ".index.age"];

fn read_all(archive: &Path) -> Vec<Vec<u8>> {
    let path = |suffix: &str| archive.to_str().unwrap().replace(".tar.gz.age", suffix);
    SUFFIXES.iter().map(|suffix| fs::read(path(suffix)).unwrap()).collect()
}

/// Lines of a table: offset, length, digest.
fn table_of(archive: &[u8], lengths: &[usize]) -> Vec<u8> {
    let mut at = 0;
    let mut table = String::new();
    for length in lengths {
        let digest = volbak::shown::hex(&Sha256::digest(&archive[at..at + length]));
        table.push_str(&format!("{at} {length} {digest}\n"));
        at += length;
    }
    table.into_bytes()
}

/// What somebody does who can write to the destination and has public keys alone; returns what it is.
fn attack(random: &mut Random, files: &mut [Vec<u8>], other: &[Vec<u8>]) -> String {
    let which = random.below(SUFFIXES.len());
    let lengths: Vec<usize> = String::from_utf8(files[1].clone())
        .unwrap()
        .lines()
        .map(|line| line.split(' ').nth(1).unwrap().parse().unwrap())
        .collect();
    let starts: Vec<usize> = lengths.iter().scan(0, |at, length| Some(std::mem::replace(at, *at + length))).collect();
    match random.below(8) {
        0 => {
            // A flipped bit in the armor of a signature may be in the bits that fill the last digit.
            let which = if which == 3 { 0 } else { which };
            let at = random.below(files[which].len());
            files[which][at] ^= 1 << random.below(8);
            format!("a bit of {} at {at} is flipped", SUFFIXES[which])
        }
        1 => {
            let len = random.below(files[which].len());
            files[which].truncate(len);
            format!("{} is truncated to {len}", SUFFIXES[which])
        }
        2 | 3 => {
            // Two segments change places, and the table says so.
            let (one, two) = (random.below(lengths.len()), random.below(lengths.len()));
            let (one, two) = (one.min(two), one.max(two));
            if one == two {
                files[0].push(0);
                return "a byte is appended".to_owned();
            }
            let mut order: Vec<usize> = (0..lengths.len()).collect();
            order.swap(one, two);
            let archive: Vec<u8> =
                order.iter().flat_map(|number| files[0][starts[*number]..][..lengths[*number]].to_vec()).collect();
            let new: Vec<usize> = order.iter().map(|number| lengths[*number]).collect();
            if random.below(2) == 0 {
                files[1] = table_of(&archive, &new);
            }
            files[0] = archive;
            format!("the segments {one} and {two} are swapped")
        }
        4 => {
            // A segment of another night, of any length, with a table that fits.
            let number = random.below(lengths.len());
            let line = String::from_utf8(other[1].clone()).unwrap();
            let line = line.lines().nth(number).unwrap().to_owned();
            let field = |at: usize| line.split(' ').nth(at).unwrap().parse::<usize>().unwrap();
            let old = other[0][field(0)..][..field(1)].to_vec();
            let mut new = lengths.clone();
            new[number] = old.len();
            files[0].splice(starts[number]..starts[number] + lengths[number], old);
            files[1] = table_of(&files[0], &new);
            format!("the segment {number} is that of another night")
        }
        5 => {
            // Files of another night under these names; all of them, or some.
            let mut taken = Vec::new();
            for (number, suffix) in SUFFIXES.iter().enumerate() {
                if random.below(2) == 0 || taken.is_empty() {
                    files[number].clone_from(&other[number]);
                    taken.push(*suffix);
                }
            }
            format!("{taken:?} are those of another night")
        }
        6 => {
            // Whole files of another night, each.
            for (file, old) in files.iter_mut().zip(other) {
                file.clone_from(old);
            }
            "all is that of another night".to_owned()
        }
        _ => {
            let number = random.below(lengths.len());
            let cut = starts[number];
            files[0].truncate(cut);
            files[1] = table_of(&files[0], &lengths[..number]);
            format!("the archive and the table end before segment {number}")
        }
    }
}

#[test]
fn a_thousand_changes_are_found_without_a_key() {
    let host = Host::new();
    make_image(&host.image(), "64M", Filesystem::Ext4);
    let mounted = Mounted::partition(&host.image(), &host.path("mnt"));
    make_files(&host.path("mnt"), 4, 20_000);
    mounted.unmount();
    let (archive, _) = host.back_up();
    let mounted = Mounted::partition(&host.image(), &host.path("mnt"));
    fs::write(host.path("mnt/secret-directory-3/secret-file-007"), "changed").unwrap();
    mounted.unmount();
    let (later, _) = host.back_up();

    let signer = fs::read_to_string(host.path("signing.pub")).unwrap();
    volbak::encryption::keyring::trust(volbak::encryption::PublicSigner::parse(&signer).unwrap());
    let level = volbak::run::check::CheckLevel::Full;
    let (right, other) = (read_all(&archive), read_all(&later));
    let verdict = || verify_level(&Backup::of_archive(&archive).unwrap(), level).verdict;
    assert_eq!(verdict(), Verdict::GoodAsFarAsChecked, "an untouched one");
    for seed in cases::numbers(1000) {
        let mut random = Random(seed as u64 * 2 + 1);
        let mut files = right.clone();
        let what = attack(&mut random, &mut files, &other);
        for (suffix, (bytes, before)) in SUFFIXES.iter().zip(files.iter().zip(&right)) {
            if bytes != before {
                fs::write(archive.to_str().unwrap().replace(".tar.gz.age", suffix), bytes).unwrap();
            }
        }
        assert_eq!(verdict(), Verdict::Bad, "seed {seed}: {what}");
        for (suffix, (bytes, before)) in SUFFIXES.iter().zip(files.iter().zip(&right)) {
            if bytes != before {
                fs::write(archive.to_str().unwrap().replace(".tar.gz.age", suffix), before).unwrap();
            }
        }
    }

    // A signature of another key, and a manifest that was changed and has a new digest of itself.
    sh(&format!("ssh-keygen -q -t ed25519 -N '' -f {}", quoted(&host.path("intruder"))));
    let path = archive.to_str().unwrap().replace(".tar.gz.age", ".manifest.json");
    sh(&format!(
        "cd {} && rm -f m.sig && cp {path} m && ssh-keygen -q -Y sign -f intruder -n volbak m && cp m.sig {}",
        quoted(host.scratch.path()),
        archive.to_str().unwrap().replace(".tar.gz.age", ".manifest.sig")
    ));
    let said = host.without_key(1, &["verify", archive.to_str().unwrap()]);
    assert!(said.contains("not a trusted signer"), "{said}");
}

#[test]
fn ssh_keygen_accepts_the_signature_and_copies_are_the_same_files() {
    let host = Host::with_files();
    let (archive, _) = host.back_up();
    let path = |suffix: &str| archive.to_str().unwrap().replace(".tar.gz.age", suffix);
    sh(&format!(
        "cd {} && echo \"host $(cat signing.pub)\" > allowed && \
         ssh-keygen -Y verify -f allowed -I host -n volbak -s {} < {} && \
         test $(jq -r .encryption.segments_sha256 {}) = $(sha256sum < {} | cut -c1-64)",
        quoted(host.scratch.path()),
        path(".manifest.sig"),
        path(".manifest.json"),
        path(".manifest.json"),
        path(".segments")
    ));

    let date = manifest(&archive)["local_date"].as_str().unwrap().to_owned();
    // Without a key: a copy has the same bytes, and both can be removed.
    let second = host.path("second");
    fs::create_dir(&second).unwrap();
    let (from, to) = (host.path("b"), second.to_str().unwrap().to_owned());
    host.without_key(0, &["copy", "vol", "--from", from.to_str().unwrap(), "--to", &to]);
    let copy = archives_of(&second).pop().unwrap();
    assert!(read_all(&copy) == read_all(&archive));
    host.with_key("two", 0, &["verify", copy.to_str().unwrap()]);
    host.without_key(0, &["remove", &format!("vol@{date}"), "--config", host.config(), "--force"]);
    let left = sh(&format!("find {} -type f", quoted(&host.path("b/vol"))));
    assert_eq!(left, "", "all files of the backup are gone");
}

#[test]
fn images_are_encrypted_carried_and_restored() {
    let host = Host::new();
    // More than one member of zeros, and one that ends with the volume.
    make_image(&host.image(), "300M", Filesystem::Ext4);
    let mounted = Mounted::partition(&host.image(), &host.path("mnt"));
    make_tree(&host.path("mnt"));
    mounted.unmount();
    let (first, _) = host.back_up_with(0, &["--image"]);
    let name = first.to_str().unwrap();
    assert!(name.ends_with(".img.gz.age"), "{name}");
    let found = sh(&format!("grep -rlE 'secret-(file|directory)' {} || true", quoted(&host.path("b"))));
    assert_eq!(found, "", "a name is in the destination");
    let listed = run_expecting(0, &["list", "--json", "--destination", host.path("b").to_str().unwrap()]);
    assert!(listed.contains("\"encrypted\": true"), "{listed}");

    // `age` and `gunzip` bring it back, and it is the plain image.
    fs::create_dir(host.path("plain")).unwrap();
    run_expecting(
        0,
        &["snapshot", host.image().to_str().unwrap(), "--image", "--destination", host.path("plain").to_str().unwrap()],
    );
    let decrypted = host.path("decrypted");
    decrypt_with_age(&first, &host.path("two"), &decrypted);
    sh(&format!("cmp {} {}/*/*.img.gz", quoted(&decrypted), quoted(&host.path("plain"))));

    // Without a key, nothing of it is read, and all that can be checked is.
    let said = host.without_key(0, &["verify", name]);
    assert!(said.contains("as far as it can be checked"), "{said}");
    let disk = host.path("disk");
    for verb in [&["restore", name, "--to-image", disk.to_str().unwrap()][..], &["browse", name]] {
        assert!(host.without_key(1, verb).contains(&host.public("one")), "{verb:?}");
    }
    assert!(!disk.exists());
    let said = host.with_key("two", 0, &["verify", name, "--restore-test"]);
    assert!(said.contains("good") && !said.contains("as far as"), "{said}");
    host.with_key("one", 0, &["restore", name, "--to-image", disk.to_str().unwrap()]);
    sh(&format!("gunzip -c {} | cmp - {}", quoted(&decrypted), quoted(&disk)));
    let file = format!("{name}:secret-directory-1/secret-file-002");
    assert!(host.with_key("two", 0, &["cat", &file]).len() > 100);

    // The next night copies what is the same, without a key.
    let mounted = Mounted::partition(&host.image(), &host.path("mnt"));
    fs::write(host.path("mnt/secret-directory-3/secret-file-007"), "changed").unwrap();
    mounted.unmount();
    let (second, _) = host.back_up_with(0, &["--image"]);
    let carried = manifest(&second)["carried"]["members"].as_u64().unwrap();
    let (one, two) = (segments(&first), segments(&second));
    assert!(carried > 2, "{carried} members are carried");
    assert!(two.iter().filter(|segment| one.contains(segment)).count() as u64 >= carried);
    host.with_key("one", 0, &["verify", second.to_str().unwrap(), "--restore-test"]);

    // What is in a table that was changed does not get into the next one.
    damage(&beside(&second, "segments"), 100);
    let (third, _) = host.back_up_with(0, &["--image"]);
    damage(&beside(&second, "segments"), 100);
    assert!(manifest(&third)["carried"]["members"].as_u64().unwrap() > 2);
    host.with_key("two", 0, &["verify", third.to_str().unwrap()]);

    // Each damaged segment is found, also one of zeros: with a key and without.
    let whole = fs::read(&second).unwrap();
    let table = fs::read_to_string(beside(&second, "segments")).unwrap();
    // The first stanza has the lengths of the member and of its data. A member of data has at most 1 MiB.
    let data_bytes = |line: &&str| {
        let offset: usize = line.split(' ').next().unwrap().parse().unwrap();
        let head = String::from_utf8_lossy(&whole[offset..offset + 80]).into_owned();
        let stanza = head.lines().nth(1).unwrap().to_owned();
        stanza.split(' ').next_back().unwrap().parse::<u64>().unwrap()
    };
    let of_zeros = table.lines().find(|line| data_bytes(line) > 1 << 20).unwrap();
    let of_data = table.lines().find(|line| data_bytes(line) == 1 << 20).unwrap();
    for line in [of_zeros, of_data, table.lines().last().unwrap()] {
        let mut fields = line.split(' ').map(|field| field.parse::<usize>().unwrap_or(0));
        let (offset, length) = (fields.next().unwrap(), fields.next().unwrap());
        let mut bad = whole.clone();
        bad[offset + length - 1] ^= 1;
        fs::write(&second, &bad).unwrap();
        for said in [
            host.without_key(1, &["verify", second.to_str().unwrap()]),
            host.with_key("two", 1, &["verify", second.to_str().unwrap()]),
        ] {
            assert!(said.contains("BAD") && said.contains(&format!("byte {offset}")), "{line}: {said}");
        }
    }
}
