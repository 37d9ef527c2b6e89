//! Restores an archive into a filesystem of its own: an ext4 on a sparse image without a name, mounted nowhere.
//!
//! What is there afterwards is read as for a backup, and each entry's headers are made anew: their digest must be the
//! one in the index. It stands for path, kind, size, owner, mode, time, attributes and link target at once. Of files with
//! several names and of files with holes the digest depends on what the filesystem chose, so those are only looked for.
//! The data was compared when it was restored. Memory: 32 bytes for each entry.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen};
use sha2::{Digest, Sha256};

use super::{BackupFile, Finding, Findings, Surroundings, VerifyError, VerifyOptions};
use crate::archive::index::{EntryLine, IndexedKind, Line, escape_path};
use crate::archive::pax::{self, EntryType};
use crate::archive::read::index_file::IndexReader;
use crate::archive::read::open::open_regular;
use crate::events::{Event, Observer, Severity};
use crate::outside::shown_command;
use crate::reader::exclude::Excludes;
use crate::reader::loop_device::LoopDevice;
use crate::reader::walk::TreeWalk;
use crate::reader::{Entry, EntryKind, Found, FsReader};
use crate::run::locate::BackupFiles;
use crate::run::restore::{Existing, RestoreError, RestoreOptions, restore};
use crate::units::ByteRange;

/// Room for the filesystem's own structures, besides a share of the data.
const SPARE_BYTES: u64 = 256 << 20;

/// See the module. Where the machine cannot do it (no root, no mkfs, no room), that is said in `findings.not_checked`.
pub fn check(
    files: &BackupFiles,
    options: &VerifyOptions,
    around: Surroundings<'_>,
    findings: &mut Findings,
) -> Result<(), VerifyError> {
    let image = match Image::make(files, options, around) {
        Ok(image) => image,
        Err(what) => {
            findings.not_checked(format!("it was not restored for a test: {what}"));
            return Ok(());
        }
    };
    let mounted = match image.mount() {
        Ok(mounted) => mounted,
        Err(what) => {
            findings.not_checked(format!("it was not restored for a test: {what}"));
            return Ok(());
        }
    };
    let told = Errors { inner: around.observer, findings: std::sync::Mutex::default() };
    let restored = restore(
        files,
        &RestoreOptions {
            to: PathBuf::from(format!("/proc/self/fd/{}", mounted.as_raw_fd())),
            paths: Vec::new(),
            // The filesystem begins with a lost+found.
            existing: Existing::Overwrite,
            verify: true,
            devices: true,
            threads: options.threads,
            cancel: options.cancel.clone(),
        },
        &told,
    );
    told.findings.into_inner().unwrap_or_default().into_iter().for_each(|finding| findings.add(finding));
    let mut attributes_whole = true;
    match restored {
        Ok(report) => {
            // The test's own filesystem is at its limits: no fault of the backup's.
            attributes_whole = report.shortfalls.is_empty();
            for (what, count) in &report.shortfalls {
                let what = format!("restored for a test, {what} ({count} times)");
                findings.not_checked(what);
            }
        }
        Err(RestoreError::Stopped) => return Err(VerifyError::Stopped),
        Err(error) => findings.about(BackupFile::Archive, format!("it cannot be restored: {error}")),
    }
    if let Err(what) = compare(files, &mounted, attributes_whole, findings) {
        findings.not_checked(what);
    }
    drop(mounted);
    image.fsck(around, findings);
    Ok(())
}

/// Takes what could not be restored for findings, and passes the rest on.
struct Errors<'a> {
    inner: &'a dyn Observer,
    findings: std::sync::Mutex<Vec<Finding>>,
}

impl Observer for Errors<'_> {
    fn on_event(&self, event: &Event) {
        match event {
            Event::Problem(problem) if problem.severity == Severity::Error => {
                let path = Some(problem.location.clone());
                let what = problem.what.clone();
                let finding = Finding { file: BackupFile::Archive, member: None, offset: None, path, what };
                self.findings.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(finding);
            }
            Event::Problem(_) => {}
            other => self.inner.on_event(other),
        }
    }
}

/// A filesystem in a file that has no name any more when this value is gone.
struct Image {
    path: PathBuf,
    file: File,
    size: u64,
}

impl Image {
    fn make(files: &BackupFiles, options: &VerifyOptions, around: Surroundings<'_>) -> Result<Self, String> {
        let index = open_regular(&files.index()).map_err(|error| error.to_string())?;
        let (mut entries, mut tar_bytes) = (0, 0);
        let mut reader = IndexReader::new(index).map_err(|error| error.to_string())?;
        while let Some(line) = reader.next_line().map_err(|error| error.to_string())? {
            if let Line::End(totals) = line {
                (entries, tar_bytes) = (totals.entries, totals.tar_bytes);
            }
        }
        let size = (tar_bytes + tar_bytes / 4).saturating_add(entries.saturating_mul(8192)).saturating_add(SPARE_BYTES);
        let path = options.scratch.join(format!(".volbak-tmp.restore-test-{}", std::process::id()));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(|error| format!("{} cannot be made: {error}", path.display()))?;
        let image = Self { path, file, size };
        image.file.set_len(size).map_err(|error| format!("its image cannot be made: {error}"))?;
        let inodes = entries.saturating_add(1000).to_string();
        let args = [
            "-q",
            "-F",
            "-b",
            "4096",
            "-I",
            "256",
            "-O",
            "ea_inode,large_dir,^has_journal",
            "-E",
            "lazy_itable_init=1",
            "-m",
            "0",
            "-N",
            &inodes,
        ];
        let mut args: Vec<OsString> = args.map(OsString::from).to_vec();
        args.push(image.path.clone().into_os_string());
        match around.commands.run("mkfs.ext4", &args) {
            Ok(output) if output.status.success() => Ok(image),
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr).trim().escape_debug().to_string();
                Err(format!("{} failed: {said}", shown_command("mkfs.ext4", &args)))
            }
            Err(error) => Err(format!("mkfs.ext4 cannot be run: {error}")),
        }
    }

    /// The root directory of its filesystem. Unmounted when the descriptor is closed.
    fn mount(&self) -> Result<OwnedFd, String> {
        let device = LoopDevice::attach(&self.file, ByteRange::new(0, self.size), true)
            .map_err(|error| format!("no loop device can be made: {error}"))?;
        mount_writable(device.path()).map_err(|error| format!("its filesystem cannot be mounted: {error}"))
    }

    fn fsck(&self, around: Surroundings<'_>, findings: &mut Findings) {
        let args = [OsString::from("-fn"), self.path.clone().into_os_string()];
        match around.commands.run("e2fsck", &args) {
            Ok(output) if output.status.success() => {}
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stdout).trim().escape_debug().to_string();
                findings.not_checked(format!("the filesystem of the restore test has errors: {said}"));
            }
            Err(error) => findings.not_checked(format!("e2fsck cannot be run: {error}")),
        }
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        // A file that stays has a name that says what it was.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn mount_writable(device: &Path) -> rustix::io::Result<OwnedFd> {
    let context = fsopen("ext4", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(context.as_fd(), "source", device)?;
    fsconfig_create(context.as_fd())?;
    let attributes =
        MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let mount = fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    rustix::fs::openat(&mount, c".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// What the index says of an entry: enough to find it and to tell whether it is the same.
struct Known {
    path: u128,
    head: [u8; 16],
}

/// Holds the restored tree against the index; the attributes only when all of them could be set.
fn compare(files: &BackupFiles, root: &OwnedFd, attributes_whole: bool, findings: &mut Findings) -> Result<(), String> {
    let index = open_regular(&files.index()).map_err(|error| error.to_string())?;
    let mut reader = IndexReader::new(index).map_err(|error| error.to_string())?;
    let mut known = Vec::new();
    while let Some(line) = reader.next_line().map_err(|error| error.to_string())? {
        if let Line::Entry(line) = line {
            known.push(Known { path: hash(&line.path), head: comparable(&line) });
        }
    }
    known.sort_unstable_by_key(|known| known.path);
    let root = rustix::io::fcntl_dupfd_cloexec(root, 0).map_err(|error| error.to_string())?;
    let mut walk = TreeWalk::new(root, Excludes::nothing(), None);
    let mut found_entries = 0_usize;
    while let Some(found) = walk.next_found() {
        let entry = match found {
            Found::Entry(entry) => entry,
            Found::Problem(problem) => {
                findings.about(BackupFile::Archive, format!("restored for a test, {problem}"));
                continue;
            }
        };
        let path = if entry.path.is_empty() { b".".to_vec() } else { [b"./", entry.path.as_slice()].concat() };
        let key = hash(&path);
        let Ok(at) = known.binary_search_by_key(&key, |known| known.path) else {
            // The filesystem's own.
            if path != b"./lost+found" {
                differs(findings, &path, "is there, and the index does not have it");
            }
            continue;
        };
        found_entries += 1;
        let head = known[at].head;
        let has_one_name = matches!(entry.kind, EntryKind::Directory) || entry.metadata.nlink <= 1;
        if attributes_whole && head != [0; 16] && has_one_name && head_of(&path, &entry) != head {
            differs(findings, &path, "has other attributes than in the archive");
        }
    }
    if found_entries < known.len() {
        let missing = known.len() - found_entries;
        findings.about(BackupFile::Archive, format!("restored for a test, {missing} of its entries are not there"));
    }
    Ok(())
}

fn differs(findings: &mut Findings, path: &[u8], what: &str) {
    let what = format!("restored for a test, it {what}");
    let path = Some(escape_path(path));
    findings.add(Finding { file: BackupFile::Archive, member: None, offset: None, path, what });
}

fn hash(path: &[u8]) -> u128 {
    let digest: [u8; 32] = Sha256::digest(path).into();
    u128::from_be_bytes(*digest.first_chunk().unwrap_or(&[0; 16]))
}

/// The digest of an entry's headers; zeros where it depends on more than the entry.
fn comparable(line: &EntryLine) -> [u8; 16] {
    match line.kind {
        IndexedKind::SparseFile | IndexedKind::RawImage | IndexedKind::HardLink => [0; 16],
        _ => line.head,
    }
}

fn head_of(path: &[u8], entry: &Entry) -> [u8; 16] {
    let entry_type = match &entry.kind {
        EntryKind::File(_) => EntryType::File,
        EntryKind::Directory => EntryType::Directory,
        EntryKind::Symlink(target) => EntryType::Symlink(target),
        EntryKind::CharDevice(number) => EntryType::CharDevice(*number),
        EntryKind::BlockDevice(number) => EntryType::BlockDevice(*number),
        EntryKind::Fifo | EntryKind::Socket => EntryType::Fifo,
    };
    let digest: [u8; 32] = Sha256::digest(pax::head(path, entry_type, &entry.metadata, &entry.xattrs).bytes).into();
    *digest.first_chunk().unwrap_or(&[0; 16])
}
