//! Sizes in the spellings of LVM and common usage.

use crate::source::SnapshotSize;

/// Parses `512`, `50G`, `1.5TiB`, `20 MB`: powers of 1024 in every spelling, as in LVM, `du` and `df`. Returns
/// bytes, or `None` if the text is no size or exceeds 64 bits.
pub fn parse_bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits_end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits_end);
    let unit = unit.trim().to_ascii_uppercase();
    let (letter, rest) = match unit.chars().next() {
        None => (None, ""),
        Some(letter) => (Some(letter), &unit[letter.len_utf8()..]),
    };
    let shift = match letter {
        None | Some('B') => 0_u32,
        Some('K') => 10,
        Some('M') => 20,
        Some('G') => 30,
        Some('T') => 40,
        Some('P') => 50,
        Some(_) => return None,
    };
    if !matches!((letter, rest), (_, "") | (Some('K' | 'M' | 'G' | 'T' | 'P'), "B" | "IB")) {
        return None;
    }
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let has_dot = number.contains('.');
    if whole.is_empty() || (has_dot && (fraction.is_empty() || fraction.len() > 6 || shift == 0)) {
        return None;
    }
    let whole_bytes = whole.parse::<u64>().ok()?.checked_mul(1 << shift)?;
    if fraction.is_empty() {
        return Some(whole_bytes);
    }
    let parts = u128::from(fraction.parse::<u64>().ok()?) << shift;
    let fraction_bytes = parts / 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    whole_bytes.checked_add(u64::try_from(fraction_bytes).ok()?)
}

/// Parses `50G`, `20%` or `100%ORIGIN`.
pub(super) fn parse_snapshot_size(text: &str) -> Option<SnapshotSize> {
    if let Some((percent, of)) = text.trim().split_once('%') {
        let percent: u32 = percent.trim().parse().ok()?;
        let known = of.is_empty() || of.eq_ignore_ascii_case("ORIGIN");
        return match percent {
            100 if known => Some(SnapshotSize::FullOrigin),
            1..100 if known => Some(SnapshotSize::PercentOfOrigin(percent)),
            _ => None,
        };
    }
    let bytes = parse_bytes(text)?;
    // The unit is mandatory, since a bare number is usually meant in gigabytes.
    let has_unit = text.trim().ends_with(|c: char| c.is_ascii_alphabetic());
    (has_unit && bytes > 0).then_some(SnapshotSize::Bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::{SnapshotSize, parse_bytes, parse_snapshot_size};

    #[test]
    fn sizes_in_every_spelling() {
        for (text, bytes) in [
            ("0", 0),
            ("512", 512),
            ("512B", 512),
            ("50G", 50 << 30),
            ("50g", 50 << 30),
            ("50GB", 50 << 30),
            ("50 GiB", 50 << 30),
            ("1.5T", 3 << 39),
            ("0.5k", 512),
            ("8P", 8 << 50),
        ] {
            assert_eq!(parse_bytes(text), Some(bytes), "{text}");
        }
        for text in ["", "G", "-1G", "1.G", ".5G", "1,5G", "1.5", "50Gx", "5X", "5é", "99999999999P", "1BB", "1 2"] {
            assert_eq!(parse_bytes(text), None, "{text}");
        }
    }

    #[test]
    fn snapshot_sizes_name_their_unit() {
        assert_eq!(parse_snapshot_size("50G"), Some(SnapshotSize::Bytes(50 << 30)));
        assert_eq!(parse_snapshot_size("20%"), Some(SnapshotSize::PercentOfOrigin(20)));
        assert_eq!(parse_snapshot_size("100%ORIGIN"), Some(SnapshotSize::FullOrigin));
        for text in ["50", "0G", "0%", "101%", "20%FREE", "%", ""] {
            assert_eq!(parse_snapshot_size(text), None, "{text}");
        }
    }
}
