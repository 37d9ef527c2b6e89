//! Has what is written brought to the disk meanwhile, so that the sync at the end finds little left to do.

use std::fs::File;
use std::io::{self, Write};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crate::outside::let_go_of_pages;

/// How much is written before the disk is asked to take it.
const SYNC_STEP_BYTES: usize = 16 << 20;
/// An error that came after the write that it belongs to had returned. It must not be lost for the sync at the end: the
/// kernel tells of a failed write-back once.
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

/// Has what was written synced by a thread beside, piece by piece.
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
    /// Takes note that so much was written, and has it synced now and then.
    pub(super) fn pace(&mut self, written: usize) -> io::Result<()> {
        self.written = self.written.saturating_add(written);
        if self.written >= SYNC_STEP_BYTES {
            self.written = 0;
            if let Some(error) = self.error.take() {
                return Err(error);
            }
            // One piece may wait for the one before. Beyond that the destination is what is slow: to write on into memory
            // would push out what the host has there, and `auto` would not see it.
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
