//! Promise: a share that does not answer for a moment costs a moment; one that does not answer at all makes no backup bad.
//!
//! strace(1) makes calls of the real program fail.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

struct Share {
    _dir: tempfile::TempDir,
    at: PathBuf,
}

impl Share {
    /// With one backup of an ext4.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().to_owned();
        fs::create_dir_all(at.join("tree/below")).unwrap();
        fs::write(at.join("tree/below/file"), b"content\n".repeat(4000)).unwrap();
        let image = at.join("disk.img");
        let made =
            Command::new("mke2fs").args(["-q", "-t", "ext4", "-d"]).arg(at.join("tree")).arg(&image).arg("8M").output();
        assert!(made.unwrap().status.success());
        let share = Self { _dir: dir, at };
        fs::create_dir(share.at.join("backups")).unwrap();
        let made = share.volbak(&["-q", "snapshot", image.to_str().unwrap()]);
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        share
    }

    fn file(&self, suffix: &str) -> PathBuf {
        let archive = fs::read_dir(self.at.join("backups/disk")).unwrap().map(|entry| entry.unwrap().path());
        let archive =
            archive.map(|path| path.into_os_string().into_string().unwrap()).find(|path| path.ends_with(".tar.gz"));
        archive.unwrap().replace(".tar.gz", suffix).into()
    }

    fn volbak(&self, args: &[&str]) -> Output {
        self.command(Command::new(env!("CARGO_BIN_EXE_volbak")), args)
    }

    fn command(&self, mut command: Command, args: &[&str]) -> Output {
        command.args(args).env("VOLBAK_BACKUP_DESTINATION", self.at.join("backups")).output().unwrap()
    }

    /// Runs volbak, with these faults in calls of this file. Returns the status, the errors, and the number of calls that failed.
    fn failing(&self, faults: &[&str], file: &Path, args: &[&str]) -> (i32, String, usize) {
        let (output, failed) = self.failing_output(faults, file, args);
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap(), failed)
    }

    fn failing_output(&self, faults: &[&str], file: &Path, args: &[&str]) -> (Output, usize) {
        let log = self.at.join("log");
        let mut strace = Command::new("strace");
        strace.args(["--seccomp-bpf", "-f", "-qq", "-o"]).arg(&log).arg("-P").arg(file);
        strace.args(["-e", "trace=openat,pread64"]);
        for fault in faults {
            strace.args(["-e", &format!("inject={fault}")]);
        }
        strace.arg(env!("CARGO_BIN_EXE_volbak"));
        let output = self.command(strace, args);
        let failed = fs::read_to_string(log).unwrap().matches("(INJECTED)").count();
        (output, failed)
    }

    fn listed(&self) -> String {
        String::from_utf8(self.volbak(&["list"]).stdout).unwrap()
    }
}

#[test]
fn a_share_that_does_not_answer_once_has_no_bad_backup() {
    let share = Share::new();
    for suffix in [".tar.gz", ".manifest.json", ".index", ".checksum"] {
        for fault in ["pread64:error=EIO:when=1", "pread64:error=ETIMEDOUT:when=2", "openat:error=ESTALE:when=1..2"] {
            let (status, said, failed) =
                share.failing(&[fault], &share.file(suffix), &["verify", "disk", "--no-record"]);
            assert_eq!(status, 0, "{suffix}, {fault}: {said}");
            assert!(failed > 0 || fault.ends_with('2'), "{suffix}, {fault}: no such call");
        }
    }
    let out = share.at.join("out");
    let restore = ["-q", "restore", "disk", "--to", out.to_str().unwrap()];
    let (status, said, failed) = share.failing(&["pread64:error=EIO:when=1"], &share.file(".tar.gz"), &restore);
    assert!(status == 0 && failed > 0, "{status}, {failed}: {said}");
    assert_eq!(fs::read(out.join("below/file")).unwrap(), b"content\n".repeat(4000));
}

/// Whether a place is lost for good is decided in `src/store/unread.rs`.
#[test]
fn what_could_not_be_read_is_an_error_and_no_backup_is_bad_for_it() {
    let share = Share::new();
    assert_eq!(share.volbak(&["verify", "disk"]).status.code(), Some(0));
    let record = fs::read(share.file(".verified.json")).unwrap();
    let archive = share.file(".tar.gz");
    let reads = ["pread64:error=EIO:when=1+"];
    let gone = [reads[0], "openat:error=EIO:when=2+"];
    for (faults, suffix) in [(&gone[..], ".tar.gz"), (&reads[..], ".tar.gz"), (&reads[..], ".index")] {
        let (status, said, _) = share.failing(faults, &share.file(suffix), &["verify", archive.to_str().unwrap()]);
        assert!(status == 1 && said.contains("Input/output error"), "{suffix}: {said}");
        assert!(said.contains("could not be read: the backup may be good or bad"), "{suffix}: {said}");
    }
    // An open that fails four times in a row is not tried again. The first ones are looks that decide nothing.
    for suffix in [".tar.gz", ".manifest.json", ".index", ".checksum"] {
        let file = share.file(suffix);
        let verified = |error: &str, first: usize| {
            let fault = format!("openat:error={error}:when={first}..{}", first + 3);
            let args = ["verify", archive.to_str().unwrap()];
            let (status, said, _) = share.failing(&[&fault], &file, &args);
            assert!(status < 2, "{suffix}, {fault}: {status}: {said}");
            assert_eq!(status == 1, said.contains("the backup may be good or bad"), "{suffix}, {fault}: {said}");
            assert!(!share.listed().contains("BAD"), "{suffix}, {fault}");
            status == 1
        };
        let first = (1..10).find(|first| verified("ESTALE", *first));
        let first = first.unwrap_or_else(|| panic!("{suffix}: no open decides"));
        for error in ["EIO", "ETIMEDOUT", "ENOTCONN"] {
            assert!(verified(error, first), "{suffix}, {error}");
        }
    }
    let results = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).unwrap()["results"].clone();
    let after = results(&fs::read(share.file(".verified.json")).unwrap());
    assert_eq!(after[after.as_array().unwrap().len() - 1]["verdict"], "good", "{after}");
    assert_eq!(results(&record)[0]["verdict"], "good");
}

#[test]
fn the_others_are_verified_after_one_that_could_not_be_read() {
    let share = Share::new();
    let archive = share.file(".tar.gz");
    let snapshot = ["-q", "snapshot", share.at.join("disk.img").to_str().unwrap()].map(str::to_owned);
    assert!(share.volbak(&snapshot.each_ref().map(String::as_str)).status.success());
    // Of a sample, too: it would be its turn each time.
    let sample = ["verify", "--sample", "1", "--json"];
    let (output, _) = share.failing_output(&["pread64:error=EIO:when=1+"], &archive, &sample);
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&found["backups"][0]["verdict"], found["without_verdict"].as_array().unwrap().len()),
        (&"good".into(), 1)
    );
    let (output, _) = share.failing_output(&["pread64:error=EIO:when=1+"], &archive, &["verify", "--all", "--json"]);
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found["backups"].as_array().unwrap().len(), 1, "{found}");
    let without = found["without_verdict"].as_array().unwrap();
    assert!(without.len() == 1 && without[0]["archive"] == archive.to_str().unwrap(), "{found}");
    assert!(output.status.code() == Some(1) && without[0]["why"].as_str().unwrap().contains("may be good or bad"));
    let listed = share.listed();
    assert_eq!((listed.matches("full: good").count(), listed.matches("BAD").count()), (1, 0), "{listed}");
    // What was removed while others were verified is not bad.
    for suffix in [".tar.gz", ".manifest.json", ".index", ".checksum"] {
        let _ = fs::remove_file(archive.to_str().unwrap().replace(".tar.gz", suffix));
    }
    let did = share.volbak(&["verify", archive.to_str().unwrap()]);
    let said = String::from_utf8(did.stderr).unwrap();
    assert!(did.status.code() == Some(1) && said.contains("is gone, with all files of its backup"), "{said}");
}

#[test]
fn a_file_that_cannot_be_read_hides_no_damage_of_another() {
    let share = Share::new();
    let archive = share.file(".tar.gz");
    let mut bytes = fs::read(&archive).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&archive, bytes).unwrap();
    for suffix in [".checksum", ".index"] {
        let verify = ["verify", archive.to_str().unwrap()];
        let (output, failed) = share.failing_output(&["pread64:error=EIO:when=1+"], &share.file(suffix), &verify);
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.code() == Some(1) && failed > 0 && said.contains("BAD"), "{suffix}: {said}");
        assert!(share.listed().contains("BAD"), "{suffix}");
        fs::remove_file(share.file(".verified.json")).unwrap();
    }
}
