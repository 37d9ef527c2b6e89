//! Promise: `volbak verify` takes the backups whose turn it is, notes what it found beside them, and `volbak list` shows
//! it; a bad one stays bad until as much was checked again.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::testkit::guest::{Mounted, quoted, sh};
use crate::testkit::tree::noise;
use crate::testkit::wait::{Killed, wait_until};

/// Exit status, standard output, standard error.
fn volbak(arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_volbak")).args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// The stems that this command verified, in turn.
fn verified(from: &str, arguments: &[&str]) -> Vec<String> {
    let (status, printed, said) = volbak(&[&["verify", "--json", "--from", from], arguments].concat());
    assert!(status <= 1, "{arguments:?}: {said}");
    let report: Value = serde_json::from_str(&printed).unwrap();
    let stem = |one: &Value| one["stem"].as_str().unwrap().to_owned();
    report["backups"].as_array().unwrap().iter().map(stem).collect()
}

fn back_up(directory: &Path, name: &str) -> PathBuf {
    let image = directory.join(format!("{name}.img"));
    fs::write(&image, vec![7; 4096]).unwrap();
    let to = directory.join("backups");
    let (status, ..) = volbak(&["-q", "snapshot", image.to_str().unwrap(), "--to", to.to_str().unwrap()]);
    assert_eq!(status, 3, "it is kept as a raw image");
    to.join(name)
}

#[test]
fn those_that_were_not_verified_for_longest_have_their_turn() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("backups")).unwrap();
    let volumes = ["a", "b", "c"].map(|name| back_up(dir.path(), name));
    let from = dir.path().join("backups");
    let from = from.to_str().unwrap();
    let names = |stems: Vec<String>| stems.iter().map(|stem| stem[..1].to_owned()).collect::<String>();
    let list = || -> Value { serde_json::from_str(&volbak(&["list", "--json", from]).1).unwrap() };
    assert!(list()["backups"].as_array().unwrap().iter().all(|one| one["verified"].is_null()));

    assert_eq!(names(verified(from, &["b", "--quick"])), "b");
    assert_eq!(names(verified(from, &["--quick", "--sample", "2"])), "ac");
    assert_eq!(names(verified(from, &["--quick", "--sample", "1"])), "b", "its look is longest ago");
    assert_eq!(names(verified(from, &["--quick", "--older-than", "1"])), "");
    // A quick look does not stand for a full one.
    assert_eq!(names(verified(from, &["--older-than", "1", "--sample", "2"])), "ab");
    assert_eq!(names(verified(from, &["--all", "--older-than", "1"])), "c");
    let shown = &list()["backups"][0]["verified"];
    assert_eq!((shown["level"].as_str(), shown["verdict"].as_str()), (Some("full"), Some("good")));

    let mut files = fs::read_dir(&volumes[1]).unwrap().map(|entry| entry.unwrap().path());
    let archive = files.find(|path| path.to_str().unwrap().ends_with(".tar.gz")).unwrap();
    let mut bytes = fs::read(&archive).unwrap();
    bytes[40] ^= 1;
    fs::write(&archive, &bytes).unwrap();
    assert_eq!(volbak(&["-q", "verify", "--from", from, "b"]).0, 1);
    let text = volbak(&["list", from]).1;
    let line = |text: &str| text.lines().find(|line| line.starts_with('b')).unwrap().to_owned();
    assert!(line(&text).contains("full: BAD"), "{text}");
    assert_eq!(volbak(&["-q", "verify", "--from", from, "b", "--level", "quick"]).0, 0);
    assert!(line(&volbak(&["list", from]).1).contains("full: BAD"), "a quick look does not clear it");
}

#[test]
fn a_name_that_may_mean_two_backups_is_wrong_usage_with_each_verb() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("backups")).unwrap();
    back_up(dir.path(), "a");
    let from = dir.path().join("backups");
    let from = from.to_str().unwrap();
    let listed: Value = serde_json::from_str(&volbak(&["list", "--json", from]).1).unwrap();
    let path = listed["backups"][0]["archive"].as_str().unwrap();
    let stem = Path::new(path).file_name().unwrap().to_str().unwrap().strip_suffix(".tar.gz").unwrap().to_owned();
    assert_eq!(volbak(&["verify", "--from", from, &stem]).0, 0);
    // A volume with the name of that backup, which `list` shows.
    back_up(dir.path(), &stem);
    back_up(dir.path(), "a");
    let out = dir.path().join("out");
    let out = out.to_str().unwrap();
    for verb in [&["verify"][..], &["browse"], &["protect"], &["remove"], &["restore", "--to", out]] {
        for name in [&*stem, "a@today", "a@no-date"] {
            let (status, _, said) = volbak(&[verb, &["--from", from, name]].concat());
            let is_told = said.contains("may mean any of") || name == "a@no-date";
            assert!(status == 2 && is_told, "{verb:?} {name}: {status}: {said}");
        }
    }
    assert_eq!(volbak(&["verify", "--from", from, &format!("{stem}@last")]).0, 0);
}

#[test]
fn the_only_backup_of_a_volume_is_verified_though_it_is_damaged() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("backups")).unwrap();
    back_up(dir.path(), "a");
    let from = dir.path().join("backups");
    let mut files = fs::read_dir(from.join("a")).unwrap().map(|entry| entry.unwrap().path());
    let archive = files.find(|path| path.to_str().unwrap().ends_with(".tar.gz")).unwrap();
    fs::File::options().write(true).open(&archive).unwrap().set_len(100).unwrap();
    let from = from.to_str().unwrap();
    // Known to be bad, or only seen to be damaged.
    for _ in 0..2 {
        let (status, printed, said) = volbak(&["verify", "--from", from, "a"]);
        assert!(status == 1 && printed.contains("BAD") && said.contains("is damaged"), "{printed}{said}");
    }
    let (status, _, said) = volbak(&["restore", "--from", from, "a", "--to", dir.path().join("out").to_str().unwrap()]);
    assert!(status == 1 && said.contains("no backup that can be relied on"), "{said}");
}

#[test]
fn the_levels_have_names_of_their_own_and_what_is_missing_is_said() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("backups")).unwrap();
    back_up(dir.path(), "a");
    let from = dir.path().join("backups");
    let from = from.to_str().unwrap();
    let level = |arguments: &[&str]| {
        let printed = volbak(&[&["verify", "--json", "--from", from, "a", "--scratch", "/"], arguments].concat()).1;
        serde_json::from_str::<Value>(&printed).unwrap()["backups"][0]["level"].as_str().unwrap().to_owned()
    };
    assert_eq!(level(&[]), "full");
    assert_eq!(level(&["--quick"]), "quick");
    assert_eq!(level(&["--restore-test"]), "restore-test");
    assert_eq!(level(&["--level", "restore-test"]), "restore-test");
    for wrong in [&["--quick", "--restore-test"][..], &["--quick", "--level", "full"], &["--all"]] {
        assert_eq!(volbak(&[&["verify", "--from", from, "a"], wrong].concat()).0, 2, "{wrong:?}");
    }
    assert_eq!(volbak(&["verify"]).0, 2);
    assert_eq!(volbak(&["verify", "--sample", "1"]).0, 2);
}

#[test]
fn a_restore_test_that_could_not_be_made_is_no_proof() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("backups")).unwrap();
    back_up(dir.path(), "a");
    let (from, missing) = (dir.path().join("backups"), dir.path().join("missing"));
    let (from, missing) = (from.to_str().unwrap(), missing.to_str().unwrap());
    let (status, said, _) = volbak(&["verify", "--from", from, "a", "--restore-test", "--scratch", missing]);
    assert!(status == 3 && said.contains("it was not restored for a test"), "{said}");
    let listed: Value = serde_json::from_str(&volbak(&["list", "--json", from]).1).unwrap();
    assert_eq!(listed["backups"][0]["verified"]["level"], "full", "{listed}");
}

/// A backup of a filesystem with 16 MiB that do not compress.
fn back_up_noise(directory: &Path) {
    let (tree, image, to) = (directory.join("tree"), directory.join("a.img"), directory.join("backups"));
    fs::create_dir_all(&tree).unwrap();
    fs::create_dir_all(&to).unwrap();
    fs::write(tree.join("noise"), noise(7, 16 << 20)).unwrap();
    sh(&format!("mke2fs -q -t ext4 -d {} {} 64M", quoted(&tree), quoted(&image)));
    assert_eq!(volbak(&["-q", "snapshot", image.to_str().unwrap(), "--to", to.to_str().unwrap()]).0, 0);
}

#[test]
fn a_scratch_directory_without_room_says_nothing_about_the_backup() {
    let dir = tempfile::tempdir().unwrap();
    back_up_noise(dir.path());
    let (small, scratch) = (dir.path().join("small.img"), dir.path().join("scratch"));
    sh(&format!("mke2fs -q -t ext4 {} 12M", quoted(&small)));
    let mounted = Mounted::with_options(&small, &scratch, "loop");
    let (from, scratch) = (dir.path().join("backups"), scratch.to_str().unwrap());
    let from = from.to_str().unwrap();
    let (status, said, _) = volbak(&["verify", "--from", from, "a", "--restore-test", "--scratch", scratch]);
    assert!(status == 3 && said.contains(&format!("{scratch} has no room for its image of ")), "{said}");
    let listed: Value = serde_json::from_str(&volbak(&["list", "--json", from]).1).unwrap();
    let backup = &listed["backups"][0];
    assert_eq!((&backup["worth"], &backup["verified"]["level"]), (&"whole".into(), &"full".into()), "{listed}");
    mounted.unmount();
}

/// What is restored there is a tenant's. /var/tmp is open to all users of the host.
#[test]
fn other_users_cannot_read_what_is_restored_for_a_test_and_a_kill_leaves_it_to_the_next_one() {
    let dir = tempfile::tempdir().unwrap();
    back_up_noise(dir.path());
    let scratch = dir.path().join("scratch");
    fs::create_dir(&scratch).unwrap();
    let from = dir.path().join("backups");
    let arguments = ["verify", "--from", from.to_str().unwrap(), "a", "--restore-test"];
    let arguments = [&arguments[..], &["--scratch", scratch.to_str().unwrap()]].concat();
    let left = || fs::read_dir(&scratch).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    let mut command = Command::new(env!("CARGO_BIN_EXE_volbak"));
    let run = Killed(command.args(&arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    wait_until("the image of the test is there", || left().iter().any(|path| path.join("image").exists()));
    let mode = fs::metadata(&left()[0]).unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0, "{mode:o}");
    drop(run);
    assert_eq!(left().len(), 1, "nobody was there to remove it");
    let (status, _, said) = volbak(&arguments);
    assert!(status == 0 && said.contains("was left by a run that was cut off; removed"), "{said}");
    assert!(left().is_empty());
}

#[test]
fn the_name_that_a_list_shows_can_be_typed() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("backups")).unwrap();
    back_up(dir.path(), "a_1");
    back_up(dir.path(), "a_1");
    let from = dir.path().join("backups");
    let from = from.to_str().unwrap();
    let list: Value = serde_json::from_str(&volbak(&["list", "--json", from]).1).unwrap();
    let stems: Vec<&str> =
        list["backups"].as_array().unwrap().iter().map(|one| one["stem"].as_str().unwrap()).collect();
    assert_eq!(stems.len(), 2);
    for stem in &stems {
        for verb in [&["verify", "--quick"][..], &["protect"], &["unprotect"]] {
            let (status, printed, said) = volbak(&[verb, &["--from", from, stem]].concat());
            assert!(status == 0 && printed.contains(*stem), "{verb:?} {stem}: {printed}{said}");
        }
    }
    assert_eq!(volbak(&["remove", "--dry-run", "--from", from, stems[0]]).0, 0);
    assert_eq!(volbak(&["diff", "--from", from, stems[0], stems[1]]).0, 0);
    assert!(volbak(&["verify", "--from", from, "a_1_01_01_2000"]).2.contains("no backup"));
}

/// Whoever can write to a share can give files any name.
#[test]
fn a_name_with_a_line_feed_forges_no_line() {
    let dir = tempfile::tempdir().unwrap();
    let from = dir.path().join("backups");
    fs::create_dir(&from).unwrap();
    let volume = back_up(dir.path(), "a");
    let forged = from.join("x\nforged");
    fs::create_dir(&forged).unwrap();
    for entry in fs::read_dir(&volume).unwrap().map(Result::unwrap).collect::<Vec<_>>() {
        let name = entry.file_name().into_string().unwrap();
        fs::copy(entry.path(), volume.join(format!("a\nforged{}", &name[1..]))).unwrap();
        fs::copy(entry.path(), forged.join(format!("x\nforged{}", &name[1..]))).unwrap();
    }
    let config = dir.path().join("volbak.toml");
    let text = "volume_groups = [\"vg0\"]\nbackup_destination = \"BACKUPS\"\nrequire_mount = false\n";
    fs::write(&config, text.replace("BACKUPS", from.to_str().unwrap())).unwrap();
    for verb in [&["list"][..], &["verify", "--all"], &["prune", "--dry-run"], &["status"]] {
        let (_, printed, said) = volbak(&[verb, &["--config", config.to_str().unwrap()]].concat());
        assert!(printed.contains('1') && printed.contains('a'), "{verb:?}: {printed}{said}");
        assert!(!printed.contains("forged") && !said.contains("forged"), "{verb:?}: {printed}{said}");
    }
}
