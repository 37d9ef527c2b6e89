//! A record of an extended header, and the forms of its value.
//!
//! Source: POSIX.1-2001, pax(1), "pax Extended Header"; libarchive's `archive_read_support_format_tar.c` for its
//! own records.

use super::header_error::HeaderError;
use crate::digits::parse_padded;
use crate::entry::Timestamp;

/// A record's key and value, and the bytes after it.
pub(super) type Record<'a> = (&'a [u8], &'a [u8], &'a [u8]);

/// Splits off the first record.
pub(super) fn split_record(bytes: &[u8]) -> Result<Record<'_>, HeaderError> {
    let space =
        bytes.iter().take(11).position(|byte| *byte == b' ').ok_or(HeaderError::Records("a record has no length"))?;
    let len: usize = parse_padded(&bytes[..space])
        .and_then(|len| usize::try_from(len).ok())
        .ok_or(HeaderError::Records("a record's length is no number"))?;
    if len > bytes.len() || len < space + 3 {
        return Err(HeaderError::Records("a record's length is out of bounds"));
    }
    let (record, rest) = bytes.split_at(len);
    let Some((b'\n', record)) = record[space + 1..].split_last() else {
        return Err(HeaderError::Records("a record does not end where it says"));
    };
    let equals = record.iter().position(|byte| *byte == b'=').ok_or(HeaderError::Records("a record has no value"))?;
    Ok((&record[..equals], &record[equals + 1..], rest))
}

/// An empty value cancels an earlier one.
pub(super) fn text(key: &[u8], value: &[u8]) -> Result<Option<Vec<u8>>, HeaderError> {
    if value.contains(&0) {
        return Err(HeaderError::ZeroByte(key.to_vec()));
    }
    Ok((!value.is_empty()).then(|| value.to_vec()))
}

pub(super) fn number(key: &[u8], value: &[u8]) -> Result<Option<u64>, HeaderError> {
    if value.is_empty() {
        return Ok(None);
    }
    match parse_padded(value) {
        Some(number) => Ok(Some(number)),
        None => Err(HeaderError::Number(key.to_vec())),
    }
}

/// `-SECONDS.FRACTION`; the sign applies to both. Digits after the ninth are dropped.
pub(super) fn time(value: &[u8]) -> Result<Option<Timestamp>, HeaderError> {
    if value.is_empty() {
        return Ok(None);
    }
    let (negative, digits) = match value.strip_prefix(b"-") {
        Some(digits) => (true, digits),
        None => (false, value),
    };
    let point = digits.iter().position(|byte| *byte == b'.');
    let seconds = parse_padded(&digits[..point.unwrap_or(digits.len())]).ok_or(HeaderError::Time)?;
    let mut nanoseconds = 0;
    let mut unit = 100_000_000;
    for byte in point.map_or(&[][..], |point| &digits[point + 1..]) {
        if !byte.is_ascii_digit() {
            return Err(HeaderError::Time);
        }
        nanoseconds += u32::from(byte - b'0') * unit;
        unit /= 10;
    }
    // The magnitude of -2^63 does not fit in an i64.
    let whole = match (negative, nanoseconds) {
        (false, _) => i64::try_from(seconds).ok(),
        (true, 0) => 0_i64.checked_sub_unsigned(seconds),
        (true, _) => (-1_i64).checked_sub_unsigned(seconds),
    };
    let nsec = if negative && nanoseconds > 0 { 1_000_000_000 - nanoseconds } else { nanoseconds };
    Ok(Some(Timestamp { sec: whole.ok_or(HeaderError::Time)?, nsec }))
}

pub(super) fn url_decoded(mut name: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(name.len());
    while let Some((first, rest)) = name.split_first() {
        name = rest;
        decoded.push(if *first == b'%' {
            let (digits, rest) = rest.split_at_checked(2)?;
            name = rest;
            u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?
        } else {
            *first
        });
    }
    Some(decoded)
}

/// With or without `=` at the end.
pub(super) fn base64_decoded(text: &[u8]) -> Option<Vec<u8>> {
    let text = text.trim_ascii_end();
    let digits = text.strip_suffix(b"==").or_else(|| text.strip_suffix(b"=")).unwrap_or(text);
    let mut decoded = Vec::with_capacity(digits.len() / 4 * 3 + 2);
    for group in digits.chunks(4) {
        let mut bits = 0_u32;
        for digit in group {
            let value = match digit {
                b'A'..=b'Z' => digit - b'A',
                b'a'..=b'z' => digit - b'a' + 26,
                b'0'..=b'9' => digit - b'0' + 52,
                b'+' | b'-' => 62,
                b'/' | b'_' => 63,
                _ => return None,
            };
            bits = bits << 6 | u32::from(value);
        }
        if group.len() == 1 {
            return None;
        }
        let bytes = (bits << (6 * (4 - group.len()))).to_be_bytes();
        decoded.extend_from_slice(&bytes[1..group.len()]);
    }
    Some(decoded)
}

/// Decodes `%25` and `%3D`, which stand for `%` and `=` in a key.
pub(super) fn decode_name(name: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((first, after)) = rest.split_first() {
        let (byte, skip) = match rest {
            [b'%', b'2', b'5', ..] => (b'%', 3),
            [b'%', b'3', b'D' | b'd', ..] => (b'=', 3),
            _ => (*first, rest.len() - after.len()),
        };
        decoded.push(byte);
        rest = &rest[skip..];
    }
    decoded
}
