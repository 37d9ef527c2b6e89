//! Checks and decodes members in parallel.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};

use super::job::{Batch, DecodeJob, StreamFinding};
use crate::archive::codec::{CodecRef, Decode};
use crate::archive::workers::Workers;

/// The reading thread's handle to submit members.
pub(super) struct Submit {
    pool: Workers,
    decoders: Arc<Mutex<Vec<Box<dyn Decode>>>>,
    give: Sender<(u64, Batch)>,
    take: Receiver<Batch>,
    /// The batch that is being filled.
    open: Option<Batch>,
    next: u64,
    stop: Vec<Arc<AtomicBool>>,
}

/// The consumer is gone, or the operation was cancelled.
pub(super) struct Over {
    pub(super) stopped: bool,
}

impl Submit {
    /// Starts `threads` decoding threads. Batches of members are returned through `give` with their number; empty ones
    /// come from `take`.
    pub(super) fn new(
        codec: CodecRef,
        threads: usize,
        give: Sender<(u64, Batch)>,
        take: Receiver<Batch>,
        stop: Vec<Arc<AtomicBool>>,
    ) -> io::Result<Self> {
        let decoders = Arc::new(Mutex::new((0..threads).map(|_| codec.decoder()).collect::<io::Result<Vec<_>>>()?));
        let pool = Workers::new(threads, "inflate", || {})?;
        Ok(Self { pool, decoders, give, take, open: None, next: 0, stop })
    }

    /// An empty job; waits until one is available.
    pub(super) fn job(&mut self) -> Result<DecodeJob, Over> {
        if self.stop.iter().any(|flag| flag.load(Ordering::Relaxed)) {
            return Err(Over { stopped: true });
        }
        if self.open.is_none() {
            self.open = Some(self.take.recv().map_err(|_| Over { stopped: false })?);
        }
        Ok(self.open.as_mut().map_or_else(DecodeJob::default, Batch::spare_job))
    }

    /// Submits a member to be checked and decoded.
    pub(super) fn decode(&mut self, mut job: DecodeJob) {
        job.is_ready = false;
        self.add(job);
    }

    /// Submits a piece that needs no decoding: a lost one, or one already decoded.
    pub(super) fn pass(&mut self, mut job: DecodeJob) {
        job.is_ready = true;
        self.add(job);
    }

    fn add(&mut self, job: DecodeJob) {
        let open = self.open.get_or_insert_default();
        open.add(job);
        if open.is_full() {
            self.hand_over();
        }
    }

    /// Hands over the open batch.
    fn hand_over(&mut self) {
        let Some(mut batch) = self.open.take() else { return };
        let (number, give, decoders) = (self.next, self.give.clone(), Arc::clone(&self.decoders));
        self.next += 1;
        if batch.jobs.iter().all(|job| job.is_ready) {
            // Fails only after the consumer is gone.
            let _ = give.send((number, batch));
            return;
        }
        self.pool.give(move || {
            let lock = || decoders.lock().unwrap_or_else(PoisonError::into_inner);
            // There are as many decoders as threads, so one is available.
            let Some(mut decoder) = lock().pop() else { return };
            for job in batch.jobs.iter_mut().filter(|job| !job.is_ready) {
                check_and_decode(job, decoder.as_mut());
            }
            lock().push(decoder);
            let _ = give.send((number, batch));
        });
    }
}

impl Drop for Submit {
    fn drop(&mut self) {
        self.hand_over();
    }
}

/// Fills the piece with the member's data, or states why it is lost.
fn check_and_decode(job: &mut DecodeJob, decoder: &mut dyn Decode) {
    let chunk = &mut job.chunk;
    let mut find = |what: String| {
        let (member, offset) = (Some(chunk.number), chunk.archive_offset);
        job.findings.push(StreamFinding { in_index: false, member, offset, what });
    };
    let as_indexed = job.digest.is_none_or(|digest| digest.is_of(&job.member));
    match decoder.decode(&job.member, chunk.tar_length, &mut chunk.data) {
        Ok(()) => {
            // The bytes differ from the index, but decode without an error: the change is in the header, or was
            // crafted.
            if !as_indexed {
                find("its digest is not the one in the index".to_owned());
            } else if job.header_damaged {
                find("its header is damaged".to_owned());
            } else if job.data_digest.is_some_and(|digest| digest != *blake3::hash(&chunk.data).as_bytes()) {
                find("the digest of its data is not the one in the index".to_owned());
            }
        }
        Err(error) => {
            let what = error.to_string();
            chunk.data.clear();
            find(what.clone());
            chunk.lost = Some(what);
        }
    }
}
