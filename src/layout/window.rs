//! A region as seen by probes: bounded reads without errors.

use std::cell::RefCell;
use std::rc::Rc;

use crate::layout::lvm2::{Texts, compose};
use crate::outside::BlockRead;
use crate::units::{ByteRange, Extent};

/// The length of the region's start that is read at once. It covers btrfs's superblock, the last one near the
/// start.
const HEAD_BYTES: usize = 72 << 10;

/// A region as seen by probes. Reads outside it return `None`; read errors are remembered, so that probes need not
/// handle them.
pub struct Window<'a> {
    blocks: &'a dyn BlockRead,
    /// The region's extents on the source; `None` if the region is the whole source.
    extents: Option<&'a [Extent]>,
    texts: Rc<Texts>,
    head: Vec<u8>,
    read_error: RefCell<Option<String>>,
}

impl<'a> Window<'a> {
    /// Wraps `blocks`, and reads its first bytes.
    pub fn new(blocks: &'a dyn BlockRead) -> Self {
        Self::within(blocks, None, &Rc::default())
    }

    /// Like [`Window::new`], for a region of these extents, with the texts read so far by this detection.
    pub(in crate::layout) fn within(
        blocks: &'a dyn BlockRead,
        extents: Option<&'a [Extent]>,
        texts: &Rc<Texts>,
    ) -> Self {
        // The length is at most HEAD_BYTES, so it fits.
        let mut head = vec![0; usize::try_from(blocks.len_bytes()).unwrap_or(HEAD_BYTES).min(HEAD_BYTES)];
        if blocks.read_at(0, &mut head).is_err() {
            // Each probe then reads its own bytes, and unreadable ones are remembered.
            head.clear();
        }
        Self { blocks, extents, texts: Rc::clone(texts), head, read_error: RefCell::new(None) }
    }

    /// The region's length in bytes.
    pub fn len(&self) -> u64 {
        self.blocks.len_bytes()
    }

    /// Whether the region has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The `len` bytes at `at`, or `None` if they are not all in the region or cannot be read.
    pub fn read(&self, at: u64, len: usize) -> Option<Vec<u8>> {
        let end = at.checked_add(len as u64).filter(|end| *end <= self.len())?;
        if let (Ok(start), Ok(end)) = (usize::try_from(at), usize::try_from(end))
            && let Some(bytes) = self.head.get(start..end)
        {
            return Some(bytes.to_vec());
        }
        let mut bytes = vec![0; len];
        match self.blocks.read_at(at, &mut bytes) {
            Ok(()) => Some(bytes),
            Err(error) => {
                self.read_error.borrow_mut().get_or_insert_with(|| format!("cannot be read at byte {at}: {error}"));
                None
            }
        }
    }

    /// The extents on the source of a range of the region; `None` if the region ends first.
    pub(in crate::layout) fn on_source(&self, range: ByteRange) -> Option<Vec<Extent>> {
        if let Some(extents) = self.extents {
            return compose(extents, range);
        }
        range.end().filter(|end| *end <= self.len())?;
        Some(vec![Extent { source_offset: range.start, length: range.len }])
    }

    /// The LVM2 metadata texts read so far.
    pub(in crate::layout) fn texts(&self) -> &Texts {
        &self.texts
    }

    /// The first read error of a probe.
    pub fn read_error(&self) -> Option<String> {
        self.read_error.borrow().clone()
    }
}
