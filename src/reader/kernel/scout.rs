//! Has the kernel read directories and inodes that the walk will soon ask for.
//!
//! The walk waits for each of them, one after the other, and on a disk that is not in memory that is most of its time. The
//! scouts ask the same of the kernel a little earlier, several at a time, and throw the answers away.

use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rustix::fs::{FileType, Mode, RawDir};

use super::stat::{DIR_FLAGS, statx_of};

/// So many wait for the disk at a time.
const SCOUTS: usize = 4;
/// What waits to be looked at. What finds no room is not looked at beforehand.
const WAITING: usize = 128;
/// The first names of a directory are read, in a buffer of this size: all, of nearly every directory.
const NAMES_BYTES: usize = 32 * 1024;

/// A name in a directory that the walk has not reached.
struct Ahead {
    dir: Arc<OwnedFd>,
    name: CString,
}

/// The scouts. They end when this is dropped, and hold nothing of the filesystem from then on.
pub(super) struct Scouts {
    waiting: Option<SyncSender<Ahead>>,
    threads: Vec<JoinHandle<()>>,
}

impl Scouts {
    /// Starts them. Where threads cannot be started there are fewer, or none.
    pub(super) fn new() -> Self {
        let (waiting, taken) = sync_channel(WAITING);
        let taken = Arc::new(Mutex::new(taken));
        let start = |number: usize| {
            let taken = Arc::clone(&taken);
            std::thread::Builder::new().name(format!("scout-{number}")).spawn(move || scout(&taken)).ok()
        };
        Self { waiting: Some(waiting), threads: (0..SCOUTS).filter_map(start).collect() }
    }

    /// Has the inode of `name` read, and if it is a directory, its first names.
    pub(super) fn look_at(&self, dir: &Arc<OwnedFd>, name: &[u8]) {
        if let (Some(waiting), Ok(name)) = (&self.waiting, CString::new(name)) {
            // Without room it will be read when the walk comes to it.
            let _ = waiting.try_send(Ahead { dir: Arc::clone(dir), name });
        }
    }
}

impl Drop for Scouts {
    fn drop(&mut self) {
        self.waiting = None;
        for thread in self.threads.drain(..) {
            // They have no result.
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

/// Whatever is wrong with it, the walk will find and tell.
fn look(dir: &OwnedFd, name: &CStr, names: &mut [MaybeUninit<u8>]) {
    let Ok(facts) = statx_of(dir, name) else { return };
    if FileType::from_raw_mode(facts.stx_mode.into()) != FileType::Directory {
        return;
    }
    let Ok(directory) = rustix::fs::openat(dir, name, DIR_FLAGS, Mode::empty()) else { return };
    let mut listed = RawDir::new(directory.as_fd(), names);
    while let Some(Ok(entry)) = listed.next() {
        // One inode brings its neighbours with it, which are mostly those of the same directory.
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            let _ = statx_of(&directory, entry.file_name());
            return;
        }
    }
}
