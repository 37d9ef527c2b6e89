//! Formats and parses numbers for headers and index lines. There are several per entry, and with the standard
//! library their formatting would take most of the time of a line.

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Appends a decimal number.
pub(crate) fn push_decimal(out: &mut Vec<u8>, number: u64) {
    push_padded(out, number, 1);
}

/// Appends a decimal number, padded with zeros to `width` digits (at most 20).
pub(crate) fn push_padded(out: &mut Vec<u8>, number: u64, width: usize) {
    // The largest u64 has 20 digits.
    let mut digits = [b'0'; 20];
    let mut at = digits.len();
    let mut left = number;
    while left > 0 {
        at -= 1;
        digits[at] = b'0' + (left % 10) as u8;
        left /= 10;
    }
    let padded_at = digits.len().saturating_sub(width);
    out.extend_from_slice(&digits[at.min(padded_at)..]);
}

/// Appends a decimal number, with a sign if negative.
pub(crate) fn push_signed(out: &mut Vec<u8>, number: i64) {
    if number < 0 {
        out.push(b'-');
    }
    push_decimal(out, number.unsigned_abs());
}

/// Appends lower-case hex digits, two per byte.
pub(crate) fn push_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend(bytes.iter().flat_map(|byte| [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]));
}

/// Parses a decimal number in canonical form: accepting "+1" or "01" would hide a changed byte.
pub(crate) fn parse_decimal(text: &[u8]) -> Option<u64> {
    match text {
        [] | [b'0', _, ..] => None,
        digits => parse_padded(digits),
    }
}

/// Parses a decimal number that may have leading zeros: digits only, at least one.
pub(crate) fn parse_padded(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, byte| {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 { None } else { number.checked_mul(10)?.checked_add(u64::from(digit)) }
    })
}

/// Parses exactly `N` bytes of lower-case hex digits.
pub(crate) fn parse_hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    if text.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    let mut wrong = 0;
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        let (high, low) = (HEX_VALUES[usize::from(pair[0])], HEX_VALUES[usize::from(pair[1])]);
        wrong |= high | low;
        *byte = high << 4 | low & 15;
    }
    (wrong & NO_DIGIT == 0).then_some(bytes)
}

/// Whether it is exactly `N` lower-case hex digits.
pub(crate) fn are_hex_digits<const N: usize>(text: &[u8]) -> bool {
    // Testing all bytes without an early exit vectorises.
    let is_digit = |byte: &u8| byte.wrapping_sub(b'0') < 10 || byte.wrapping_sub(b'a') < 6;
    <&[u8; N]>::try_from(text).is_ok_and(|digits| digits.iter().fold(true, |all, byte| all & is_digit(byte)))
}

/// Marks non-digits in [`HEX_VALUES`].
const NO_DIGIT: u8 = 0x80;

/// The value of each byte as a hex digit.
const HEX_VALUES: [u8; 256] = {
    let mut values = [NO_DIGIT; 256];
    let mut value = 0;
    while value < 16 {
        values[HEX[value as usize] as usize] = value;
        value += 1;
    }
    values
};

#[cfg(test)]
mod tests {
    use super::{parse_decimal, parse_hex, parse_padded, push_decimal, push_hex, push_padded, push_signed};

    fn text(push: impl Fn(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        push(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_are_written_as_the_standard_library_does_and_read_back() {
        for number in [0, 1, 9, 10, 99, 100, 12_345, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
            assert_eq!(text(|out| push_decimal(out, number)), number.to_string());
            assert_eq!(text(|out| push_padded(out, number, 9)), format!("{number:09}"));
            assert_eq!(text(|out| push_padded(out, number, 20)), format!("{number:020}"));
            assert_eq!(parse_decimal(number.to_string().as_bytes()), Some(number));
            assert_eq!(parse_padded(format!("{number:030}").as_bytes()), Some(number));
        }
        for number in [i64::MIN, -1, 0, 1, i64::MAX] {
            assert_eq!(text(|out| push_signed(out, number)), number.to_string());
        }
    }

    #[test]
    fn a_number_has_one_form() {
        for wrong in
            ["", "01", "00", "+1", "-1", " 1", "1 ", "1a", "/", ":", "18446744073709551616", "99999999999999999999"]
        {
            assert_eq!(parse_decimal(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn hex_digits_come_back_and_only_lower_case_ones() {
        let bytes: Vec<u8> = (0..=255).collect();
        let digits = text(|out| push_hex(out, &bytes));
        assert_eq!(digits, crate::shown::hex(&bytes));
        assert_eq!(parse_hex::<256>(digits.as_bytes()).as_ref().map(<[u8; 256]>::as_slice), Some(bytes.as_slice()));
        for byte in 0..=255_u8 {
            let is_digit = byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
            assert_eq!(parse_hex::<1>(&[b'0', byte]).is_some(), is_digit);
            assert_eq!(parse_hex::<1>(&[byte, b'0']).is_some(), is_digit);
        }
        assert!(parse_hex::<1>(b"000").is_none() && parse_hex::<1>(b"0").is_none());
    }
}
