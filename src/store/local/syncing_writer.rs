//! Syncs data to disk while it is written, so that little is left for the final sync.

use std::fs::File;
use std::io::{self, Write};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crate::outside::let_go_of_pages;

/// The number of bytes between syncs.
const SYNC_STEP_BYTES: usize = 16 << 20;
/// The error of a write that had already returned. It must be kept for the final sync, since the kernel reports a
/// failed write-back only once.
#[derive(Clone, Debug, Default)]
pub(super) struct LateError(Arc<Mutex<Option<io::Error>>>);

impl LateError {
    pub(super) fn take(&self) -> Option<io::Error> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(super) fn set(&self, error: io::Error) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }
}

/// Syncs written data from a thread, piece by piece.
pub(super) struct SyncingWriter {
    pub(super) file: File,
    written: usize,
    wake: Option<SyncSender<()>>,
    syncer: Option<JoinHandle<()>>,
    pub(super) error: LateError,
}

impl SyncingWriter {
    pub(super) fn new(file: File, error: LateError) -> io::Result<Self> {
        let (wake, woken) = sync_channel(1);
        let (syncing, errors) = (file.try_clone()?, error.clone());
        let syncer = std::thread::Builder::new().name("sync".to_owned()).spawn(move || {
            for () in woken {
                if let Err(error) = syncing.sync_data() {
                    errors.set(error);
                    return;
                }
                let_go_of_pages(&syncing, 0, None);
            }
        })?;
        Ok(Self { file, written: 0, wake: Some(wake), syncer: Some(syncer), error })
    }
}

impl SyncingWriter {
    /// Records written bytes, and triggers a sync now and then.
    pub(super) fn pace(&mut self, written: usize) -> io::Result<()> {
        self.written = self.written.saturating_add(written);
        if self.written >= SYNC_STEP_BYTES {
            self.written = 0;
            if let Some(error) = self.error.take() {
                return Err(error);
            }
            // One piece may wait for the one before. Blocking beyond that limits dirty memory, which would evict
            // the host's own pages, and lets `auto` see that the destination is slow.
            let _ = self.wake.as_ref().map(|wake| wake.send(()));
        }
        Ok(())
    }
}

impl Write for SyncingWriter {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let written = self.file.write(buf)?;
        self.pace(written)?;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for SyncingWriter {
    fn drop(&mut self) {
        self.wake = None;
        if let Some(syncer) = self.syncer.take() {
            // Its errors are in the shared slot.
            let _ = syncer.join();
        }
    }
}
