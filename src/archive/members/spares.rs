//! A fixed number of buffers that come back when they are done with.

use std::sync::mpsc::{Receiver, RecvError};

/// Those that are not under way. Each is made when it is first needed.
pub(super) struct Spares<T> {
    unmade: usize,
    idle: Vec<T>,
    back: Receiver<T>,
}

impl<T> Spares<T> {
    /// So many, which come back through `back`.
    pub(super) fn new(count: usize, back: Receiver<T>) -> Self {
        Self { unmade: count, idle: Vec::new(), back }
    }

    /// One of them; `None` while all are under way.
    pub(super) fn take(&mut self, make: impl FnOnce() -> T) -> Option<T> {
        self.idle.extend(self.back.try_iter());
        // The last that came back first: fewer are ever touched, and what is in them is in the processor's cache.
        self.idle.pop().or_else(|| {
            self.unmade = self.unmade.checked_sub(1)?;
            Some(make())
        })
    }

    /// Waits until one comes back. An error when none will any more.
    pub(super) fn wait(&mut self) -> Result<(), RecvError> {
        self.idle.push(self.back.recv()?);
        Ok(())
    }
}
