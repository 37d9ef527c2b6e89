//! A cache of metadata texts: each text of a source is read and parsed once, however many areas and regions show
//! it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use super::damage::TextError;
use super::group::VolumeGroup;
use crate::units::Extent;

/// The maximum total length of texts in one detection. A group with a thousand volumes needs half a megabyte.
const TEXT_BYTES_MAX: u64 = 16 << 20;
/// The maximum number of parts of all groups in one detection.
const PARTS_MAX: usize = 400_000;

/// A text's extents on the source, and the checksum in its area's header.
pub(super) type TextKey = (Vec<Extent>, u32);

/// The groups read so far in one detection.
#[derive(Debug)]
pub(in crate::layout) struct Texts {
    inner: RefCell<Inner>,
}

#[derive(Debug)]
struct Inner {
    known: HashMap<TextKey, Result<Arc<VolumeGroup>, TextError>>,
    left_bytes: u64,
    left_parts: usize,
}

impl Default for Texts {
    fn default() -> Self {
        let inner = Inner { known: HashMap::new(), left_bytes: TEXT_BYTES_MAX, left_parts: PARTS_MAX };
        Self { inner: RefCell::new(inner) }
    }
}

impl Texts {
    /// The group in the text at `key`; calls `read` unless it is cached.
    pub(super) fn group(
        &self,
        key: TextKey,
        read: impl FnOnce() -> Result<Vec<u8>, TextError>,
    ) -> Result<Arc<VolumeGroup>, TextError> {
        let mut inner = self.inner.borrow_mut();
        if let Some(known) = inner.known.get(&key) {
            return known.clone();
        }
        let len = key.0.iter().fold(0_u64, |sum, extent| sum.saturating_add(extent.length));
        let left = inner.left_bytes.checked_sub(len);
        inner.left_bytes = left.ok_or(TextError::TooMuchText(TEXT_BYTES_MAX >> 20))?;
        let group = read().and_then(|text| VolumeGroup::parse(&text).map_err(TextError::NoGroup));
        let group = group.and_then(|group| {
            let left = inner.left_parts.checked_sub(group.parts());
            inner.left_parts = left.ok_or(TextError::TooManyParts(PARTS_MAX))?;
            Ok(Arc::new(group))
        });
        inner.known.insert(key, group.clone());
        group
    }
}

#[cfg(test)]
mod tests {
    use super::{Extent, TEXT_BYTES_MAX, TextError, Texts};

    const TEXT: &[u8] = b"vg0 {\nid = \"i\"\nseqno = 3\nextent_size = 8192\n}\n";

    fn at(source_offset: u64, length: u64) -> Vec<Extent> {
        vec![Extent { source_offset, length }]
    }

    #[test]
    fn a_text_is_read_once() {
        let texts = Texts::default();
        let first = texts.group((at(0, 50), 1), || Ok(TEXT.to_vec())).expect("sound");
        let again = texts.group((at(0, 50), 1), || Err(TextError::Unreadable)).expect("known");
        assert!(std::sync::Arc::ptr_eq(&first, &again));
        assert_eq!(texts.group((at(0, 50), 2), || Err(TextError::Checksum)), Err(TextError::Checksum));
    }

    #[test]
    fn the_bytes_that_are_read_are_bounded() {
        let texts = Texts::default();
        assert!(texts.group((at(0, TEXT_BYTES_MAX - 1), 1), || Ok(TEXT.to_vec())).is_ok());
        let why = texts.group((at(1, 2), 1), || Ok(TEXT.to_vec())).expect_err("too much");
        assert!(why.to_string().contains("16 MiB"), "{why}");
        assert!(texts.group((at(0, TEXT_BYTES_MAX - 1), 1), || Err(TextError::Unreadable)).is_ok());
    }
}
