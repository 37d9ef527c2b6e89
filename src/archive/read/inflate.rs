//! Members are checked and inflated in parallel.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};

use libdeflater::Decompressor;

use super::job::{Job, StreamFinding};
use crate::archive::gzip::{HEADER_BYTES, MAX_MEMBER_DATA, TRAILER_BYTES};
use crate::archive::workers::Workers;
use crate::outside::memory;

const INFLATER_BYTES: usize = 64 << 10;

/// The reading thread's way to hand members on.
pub(super) struct Submit {
    pool: Workers,
    inflaters: Arc<Mutex<Vec<Decompressor>>>,
    give: Sender<(u64, Job)>,
    take: Receiver<Job>,
    next: u64,
    stop: Vec<Arc<AtomicBool>>,
}

/// Nobody wants more, or somebody wants it to stop.
pub(super) struct Over {
    pub(super) stopped: bool,
}

impl Submit {
    /// Starts `threads` threads that inflate. Members come back through `give`, with their number; jobs to fill come from `take`.
    pub(super) fn new(
        threads: usize,
        give: Sender<(u64, Job)>,
        take: Receiver<Job>,
        stop: Vec<Arc<AtomicBool>>,
    ) -> io::Result<Self> {
        // libdeflater panics when there is no memory.
        let inflater = |_| memory::made(INFLATER_BYTES, Decompressor::new);
        let inflaters = Arc::new(Mutex::new((0..threads).map(inflater).collect::<io::Result<Vec<_>>>()?));
        let pool = Workers::new(threads, "inflate", || {})?;
        Ok(Self { pool, inflaters, give, take, next: 0, stop })
    }

    /// An empty job, as soon as one is free.
    pub(super) fn job(&self) -> Result<Job, Over> {
        if self.stop.iter().any(|flag| flag.load(Ordering::Relaxed)) {
            return Err(Over { stopped: true });
        }
        self.take.recv().map_err(|_| Over { stopped: false })
    }

    /// Hands on a member to be checked and inflated.
    pub(super) fn inflate(&mut self, mut job: Job) {
        let (number, give, inflaters) = (self.next, self.give.clone(), Arc::clone(&self.inflaters));
        self.next += 1;
        self.pool.give(move || {
            let lock = || inflaters.lock().unwrap_or_else(PoisonError::into_inner);
            // As many inflaters as threads: one is always there.
            let Some(mut inflater) = lock().pop() else { return };
            check_and_inflate(&mut job, &mut inflater);
            lock().push(inflater);
            // Fails only when nobody wants it any more.
            let _ = give.send((number, job));
        });
    }

    /// Hands on a piece that needs no inflating: one that is lost, or was inflated already.
    pub(super) fn pass(&mut self, job: Job) {
        let _ = self.give.send((self.next, job));
        self.next += 1;
    }
}

/// Fills the chunk with the member's data, or says why that is lost.
fn check_and_inflate(job: &mut Job, inflater: &mut Decompressor) {
    let chunk = &mut job.chunk;
    let mut find = |what: String| {
        let (member, offset) = (Some(chunk.number), chunk.archive_offset);
        job.findings.push(StreamFinding { in_index: false, member, offset, what });
    };
    let as_indexed = job.digest.is_none_or(|digest| digest.is_of(&job.member));
    match inflate(&job.member, chunk.tar_length, &mut chunk.data, inflater) {
        Ok(()) => {
            // The bytes differ, and what they decompress to is whole all the same: in the header, or made to be so.
            if !as_indexed {
                find("its digest is not the one in the index".to_owned());
            } else if job.header_damaged {
                find("its header is damaged".to_owned());
            }
        }
        Err(what) => {
            chunk.data.clear();
            find(what.clone());
            chunk.lost = Some(what);
        }
    }
}

/// Inflates a member of ours. Exactly `data_bytes` must come out, with the right CRC.
fn inflate(member: &[u8], data_bytes: u64, data: &mut Vec<u8>, inflater: &mut Decompressor) -> Result<(), String> {
    let len = usize::try_from(data_bytes).ok().filter(|len| *len <= MAX_MEMBER_DATA);
    let (Some(len), true) = (len, member.len() > HEADER_BYTES + TRAILER_BYTES) else {
        return Err("its lengths are out of bounds".to_owned());
    };
    data.resize(len, 0);
    let (deflated, trailer) = member[HEADER_BYTES..].split_at(member.len() - HEADER_BYTES - TRAILER_BYTES);
    match inflater.deflate_decompress(deflated, data) {
        Ok(found) if found == len => {}
        Ok(found) => return Err(format!("it decompresses to {found} bytes, not {len}")),
        Err(_) => return Err("it cannot be decompressed".to_owned()),
    }
    let crc = libdeflater::crc32(data);
    if trailer[..4] != crc.to_le_bytes() {
        return Err("its CRC is wrong".to_owned());
    }
    if trailer[4..] != u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes() {
        return Err("the length at its end is wrong".to_owned());
    }
    Ok(())
}
