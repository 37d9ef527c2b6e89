//! The promises of the verbs that go by the config, as far as they need no LVM: mistakes are explained, what is asked
//! for by date is found, what is protected stays so, a destination that is not mounted is not written to.

use std::fs;
use std::process::Command;

use crate::testkit::guest::program;
use crate::testkit::wait::day_that_lasts;

struct Host {
    directory: tempfile::TempDir,
}

impl Host {
    fn new(more: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let destination = directory.path().join("backups");
        fs::create_dir(&destination).unwrap();
        let host = Self { directory };
        host.write(&format!("backup_destination = '{}'\nrequire_mount = false\n{more}", destination.display()));
        host
    }

    fn write(&self, config: &str) {
        fs::write(self.at("volbak.toml"), config).unwrap();
    }

    fn at(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    /// Exit status, standard output, standard error.
    fn volbak(&self, arguments: &[&str]) -> (i32, String, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_volbak"))
            .args(arguments)
            .arg("--config")
            .arg(self.at("volbak.toml"))
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }

    fn backup_of_an_image(&self) {
        let image = self.at("disk.img");
        fs::write(&image, vec![7; 4096]).unwrap();
        let mut snapshot = Command::new(env!("CARGO_BIN_EXE_volbak"));
        let destination = self.at("backups");
        let status = snapshot.args(["-q", "snapshot"]).arg(image).arg("--to").arg(destination).output().unwrap().status;
        assert_eq!(status.code(), Some(3), "it is kept as a raw image");
    }
}

#[test]
fn a_config_that_is_wrong_is_explained_and_nothing_runs() {
    let host = Host::new("backup_retention_days = 7\n");
    for arguments in [&["config", "check"][..], &["run"], &["doctor"], &["prune", "--dry-run"]] {
        let (status, _, said) = host.volbak(arguments);
        assert_eq!(status, 2, "{arguments:?}");
        assert!(said.contains("line 3, column 1") && said.contains("`backups_retention_days`"), "{said}");
    }
    assert_eq!(host.volbak(&["status"]).0, 3, "a monitoring system's UNKNOWN");
    let example = Command::new(env!("CARGO_BIN_EXE_volbak")).args(["config", "init"]).output().unwrap();
    host.write(&String::from_utf8(example.stdout).unwrap());
    assert_eq!(host.volbak(&["config", "check"]).0, 0);
}

#[test]
fn a_destination_that_is_not_mounted_is_not_written_to() {
    let host = Host::new("");
    let config = fs::read_to_string(host.at("volbak.toml")).unwrap().replace("= false", "= true");
    host.write(&config);
    let (status, printed, _) = host.volbak(&["run"]);
    // Where the temporary directory is a mount point of its own the night goes on, and finds no volumes.
    if printed.contains("not mounted") {
        assert_eq!(status, 1);
        assert_eq!(fs::read_dir(host.at("backups")).unwrap().count(), 0);
        assert_eq!(host.volbak(&["run", "--dry-run"]).0, 1);
    }
}

#[test]
fn reports_are_kept_and_found_again() {
    // Without volumes: what dumps alone would be.
    let host = Host::new("enable_lvmsnapshots = false\n[report]\nmetrics_file = 'METRICS'\n");
    let metrics = host.at("volbak.prom");
    let config = fs::read_to_string(host.at("volbak.toml")).unwrap();
    host.write(&config.replace("METRICS", metrics.to_str().unwrap()));
    let (status, _, said) = host.volbak(&["report"]);
    assert!(status == 1 && said.contains("nothing ran yet"), "{said}");
    let (status, printed, said) = host.volbak(&["run"]);
    assert!(status == 0 && said.ends_with(": 0 of 0 volumes backed up in 0 h 0 m\n"), "{printed}{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert_eq!(host.volbak(&["report"]).1, printed);
    assert!(fs::read_to_string(&metrics).unwrap().contains("volbak_run_verdict 0\n"));
    // The node exporter is another user, whatever UMask= the unit has.
    let program = env!("CARGO_BIN_EXE_volbak");
    let closed = format!("umask 077; exec {program} run --config '{}'", host.at("volbak.toml").display());
    assert!(std::process::Command::new("sh").args(["-c", &closed]).output().unwrap().status.success());
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&metrics).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o644);
    let (status, _, said) = host.volbak(&["report", "--date", "2001-01-01"]);
    assert!(status == 1 && said.contains("no report of a run that began on 2001-01-01"), "{said}");
    let page = host.at("report.html");
    assert_eq!(host.volbak(&["report", "--html", page.to_str().unwrap()]).0, 0);
    assert!(fs::read_to_string(page).unwrap().contains("<html"));
    assert_eq!(host.volbak(&["report", "--send"]).0, 2, "mail is switched off");
    // The kept report of a run that began long ago goes.
    let old = host.at("backups/.volbak/reports/2001-01-01_010000.json");
    let foreign = host.at("backups/.volbak/reports/notes");
    fs::write(&old, "{}").unwrap();
    fs::write(&foreign, "").unwrap();
    assert_eq!(host.volbak(&["run"]).0, 0);
    assert!(!old.exists() && foreign.exists());
}

#[test]
fn a_mail_that_cannot_be_sent_waits_and_changes_the_status_to_3() {
    let host = Host::new("");
    let more = format!(
        "enable_lvmsnapshots = false\nenable_mail_notification = true\nemail_recipient = 'admin@example.com'\n[mail]\n\
         transport = 'sendmail'\nsendmail_program = '{}'\nspool_dir = '{}'\n",
        host.at("sendmail").display(),
        host.at("spool").display()
    );
    host.write(&(fs::read_to_string(host.at("volbak.toml")).unwrap() + &more));
    let (status, printed, _) = host.volbak(&["run"]);
    assert_eq!((status, printed.as_str()), (3, ""));
    assert_eq!(fs::read_dir(host.at("spool")).unwrap().count(), 1);
    assert!(host.volbak(&["report"]).1.contains("sendmail"), "the kept report says so");
    program(&host.at("sendmail"), "cat >/dev/null");
    assert_eq!(host.volbak(&["run"]).0, 0);
    assert_eq!(fs::read_dir(host.at("spool")).unwrap().count(), 0);
}

#[test]
fn limits_that_contradict_each_other_are_wrong_usage() {
    let host = Host::new("");
    let (status, _, said) = host.volbak(&["status", "--warning", "60", "--critical", "20"]);
    assert!(status == 2 && said.contains("--warning 60 is above --critical 20"), "{said}");
    assert_ne!(host.volbak(&["status", "--warning", "20", "--critical", "20"]).0, 2);
    let (status, _, said) = host.volbak(&["report", "--date", "yesterday"]);
    assert!(status == 1 && said.contains("no report"), "{said}");
    assert_eq!(host.volbak(&["report", "--date", "someday"]).0, 2);
}

#[test]
fn a_reader_that_ends_early_is_no_error() {
    let host = Host::new("enable_lvmsnapshots = false\n");
    host.backup_of_an_image();
    assert_eq!(host.volbak(&["run"]).0, 0);
    let backups = host.at("backups");
    let archive = fs::read_dir(backups.join("disk")).unwrap().find_map(|entry| {
        let path = entry.unwrap().path().display().to_string();
        path.ends_with(".tar.gz").then_some(path)
    });
    let (archive, backups) = (archive.unwrap(), backups.display().to_string());
    let config = host.at("volbak.toml").display().to_string();
    let cat = format!("{archive}:disk.img");
    for arguments in [
        &["browse", &archive][..],
        &["browse", "--json", &archive],
        &["cat", &cat],
        &["diff", &archive, &archive],
        &["list", &backups],
        &["report", "--config", &config],
        &["status", "--config", &config],
        &["config", "init"],
    ] {
        let with_reader = Command::new(env!("CARGO_BIN_EXE_volbak")).args(arguments).output().unwrap();
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let without = Command::new(env!("CARGO_BIN_EXE_volbak")).args(arguments).stdout(writer).output().unwrap();
        assert_eq!(without.status.code(), with_reader.status.code(), "{arguments:?}: {without:?}");
        assert_eq!(without.stderr, with_reader.stderr, "{arguments:?}");
    }
}

#[test]
fn a_backup_is_protected_by_name_and_date() {
    let host = Host::new("");
    day_that_lasts();
    host.backup_of_an_image();
    host.backup_of_an_image();
    let list = || fs::read_to_string(host.at("backups/.volbak/protected")).unwrap();
    let today = chrono::Local::now().format("%Y-%m-%d").to_string();
    let (status, _, said) = host.volbak(&["protect", &format!("disk@{today}")]);
    assert!(status == 2 && said.contains("may mean any of"), "{said}");
    for wrong in ["disk@2001-01-01", "disk@x", "other@last", "../backups/disk@last"] {
        assert_eq!(host.volbak(&["protect", wrong]).0, 2, "{wrong}");
    }
    assert_eq!(host.volbak(&["protect", "disk@last"]).0, 0);
    assert_eq!(list().lines().count(), 1);
    let day = chrono::Local::now().format("%d_%m_%Y").to_string();
    assert_eq!(host.volbak(&["protect", &format!("disk@{day}")]).0, 0);
    assert_eq!(list().lines().count(), 2);
    assert_eq!(host.volbak(&["unprotect", "disk@last"]).0, 0);
    assert_eq!(list(), format!("disk/disk_{day}\n"));
}

/// The archives of `disk`, by name.
fn archives(host: &Host) -> Vec<String> {
    let names = fs::read_dir(host.at("backups/disk")).unwrap().map(|entry| entry.unwrap().file_name());
    let mut archives: Vec<String> =
        names.filter_map(|name| name.into_string().unwrap().strip_suffix(".tar.gz").map(str::to_owned)).collect();
    archives.sort_unstable();
    archives
}

#[test]
fn a_named_backup_is_removed_and_what_retention_keeps_is_not() {
    let host = Host::new("");
    day_that_lasts();
    for _ in 0..3 {
        host.backup_of_an_image();
    }
    let all = archives(&host);
    let [first, second, third] = [0, 1, 2].map(|at| format!("disk@{}", all[at].strip_prefix("disk_").unwrap()));
    let refused = |arguments: &[&str], status: i32, word: &str| {
        let (ended, _, said) = host.volbak(&[&["remove"], arguments].concat());
        assert!(ended == status && said.contains(word), "{arguments:?}: {ended}, {said}");
        assert_eq!(archives(&host), all, "{arguments:?}");
    };
    refused(&["disk"], 2, "names no date");
    refused(&["disk@last"], 2, "names no date");
    refused(&["disk@2001-01-01"], 2, "has no backup of 2001-01-01");
    refused(&["disk@today"], 2, "may mean any of");
    refused(&["../backups/disk@today"], 2, "");
    // All or nothing.
    refused(&[&first, &third], 1, "the last good one");
    assert_eq!(host.volbak(&["protect", &second]).0, 0);
    refused(&["--force", &first, &second], 1, "unprotect");
    assert_eq!(host.volbak(&["verify", &first]).0, 0);
    refused(&[&first], 1, "the last that was verified");
    let (status, out, said) = host.volbak(&["remove", "--dry-run", "--force", &first]);
    assert!(status == 0 && out.contains(&format!("{} would be removed, ", all[0])), "{out}{said}");
    assert_eq!(archives(&host), all);

    assert_eq!(host.volbak(&["unprotect", &second]).0, 0);
    let (status, out, said) = host.volbak(&["remove", "--json", &second]);
    assert_eq!(status, 0, "{said}");
    let printed: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(printed["removed"][0]["backup"], all[1].as_str(), "{printed}");
    assert!(printed["bytes"].as_u64().unwrap() > 0 && printed["dry_run"] == false, "{printed}");
    // Its side files are gone, too; the others restore.
    let left: Vec<String> = fs::read_dir(host.at("backups/disk"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with(&format!("{}.", all[1])))
        .collect();
    assert_eq!(left, Vec::<String>::new());
    assert_eq!(archives(&host), [all[0].clone(), all[2].clone()]);
    assert_eq!(host.volbak(&["verify", &first, &third]).0, 0);
    let (status, out, said) = host.volbak(&["remove", "--force", &first, &third, &third]);
    assert!(status == 0 && out.lines().count() == 2, "{out}{said}");
    assert_eq!(archives(&host), Vec::<String>::new());
}

#[test]
fn a_damaged_backup_is_removed_by_force_or_its_files_are_named() {
    let host = Host::new("");
    day_that_lasts();
    for _ in 0..4 {
        host.backup_of_an_image();
    }
    let all = archives(&host);
    let spec = |at: usize| format!("disk@{}", all[at].strip_prefix("disk_").unwrap());
    let file = |at: usize, suffix: &str| host.at("backups/disk").join(format!("{}{suffix}", all[at]));
    fs::write(file(0, ".manifest.json"), "{").unwrap();
    fs::write(file(1, ".tar.gz"), "short").unwrap();
    assert_eq!(host.volbak(&["protect", &spec(2)]).0, 0);
    fs::remove_file(file(2, ".manifest.json")).unwrap();
    let refused = |arguments: &[&str], words: &[&str]| {
        let (status, _, said) = host.volbak(&[&["remove"], arguments].concat());
        assert!(status == 1 && words.iter().all(|word| said.contains(word)), "{arguments:?}: {status}, {said}");
        assert_eq!(archives(&host), all, "{arguments:?}");
    };
    for at in [0, 1] {
        refused(&[&spec(at)], &["it is damaged (", "--force removes it nevertheless"]);
    }
    refused(&["--force", &spec(0), &spec(2)], &["unprotect"]);
    assert_eq!(host.volbak(&["protect", &spec(0)]).0, 2, "a damaged one is not worth it");
    assert_eq!(host.volbak(&["unprotect", &spec(2)]).0, 0);
    let by_hand = format!("{}.*", file(2, "").display());
    refused(&["--force", &spec(0), &spec(2)], &["remove them by hand", &by_hand]);
    // Another program's archive with the stem of a lost one stays.
    fs::rename(file(1, ".tar.gz"), file(1, ".tar.zst")).unwrap();
    let (status, _, said) = host.volbak(&["remove", "--force", &spec(1)]);
    assert!(status == 1 && said.contains("remove them by hand"), "{status}, {said}");
    fs::rename(file(1, ".tar.zst"), file(1, ".tar.gz")).unwrap();

    let (status, out, said) = host.volbak(&["remove", "--force", &spec(0), &spec(1)]);
    assert!(status == 0 && out.lines().count() == 2, "{out}{said}");
    let left = fs::read_dir(host.at("backups/disk")).unwrap().map(|entry| entry.unwrap().file_name());
    let left: Vec<String> = left.map(|name| name.into_string().unwrap()).collect();
    let is_of = |name: &String, at: usize| name.starts_with(&format!("{}.", all[at]));
    assert!(!left.iter().any(|name| is_of(name, 0) || is_of(name, 1)), "{left:?}");
    assert!(left.iter().any(|name| is_of(name, 2)) && left.iter().any(|name| is_of(name, 3)), "{left:?}");
}

#[test]
fn nothing_is_removed_while_a_run_holds_the_destination() {
    let host = Host::new("");
    host.backup_of_an_image();
    host.backup_of_an_image();
    let all = archives(&host);
    let destination = volbak::store::Destination::open(&host.at("backups")).unwrap();
    let lock = destination.lock(chrono::Utc::now()).unwrap();
    let first = format!("disk@{}", all[0].strip_prefix("disk_").unwrap());
    let (status, _, said) = host.volbak(&["remove", &first]);
    assert!(status == 4 && said.contains("lock"), "{status} {said}");
    assert_eq!(host.volbak(&["remove", "--dry-run", &first]).0, 0);
    assert_eq!(archives(&host), all);
    drop(lock);
    assert_eq!(host.volbak(&["remove", &first]).0, 0);
}
