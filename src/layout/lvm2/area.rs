//! Metadata areas (`struct mda_header`, `struct raw_locn`): a ring buffer of text, whose header locates the current text.

use std::sync::Arc;

use super::crc;
use super::damage::{AreaDamage, TextError};
use super::group::VolumeGroup;
use super::physical_volume::Metadata;
use crate::field::{le32, le64};
use crate::layout::window::Window;
use crate::units::ByteRange;

/// The header's length; the ring buffer starts after it.
const MDA_HEADER_SIZE: usize = 512;
const FMTT_MAGIC: &[u8] = b"\x20LVM2\x20x[5A%r0N*>";
const FMTT_VERSION: u32 = 1;
/// `RAW_LOCN_IGNORED`: the text is not kept up to date here (`vgchange --vgmetadatacopies`).
const RAW_LOCN_IGNORED: u32 = 1;
/// The maximum length of a text.
const TEXT_BYTES_MAX: u64 = 8 << 20;

/// The newest group in any of the areas.
pub(in crate::layout) fn read(window: &Window<'_>, areas: &[ByteRange]) -> Metadata {
    let mut best = Metadata::Elsewhere;
    for area in areas {
        let candidate = match read_one(window, *area) {
            Ok(Text::Group(group, text)) => Metadata::Group(group, text),
            Ok(Text::None) => Metadata::NoGroup,
            Ok(Text::Ignored) => Metadata::Elsewhere,
            Err(why) => Metadata::Damaged(AreaDamage { at_byte: area.start, why }),
        };
        if rank(&candidate) > rank(&best) {
            best = candidate;
        }
    }
    best
}

/// Ranks a group above damage, and damage above no group; among groups the highest `seqno` wins.
fn rank(metadata: &Metadata) -> (u8, u64) {
    match metadata {
        Metadata::Elsewhere => (0, 0),
        Metadata::NoGroup => (1, 0),
        Metadata::Damaged(_) => (2, 0),
        Metadata::Group(group, _) => (3, group.seqno),
    }
}

/// The result of reading one area.
enum Text {
    Group(Arc<VolumeGroup>, Vec<ByteRange>),
    Ignored,
    None,
}

fn read_one(window: &Window<'_>, area: ByteRange) -> Result<Text, TextError> {
    let header = window.read(area.start, MDA_HEADER_SIZE).ok_or(TextError::HeaderUnreadable)?;
    let Some(ranges) = text_ranges(&header, area)? else { return Ok(Text::None) };
    // raw_locn.flags
    if le32(&header, 60).is_some_and(|flags| flags & RAW_LOCN_IGNORED != 0) {
        return Ok(Text::Ignored);
    }
    // raw_locn.checksum
    let checksum = le32(&header, 56).unwrap_or_default();
    let mut on_source = Vec::new();
    for range in &ranges {
        on_source.extend(window.on_source(*range).ok_or(TextError::Unreadable)?);
    }
    let group = window.texts().group((on_source, checksum), || read_text(window, &ranges, checksum))?;
    Ok(Text::Group(group, ranges))
}

/// The text in these ranges, without LVM's final NUL.
fn read_text(window: &Window<'_>, ranges: &[ByteRange], checksum: u32) -> Result<Vec<u8>, TextError> {
    let mut text = Vec::new();
    for range in ranges {
        // `text_ranges` bounds both to 8 MiB.
        let len = usize::try_from(range.len).map_err(|_| TextError::TooLong)?;
        text.extend(window.read(range.start, len).ok_or(TextError::Unreadable)?);
    }
    if checksum != crc(&text) {
        return Err(TextError::Checksum);
    }
    let end = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
    text.truncate(end);
    Ok(text)
}

/// The location of the current text: two ranges if it wraps around the ring buffer. `None` if the area holds no
/// text.
fn text_ranges(header: &[u8], area: ByteRange) -> Result<Option<Vec<ByteRange>>, TextError> {
    let fits = header.get(4..20) == Some(FMTT_MAGIC) && le32(header, 20) == Some(FMTT_VERSION);
    if !fits {
        return Err(TextError::Magic);
    }
    if le32(header, 0) != Some(crc(&header[4..MDA_HEADER_SIZE])) {
        return Err(TextError::HeaderChecksum);
    }
    let field = |at: usize| le64(header, at).unwrap_or_default();
    let (start, ring_size, offset, size) = (field(24), field(32), field(40), field(48));
    if offset == 0 {
        return Ok(None);
    }
    let ring_start = MDA_HEADER_SIZE as u64;
    if start != area.start || size == 0 || size > TEXT_BYTES_MAX || offset < ring_start || offset >= ring_size {
        return Err(TextError::Numbers);
    }
    let first_len = size.min(ring_size - offset);
    let rest = size - first_len;
    if rest > 0 && ring_start + rest > offset {
        return Err(TextError::Numbers);
    }
    let at = |offset: u64| start.checked_add(offset).ok_or(TextError::Numbers);
    let mut ranges = vec![ByteRange::new(at(offset)?, first_len)];
    if rest > 0 {
        ranges.push(ByteRange::new(at(ring_start)?, rest));
    }
    Ok(Some(ranges))
}

#[cfg(test)]
mod tests {
    use super::{ByteRange, FMTT_MAGIC, Metadata, Window, crc, read};

    const AREA: ByteRange = ByteRange { start: 4096, len: 8192 };
    const TEXT: &[u8] = b"vg0 {\nid = \"i\"\nseqno = 3\nextent_size = 8192\n}\n\0";

    /// A metadata area whose text starts at `offset` in it.
    fn disk(offset: u64, change: impl Fn(&mut [u8])) -> Vec<u8> {
        let mut disk = vec![0; 16384];
        for (index, byte) in TEXT.iter().enumerate() {
            let at = offset + index as u64;
            let at = if at < 8192 { at } else { at - 8192 + 512 };
            disk[4096 + usize::try_from(at).expect("small")] = *byte;
        }
        let header = &mut disk[4096..4608];
        header[4..20].copy_from_slice(FMTT_MAGIC);
        header[20] = 1;
        header[24..32].copy_from_slice(&4096_u64.to_le_bytes());
        header[32..40].copy_from_slice(&8192_u64.to_le_bytes());
        header[40..48].copy_from_slice(&offset.to_le_bytes());
        header[48..56].copy_from_slice(&(TEXT.len() as u64).to_le_bytes());
        header[56..60].copy_from_slice(&crc(TEXT).to_le_bytes());
        change(header);
        let sum = crc(&header[4..]);
        header[..4].copy_from_slice(&sum.to_le_bytes());
        disk
    }

    fn metadata(disk: &Vec<u8>) -> Metadata {
        read(&Window::new(disk), &[AREA])
    }

    #[test]
    fn text_is_read_in_one_piece_or_two() {
        for (offset, pieces) in [(512, 1), (8180, 2)] {
            let Metadata::Group(group, text) = metadata(&disk(offset, |_| ())) else { panic!("at {offset}") };
            assert_eq!((group.name.as_str(), group.seqno, text.len()), ("vg0", 3, pieces));
        }
    }

    #[test]
    fn one_wrong_field_each() {
        assert_eq!(metadata(&disk(512, |header| header[40..48].fill(0))), Metadata::NoGroup);
        for (at, byte) in [(4, 0), (20, 2), (24, 1), (33, 0), (41, 0xff), (48, 0), (55, 1), (56, 0)] {
            let broken = metadata(&disk(512, |header| header[at] = byte));
            assert!(matches!(broken, Metadata::Damaged(_)), "{at}: {broken:?}");
        }
        let mut flipped = disk(512, |_| ());
        flipped[4096 + 100] = 1;
        assert!(matches!(metadata(&flipped), Metadata::Damaged(_)));
        assert_eq!(read(&Window::new(&flipped), &[]), Metadata::Elsewhere);
        assert!(matches!(read(&Window::new(&flipped), &[ByteRange::new(u64::MAX, 1)]), Metadata::Damaged(_)));
    }

    #[test]
    fn an_ignored_area_has_no_group() {
        assert_eq!(metadata(&disk(512, |header| header[60] = 1)), Metadata::Elsewhere);
    }

    #[test]
    fn a_text_that_would_overwrite_itself_is_refused() {
        let long = disk(8180, |header| header[48..56].copy_from_slice(&8000_u64.to_le_bytes()));
        assert!(matches!(metadata(&long), Metadata::Damaged(_)));
    }
}
