//! `volbak snapshot --image`: the backup of a whole volume, as an operator makes, checks and uses it.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::disks::{Noise, run};

const VOLBAK: &str = env!("CARGO_BIN_EXE_volbak");
/// What is compressed as one member.
const MEMBER: u64 = 1 << 20;

/// A destination, and disks beside it.
pub(crate) struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self::of(tempfile::tempdir().unwrap())
    }

    /// One in memory, where syncing costs nothing.
    pub(crate) fn in_memory() -> Self {
        Self::of(tempfile::tempdir_in("/dev/shm").unwrap())
    }

    fn of(directory: tempfile::TempDir) -> Self {
        for name in ["to", "tmp"] {
            fs::create_dir(directory.path().join(name)).unwrap();
        }
        Self { directory }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn to(&self) -> String {
        self.path("to").to_str().unwrap().to_owned()
    }

    pub(crate) fn volbak(&self, args: &[&str]) -> Output {
        let mut command = Command::new(VOLBAK);
        command.args(args).arg("--destination").arg(self.to()).env("TMPDIR", self.path("tmp")).output().unwrap()
    }

    pub(crate) fn well(&self, args: &[&str]) -> String {
        let output = self.volbak(args);
        let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
        assert!(output.status.success(), "{args:?}: {said}");
        said
    }

    /// Backs up a disk as an image; returns the archive.
    pub(crate) fn back_up(&self, disk: &Path, more: &[&str]) -> PathBuf {
        let output = self.volbak(&[&["snapshot", disk.to_str().unwrap(), "--image", "--json", "-q"], more].concat());
        assert!(matches!(output.status.code(), Some(0 | 3)), "{}", String::from_utf8_lossy(&output.stderr));
        let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        said["backups"][0]["archive"].as_str().unwrap().into()
    }
}

/// The manifest beside an archive.
pub(crate) fn manifest(archive: &Path) -> serde_json::Value {
    let stem = archive.to_str().unwrap().strip_suffix(".img.gz").unwrap();
    serde_json::from_slice(&fs::read(format!("{stem}.manifest.json")).unwrap()).unwrap()
}

/// What plain gunzip makes of an archive.
pub(crate) fn gunzip(archive: &Path) -> Vec<u8> {
    let output = Command::new("gunzip").arg("-c").arg(archive).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// A disk of unknown content in many places, of which every byte counts.
pub(crate) fn noise(path: &Path, bytes: u64, seed: u64) {
    let file = File::create(path).unwrap();
    file.set_len(bytes).unwrap();
    let mut noise = Noise::new(seed);
    for _ in 0..40 {
        let at = noise.below(bytes);
        let len = noise.below(2 * MEMBER).min(bytes - at) as usize;
        let piece = match noise.below(4) {
            0 => vec![0; len],
            1 => noise.bytes(len),
            2 => b"to be or not to be\n".iter().copied().cycle().take(len).collect(),
            _ => vec![b'x'; len],
        };
        file.write_all_at(&piece, at).unwrap();
    }
}

#[test]
fn gunzip_makes_the_volume_of_an_image_backup() {
    let place = Place::new();
    // The last member is shorter than the others; a hole of more than one member of zeros.
    for (name, bytes) in [("a", 20 * MEMBER), ("b", 9 * MEMBER + 512 * 7), ("c", 512), ("d", 200 * MEMBER + 1024)] {
        let disk = place.path(&format!("{name}.img"));
        noise(&disk, bytes, bytes);
        let archive = place.back_up(&disk, &[]);
        assert!(archive.to_str().unwrap().ends_with(".img.gz"));
        assert!(gunzip(&archive) == fs::read(&disk).unwrap(), "{name}");
        for level in ["--quick", "--level=full"] {
            let said = place.well(&["verify", archive.to_str().unwrap(), level]);
            assert!(said.contains("good") || said.contains("agree"), "{said}");
        }
        let checked = Command::new("sha1sum")
            .args(["--status", "-c"])
            .arg(format!("{}.checksum", archive.to_str().unwrap().strip_suffix(".img.gz").unwrap()))
            .current_dir(archive.parent().unwrap())
            .status()
            .unwrap();
        assert!(checked.success());
    }
}

#[test]
fn free_blocks_are_zeros_and_the_filesystem_is_clean() {
    let place = Place::new();
    let disk = place.path("disk.img");
    let (image, content) = (disk.to_str().unwrap(), place.path("content"));
    fs::write(&disk, Noise::new(7).bytes(48 << 20)).unwrap();
    fs::write(&content, Noise::new(8).bytes(5 << 20)).unwrap();
    run("/sbin/mke2fs", &["-q", "-F", "-t", "ext4", "-E", "nodiscard", image]);
    for command in
        [format!("write {} kept", content.display()), format!("write {} gone", content.display()), "rm gone".to_owned()]
    {
        run("/sbin/debugfs", &["-w", "-R", &command, image]);
    }
    let archive = place.back_up(&disk, &[]);
    assert!(fs::metadata(&archive).unwrap().len() < 16 << 20, "deleted files cost nothing");
    let back = place.path("back.img");
    fs::write(&back, gunzip(&archive)).unwrap();
    run("/sbin/e2fsck", &["-fn", back.to_str().unwrap()]);
    let kept = place.path("kept");
    run("/sbin/debugfs", &["-R", &format!("dump kept {}", kept.display()), back.to_str().unwrap()]);
    assert!(fs::read(kept).unwrap() == fs::read(content).unwrap());
}

#[test]
fn a_second_night_stores_what_changed() {
    let place = Place::new();
    let disk = place.path("disk.img");
    fs::write(&disk, Noise::new(3).bytes(40 << 20)).unwrap();
    place.back_up(&disk, &[]);
    let file = File::options().write(true).open(&disk).unwrap();
    file.write_all_at(b"changed", 17 * MEMBER + 100).unwrap();
    file.write_all_at(&vec![0; 2 << 20], 20 * MEMBER).unwrap();
    let second = place.back_up(&disk, &["--full-read-every-days", "0"]);
    assert!(gunzip(&second) == fs::read(&disk).unwrap());
    let carried = &manifest(&second)["carried"];
    assert_eq!((carried["members"].as_u64(), carried["mismatches"].as_u64()), (Some(37), Some(0)), "{carried}");
    place.well(&["verify", second.to_str().unwrap()]);
    // A member of the previous archive that was damaged since is not copied.
    let bytes = fs::metadata(&second).unwrap().len();
    let previous = File::options().write(true).open(&second).unwrap();
    previous.write_all_at(b"xx", bytes / 2).unwrap();
    let third = place.back_up(&disk, &["--full-read-every-days", "0"]);
    assert!(gunzip(&third) == fs::read(&disk).unwrap());
    assert_eq!(manifest(&third)["carried"]["mismatches"], 1);
    place.well(&["verify", third.to_str().unwrap()]);
    let bad = place.volbak(&["verify", second.to_str().unwrap()]);
    assert_eq!(bad.status.code(), Some(1));
    // Nor is anything when that is asked for, or from another kind of backup.
    let full = place.back_up(&disk, &["--full"]);
    assert!(manifest(&full).get("carried").is_none());
    place.volbak(&["snapshot", disk.to_str().unwrap(), "-q"]);
    let said = place.well(&["list", "disk"]);
    assert_eq!(said.lines().count(), 6, "{said}");
    assert_eq!(said.matches(" image ").count(), 4, "{said}");
}

#[test]
fn every_damaged_byte_is_found() {
    let place = Place::new();
    let disk = place.path("disk.img");
    noise(&disk, 12 * MEMBER + 512, 5);
    let archive = place.back_up(&disk, &[]);
    let good = fs::read(&archive).unwrap();
    let verdict = |bytes: &[u8]| {
        fs::write(&archive, bytes).unwrap();
        place.volbak(&["verify", archive.to_str().unwrap()]).status.code()
    };
    let mut noise = Noise::new(1);
    for _ in 0..12 {
        let mut bad = good.clone();
        let at = noise.below(good.len() as u64) as usize;
        bad[at] ^= 1 << noise.below(8);
        assert_eq!(verdict(&bad), Some(1), "byte {at}");
    }
    for at in [0, 1, good.len() / 2, good.len() - 1] {
        assert_eq!(verdict(&good[..at]), Some(1), "cut off at {at}");
    }
    assert_eq!(verdict(&[&good[..], b"x"].concat()), Some(1), "longer");
    let stem = archive.to_str().unwrap().strip_suffix(".img.gz").unwrap().to_owned();
    for suffix in [".index", ".checksum", ".manifest.json"] {
        let side = format!("{stem}{suffix}");
        let whole = fs::read(&side).unwrap();
        let mut bad = whole.clone();
        let at = bad.len() / 2;
        bad[at] ^= 1;
        fs::write(&side, &bad).unwrap();
        assert_eq!(verdict(&good), Some(1), "{suffix}");
        fs::write(&side, &whole).unwrap();
    }
    assert_eq!(verdict(&good), Some(0));
}

#[test]
fn an_archive_of_another_program_with_the_same_stem_stays_apart() {
    let place = Place::new();
    let disk = place.path("disk.img");
    noise(&disk, MEMBER, 5);
    place.volbak(&["snapshot", disk.to_str().unwrap(), "-q"]);
    let archives = |suffix: &str| -> Vec<PathBuf> {
        let entries = fs::read_dir(place.path("to/disk")).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        paths.filter(|path| path.to_str().unwrap().ends_with(suffix)).collect()
    };
    let files = archives(".tar.gz").pop().unwrap();
    let other = files.to_str().unwrap().replace(".tar.gz", ".img.gz");
    fs::write(&disk, "a script's image").unwrap();
    run("gzip", &["-k", disk.to_str().unwrap()]);
    fs::rename(place.path("disk.img.gz"), &other).unwrap();
    let said = place.well(&["list", "disk"]);
    assert!(said.contains("whole") && said.contains("no manifest"), "{said}");
    place.well(&["verify", files.to_str().unwrap()]);
    let said = place.well(&["verify", &other]);
    assert!(said.contains("as far as it can be checked"), "{said}");
}
