//! The digest of a file that is read through a store.

use std::io;

use sha2::{Digest, Sha256};

use super::{BlockRead, Cancel};

/// SHA-256 of a file's first `len` bytes, or of all if it is shorter. Fails with [`io::ErrorKind::Interrupted`]
/// when cancelled.
pub(crate) fn sha256_of(file: &dyn BlockRead, len: u64, cancel: &Cancel) -> io::Result<[u8; 32]> {
    let mut hash = Sha256::new();
    let mut buf = vec![0; 256 << 10];
    let mut at = 0;
    while at < len {
        if cancel.is_cancelled() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let most = usize::try_from(len - at).map_or(buf.len(), |left| left.min(buf.len()));
        match file.read_some(at, &mut buf[..most]) {
            Ok(0) => break,
            Ok(read) => {
                hash.update(&buf[..read]);
                at += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(hash.finalize().into())
}
