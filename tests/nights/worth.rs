//! What a backup is worth decides what is kept, chosen and shown: whole, partial and bad backups, sudden changes, names.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::testkit::schema::compare;
use crate::testkit::stand_in::Host;
use crate::testkit::wait::day_that_lasts;

struct Scratch {
    dir: tempfile::TempDir,
}

/// What becomes of the image.
type Change = fn(&Scratch);

/// What becomes of a backup.
type Loss = fn(&Scratch, &str);

#[derive(Debug)]
struct Did {
    status: i32,
    out: String,
    err: String,
}

impl Scratch {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("b")).unwrap();
        Self { dir }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A filesystem with files of these names and contents.
    fn image(&self, files: impl IntoIterator<Item = (String, Vec<u8>)>) {
        let (root, image) = (self.at("root"), self.at("v.img"));
        let _ = fs::remove_dir_all(&root);
        let _ = fs::remove_file(&image);
        fs::create_dir(&root).unwrap();
        for (name, content) in files {
            fs::write(root.join(name), content).unwrap();
        }
        fs::File::create(&image).unwrap().set_len(16 << 20).unwrap();
        self.sh("mke2fs -q -F -t ext4 -d root v.img");
    }

    fn sh(&self, command: &str) {
        assert!(Command::new("sh").args(["-ec", command]).current_dir(self.dir.path()).status().unwrap().success());
    }

    fn volbak(&self, arguments: &[&str]) -> Did {
        let output = Command::new(env!("CARGO_BIN_EXE_volbak"))
            .args(arguments)
            .current_dir(self.dir.path())
            .env_remove("VOLBAK_BACKUP_DESTINATION")
            .output()
            .unwrap();
        Did {
            status: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Backs the image up; gives the stem.
    fn night(&self, status: i32) -> String {
        let did = self.volbak(&["-q", "snapshot", "v.img", "--destination", "b", "--json"]);
        assert_eq!(did.status, status, "{did:?}");
        let json: serde_json::Value = serde_json::from_str(&did.out).unwrap();
        json["backups"][0]["manifest"]["stem"].as_str().unwrap().to_owned()
    }

    fn file(&self, stem: &str, suffix: &str) -> PathBuf {
        self.at("b/v").join(format!("{stem}{suffix}"))
    }

    fn pins(&self) -> String {
        fs::read_to_string(self.at("b/.volbak/pins.json")).unwrap_or_default()
    }
}

fn files(count: usize, salt: &str) -> Vec<(String, Vec<u8>)> {
    (0..count).map(|number| (format!("f{number}"), format!("{salt}{number}").into_bytes())).collect()
}

fn change_byte(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn the_newest_is_not_the_one_that_is_known_to_be_bad() {
    let host = Scratch::new();
    host.image(files(20, "one"));
    let first = host.night(0);
    let second = host.night(0);
    change_byte(&host.file(&second, ".tar.gz"), 40);
    assert_eq!(host.volbak(&["-q", "verify", "v@last", "--from", "b"]).status, 1);
    for verb in [&["browse", "v"][..], &["cat", "v:f1"], &["restore", "v", "--to", "out"]] {
        let did = host.volbak(&[verb, &["--from", "b"]].concat());
        assert_eq!(did.status, 0, "{did:?}");
        assert!(did.err.contains(&format!("{second} is passed over")), "{did:?}");
    }
    let listed = host.volbak(&["list", "v", "--destination", "b", "--problems"]);
    assert!(listed.out.contains("BAD") && !listed.out.contains(&format!("{first}\n")), "{listed:?}");
    // A whole disk is not erased for it, unless that is asked for.
    let date = second.trim_start_matches("v_");
    fs::copy(host.at("v.img"), host.at("new.img")).unwrap();
    let disk = ["restore", &format!("v@{date}"), "--from", "b", "--to-image", "new.img", "--yes-erase=new.img"];
    let bad = host.volbak(&disk);
    assert_eq!(bad.status, 1, "{bad:?}");
    assert!(bad.err.contains("--even-if-bad"), "{bad:?}");
    assert_eq!(fs::read(host.at("v.img")).unwrap(), fs::read(host.at("new.img")).unwrap(), "nothing was erased");
    let plan = host.volbak(&[&disk[..], &["--dry-run"]].concat());
    assert!(plan.out.contains("a verification found it bad"), "{plan:?}");
}

#[test]
fn a_record_that_cannot_be_read_is_doubt() {
    let host = Scratch::new();
    host.image(files(20, "one"));
    let stem = host.night(0);
    fs::write(host.file(&stem, ".verified.json"), "torn").unwrap();
    let doubt = format!("{stem}: its record of verifications cannot be read");
    for verb in [&["browse", "v"][..], &["cat", "v:f1"], &["restore", "v", "--to", "out"]] {
        let did = host.volbak(&[verb, &["--from", "b"]].concat());
        assert_eq!(did.status, 0, "{did:?}");
        assert!(did.err.contains(&doubt), "{did:?}");
    }
    fs::copy(host.at("v.img"), host.at("new.img")).unwrap();
    let disk = ["restore", "v", "--from", "b", "--to-image", "new.img", "--yes-erase=new.img"];
    let refused = host.volbak(&disk);
    assert_eq!(refused.status, 1, "{refused:?}");
    assert!(refused.err.contains(&doubt) && refused.err.contains("--even-if-bad"), "{refused:?}");
    assert_eq!(fs::read(host.at("v.img")).unwrap(), fs::read(host.at("new.img")).unwrap(), "nothing was erased");
    // Nothing is carried forward from it, until a verification found it good.
    let carried = |arguments: &[&str]| {
        let did = host.volbak(&[&["snapshot", "v.img", "--destination", "b", "--json"], arguments].concat());
        let json: serde_json::Value = serde_json::from_str(&did.out).unwrap();
        (json["backups"][0]["manifest"]["carried"]["parent"].as_str().map(str::to_owned), did)
    };
    let (parent, did) = carried(&[]);
    assert_eq!((parent, did.status), (None, 3), "{did:?}");
    assert!(did.err.contains("there is no other backup"), "{did:?}");
    let named = host.volbak(&["snapshot", "v.img", "--destination", "b", "--parent", &stem.replacen('_', "@", 1)]);
    assert!(named.err.contains("record of verifications"), "{named:?}");
    assert_eq!(host.volbak(&["-q", "verify", &stem.replacen('_', "@", 1), "--from", "b"]).status, 0);
    assert_eq!(host.volbak(&[&disk[..], &["--dry-run"]].concat()).status, 0);
}

#[test]
fn names_mean_the_same_in_every_verb() {
    let host = Scratch::new();
    host.image(files(20, "one"));
    day_that_lasts();
    let stems = [host.night(0), host.night(0)];
    let today = chrono::Local::now().format("%Y-%m-%d").to_string();
    let day = format!("v@{today}");
    let typed: Vec<String> = stems.iter().map(|stem| format!("v@{}", stem.trim_start_matches("v_"))).collect();
    let verbs = [
        &["verify", "--quick"][..],
        &["browse"],
        &["restore", "--to", "out", "--overwrite"],
        &["protect"],
        &["unprotect"],
    ];
    for verb in verbs {
        let of = |name: &str| host.volbak(&[verb, &[name, "--destination", "b"]].concat());
        let several = of(&day);
        assert!([1, 2].contains(&several.status), "{verb:?} {several:?}");
        for name in &typed {
            assert!(several.err.contains(name.as_str()), "{verb:?} {several:?}");
            assert_eq!(of(name).status, 0, "{verb:?} {name}");
        }
        assert_eq!(of("v@last").status, 0, "{verb:?}");
        for wrong in ["v@2001-01-01", "v@someday", "w", "w@last"] {
            assert!([1, 2].contains(&of(wrong).status), "{verb:?} {wrong}");
        }
    }
    assert_eq!(host.volbak(&["diff", &typed[0], &typed[1], "--from", "b"]).status, 0);
    assert!(host.volbak(&["diff", &day, "v", "--from", "b"]).err.contains("may mean any of"));
}

#[test]
fn a_sudden_change_pins_the_backup_before_it_until_it_is_accepted() {
    let cases: [(&str, Change); 5] = [
        ("entries, where", |host| host.image(files(5, "one"))),
        ("other content", |host| host.image(files(60, "encrypted"))),
        ("are gone", |host| {
            host.image(files(60, "one").into_iter().map(|(name, content)| (format!("{name}.locked"), content)));
        }),
        ("held ext4, now only zeros", |host| host.sh("rm v.img && truncate -s 16M v.img")),
        ("held ext4, now nothing that is known", |host| host.sh("head -c 16M /dev/urandom >v.img")),
    ];
    for (said, change) in cases {
        let host = Scratch::new();
        host.image(files(60, "one"));
        host.night(0);
        let before = host.night(0);
        change(&host);
        let after = host.night(3);
        let manifest = fs::read_to_string(host.file(&after, ".manifest.json")).unwrap();
        assert!(manifest.contains("sudden change") && manifest.contains(said), "{said}: {manifest}");
        assert!(host.pins().contains(&before), "{said}");
        let plan = host.volbak(&["prune", "--dry-run", "--destination", "b"]).out;
        let kept = plan.lines().find(|line| line.contains(&format!("{before}.tar.gz"))).unwrap();
        assert!(kept.contains("sudden change"), "{said}: {plan}");
        assert!(host.volbak(&["status", "--destination", "b"]).out.contains("volbak accept v"), "{said}");
        let accepted = host.volbak(&["accept", "v", "--destination", "b", "--json"]);
        assert_eq!(accepted.status, 0, "{said}");
        let accepted = serde_json::from_str(&accepted.out).unwrap();
        compare(&accepted, "accept");
        assert_eq!((&accepted["volume"], &accepted["accepted"][0]["kept"]), (&"v".into(), &before.as_str().into()));
        assert!(!host.pins().contains(&before), "{said}");
        let accepted = host.volbak(&["status", "--destination", "b"]).out;
        assert!(!accepted.contains("sudden change") && !accepted.contains("volbak accept"), "{said}: {accepted}");
        assert_eq!(host.volbak(&["accept", "v", "--destination", "b"]).status, 2, "{said}");
        host.volbak(&["-q", "snapshot", "v.img", "--destination", "b"]);
        assert!(!host.pins().contains(&before), "{said}: the change is the measure now");
    }
}

/// Whether retention keeps this backup because of a sudden change.
fn is_pinned(host: &Scratch, stem: &str) -> bool {
    let plan = host.volbak(&["prune", "--dry-run", "--destination", "b"]).out;
    plan.lines().any(|line| line.contains(&format!("{stem}.tar.gz")) && line.contains("sudden change"))
}

#[test]
fn if_the_pinned_backup_is_lost_the_one_before_it_is_kept() {
    let cases: [(&str, Loss); 3] = [
        ("bad", |host, pinned| {
            change_byte(&host.file(pinned, ".tar.gz"), 40);
            let date = pinned.trim_start_matches("v_");
            assert_eq!(host.volbak(&["-q", "verify", &format!("v@{date}"), "--from", "b"]).status, 1);
        }),
        ("damaged", |host, pinned| change_byte(&host.file(pinned, ".manifest.json"), 40)),
        ("missing", |host, pinned| host.sh(&format!("rm b/v/{pinned}.*"))),
    ];
    for (said, lose) in cases {
        let host = Scratch::new();
        host.image(files(60, "one"));
        let [oldest, older, before] = [host.night(0), host.night(0), host.night(0)];
        host.image(files(5, "one"));
        let after = host.night(3);
        assert!(is_pinned(&host, &before) && !is_pinned(&host, &older), "{said}");
        lose(&host, &before);
        assert!(is_pinned(&host, &older), "{said}");
        assert!(!is_pinned(&host, &oldest) && !is_pinned(&host, &after), "{said}");
        let status = host.volbak(&["status", "--destination", "b"]).out;
        let kept = format!("{older} is kept in place of {before}, which is bad, damaged or missing");
        assert!(status.contains(&kept), "{said}: {status}");
        assert!(
            host.volbak(&["remove", &format!("v@{}", older.trim_start_matches("v_")), "--destination", "b"]).status
                != 0
        );
        assert_eq!(host.volbak(&["accept", "v", "--destination", "b"]).status, 0, "{said}");
        assert!(!is_pinned(&host, &older), "{said}");
    }
}

#[test]
fn a_pin_that_cannot_be_written_is_not_lost() {
    for is_accepted_at_once in [true, false] {
        let host = Scratch::new();
        host.image(files(60, "one"));
        host.night(0);
        let before = host.night(0);
        // Nothing can be staged under this name.
        host.sh("mkdir -p b/.volbak/.volbak-tmp.pins.json/in-the-way");
        host.image(files(5, "one"));
        let after = host.night(3);
        let manifest = fs::read_to_string(host.file(&after, ".manifest.json")).unwrap();
        assert!(manifest.contains("could not be pinned"), "{manifest}");
        assert!(!host.pins().contains(&before));
        assert!(is_pinned(&host, &before) && !is_pinned(&host, &after));
        let status = host.volbak(&["status", "--destination", "b"]).out;
        assert!(status.contains("volbak accept v"), "{status}");
        // A later night tries again, and takes the change for no second one.
        let next = host.night(3);
        assert!(is_pinned(&host, &before) && !is_pinned(&host, &after) && !is_pinned(&host, &next));
        host.sh("rm -r b/.volbak/.volbak-tmp.pins.json");
        if !is_accepted_at_once {
            // Retention may remove the night of the change, which says what could not be pinned.
            host.sh(&format!("rm b/v/{after}.*"));
            host.night(0);
            assert!(host.pins().contains(&before) && is_pinned(&host, &before));
        }
        assert_eq!(host.volbak(&["accept", "v", "--destination", "b"]).status, 0);
        assert!(!is_pinned(&host, &before));
        host.night(0);
        assert!(!is_pinned(&host, &before) && !host.pins().contains(&before));
    }
}

#[test]
fn two_volumes_of_one_name_do_not_age_each_other_out() {
    let host = Host::new("backups_retention_days = 2\n");
    host.add_ext4("volume-1");
    // As another host of this hostname has it, or LVM after the volume was recreated.
    let state = host.at("state/volume-1.json");
    let own = fs::read_to_string(&state).unwrap();
    let other = own.replace("uuid-of-volume-1", "uuid-of-another");
    let night = |day: u32, volume: &str| {
        fs::write(&state, volume).unwrap();
        let did = host.verb_at(&format!("2026-11-{day:02} 02:00:00"), &["run"]);
        assert!(did.stdout.contains("1 backed up") || [0, 3].contains(&did.status), "{did:?}");
        did.stdout
    };
    let dates = || -> Vec<String> {
        let names = fs::read_dir(host.at("backups/volume-1")).unwrap().map(|one| one.unwrap().file_name());
        let names = names.filter_map(|name| name.to_str()?.strip_suffix(".manifest.json").map(str::to_owned));
        let mut days: Vec<String> = names.map(|name| name["volume-1_".len()..][..2].to_owned()).collect();
        days.sort();
        days
    };
    night(1, &own);
    night(2, &own);
    assert!(night(3, &other).contains("before it was recreated"));
    for day in 4..9 {
        assert!(!night(day, &other).contains("by turns"));
    }
    assert_eq!(dates(), ["02", "06", "07", "08"]);
    let plan = host.verb_at("2026-11-08 03:00:00", &["prune", "--dry-run"]).stdout;
    assert!(plan.contains("the last good one of another volume of this name"), "{plan}");
    let told = night(9, &own);
    assert!(told.contains("two volumes by turns") && told.contains("If two hosts have one hostname"), "{told}");
    assert!(night(10, &other).contains("two volumes by turns"));
    assert_eq!(dates(), ["08", "09", "10"]);
}

#[test]
fn an_ordinary_night_is_no_sudden_change() {
    let host = Scratch::new();
    host.image(files(60, "one"));
    host.night(0);
    // A third is gone, a third is new, and one has other content.
    let mut some = files(60, "one");
    some.truncate(40);
    some[0].1 = b"other".to_vec();
    some.extend((0..20).map(|number| (format!("new{number}"), b"new".to_vec())));
    host.image(some);
    host.night(0);
    assert_eq!(host.pins(), "");
}

#[test]
fn a_share_that_is_not_mounted_does_not_verify_green() {
    let host = Scratch::new();
    for arguments in [&["verify", "--all"][..], &["verify", "--older-than", "3"], &["verify", "v"]] {
        for from in ["b", "nowhere"] {
            let did = host.volbak(&[arguments, &["--from", from]].concat());
            assert_eq!(did.status, 1, "{arguments:?} {from} {did:?}");
        }
    }
    // Nor does a config's destination that is no mount point, whatever the verb.
    fs::write(host.at("c.toml"), format!("backup_destination = '{}'\n", host.at("b").display())).unwrap();
    host.image(files(20, "one"));
    for verb in [&["snapshot", "v.img"][..], &["list"], &["verify", "--all"], &["browse", "v"]] {
        let did = host.volbak(&[verb, &["--config", "c.toml"]].concat());
        assert!(did.status == 1 && did.err.contains("not mounted"), "{verb:?} {did:?}");
    }
}

#[test]
fn side_files_that_are_lost_changed_or_endless() {
    let host = Scratch::new();
    host.image(files(20, "one"));
    let stem = host.night(0);
    let (archive, manifest) = (host.file(&stem, ".tar.gz"), host.file(&stem, ".manifest.json"));
    let archive_path = archive.to_str().unwrap();
    let text = fs::read_to_string(&manifest).unwrap();
    // A flipped bit in the format's number is damage, not a newer version.
    fs::write(&manifest, text.replacen("\"format\": 1", "\"format\": 9", 1)).unwrap();
    assert_eq!(host.volbak(&["verify", "--quick", archive_path]).status, 1);
    assert!(host.volbak(&["list", "b/"]).out.contains("DAMAGED"));
    // Lost: a problem, though nothing that is there is wrong.
    fs::remove_file(&manifest).unwrap();
    for level in ["quick", "full"] {
        let did = host.volbak(&["verify", "--level", level, archive_path]);
        assert_eq!(did.status, 3, "{did:?}");
    }
    // Another program's archive is checked as far as it goes.
    host.sh("mkdir o && tar czf o/o_01_01_2020.tar.gz root && sha1sum \"$PWD\"/o/*.gz >o/o_01_01_2020.checksum");
    assert_eq!(host.volbak(&["verify", "o/o_01_01_2020.tar.gz"]).status, 0);
    // Longer than it was: found by its length, in no time.
    fs::write(&manifest, &text).unwrap();
    for suffix in [".index", ".tar.gz"] {
        let path = host.file(&stem, suffix);
        let len = fs::metadata(&path).unwrap().len();
        fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(4 << 40).unwrap();
        for verb in [&["verify", "--quick"][..], &["verify"]] {
            let did = host.volbak(&[verb, &[archive_path]].concat());
            assert!(did.status == 1 && did.err.contains("and the manifest says"), "{suffix} {verb:?} {did:?}");
        }
        fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(len).unwrap();
    }
    assert_eq!(host.volbak(&["verify", archive_path]).status, 0);
}

/// A night of an image under a config that expects this of it.
fn night_expecting(host: &Scratch, expect: &str, status: i32) -> Did {
    let config = format!(
        "backup_destination = '{}'\nrequire_mount = false\n[volume.\"v\"]\nexpect = [{expect}]\n",
        host.at("b").display()
    );
    fs::write(host.at("volbak.toml"), config).unwrap();
    let did = host.volbak(&["-q", "snapshot", "v.img", "--config", "volbak.toml"]);
    assert_eq!(did.status, status, "{expect}: {did:?}");
    did
}

#[test]
fn a_change_that_the_config_expects_is_not_sudden() {
    let luks = "printf 'LUKS\\272\\276\\000\\001' | dd of=v.img conv=notrunc status=none";
    let wipe = "truncate -s 0 v.img; truncate -s 16M v.img";
    // What becomes of an ext4 with files, what the config expects, and how the night ends.
    let cases = [
        (wipe.to_owned(), "\"empty\"", 0),
        (wipe.to_owned(), "\"disk=empty\"", 0),
        (format!("{wipe}; mkswap -q v.img 2>/dev/null"), "\"swap-only\"", 0),
        (format!("{wipe}; {luks}"), "\"luks\"", 0),
        (format!("{wipe}; {luks}"), "\"luks|ntfs\"", 0),
        (format!("{wipe}; {luks}"), "\"ntfs\"", 3),
        (format!("{wipe}; {luks}"), "\"p2=luks\"", 3),
        (wipe.to_owned(), "\"luks\"", 3),
        (format!("{wipe}; mke2fs -q -F -t ext4 v.img"), "\"ext4\"", 3),
    ];
    for (command, expect, status) in cases {
        let host = Scratch::new();
        host.image(files(40, "one"));
        host.night(0);
        host.sh(&command);
        let first = night_expecting(&host, expect, status);
        assert_eq!(host.pins().contains("\"pending\": [\n"), status == 3, "{command}, {expect}: {first:?}");
        if status == 0 {
            // Nor do the nights after it complain.
            night_expecting(&host, expect, 0);
            let status = host.volbak(&["status", "--config", "volbak.toml", "--json"]);
            assert!(status.out.contains("\"whole\": true"), "{status:?}");
        }
        if expect == "\"luks\"" && status == 0 {
            host.sh(wipe);
            let zeros = night_expecting(&host, expect, 3);
            assert!(zeros.err.contains("sudden change") && zeros.err.contains("not there any more"), "{zeros:?}");
        }
    }
}
