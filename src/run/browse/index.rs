//! The index of a backup, compared with its manifest before it is read.

use super::error::BrowseError;
use crate::archive::read::index_file::IndexReader;
use crate::outside::Cancel;
use crate::outside::digest::sha256_of;
use crate::shown::hex;
use crate::store::Backup;

/// Opens the index, after comparing it with the manifest.
pub(crate) fn open_index(files: &Backup, cancel: &Cancel) -> Result<IndexReader, BrowseError> {
    let files = &files.seen();
    files.require_files()?;
    let file = files.open_index()?;
    if let Some(manifest) = files.manifest() {
        let path = files.index_path().display().to_string();
        let len = manifest.sizes.index_bytes;
        let is_as_long = file.len_bytes() == len;
        let digest = if is_as_long { Some(sha256_of(&*file, len, cancel)) } else { None };
        let digest = digest.transpose().map_err(|source| BrowseError::Io { path, source })?;
        if digest.is_none_or(|digest| hex(&digest) != manifest.digests.index_sha256) {
            return Err(BrowseError::IndexChanged);
        }
    }
    Ok(IndexReader::new(file)?)
}
