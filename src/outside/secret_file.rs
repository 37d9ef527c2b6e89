//! A secret in a file: a password, a token, or an address that holds one.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::trust::changeable;

/// A longer first line is a mistake, not a secret.
const MAX_BYTES: u64 = 4096;

/// The first line of a file that others can neither read nor change. The error says why, and holds no part of the file.
pub(crate) fn first_line(path: &Path) -> Result<String, String> {
    let metadata = std::fs::metadata(path).map_err(|error| error.to_string())?;
    if !metadata.is_file() {
        return Err("it is not a regular file".to_owned());
    }
    if metadata.mode() & 0o007 != 0 {
        return Err("every user of this host can access it; run chmod o= on it".to_owned());
    }
    if let Some(found) = changeable(path).map_err(|error| error.to_string())? {
        return Err(found.to_string());
    }
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_BYTES).read_to_end(&mut bytes))
        .map_err(|error| error.to_string())?;
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let text = str::from_utf8(line).map_err(|_| "it is not UTF-8".to_owned())?;
    if text.is_empty() { Err("its first line is empty".to_owned()) } else { Ok(text.to_owned()) }
}
