//! Promise: what is read of many backups at once is the same, in the same order, as one after another; a limit of the
//! process never makes a good backup look bad; Ctrl-C ends it and leaves nothing half done.
//!
//! A limit of memory (`ulimit -v`) has everything read one after another, which is what the rest is compared with.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use chrono::{NaiveDate, TimeDelta};
use serde_json::Value;
use sha2::{Digest, Sha256};
use volbak::manifest::Manifest;
use volbak::shown::hex;

use crate::testkit::wait::met;

const VOLUMES: usize = 20;
const NIGHTS: usize = 60;
const WITHIN: Duration = Duration::from_secs(600);

struct Many {
    directory: tempfile::TempDir,
}

impl Many {
    /// Many nights of many volumes, all copies of one real backup under names and dates of their own; and everything that
    /// can be wrong with one without reading its archive.
    fn new() -> Self {
        let directory = tempfile::tempdir_in("/dev/shm").unwrap();
        let many = Self { directory };
        let image = many.at("v00.img");
        fs::write(&image, vec![7; 4096]).unwrap();
        fs::create_dir(many.at("b")).unwrap();
        let status = many.run("", &format!("-q snapshot {} --to b", image.display())).0;
        assert_eq!(status, Some(3), "it is kept as a raw image");
        let config = format!("backup_destination = '{}'\nrequire_mount = false\n", many.at("b").display());
        fs::write(many.at("volbak.toml"), config).unwrap();
        let names = fs::read_dir(many.at("b/v00")).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names = names.map(|name| name.into_string().unwrap());
        let stem = names.find_map(|name| name.strip_suffix(".tar.gz").map(str::to_owned)).unwrap();
        for volume in 0..VOLUMES {
            for night in 0..NIGHTS {
                many.copy(&stem, &format!("v{volume:02}"), night);
            }
        }
        many.do_harm();
        many
    }

    fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn copy(&self, first: &str, volume: &str, night: usize) {
        let from = |suffix: &str| self.at("b/v00").join(format!("{first}{suffix}"));
        let mut manifest = Manifest::from_bytes(&fs::read(from(".manifest.json")).unwrap()).unwrap();
        let ago = TimeDelta::days(i64::try_from(night).unwrap());
        let date = NaiveDate::parse_from_str(&manifest.local_date, "%Y-%m-%d").unwrap() - ago;
        let stem = format!("{volume}_{}", date.format("%d_%m_%Y"));
        if stem == first {
            return;
        }
        let checksum = fs::read_to_string(from(".checksum")).unwrap().replace(first, &stem);
        manifest.digests.checksum_sha256 = hex(&Sha256::digest(checksum.as_bytes()));
        for time in [&mut manifest.started_at, &mut manifest.frozen_at, &mut manifest.finished_at] {
            *time -= ago;
        }
        manifest.local_date = date.format("%Y-%m-%d").to_string();
        volume.clone_into(&mut manifest.name);
        manifest.stem.clone_from(&stem);
        let directory = self.at("b").join(volume);
        fs::create_dir_all(&directory).unwrap();
        let to = |suffix: &str| directory.join(format!("{stem}{suffix}"));
        fs::write(to(".manifest.json"), manifest.to_bytes().unwrap()).unwrap();
        fs::write(to(".checksum"), checksum).unwrap();
        for suffix in [".tar.gz", ".index"] {
            fs::hard_link(from(suffix), to(suffix)).unwrap();
        }
    }

    fn do_harm(&self) {
        let mut archives: Vec<PathBuf> = Vec::new();
        for volume in 0..VOLUMES {
            let entries = fs::read_dir(self.at(&format!("b/v{volume:02}"))).unwrap().map(|entry| entry.unwrap().path());
            archives.extend(entries.filter(|path| path.to_str().unwrap().ends_with(".tar.gz")));
        }
        archives.sort();
        for (number, archive) in archives.iter().enumerate().skip(7) {
            let text = archive.to_str().unwrap();
            let beside = |suffix: &str| PathBuf::from(text.replace(".tar.gz", suffix));
            let manifest = beside(".manifest.json");
            match number % 211 {
                0 => fs::remove_file(archive).unwrap(),
                10 => fs::write(manifest, "{").unwrap(),
                20 => fs::remove_file(manifest).unwrap(),
                30 => [manifest, beside(".index"), beside(".checksum")]
                    .iter()
                    .for_each(|path| fs::remove_file(path).unwrap()),
                40 => {
                    fs::remove_file(&manifest).unwrap();
                    std::os::unix::fs::symlink("/etc/passwd", manifest).unwrap();
                }
                50 => {
                    let text = fs::read_to_string(&manifest).unwrap();
                    fs::write(manifest, text.replacen("\"format\": 1", "\"format\": 2", 1)).unwrap();
                }
                60 => {
                    fs::remove_file(archive).unwrap();
                    fs::write(archive, "short").unwrap();
                }
                70 => {
                    let index = fs::read(beside(".index")).unwrap();
                    fs::remove_file(beside(".index")).unwrap();
                    fs::write(beside(".index"), [&index[..index.len() - 1], b"\t"].concat()).unwrap();
                }
                80 => fs::write(beside(".checksum"), "none\n").unwrap(),
                90 => fs::write(beside(".verified.json"), "{").unwrap(),
                _ => {}
            }
        }
        fs::create_dir(self.at("b/lost+found")).unwrap();
        fs::write(self.at("b/file"), "no volume").unwrap();
    }

    fn command(&self, limit: &str, arguments: &str) -> Command {
        let mut command = Command::new("bash");
        command
            .args(["-c", &format!("{limit}\nexec {} {arguments}", env!("CARGO_BIN_EXE_volbak"))])
            .current_dir(self.directory.path())
            .stdin(Stdio::null());
        command
    }

    /// Exit status, standard output, standard error.
    fn run(&self, limit: &str, arguments: &str) -> (Option<i32>, String, String) {
        let started = Instant::now();
        let output = self.command(limit, arguments).output().unwrap();
        assert!(started.elapsed() < WITHIN, "{arguments}: {:?}", started.elapsed());
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    }

    /// How many backups have a record that was written here.
    fn recorded(&self) -> usize {
        let volumes = (0..VOLUMES).map(|volume| self.at(&format!("b/v{volume:02}")));
        let files: Vec<_> = volumes.flat_map(|volume| fs::read_dir(volume).unwrap().map(Result::unwrap)).collect();
        let has = |file: &fs::DirEntry, part: &str| file.file_name().to_str().unwrap().contains(part);
        assert!(!files.iter().any(|file| has(file, ".volbak-tmp.")), "a temporary file is left");
        files.iter().filter(|file| has(file, ".verified.json") && file.metadata().unwrap().len() > 1).count()
    }
}

/// Without what the clock says, and the room of a disk that other tests write to.
fn timeless(text: &str) -> Value {
    fn strip(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                let changes = ["verified_at", "room"];
                fields.retain(|name, _| !name.ends_with("age_seconds") && !changes.contains(&name.as_str()));
                fields.values_mut().for_each(strip);
            }
            Value::Array(values) => values.iter_mut().for_each(strip),
            _ => {}
        }
    }
    let mut value = serde_json::from_str(text).unwrap();
    strip(&mut value);
    value
}

/// One after another.
const ONE: &str = "ulimit -v 8000000";

#[test]
fn many_at_once_are_as_one_after_another() {
    let many = Many::new();
    for arguments in ["list b", "list --destination b v03 v17", "verify --all --quick --no-record --destination b"] {
        let (status, said, errors) = many.run("", arguments);
        assert!(said.lines().count() > 50, "{arguments}: {said}{errors}");
        assert_eq!((status, said, errors), many.run(ONE, arguments), "{arguments}");
    }
    for arguments in ["list b --json", "status --json --config volbak.toml"] {
        let (status, said, errors) = many.run("", arguments);
        let one = many.run(ONE, arguments);
        assert_eq!((status, &errors), (one.0, &one.2), "{arguments}");
        assert!(timeless(&said) == timeless(&one.1), "{arguments}");
        // With few descriptors there are fewer threads, and nothing else is found.
        let few = many.run("ulimit -n 40", arguments);
        assert!(status == few.0 && timeless(&said) == timeless(&few.1), "{arguments}: {}", few.2);
    }
    let list = timeless(&many.run("", "list b --json").1);
    let states = list["backups"].as_array().unwrap().iter().map(|one| one["state"]["state"].as_str().unwrap());
    let states: Vec<&str> = states.collect();
    let count = |state: &str| states.iter().filter(|other| **other == state).count();
    // Of each kind of harm five or six: 10, 20, 40, 50 and 60 are damage that the catalogue sees, and 0 from the second on.
    assert_eq!(states.len(), VOLUMES * NIGHTS);
    assert_eq!((count("without_manifest"), count("damaged")), (6, 5 + 5 * 6));

    // What is recorded is recorded of each, and chooses whose turn it is.
    // A quick check does not replace a damaged record.
    let refused = |errors: &str| errors.matches("a full verification replaces it").count();
    let (_, first, errors) = many.run("", "-q verify --quick --sample 300 --destination b");
    assert_eq!((first.lines().count(), many.recorded() + refused(&errors)), (300, 300), "{errors}");
    let (_, second, errors) = many.run("", "-q verify --quick --sample 300 --destination b");
    // One whose archive is gone, or whose record is damaged, is due each time.
    let again = second.lines().filter(|line| first.lines().any(|other| other == *line)).count();
    assert_eq!((second.lines().count(), again + many.recorded() + refused(&errors)), (300, 600), "{errors}");
    assert!(again <= 12, "{again}");
    let arguments = "list b --json";
    assert!(timeless(&many.run("", arguments).1) == timeless(&many.run(ONE, arguments).1));
}

#[test]
fn an_interrupted_check_of_many_leaves_nothing_half_done() {
    let started = Instant::now();
    met("a check that is interrupted before its end", || {
        let many = Many::new();
        let mut child = many
            .command("", "-q verify --quick --all --destination b")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let last = many.at("b/v00");
        let has_begun = |directory: &Path| {
            let names = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name());
            names.filter(|name| name.to_str().unwrap().ends_with(".verified.json")).count() > 3
        };
        while !has_begun(&last) && started.elapsed() < WITHIN {
            std::thread::sleep(Duration::from_millis(1));
        }
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        let mut said = String::new();
        std::io::Read::read_to_string(child.stderr.as_mut().unwrap(), &mut said).unwrap();
        let status = child.wait().unwrap();
        assert!(started.elapsed() < WITHIN);
        // The signal came after all was checked; what has no archive has no record.
        if !said.contains("interrupted") && many.recorded() > VOLUMES * NIGHTS * 9 / 10 {
            return None;
        }
        assert_eq!((status.code(), status.signal()), (Some(1), None), "{said}");
        assert!(said.contains("interrupted") && many.recorded() < VOLUMES * NIGHTS, "{said}");
        Some(())
    });
}
