//! Files with secret keys.

use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use super::error::KeyError;

/// Reads a file with a secret key, which only its owner may be able to read.
pub(super) fn read_secret(path: &Path, max_bytes: u64) -> Result<String, KeyError> {
    const READABLE_BY_OTHERS: u32 = 0o077;
    let failed = |source| KeyError::Read { path: path.to_owned(), source };
    let mut options = std::fs::OpenOptions::new();
    // A fifo must not block.
    let nonblock = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
    let file = options.read(true).custom_flags(nonblock).open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(failed(io::Error::other("it is not a file")));
    }
    if metadata.mode() & READABLE_BY_OTHERS != 0 {
        return Err(KeyError::Readable(path.to_owned()));
    }
    let mut text = String::new();
    file.take(max_bytes).read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}
