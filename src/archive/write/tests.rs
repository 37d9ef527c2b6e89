use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::{ArchiveWriter, WriteOptions, WrittenArchive};
use crate::archive::level::CompressionLevel;
use crate::archive::members::Outputs;
use crate::archive::read::entries::{EntryReader, Item};
use crate::archive::read::stream::{MemberStream, ReadOptions, ReadPlan};
use crate::entry::{Entry, EntryKind, FileContent, Metadata};
use crate::events::{Event, Observer, Problem, Severity};
use crate::units::ByteRange;

#[derive(Default)]
struct Told(Mutex<Vec<Problem>>);

impl Observer for Told {
    fn on_event(&self, event: &Event) {
        if let Event::Problem(problem) = event {
            self.0.lock().unwrap().push(problem.clone());
        }
    }
}

/// Writes `entries` to `directory`; returns the problems and the index.
fn write(directory: &Path, entries: Vec<Entry>) -> (WrittenArchive, Vec<Problem>, String) {
    let (archive, index) = (directory.join("a.tar.gz"), directory.join("a.index"));
    let outputs = Outputs {
        archive: Box::new(File::create(archive).unwrap()),
        index: Box::new(File::create(&index).unwrap()),
        segments: None,
    };
    let told = Told::default();
    let options = WriteOptions::new(CompressionLevel::Fixed(1), 2);
    let mut writer = ArchiveWriter::new(outputs, &options, &told).unwrap();
    for entry in entries {
        writer.append(entry).unwrap();
    }
    let written = writer.finish().unwrap();
    (written, told.0.into_inner().unwrap(), fs::read_to_string(index).unwrap())
}

fn file(path: &str, content: impl FileContent + 'static, size: u64, ino: u64, nlink: u32) -> Entry {
    Entry {
        path: path.into(),
        kind: EntryKind::File(Box::new(content)),
        metadata: Metadata { mode: 0o644, size, ino, nlink, ..Metadata::default() },
        xattrs: Vec::new(),
    }
}

fn untar(directory: &Path) {
    let status = Command::new("tar").current_dir(directory).args(["-xzf", "a.tar.gz"]).status().unwrap();
    assert!(status.success());
}

const STEP_BYTES: u64 = 64 * 1024;
const RUN_BYTES: u64 = 512;

/// Runs of 512 bytes at every 64 KiB, each starting with its number. From query `changes_at` the last runs are
/// missing.
struct Comb {
    runs: u64,
    asked: AtomicU64,
    changes_at: u64,
}

impl Comb {
    fn new(runs: u64, changes_at: u64) -> Self {
        Self { runs, asked: AtomicU64::new(0), changes_at }
    }
}

impl FileContent for Comb {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let run = offset / STEP_BYTES;
        if run >= self.runs {
            return Ok(0);
        }
        let at = usize::try_from(offset % STEP_BYTES).unwrap();
        let mut bytes = [0; 512];
        bytes[..8].copy_from_slice(&run.to_be_bytes());
        let Some(bytes) = bytes.get(at..) else {
            buf[0] = 0;
            return Ok(1);
        };
        let len = buf.len().min(bytes.len());
        buf[..len].copy_from_slice(&bytes[..len]);
        Ok(len)
    }

    fn next_data(&self, from: u64) -> io::Result<Option<ByteRange>> {
        let gone = if self.asked.fetch_add(1, Ordering::Relaxed) >= self.changes_at { 10 } else { 0 };
        let run = from.div_ceil(STEP_BYTES);
        Ok((run < self.runs - gone).then(|| ByteRange::new(run * STEP_BYTES, RUN_BYTES)))
    }
}

#[test]
fn a_file_of_many_runs_costs_its_data_and_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let runs = 70_000;
    let size = runs * STEP_BYTES;
    let (written, told, _) = write(dir.path(), vec![file("comb", Comb::new(runs, u64::MAX), size, 1, 1)]);
    assert!(told.is_empty(), "{told:?}");
    assert_eq!((written.counts.sparse_files, written.counts.data_bytes), (1, runs * RUN_BYTES));
    assert!(written.members.totals.tar_bytes < runs * (RUN_BYTES + 40) + 4096);

    untar(dir.path());
    let comb = File::open(dir.path().join("comb")).unwrap();
    assert_eq!(comb.metadata().unwrap().len(), size);
    assert!(comb.metadata().unwrap().blocks() <= runs * 8 + 64);
    for run in 0..runs {
        let mut bytes = [0; 16];
        comb.read_exact_at(&mut bytes, run * STEP_BYTES).unwrap();
        assert_eq!((bytes[..8].try_into().unwrap(), bytes[8..].try_into().unwrap()), (run.to_be_bytes(), [0; 8]));
    }

    // More runs than fit in memory when it is read back.
    let archive = Arc::new(fs::read(dir.path().join("a.tar.gz")).unwrap());
    let options = ReadOptions { threads: 2, hash_archive: false, stop: Vec::new() };
    let mut reader = EntryReader::new(MemberStream::new(archive, ReadPlan::Scan, &options).unwrap(), false, false);
    let Some(Item::Entry(head, _)) = reader.next_item() else { panic!("not read") };
    let mut data = Vec::new();
    while let Some(piece) = reader.next_data().unwrap() {
        data.extend_from_slice(piece);
    }
    let map = head.runs.unwrap();
    let mut read = map.runs();
    for (number, data) in (0_u64..).zip(data.as_chunks::<512>().0) {
        assert_eq!(read.next_run().unwrap(), Some(ByteRange::new(number * STEP_BYTES, RUN_BYTES)));
        assert_eq!(data[..8], number.to_be_bytes());
    }
    assert_eq!((map.count(), read.next_run().unwrap()), (runs, None));
}

#[test]
fn holes_that_change_damage_no_other_file() {
    let runs = 70_000;
    // While the map is written, and while the data is read.
    for changes_at in [runs + 20, 2 * runs + 20] {
        let dir = tempfile::tempdir().unwrap();
        let comb = file("comb", Comb::new(runs, changes_at), runs * STEP_BYTES, 1, 1);
        let after = file("after", Comb::new(1, u64::MAX), RUN_BYTES, 2, 1);
        let (_, told, index) = write(dir.path(), vec![comb, after]);
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(told[0].severity, Severity::Error);
        assert!(index.contains("s!\t"), "{index}");
        untar(dir.path());
        assert_eq!(fs::read(dir.path().join("after")).unwrap(), [0; 512]);
    }
}
