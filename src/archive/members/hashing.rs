//! A writer that hashes what passes through it: an index, for its digest in the manifest.

use std::io::{self, Write};

use sha2::{Digest, Sha256};

/// Hashes and counts the bytes that the inner writer accepted.
pub(crate) struct Hashing {
    inner: Box<dyn Write + Send>,
    sha256: Sha256,
    bytes: u64,
}

impl Hashing {
    pub(crate) fn new(inner: Box<dyn Write + Send>) -> Self {
        Self { inner, sha256: Sha256::new(), bytes: 0 }
    }

    /// The digest and the number of the accepted bytes.
    pub(crate) fn finish(self) -> ([u8; 32], u64) {
        (self.sha256.finalize().into(), self.bytes)
    }
}

impl Write for Hashing {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(buf)?;
        self.sha256.update(&buf[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
