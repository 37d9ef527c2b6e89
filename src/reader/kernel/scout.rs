//! Prefetches directories and inodes that the walk will reach soon, through the kernel.
//!
//! The walk reads one inode at a time, and on a cold disk it spends most of its time waiting for them. Scouts issue
//! the same reads earlier and in parallel, and discard the results.

use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rustix::fs::{FileType, Mode, RawDir};

use super::stat::{DIR_FLAGS, statx_of};

/// The number of threads.
const SCOUTS: usize = 4;
/// The length of the queue. When it is full, names are not prefetched.
const WAITING: usize = 128;
/// The buffer for directory names. One read covers nearly every directory.
const NAMES_BYTES: usize = 32 * 1024;

/// A name that the walk has not reached.
struct Ahead {
    dir: Arc<OwnedFd>,
    name: CString,
}

/// The scout threads. They end when this is dropped, and then hold no descriptors of the filesystem.
pub(super) struct Scouts {
    waiting: Option<SyncSender<Ahead>>,
    threads: Vec<JoinHandle<()>>,
}

impl Scouts {
    /// Starts the threads. If some cannot be started, there are fewer, or none.
    pub(super) fn new() -> Self {
        let (waiting, taken) = sync_channel(WAITING);
        let taken = Arc::new(Mutex::new(taken));
        let start = |number: usize| {
            let taken = Arc::clone(&taken);
            std::thread::Builder::new().name(format!("scout-{number}")).spawn(move || scout(&taken)).ok()
        };
        Self { waiting: Some(waiting), threads: (0..SCOUTS).filter_map(start).collect() }
    }

    /// Prefetches the inode of `name` and, for a directory, its first names.
    pub(super) fn look_at(&self, dir: &Arc<OwnedFd>, name: &[u8]) {
        if let (Some(waiting), Ok(name)) = (&self.waiting, CString::new(name)) {
            // If the queue is full, the walk itself will read the name.
            let _ = waiting.try_send(Ahead { dir: Arc::clone(dir), name });
        }
    }
}

impl Drop for Scouts {
    fn drop(&mut self) {
        self.waiting = None;
        for thread in self.threads.drain(..) {
            // Scouts have no result.
            let _ = thread.join();
        }
    }
}

fn scout(taken: &Mutex<Receiver<Ahead>>) {
    let mut names = vec![MaybeUninit::uninit(); NAMES_BYTES];
    loop {
        let next = taken.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Ahead { dir, name }) = next else { return };
        look(&dir, &name, &mut names);
    }
}

/// Errors are ignored: the walk will meet and report them.
fn look(dir: &OwnedFd, name: &CStr, names: &mut [MaybeUninit<u8>]) {
    let Ok(facts) = statx_of(dir, name) else { return };
    if FileType::from_raw_mode(facts.stx_mode.into()) != FileType::Directory {
        return;
    }
    let Ok(directory) = rustix::fs::openat(dir, name, DIR_FLAGS, Mode::empty()) else { return };
    let mut listed = RawDir::new(directory.as_fd(), names);
    while let Some(Ok(entry)) = listed.next() {
        // One inode brings in its neighbours, which usually belong to the same directory.
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            let _ = statx_of(&directory, entry.file_name());
            return;
        }
    }
}
