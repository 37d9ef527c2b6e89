//! The mark of a metadata snapshot that this host's volbak reserves: a file for each pool, locked while one is reserved.
//!
//! A file that is not empty and not locked was left by an interrupted run. An LVM tag would serve as well, but each change
//! of a tag rewrites the group's metadata, and leaves a further file in /etc/lvm/archive.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::error::ThinError;
use crate::outside::Cancel;
use crate::outside::file_lock::FileLock;

/// How long another backup's reservation is waited for: that of a large pool's mapping takes a minute.
const PATIENCE: Duration = Duration::from_secs(600);
const PAUSE: Duration = Duration::from_millis(50);
const RESERVING: &str = "reserving";
const RESERVED: &str = "reserved ";
const MAX_BYTES: u64 = 64;

/// What a mark says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Marked {
    /// Nothing is reserved.
    Nothing,
    /// A reservation was begun: none was held then.
    Begun,
    /// It is in this block of the pool's metadata.
    At(u64),
    /// None of these.
    Unknown,
}

/// The locked mark of a pool.
#[derive(Debug)]
pub(super) struct Mark {
    path: PathBuf,
    file: File,
    _lock: FileLock,
}

impl Mark {
    /// Locks a pool's mark, and waits for other backups of this host that have it.
    pub(super) fn lock(directory: &Path, pool_uuid: &str, cancel: &Cancel) -> Result<Self, ThinError> {
        let path = directory.join(pool_uuid);
        let failed = |source| ThinError::Mark { path: path.clone(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
        let began = Instant::now();
        loop {
            if let Some(mark) = Self::try_lock(&path, true)? {
                return Ok(mark);
            }
            if cancel.is_cancelled() {
                return Err(ThinError::Cancelled);
            }
            if began.elapsed() >= PATIENCE {
                return Err(ThinError::Waited(PATIENCE.as_secs()));
            }
            thread::sleep(PAUSE);
        }
    }

    /// Locks the mark in this file. `None` if it is locked.
    pub(super) fn try_lock(path: &Path, create: bool) -> Result<Option<Self>, ThinError> {
        let failed = |source| ThinError::Mark { path: path.to_owned(), source };
        let open = OpenOptions::new().read(true).write(true).create(create).mode(0o600).open(path);
        let file = open.map_err(failed)?;
        let lock = FileLock::try_take(file.try_clone().map_err(failed)?).map_err(|errno| failed(errno.into()))?;
        Ok(lock.map(|lock| Self { path: path.to_owned(), file, _lock: lock }))
    }

    pub(super) fn read(&mut self) -> Result<Marked, ThinError> {
        let mut text = String::new();
        let read = self.file.seek(SeekFrom::Start(0));
        let read = read.and_then(|_| (&mut self.file).take(MAX_BYTES).read_to_string(&mut text));
        match read {
            // Not UTF-8.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return Ok(Marked::Unknown),
            Err(source) => return Err(self.failed(source)),
            Ok(_) => {}
        }
        Ok(match text.strip_suffix('\n') {
            None if text.is_empty() => Marked::Nothing,
            Some(RESERVING) => Marked::Begun,
            Some(line) => match line.strip_prefix(RESERVED).and_then(|root| root.parse().ok()) {
                Some(root) => Marked::At(root),
                None => Marked::Unknown,
            },
            None => Marked::Unknown,
        })
    }

    /// Says that a reservation begins.
    pub(super) fn begin(&mut self) -> Result<(), ThinError> {
        self.write(&format!("{RESERVING}\n"))
    }

    /// Says where the reserved one is.
    pub(super) fn set(&mut self, root: u64) -> Result<(), ThinError> {
        self.write(&format!("{RESERVED}{root}\n"))
    }

    /// Says that nothing is reserved.
    pub(super) fn clear(&mut self) -> Result<(), ThinError> {
        self.write("")
    }

    /// Replaces the text. A power failure leaves one of the two, or nothing.
    fn write(&mut self, text: &str) -> Result<(), ThinError> {
        let mut write = || {
            self.file.set_len(0)?;
            self.file.seek(SeekFrom::Start(0))?;
            self.file.write_all(text.as_bytes())?;
            self.file.sync_data()
        };
        write().map_err(|source| self.failed(source))
    }

    fn failed(&self, source: io::Error) -> ThinError {
        ThinError::Mark { path: self.path.clone(), source }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{Mark, Marked};
    use crate::outside::Cancel;
    use crate::source::thin::error::ThinError;

    #[test]
    fn a_mark_is_read_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let marks = dir.path().join("thin");
        let mut mark = Mark::lock(&marks, "pool", &Cancel::default()).unwrap();
        assert_eq!(mark.read().unwrap(), Marked::Nothing);
        mark.begin().unwrap();
        assert_eq!(mark.read().unwrap(), Marked::Begun);
        mark.set(1_000_000).unwrap();
        assert!(Mark::try_lock(&marks.join("pool"), false).unwrap().is_none());
        let cancel = Cancel::default();
        cancel.flag().store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(matches!(Mark::lock(&marks, "pool", &cancel), Err(ThinError::Cancelled)));
        drop(mark);
        let mut mark = Mark::lock(&marks, "pool", &Cancel::default()).unwrap();
        assert_eq!(mark.read().unwrap(), Marked::At(1_000_000));
        mark.clear().unwrap();
        assert_eq!(mark.read().unwrap(), Marked::Nothing);
        for odd in [&b"reserved 7"[..], b"reserved x\n", b"\xff\n", b"reserving\nreserving\n", &[b'r'; 100]] {
            fs::write(marks.join("pool"), odd).unwrap();
            assert_eq!(mark.read().unwrap(), Marked::Unknown, "{odd:?}");
        }
    }
}
