//! Opens an image backup: the volume in it, read at any offset.

use std::io;
use std::sync::Arc;

use crate::archive::image::blocks::{ImageBlocks, ImageOpenError};
use crate::events::Severity;
use crate::layout::RegionBlocks;
use crate::manifest::Manifest;
use crate::manifest::UnsealError;
use crate::outside::digest::sha256_of;
use crate::outside::{BlockRead, Cancel};
use crate::shown;
use crate::shown::hex;
use crate::store::open::OpenError;
use crate::store::{Backup, ReadError};

/// Why the volume in an image backup cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenImageError {
    /// The backup has files, and no image.
    #[error("{0} is an archive of files, and no image of a volume")]
    NotAnImage(String),
    /// The manifest cannot be read.
    #[error("the manifest cannot be used; `gunzip -c` reads the archive without it")]
    Manifest(#[source] ReadError),
    /// It is encrypted.
    #[error(transparent)]
    Unseal(UnsealError),
    /// One of its files cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It cannot be read.
    #[error("it cannot be read")]
    Io(#[from] io::Error),
    /// The index is not the one of the manifest.
    #[error(
        "the index was changed: its SHA-256 is not the one in the manifest; `gunzip -c` reads the archive without it"
    )]
    IndexChanged,
    /// The lengths in manifest, index and archive differ.
    #[error("{what} has {found} bytes, and the manifest says {said}")]
    Length {
        /// What differs.
        what: &'static str,
        /// Its length.
        found: u64,
        /// That in the manifest.
        said: u64,
    },
    /// The index is wrong.
    #[error(transparent)]
    Image(#[from] ImageOpenError),
    /// It has no such region.
    #[error("the backup has no region {name}; its regions are: {there}")]
    NoRegion {
        /// The name, as messages show it.
        name: String,
        /// The names that it has, separated by commas.
        there: String,
    },
}

/// An image backup whose side files agree. Each member is checked with its digests when it is read.
pub struct OpenImage {
    /// Its manifest.
    pub manifest: Box<Manifest>,
    /// The volume.
    pub blocks: Arc<dyn BlockRead>,
}

impl OpenImage {
    /// Opens it; the archive is not read.
    pub fn open(files: &Backup, cancel: &Cancel) -> Result<Self, OpenImageError> {
        if !files.kind().is_image() {
            return Err(OpenImageError::NotAnImage(files.archive_path().display().to_string()));
        }
        let manifest = Box::new(files.read_manifest().map_err(|error| match error {
            ReadError::Unseal(error) => OpenImageError::Unseal(error),
            error => OpenImageError::Manifest(error),
        })?);
        let (archive, index) = (files.open_archive()?, files.open_index()?);
        let same = |what: &'static str, found: u64, said: u64| {
            if found == said { Ok(()) } else { Err(OpenImageError::Length { what, found, said }) }
        };
        same("the archive", archive.len_bytes(), manifest.sizes.archive_bytes)?;
        same("the index", index.len_bytes(), manifest.sizes.index_bytes)?;
        if hex(&sha256_of(&*index, index.len_bytes(), cancel)?) != manifest.digests.index_sha256 {
            return Err(OpenImageError::IndexChanged);
        }
        let blocks = ImageBlocks::open(archive, index)?;
        same("the volume in the archive", blocks.len_bytes(), manifest.sizes.tar_bytes)?;
        Ok(Self { manifest, blocks: Arc::new(blocks) })
    }

    /// Why not all of the volume is in it; `None` for a whole backup.
    pub(in crate::run) fn why_partial(&self) -> Option<String> {
        if self.manifest.is_whole() {
            return None;
        }
        let errors = self.manifest.problem_counts.errors;
        let count = shown::counted(errors, "problem", "problems");
        let first = self.manifest.problems.iter().find(|problem| problem.severity == Severity::Error);
        let first = first.map_or_else(String::new, |problem| {
            format!(", the first of which is: {}: {}", shown::text(&problem.location), shown::text(&problem.what))
        });
        Some(format!("the backup is partial: {count}{first}"))
    }

    /// The bytes of one region, or of all of the volume.
    pub fn region(&self, name: Option<&str>) -> Result<Arc<dyn BlockRead>, OpenImageError> {
        let Some(name) = name else { return Ok(Arc::clone(&self.blocks)) };
        let regions = &self.manifest.layout.regions;
        let Some(region) = regions.iter().find(|region| region.name == name) else {
            let there: Vec<String> = regions.iter().take(64).map(|region| shown::text(&region.name)).collect();
            return Err(OpenImageError::NoRegion { name: shown::text(name), there: there.join(", ") });
        };
        Ok(Arc::new(RegionBlocks::shared(Arc::clone(&self.blocks), &region.extents)))
    }
}
