//! `volbak copy`: a backup in the other destination is whole and right, or not there.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::backup::Place;
use crate::disks::Noise;
use crate::killed::{length, names, run_until};
use crate::testkit::guest::{Mounted, sh};

struct Two {
    place: Place,
}

struct Did {
    status: i32,
    stdout: String,
    stderr: String,
}

impl From<Output> for Did {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { status: output.status.code().unwrap(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

impl Did {
    fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|_| panic!("{}{}", self.stdout, self.stderr))
    }

    /// The outcome of each backup.
    fn outcomes(&self) -> Vec<String> {
        let backups = self.json()["backups"].as_array().unwrap().clone();
        backups.iter().map(|one| one["outcome"].as_str().unwrap().to_owned()).collect()
    }
}

impl Two {
    /// Two destinations; the first has a backup of each of these disks.
    fn new(disks: &[(&str, usize)]) -> Self {
        let place = Place::new();
        fs::create_dir(place.path("second")).unwrap();
        for (name, bytes) in disks {
            let disk = place.path(&format!("{name}.img"));
            fs::write(&disk, Noise::new(*bytes as u64).bytes(*bytes)).unwrap();
            place.back_up(&disk, &[]);
        }
        Self { place }
    }

    fn second(&self) -> PathBuf {
        self.place.path("second")
    }

    fn copy(&self, more: &[&str]) -> Did {
        let second = self.second();
        self.place.volbak(&[&["copy", "--to", second.to_str().unwrap(), "--json", "-q"], more].concat()).into()
    }

    /// A verb on the second destination.
    fn there(&self, args: &[&str]) -> Did {
        let mut command = Command::new(env!("CARGO_BIN_EXE_volbak"));
        command.args(args).arg("--destination").arg(self.second()).output().unwrap().into()
    }

    /// The only archive of a volume in the first destination.
    fn archive(&self, volume: &str) -> PathBuf {
        let directory = self.place.path("to").join(volume);
        let name = names(&directory).into_iter().find(|name| name.ends_with(".img.gz")).unwrap();
        directory.join(name)
    }

    /// Fails unless the second destination has the same files of this volume, and nothing else.
    fn assert_equal(&self, volume: &str) {
        let (from, to) = (self.place.path("to").join(volume), self.second().join(volume));
        let without_records = |directory: &Path| -> Vec<String> {
            names(directory).into_iter().filter(|name| !name.ends_with(".verified.json")).collect()
        };
        assert_eq!(without_records(&from), without_records(&to));
        for name in without_records(&from) {
            assert!(fs::read(from.join(&name)).unwrap() == fs::read(to.join(&name)).unwrap(), "{name}");
        }
    }
}

#[test]
fn a_copy_is_a_backup_like_any_other_and_is_made_once() {
    let two = Two::new(&[("a", 3 << 20), ("b", 2_000_001)]);
    let planned = two.copy(&["--all", "--dry-run"]);
    assert_eq!((planned.status, planned.outcomes()), (0, vec!["would_copy".to_owned(); 2]));
    assert_eq!(names(&two.second()), [""; 0], "a dry run changes nothing");
    let done = two.copy(&["a"]);
    assert_eq!((done.status, done.outcomes()), (0, vec!["copied".to_owned()]));
    let all = two.copy(&["--all"]);
    assert_eq!((all.status, all.outcomes()), (0, vec!["present".to_owned(), "copied".to_owned()]));
    for volume in ["a", "b"] {
        two.assert_equal(volume);
        let verified = two.there(&["verify", volume]);
        assert_eq!(verified.status, 0, "{}", verified.stderr);
    }
    assert_eq!(two.copy(&["--all"]).outcomes(), ["present", "present"]);
    // And back, where one is lost.
    fs::remove_dir_all(two.place.path("to/a")).unwrap();
    let first = two.place.to();
    let back = two.there(&["copy", "--all", "--to", &first, "-q", "--json"]);
    assert_eq!(back.outcomes(), ["present", "copied"]);
    two.assert_equal("a");
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(two.archive("a")).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
}

/// A backup of files has four files, too.
#[test]
fn a_backup_of_files_is_copied_with_its_index() {
    let two = Two::new(&[]);
    let image = two.place.path("files.img");
    let tree = two.place.path("tree");
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("hosts"), "127.0.0.1 localhost\n").unwrap();
    sh(&format!("truncate -s 8M {0} && mke2fs -q -F -t ext4 -d {1} {0}", image.display(), tree.display()));
    two.place.well(&["snapshot", image.to_str().unwrap(), "-q"]);
    assert_eq!(two.copy(&["--all"]).outcomes(), ["copied"]);
    two.assert_equal("files");
    assert_eq!(two.there(&["cat", "files:hosts"]).stdout, "127.0.0.1 localhost\n");
    assert_eq!(two.there(&["verify", "files", "--restore-test", "--scratch", "/var/tmp"]).status, 0);
}

#[test]
fn a_copy_that_is_killed_at_any_moment_goes_on_and_shows_nothing_before() {
    let two = Two::new(&[("disk", 12 << 20)]);
    let (from, to, directory) = (two.place.to(), two.second(), two.second().join("disk"));
    let args = ["copy", "--all", "--to", to.to_str().unwrap(), "--destination", &from, "-q"];
    let bytes = fs::metadata(two.archive("disk")).unwrap().len();
    let mut noise = Noise::new(17);
    let mut kept_most = 0;
    for round in 0..30_u64 {
        // A moment in the copy of the archive; the last ones are at its end, where the names are published.
        let moment = if round < 24 { noise.below(bytes) } else { bytes + noise.below(20_000) };
        run_until(&args, &directory, moment + 1);
        let listed = two.there(&["list"]);
        assert!(!listed.stdout.contains("DAMAGED") && !listed.stdout.contains("no manifest"), "{}", listed.stdout);
        if listed.stdout.contains(" whole ") {
            two.assert_equal("disk");
        }
        // Sometimes the same command goes on, sometimes the next moment interrupts it again.
        if noise.below(2) == 0 {
            let done = two.copy(&["--all"]);
            assert_eq!(done.status, 0, "round {round}: {}", done.stderr);
            kept_most = kept_most.max(done.json()["backups"][0]["kept_bytes"].as_u64().unwrap_or(0));
            two.assert_equal("disk");
            fs::remove_dir_all(&directory).unwrap();
        }
    }
    assert!(kept_most > bytes / 4, "what is copied is not copied again: {kept_most} of {bytes}");
    assert_eq!(two.copy(&["--all"]).status, 0);
    two.assert_equal("disk");
    assert_eq!(two.there(&["verify", "disk"]).status, 0);
}

/// Each step of a publication, as a kill between two renames leaves it.
#[test]
fn a_publication_that_was_cut_off_is_finished() {
    for published in 0..=3 {
        let two = Two::new(&[("disk", 1 << 20)]);
        let (from, to) = (two.place.path("to/disk"), two.second().join("disk"));
        fs::create_dir(&to).unwrap();
        let order = [".index", ".checksum", ".img.gz", ".manifest.json"];
        for (number, suffix) in order.iter().enumerate() {
            let name = names(&from).into_iter().find(|name| name.ends_with(suffix)).unwrap();
            let temporary = if number < published { name.clone() } else { format!(".volbak-tmp.{name}") };
            fs::copy(from.join(&name), to.join(temporary)).unwrap();
        }
        let done = two.copy(&["--all"]);
        assert_eq!(done.outcomes(), ["copied"], "{published}: {}", done.stderr);
        assert_eq!(done.json()["backups"][0]["copied_bytes"], 0, "{published}");
        two.assert_equal("disk");
    }
}

#[test]
fn what_a_power_cut_tore_is_copied_again() {
    let two = Two::new(&[("disk", 4 << 20)]);
    let archive = two.archive("disk");
    let to = two.second().join("disk");
    fs::create_dir(&to).unwrap();
    let left = to.join(format!(".volbak-tmp.{}", archive.file_name().unwrap().to_str().unwrap()));
    // The first half, with a block of zeros that never reached the disk; and a whole file with one wrong byte.
    let content = fs::read(&archive).unwrap();
    for (len, at) in [(content.len() / 2, 4096), (content.len(), content.len() - 9), (content.len() + 5, 0)] {
        let mut torn = content.clone();
        torn.resize(len, 7);
        torn[at] ^= 1;
        fs::write(&left, torn).unwrap();
        let done = two.copy(&["--all"]);
        assert_eq!(done.outcomes(), ["copied"], "{}", done.stderr);
        two.assert_equal("disk");
        fs::remove_dir_all(&to).unwrap();
        fs::create_dir(&to).unwrap();
    }
}

#[test]
fn a_bad_backup_never_becomes_a_good_one() {
    let two = Two::new(&[("disk", 2 << 20), ("well", 1 << 20)]);
    let archive = fs::File::options().write(true).open(two.archive("disk")).unwrap();
    archive.write_all_at(b"?", 1_000_000).unwrap();
    let done = two.copy(&["--all"]);
    assert_eq!((done.status, done.outcomes()), (1, vec!["failed".to_owned(), "copied".to_owned()]));
    let why = done.json()["backups"][0]["why"].as_str().unwrap().to_owned();
    assert!(why.contains("is not what was backed up") && why.contains("volbak verify"), "{why}");
    assert_eq!(names(&two.second().join("disk")), [""; 0], "nothing of it stays");
    // Known to be bad, it is passed over; with --include-bad it is copied, and known to be bad there.
    two.place.volbak(&["verify", "disk"]);
    let done = two.copy(&["--all"]);
    assert_eq!((done.status, done.outcomes()), (3, vec!["passed_over".to_owned(), "present".to_owned()]));
    let stem = two.archive("disk");
    assert_eq!(two.copy(&[stem.to_str().unwrap()]).status, 1, "asked for by its name");
    let done = two.copy(&["--all", "--include-bad"]);
    assert_eq!((done.status, done.outcomes()), (0, vec!["present".to_owned(), "copied".to_owned()]), "{}", done.stderr);
    two.assert_equal("disk");
    assert!(two.there(&["list", "disk"]).stdout.contains("BAD"));
    // Damaged: the archive is too short for its manifest.
    archive.set_len(1000).unwrap();
    let done = two.copy(&["--all", "--include-bad"]);
    assert_eq!((done.status, done.outcomes()[0].as_str()), (3, "passed_over"));
}

#[test]
fn another_backup_of_the_same_name_is_an_error_and_stays() {
    let two = Two::new(&[("disk", 1 << 20)]);
    let disk = two.place.path("disk.img");
    fs::write(&disk, vec![3; 1 << 20]).unwrap();
    let second = two.second();
    let made = Command::new(env!("CARGO_BIN_EXE_volbak"))
        .args(["snapshot", disk.to_str().unwrap(), "--image", "-q", "--to", second.to_str().unwrap()])
        .output()
        .unwrap();
    assert!(made.status.success());
    let before = names(&second.join("disk"));
    let done = two.copy(&["--all"]);
    assert_eq!((done.status, done.outcomes()), (1, vec!["failed".to_owned()]));
    assert!(
        done.stdout.contains("another backup of this name") && done.stdout.contains("move away"),
        "{}",
        done.stdout
    );
    assert_eq!(names(&second.join("disk")), before);
    // An archive of another program with the name.
    let two = Two::new(&[("disk", 1 << 20)]);
    fs::create_dir(two.second().join("disk")).unwrap();
    fs::write(two.second().join("disk").join(two.archive("disk").file_name().unwrap()), "mine").unwrap();
    let done = two.copy(&["--all"]);
    assert_eq!((done.status, done.outcomes()), (1, vec!["failed".to_owned()]), "{}", done.stdout);
    // The volume of another source.
    let two = Two::new(&[("disk", 1 << 20)]);
    let other = two.place.path("tmp/disk.img");
    fs::write(&other, vec![3; 1 << 20]).unwrap();
    let second = two.second();
    let snapshot = ["snapshot", "--full", other.to_str().unwrap(), "--image", "-q", "--to", second.to_str().unwrap()];
    for _ in 0..2 {
        Command::new(env!("CARGO_BIN_EXE_volbak")).args(snapshot).output().unwrap();
    }
    // The name of the other one has the time in it: only its source tells.
    let directory = second.join("disk");
    let stem = two.archive("disk").file_name().unwrap().to_str().unwrap().replace(".img.gz", ".");
    for name in names(&directory).into_iter().filter(|name| name.starts_with(&stem)) {
        fs::remove_file(directory.join(name)).unwrap();
    }
    let done = two.copy(&["--all"]);
    assert_eq!((done.status, done.outcomes()), (1, vec!["failed".to_owned()]));
    assert!(done.stdout.contains("backups of another source"), "{}", done.stdout);
}

#[test]
fn places_that_are_no_other_place_are_refused() {
    let two = Two::new(&[("disk", 1 << 20)]);
    let first = two.place.path("to");
    std::os::unix::fs::symlink(&first, two.place.path("link")).unwrap();
    let wrong = [
        (first.clone(), 2, "is the destination that is copied from"),
        (two.place.path("link"), 2, "is the destination that is copied from"),
        (first.join("disk"), 2, "lies inside"),
        (first.parent().unwrap().to_owned(), 2, "lies inside"),
        (two.place.path("missing"), 1, "mount it"),
    ];
    for (to, status, said) in wrong {
        let done: Did = two.place.volbak(&["copy", "--all", "--to", to.to_str().unwrap()]).into();
        assert_eq!(done.status, status, "{}: {}", to.display(), done.stderr);
        assert!(done.stderr.contains(said), "{}: {}", to.display(), done.stderr);
    }
    assert!(!two.place.path("missing").exists());
    let unknown = two.copy(&["--all", "nothing"]);
    assert_eq!(unknown.status, 2, "{}", unknown.stderr);
}

#[test]
fn an_interrupted_copy_into_a_directory_says_that_it_goes_on_and_does() {
    let two = Two::new(&[("disk", 12 << 20)]);
    let (from, to) = (two.place.to(), two.second());
    let slow = ["copy", "--all", "--to", to.to_str().unwrap(), "--destination", &from, "--read-rate", "4M", "-q"];
    let mut command = Command::new(env!("CARGO_BIN_EXE_volbak"));
    let first = command.args(slow).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    crate::testkit::wait::wait_until("the copy writes", || length(&two.second().join("disk")) > 1 << 20);
    kill_process(Pid::from_child(&first), Signal::INT).unwrap();
    let output = first.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("interrupted; the next copy continues where this one stopped"), "{said}");
    let kept = two.copy(&["--all"]).json()["backups"][0]["kept_bytes"].as_u64();
    assert!(kept > Some(1 << 20), "{kept:?}");
    two.assert_equal("disk");
}

#[test]
fn of_two_copies_at_once_one_waits_for_its_turn() {
    let two = Two::new(&[("disk", 8 << 20)]);
    let (from, to) = (two.place.to(), two.second());
    let slow = ["copy", "--all", "--to", to.to_str().unwrap(), "--destination", &from, "--read-rate", "4M", "-q"];
    let mut first = Command::new(env!("CARGO_BIN_EXE_volbak")).args(slow).stdout(Stdio::null()).spawn().unwrap();
    crate::testkit::wait::wait_until("the first copy writes", || length(&two.second().join("disk")) > 0);
    let second = two.copy(&["--all"]);
    assert_eq!(second.status, 4, "{}", second.stderr);
    assert!(second.stderr.contains("another run holds the lock"), "{}", second.stderr);
    assert!(first.wait().unwrap().success());
    assert_eq!(two.copy(&["--all"]).outcomes(), ["present"]);
    two.assert_equal("disk");
}

#[test]
fn a_full_target_keeps_nothing_and_the_source_all() {
    let two = Two::new(&[("large", 6 << 20), ("small", 300_000)]);
    let mounted = Mounted::with_options(Path::new("tmpfs"), &two.second(), "size=4M -t tmpfs");
    let done = two.copy(&["--all"]);
    assert_eq!(done.status, 1);
    assert!(done.stdout.contains("No space left"), "{}{}", done.stdout, done.stderr);
    assert_eq!(done.outcomes(), ["failed", "not_started"]);
    assert_eq!(names(&two.second().join("large")), [""; 0]);
    // What fits is copied.
    assert_eq!(two.copy(&["--all", "small"]).status, 0);
    two.assert_equal("small");
    assert!(!two.there(&["list"]).stdout.contains("DAMAGED"));
    assert_eq!(two.place.volbak(&["verify", "--all"]).status.code(), Some(0));
    mounted.unmount();
}
