//! The second night of a disk with NTFS: all that is used is read, and only what differs is compressed and stored.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use volbak::events::{Event, Observer};
use volbak::{Backup, BackupOptions, Repository, RestoreOptions, Silent, Verdict, VerifyOptions};

use crate::support::{Work, assert_has_used, noise, run, text};

/// What a backup says.
#[derive(Default)]
struct Told(Mutex<Vec<String>>);

impl Observer for Told {
    fn on_event(&self, event: &Event) {
        if let Event::Problem(problem) = event {
            self.0.lock().unwrap().push(format!("{}: {}", problem.location, problem.what));
        }
    }
}

/// A disk with files of half a MiB, and its backups.
struct Night {
    work: Work,
    image: PathBuf,
    repository: Repository,
}

impl Night {
    fn new() -> Self {
        let work = Work::new();
        let image = work.image("ntfs", 128 << 20);
        fs::write(&image, noise(3, 128 << 20)).unwrap();
        run("mkfs.ntfs", &["-F", "-Q", "-q", text(&image)]);
        let backups = work.path("backups");
        fs::create_dir(&backups).unwrap();
        let night = Self { work, image, repository: Repository::open(&backups).unwrap() };
        (0..80).for_each(|number| night.put(number, number));
        night
    }

    /// Writes a file of half a MiB, half of which compresses.
    fn put(&self, number: u64, seed: u64) {
        let mut data = noise(seed + 1, 256 << 10);
        data.extend(noise(seed + 77, 1000).repeat(270));
        let file = self.work.path("file");
        fs::write(&file, data).unwrap();
        run("ntfscp", &["-q", "-f", text(&self.image), text(&file), &format!("/file{number}")]);
    }

    fn back_up(&self) -> (Backup, Vec<String>) {
        let told = Arc::new(Told::default());
        let backup =
            self.repository.back_up(&self.image, &BackupOptions::default(), Arc::clone(&told) as Arc<dyn Observer>);
        let told = told.0.lock().unwrap().clone();
        (backup.unwrap(), told)
    }

    /// Fails unless the archive is whole, and has each used byte and zeros elsewhere, by volbak and by GNU tar.
    fn assert_right(&self, backup: &Backup) {
        assert_eq!(backup.verify(&VerifyOptions::default(), &Silent).unwrap().verdict, Verdict::Good);
        let (own, tar) = (self.work.path("own"), self.work.path("tar"));
        assert!(backup.restore(&RestoreOptions::into_directory(&own), &Silent).unwrap().is_complete());
        fs::create_dir(&tar).unwrap();
        run("tar", &["-xzpf", text(&backup.archive_path()), "-C", text(&tar)]);
        for directory in [own, tar] {
            let restored = fs::read_dir(&directory).unwrap().next().unwrap().unwrap().path();
            assert_has_used(&self.image, &restored);
            run("ntfsfix", &["-n", text(&restored)]);
            fs::remove_dir_all(directory).unwrap();
        }
    }
}

fn index_path(backup: &Backup) -> PathBuf {
    PathBuf::from(text(&backup.archive_path()).replace(".tar.gz", ".index"))
}

/// What a backup has in its archive, and what of that was carried, in bytes.
fn stored(backup: &Backup) -> (u64, u64) {
    let manifest = serde_json::to_value(backup.manifest().unwrap()).unwrap();
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    (number(&manifest["sizes"]["archive_bytes"]), number(&manifest["carried"]["bytes"]))
}

#[test]
fn a_second_night_stores_what_changed_and_a_damaged_member_is_compressed_anew() {
    let night = Night::new();
    let (first, _) = night.back_up();
    assert_eq!(stored(&first).1, 0);
    night.assert_right(&first);
    let members = index_members(&index_path(&first));
    let data: Vec<&Vec<String>> = members.iter().filter(|fields| fields[8] != "-").collect();
    assert!(data.len() > 400 && data.iter().all(|fields| fields[5].parse::<u64>().unwrap() <= 64 << 10));

    // The same again: only the tar stream's heads are new.
    let (same, told) = night.back_up();
    let (archive_bytes, carried_bytes) = stored(&same);
    assert!(archive_bytes - carried_bytes < 4096, "{archive_bytes} {carried_bytes} {told:?}");

    // One file of eighty has other content, and a new one moves what is used.
    night.put(40, 1000);
    night.put(90, 2000);
    let (third, told) = night.back_up();
    let (archive_bytes, carried_bytes) = stored(&third);
    assert!((archive_bytes - carried_bytes) * 100 < archive_bytes * 8, "{archive_bytes} {carried_bytes} {told:?}");
    night.assert_right(&third);

    // A flipped bit in a member that the next night would copy.
    let archive = File::options().read(true).write(true).open(third.archive_path()).unwrap();
    let members = index_members(&index_path(&third));
    let damaged = members.iter().filter(|fields| fields[8] != "-").nth(320).unwrap();
    let at = damaged[2].parse::<u64>().unwrap() + 300;
    let mut byte = [0];
    archive.read_exact_at(&mut byte, at).unwrap();
    archive.write_all_at(&[byte[0] ^ 4], at).unwrap();
    let (fourth, told) = night.back_up();
    let warning = format!("member {} of the previous backup", damaged[1]);
    assert!(told.iter().any(|what| what.contains(&warning)), "{told:?}");
    let (archive_bytes, carried_bytes) = stored(&fourth);
    assert!(carried_bytes > archive_bytes / 2, "{archive_bytes} {carried_bytes}");
    night.assert_right(&fourth);
}

/// The fields of the lines of members.
fn index_members(index: &Path) -> Vec<Vec<String>> {
    let text = fs::read_to_string(index).unwrap();
    let members = text.lines().filter(|line| line.starts_with("M\t"));
    members.map(|line| line.split('\t').map(str::to_owned).collect()).collect()
}
