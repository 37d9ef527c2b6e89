//! Reads recipes, and keeps what they refer to from being freed meanwhile.

use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use super::recipe::{MOST_BYTES, Recipe};
use crate::error::with_causes;
use crate::manifest::{MAX_BYTES, Manifest};
use crate::outside::{BlockCursor, BlockRead, OpenSegment};
use crate::store::api::{Folder, RunLock, Store};
use crate::store::names::INDEX;
use crate::store::open::OpenError;

/// How often a reader looks for the end of freeing, and how long it waits each time.
const WAITS: u32 = 100;
const WAIT: Duration = Duration::from_millis(100);

/// Reads the recipe in the file `name`.
pub(super) fn read_recipe(folder: &dyn Store, name: &str) -> Result<Recipe, OpenError> {
    parse_recipe(folder.path().join(name), folder.open(name)?)
}

/// Reads the recipe in an open file.
pub(super) fn parse_recipe(path: PathBuf, file: Arc<dyn BlockRead>) -> Result<Recipe, OpenError> {
    let mut text = Vec::new();
    let read = BlockCursor::new(file).take(MOST_BYTES + 1).read_to_end(&mut text);
    let recipe =
        read.and_then(|_| Recipe::parse(&text).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error)));
    recipe.map_err(|source| OpenError::Io { path, source })
}

/// Reads the manifest in the file `name`. The error says which file, and why not.
pub(super) fn read_manifest(folder: &dyn Store, name: &str) -> Result<Manifest, String> {
    let shown = || folder.path().join(name).display().to_string();
    let file = folder.open(name).map_err(|error| with_causes(&error))?;
    let mut bytes = Vec::new();
    let read = BlockCursor::new(file).take(MAX_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|error| format!("{} cannot be read: {error}", shown()))?;
    Manifest::from_bytes(&bytes).map_err(|error| format!("{}: {}", shown(), with_causes(&error)))
}

/// Holds the segments so that nothing is freed.
pub(super) fn hold_to_read(segments: &dyn Store) -> io::Result<RunLock> {
    for _ in 0..WAITS {
        if let Some(held) = segments.hold(false) {
            return Ok(held);
        }
        sleep(WAIT);
    }
    Err(io::Error::new(io::ErrorKind::WouldBlock, "room in it is being freed by another process; try again later"))
}

/// The segments of an open archive.
pub(super) struct SegmentsOf {
    pub(super) segments: Option<Folder>,
    pub(super) is_remote: bool,
    /// Whether the cache of this host may be read in place of a store.
    pub(super) is_cached: bool,
    pub(super) path: PathBuf,
    /// Nothing of them is freed meanwhile.
    #[allow(dead_code, reason = "it is held, and not used")]
    pub(super) held: Option<RunLock>,
}

impl OpenSegment for SegmentsOf {
    fn open_segment(&self, name: &str) -> io::Result<Arc<dyn BlockRead>> {
        let missing = || OpenError::Missing(self.path.join(name));
        let opened = self.segments.as_ref().map_or_else(
            || Err(missing()),
            // Those of indexes are short, and this host has most of them.
            |segments| {
                let is_read_whole = !self.is_remote || (self.is_cached && name.ends_with(INDEX));
                if is_read_whole { segments.open(name) } else { segments.open_unread(name) }
            },
        );
        opened.map_err(io::Error::other)
    }

    fn is_remote(&self) -> bool {
        self.is_remote
    }
}
