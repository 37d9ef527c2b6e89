//! Backups for tests of verify and restore: made by the library itself, of real directories.

use std::fs::{self, File};
use std::io::{self, Seek, Write};
use std::num::NonZero;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use chrono::DateTime;
use rustix::fs::{Mode, OFlags};
use sha2::{Digest, Sha256};
use volbak::archive::carry::Share;
use volbak::archive::carry::parent::Parent;
use volbak::archive::counts::Counts;
use volbak::archive::index::{EntryLine, Line};
use volbak::archive::kind::{ArchiveKind, Compression};
use volbak::archive::level;
use volbak::archive::members::{ArchiveFile, Outputs};
use volbak::archive::read::index_file::IndexReader;
use volbak::archive::write::{ArchiveWriter, WriteOptions};
use volbak::entry::Timestamp;
use volbak::events::{Event, Observer, Problem, Severity};
use volbak::layout::Table;
use volbak::manifest::{
    CarriedRecord, DigestsRecord, FORMAT, Manifest, OptionsRecord, ProblemCounts, SizesRecord, SourceRecord,
    ZSTD_FORMAT,
};
use volbak::outside::{Cancel, SystemClock, SystemCommands};
use volbak::reader::exclude::Excludes;
use volbak::reader::kernel::tree::TreeWalk;
use volbak::reader::{Found, FsReader};
use volbak::run::check::{CheckLevel, Verdict};
use volbak::run::restore::{Existing, RestoreError, RestoreOptions, RestoreReport, restore};
use volbak::run::verify::{Surroundings, VerifyOptions, VerifyReport, verify};
use volbak::shown::hex;
use volbak::store::Backup;

pub const STEM: &str = "vol-1_20_11_2026";

/// Keeps the problems that it is told of.
#[derive(Default)]
pub struct Told(Mutex<Vec<Problem>>);

impl Told {
    pub fn problems(&self) -> Vec<Problem> {
        self.0.lock().unwrap().clone()
    }

    pub fn errors(&self) -> Vec<Problem> {
        self.problems().into_iter().filter(|problem| problem.severity == Severity::Error).collect()
    }
}

impl Observer for Told {
    fn on_event(&self, event: &Event) {
        if let Event::Problem(problem) = event {
            self.0.lock().unwrap().push(problem.clone());
        }
    }
}

/// Fails unless a backup is that of the tree as it is now: as one is that was made with nothing to carry from, and whole.
pub fn assert_right(files: &Backup, tree: &Path, scratch: &Path) {
    let full = back_up(tree, &scratch.join("full"));
    assert!(entries(files) == entries(&full), "the index is not that of the tree");
    let report = verify_level(files, CheckLevel::Full);
    assert_eq!(report.verdict, Verdict::Good, "{:?}", report.findings);
    fs::remove_dir_all(scratch.join("full")).unwrap();
}

/// A backup of `tree` in `directory`, all four files.
pub fn back_up(tree: &Path, directory: &Path) -> Backup {
    let (files, told) = back_up_from(tree, directory, None);
    assert!(told.errors().is_empty(), "{:?}", told.errors());
    files
}

/// The same, with its members compressed in this way.
pub fn back_up_as(tree: &Path, directory: &Path, compression: Compression) -> Backup {
    let (files, told) = back_up_into(tree, directory, compression, None, |file| Box::new(file));
    assert!(told.errors().is_empty(), "{:?}", told.errors());
    files
}

/// The same, carrying forward from an earlier one whatever its times; gives what was told, too.
pub fn back_up_from(tree: &Path, directory: &Path, previous: Option<(&Backup, Share)>) -> (Backup, Told) {
    back_up_into(tree, directory, Compression::Gzip, previous, |file| Box::new(file))
}

/// The same, to a destination that shares blocks.
pub fn back_up_sharing(tree: &Path, directory: &Path, previous: (&Backup, Share)) -> (Backup, Told) {
    back_up_into(tree, directory, Compression::Gzip, Some(previous), |file| Box::new(Sharing(file)))
}

/// A file that has blocks of [`SHARED_BLOCK`] bytes in common with others, as far as its writer can tell.
struct Sharing(File);

const SHARED_BLOCK: usize = 64;

impl ArchiveFile for Sharing {
    fn block_to_share(&mut self, _: &File) -> Option<NonZero<usize>> {
        NonZero::new(SHARED_BLOCK)
    }

    fn write_shared(&mut self, bytes: &[u8], source: &Arc<File>, offset: u64) -> io::Result<()> {
        let mut found = vec![0; bytes.len()];
        source.read_exact_at(&mut found, offset)?;
        assert!(found == bytes, "what is to be shared is not what is there");
        let lies_alike = self.0.stream_position()?.abs_diff(offset).is_multiple_of(SHARED_BLOCK as u64);
        assert!(lies_alike || bytes.len() < 64 * (2 * SHARED_BLOCK), "{} bytes could have been shared", bytes.len());
        self.0.write_all(bytes)
    }
}

impl Write for Sharing {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

fn back_up_into(
    tree: &Path,
    directory: &Path,
    compression: Compression,
    previous: Option<(&Backup, Share)>,
    archive: impl FnOnce(File) -> Box<dyn ArchiveFile>,
) -> (Backup, Told) {
    fs::create_dir_all(directory).unwrap();
    let kind = ArchiveKind::Files(compression);
    let archive_name = format!("{STEM}{}", kind.suffix());
    let files = Backup::of_archive(&directory.join(&archive_name)).unwrap();
    let outputs = Outputs {
        archive: archive(File::create(files.archive_path()).unwrap()),
        index: Box::new(File::create(files.index_path()).unwrap()),
        segments: None,
    };
    let told = Told::default();
    let mut options = WriteOptions::new(level::CompressionLevel::Fixed(1), 2);
    options.compression = compression;
    let mut writer = ArchiveWriter::new(outputs, &options, &told).unwrap();
    if let Some((previous, share)) = previous {
        let manifest = manifest(previous);
        let (archive, index) = (previous.open_archive().unwrap(), previous.open_index().unwrap());
        let parent = Parent::open(&*archive, index, &manifest.as_parent()).unwrap();
        writer.carry_from(parent, share, 0);
    }
    writer.start_filesystem(None, Some(Timestamp { sec: i64::MAX, nsec: 0 })).unwrap();
    let root = rustix::fs::open(tree, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
    let mut walk = TreeWalk::new(root, Excludes::nothing(), None);
    while let Some(found) = walk.next_found() {
        match found {
            Found::Entry(entry) => writer.append(entry).unwrap(),
            Found::Problem(problem) | Found::Sealed(problem) => {
                assert!(problem.severity < Severity::Error, "{problem}");
            }
        }
    }
    let written = writer.finish().unwrap();
    let sha1 = hex(&written.members.archive_sha1.unwrap());
    let checksum = format!("{sha1}  {archive_name}\n");
    fs::write(files.checksum_path(), &checksum).unwrap();
    let manifest = Manifest {
        format: if compression == Compression::Zstd { ZSTD_FORMAT } else { FORMAT },
        compression,
        counts: written.counts,
        carried: written.carried.map(|counts| CarriedRecord { counts, ..CarriedRecord::default() }),
        sizes: SizesRecord::from(&written.members),
        digests: DigestsRecord {
            archive_sha1: sha1,
            index_sha256: hex(&written.members.index_sha256),
            checksum_sha256: hex(&Sha256::digest(&checksum)),
        },
        ..blank_manifest(STEM)
    };
    fs::write(files.manifest_path(), manifest.to_bytes().unwrap()).unwrap();
    (files, told)
}

/// A manifest of `vol-1` at the beginning of 1970 that says nothing of what is in the backup.
pub fn blank_manifest(stem: &str) -> Manifest {
    let at = DateTime::UNIX_EPOCH;
    let manifest = serde_json::json!({
        "format": FORMAT, "volbak_version": "test", "name": "vol-1", "stem": stem, "host": "host",
        "started_at": at, "frozen_at": at, "finished_at": at, "local_date": "2026-11-20",
        "source": SourceRecord::default(), "snapshot": null, "regions": [], "problems": [],
        "layout": {
            "source": { "path": "vg/vol-1", "size_bytes": 0, "sector_size": 512 },
            "table": Table::default(), "regions": [], "outside": [], "problems": []
        },
        "options": OptionsRecord::default(), "counts": Counts::default(), "sizes": SizesRecord::default(),
        "problem_counts": ProblemCounts::default(), "digests": DigestsRecord::default(), "self_sha256": ""
    });
    serde_json::from_value(manifest).unwrap()
}

/// A backup's manifest.
pub fn manifest(files: &Backup) -> Manifest {
    Manifest::from_bytes(&fs::read(files.manifest_path()).unwrap()).unwrap()
}

/// The lines of an index.
pub fn lines(files: &Backup) -> Vec<Line> {
    let mut reader = IndexReader::new(files.open_index().unwrap()).unwrap();
    std::iter::from_fn(|| reader.next_line().unwrap()).collect()
}

/// The entries of an index but for their places in the archive.
pub fn entries(files: &Backup) -> Vec<EntryLine> {
    let entry = |line| match line {
        Line::Entry(entry) => Some(EntryLine { tar_offset: 0, ..entry }),
        _ => None,
    };
    lines(files).into_iter().filter_map(entry).collect()
}

pub fn verify_level(files: &Backup, level: CheckLevel) -> VerifyReport {
    let options = with(VerifyOptions::default(), |options| {
        (options.level, options.second_opinion, options.threads) = (level, true, 2);
    });
    let told = Told::default();
    let around = Surroundings { observer: &told, clock: &SystemClock, commands: &SystemCommands };
    verify(files, &options, around).unwrap()
}

/// Everything as it was in the volume, devices and set-id bits included.
pub fn restore_options(to: &Path) -> RestoreOptions {
    with(RestoreOptions::into_directory(to), |options| {
        (options.devices, options.top, options.keep_set_id, options.threads) = (true, true, true, 2);
    })
}

/// Options with some fields set: they are `#[non_exhaustive]`, and tests are other crates.
pub fn with<T>(mut options: T, set: impl FnOnce(&mut T)) -> T {
    set(&mut options);
    options
}

/// Restores, and gives what was told on the way.
pub fn restore_with(files: &Backup, options: &RestoreOptions) -> (Result<RestoreReport, RestoreError>, Vec<Problem>) {
    let told = Told::default();
    let report = restore(files, options, &told);
    (report, told.problems())
}

pub fn restore_paths(files: &Backup, to: &Path, paths: &[&str]) -> RestoreReport {
    let options =
        with(restore_options(to), |options| options.paths = paths.iter().map(|path| (*path).to_owned()).collect());
    let (report, problems) = restore_with(files, &options);
    let report = report.unwrap();
    assert!(report.is_complete(), "{problems:?}");
    report
}

/// Copies the files of a backup to another directory.
pub fn copy(files: &Backup, to: &Path) -> Backup {
    fs::create_dir_all(to).unwrap();
    let copied = Backup::of_archive(&to.join(files.archive_path().file_name().unwrap())).unwrap();
    for (from, to) in four(files).iter().zip(four(&copied)) {
        fs::copy(from, to).unwrap();
    }
    copied
}

pub fn four(files: &Backup) -> [PathBuf; 4] {
    [files.archive_path(), files.checksum_path(), files.index_path(), files.manifest_path()]
}

/// The same numbers for the same seed.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from((self.next() >> 16) % u64::try_from(end.max(1)).unwrap()).unwrap()
    }
}
