//! A fixed-size pool of reusable buffers, allocated on first use.

use std::sync::mpsc::{Receiver, RecvError};

/// Idle buffers.
pub(in crate::archive) struct Spares<T> {
    unmade: usize,
    idle: Vec<T>,
    back: Receiver<T>,
}

impl<T> Spares<T> {
    /// A pool of `count` buffers, which are returned through `back`.
    pub(in crate::archive) fn new(count: usize, back: Receiver<T>) -> Self {
        Self { unmade: count, idle: Vec::new(), back }
    }

    /// A buffer; `None` while all are in use.
    pub(in crate::archive) fn take(&mut self, make: impl FnOnce() -> T) -> Option<T> {
        self.idle.extend(self.back.try_iter());
        // Last in, first out: fewer buffers are touched, and their content is in the CPU cache.
        self.idle.pop().or_else(|| {
            self.unmade = self.unmade.checked_sub(1)?;
            Some(make())
        })
    }

    /// Takes back one that was not used.
    pub(in crate::archive) fn put_back(&mut self, buffer: T) {
        self.idle.push(buffer);
    }

    /// Waits until one is returned. An error if none will be.
    pub(in crate::archive) fn wait(&mut self) -> Result<(), RecvError> {
        self.idle.push(self.back.recv()?);
        Ok(())
    }
}
