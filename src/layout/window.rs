//! A region as the probes read it: bounded, and free of errors.

use std::cell::RefCell;
use std::rc::Rc;

use crate::layout::lvm2::{Texts, compose};
use crate::outside::BlockRead;
use crate::units::{ByteRange, Extent};

/// How much of a region's start is read at once: past btrfs's superblock, the last of those that are near the start.
const HEAD_BYTES: usize = 72 << 10;

/// A region as probes see it: reads outside it give nothing, and read errors are remembered, so that a probe is free
/// of both.
pub struct Window<'a> {
    blocks: &'a dyn BlockRead,
    /// Where the region is on the source; `None` when it is the source.
    extents: Option<&'a [Extent]>,
    texts: Rc<Texts>,
    head: Vec<u8>,
    read_error: RefCell<Option<String>>,
}

impl<'a> Window<'a> {
    /// Looks at `blocks`, and reads its first bytes.
    pub fn new(blocks: &'a dyn BlockRead) -> Self {
        Self::within(blocks, None, &Rc::default())
    }

    /// As [`Window::new`], for a region of these extents, with the texts that the same detection has read so far.
    pub(in crate::layout) fn within(
        blocks: &'a dyn BlockRead,
        extents: Option<&'a [Extent]>,
        texts: &Rc<Texts>,
    ) -> Self {
        // The length is at most HEAD_BYTES, so it fits.
        let mut head = vec![0; usize::try_from(blocks.len_bytes()).unwrap_or(HEAD_BYTES).min(HEAD_BYTES)];
        if blocks.read_at(0, &mut head).is_err() {
            // Each probe then reads for itself what it wants, and remembers which bytes could not be read.
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

    /// The bytes from `at` on, or `None` when they are not all in the region or cannot be read.
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

    /// Where a range of the region is on the source; `None` when the region ends before it does.
    pub(in crate::layout) fn on_source(&self, range: ByteRange) -> Option<Vec<Extent>> {
        if let Some(extents) = self.extents {
            return compose(extents, range);
        }
        range.end().filter(|end| *end <= self.len())?;
        Some(vec![Extent { source_offset: range.start, length: range.len }])
    }

    /// The texts of LVM2 metadata that were read so far.
    pub(in crate::layout) fn texts(&self) -> &Texts {
        &self.texts
    }

    /// The first read error that a probe met.
    pub fn read_error(&self) -> Option<String> {
        self.read_error.borrow().clone()
    }
}
