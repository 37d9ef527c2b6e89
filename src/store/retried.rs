//! Files of a destination, whose calls are made again if they fail: a share that does not answer for a moment has no
//! damaged backups.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

use rustix::io::Errno;

use super::passing::is_away;
use crate::outside::{BlockRead, FileBlocks};

/// The pauses before a failed call is made again.
const PAUSES: [Duration; 3] = [Duration::from_millis(100), Duration::from_millis(400), Duration::from_secs(1)];

/// An open file of a destination.
#[derive(Debug)]
pub(super) struct RetriedFile {
    blocks: FileBlocks,
    /// A read failed each time: a damaged disk has thousands of bad blocks, and from now on a failure is final at once.
    is_damaged: AtomicBool,
}

impl RetriedFile {
    pub(super) fn new(blocks: FileBlocks) -> Self {
        Self { blocks, is_damaged: AtomicBool::new(false) }
    }

    fn read<T>(&self, call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        let pauses: &[Duration] = if self.is_damaged.load(Ordering::Relaxed) { &[] } else { &PAUSES };
        let is_passing = |error: &io::Error| Errno::from_io_error(error).is_some_and(may_pass);
        with_pauses(pauses, call, is_passing).inspect_err(|error| {
            if is_passing(error) {
                self.is_damaged.store(true, Ordering::Relaxed);
            }
        })
    }
}

impl BlockRead for RetriedFile {
    fn len_bytes(&self) -> u64 {
        self.blocks.len_bytes()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.read(|| self.blocks.read_at(offset, buf))
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<u64>> {
        self.blocks.next_data(offset)
    }

    fn next_hole(&self, offset: u64) -> io::Result<u64> {
        self.blocks.next_hole(offset)
    }

    fn will_read(&self, offset: u64, len: u64) {
        self.blocks.will_read(offset, len);
    }

    fn read_some(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.read(|| self.blocks.read_some(offset, buf))
    }

    fn file(&self) -> Option<&Arc<File>> {
        self.blocks.file()
    }
}

/// A call that opens a file or looks at it.
pub(super) fn tried_again<T>(call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    with_pauses(&PAUSES, call, |error| may_pass(*error))
}

/// Whether a share or a disk may answer otherwise in a moment.
fn may_pass(error: Errno) -> bool {
    error == Errno::IO || is_away(error)
}

/// Makes the call until it succeeds, or fails in a way that does not pass, at most once more than there are pauses.
fn with_pauses<T, E>(
    pauses: &[Duration],
    mut call: impl FnMut() -> Result<T, E>,
    is_passing: impl Fn(&E) -> bool,
) -> Result<T, E> {
    let mut pauses = pauses.iter();
    loop {
        match call() {
            Err(error) if is_passing(&error) => match pauses.next() {
                Some(pause) => sleep(*pause),
                None => return Err(error),
            },
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustix::io::Errno;

    use super::{may_pass, with_pauses};

    #[test]
    fn a_failure_that_passes_is_none() {
        let attempts = |failures: usize, error: Errno| {
            let mut made = 0;
            let call = || {
                made += 1;
                if made <= failures { Err(error) } else { Ok(()) }
            };
            let result = with_pauses(&[Duration::ZERO; 2], call, |error| may_pass(*error));
            (result, made)
        };
        assert_eq!(attempts(0, Errno::IO), (Ok(()), 1));
        assert_eq!(attempts(2, Errno::IO), (Ok(()), 3));
        assert_eq!(attempts(3, Errno::IO), (Err(Errno::IO), 3));
        assert_eq!(attempts(1, Errno::NOENT), (Err(Errno::NOENT), 1), "a missing file stays missing");
    }
}
