//! Validates names in a manifest before they become arguments: UUIDs, labels, features.

use super::error::MakeError;
use crate::field::is_uuid;
use crate::layout::{Holds, MadeWith};
use crate::shown;

/// The UUID in the form that all tools accept.
pub(super) fn uuid(holds: &Holds) -> Result<String, MakeError> {
    let Some(text) = holds.uuid.as_deref() else {
        return Err(MakeError::NoUuid);
    };
    if is_uuid(text) { Ok(text.to_owned()) } else { Err(MakeError::Uuid(text.to_owned())) }
}

/// Whether the manifest's label is possible for this kind of filesystem.
pub(crate) fn can_have_label(holds: &Holds) -> bool {
    let fs = holds.fs.as_deref().unwrap_or_default();
    holds.label.as_deref().is_none_or(|label| unescaped(label).is_some_and(|bytes| fits_label(&bytes, fs)))
}

pub(super) fn label_of(holds: &Holds, fs: &str, differs: &mut Vec<String>) -> Option<Vec<u8>> {
    let text = holds.label.as_deref()?;
    let bytes = unescaped(text).filter(|bytes| fits_label(bytes, fs));
    if bytes.is_none() {
        differs.push(format!("its label {} cannot be given to it, and it gets none", shown::text(text)));
    }
    bytes
}

fn fits_label(bytes: &[u8], fs: &str) -> bool {
    let longest = match fs {
        "ext2" | "ext3" | "ext4" => 16,
        "xfs" => 12,
        "vfat" => 11,
        "swap" => 15,
        _ => 255,
    };
    let allowed = |byte: &u8| match fs {
        "vfat" => (byte.is_ascii_graphic() || *byte == b' ') && !b"*?.,;:/\\|+=<>[]\"".contains(byte),
        "btrfs" => !byte.is_ascii_control() && *byte != b'/' && *byte != b'\\',
        _ => !byte.is_ascii_control(),
    };
    bytes.len() <= longest && bytes.iter().all(allowed)
}

/// Reverses the layout's escapes in labels: a doubled backslash, and `\xNN` for a byte that is not UTF-8.
fn unescaped(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = match (first, after) {
            (b'\\', [b'\\', after @ ..]) => {
                bytes.push(b'\\');
                after
            }
            (b'\\', [b'x', high, low, after @ ..]) => {
                let digits = [*high, *low];
                bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
                after
            }
            (b'\\', _) => return None,
            (byte, after) => {
                bytes.push(*byte);
                after
            }
        };
    }
    Some(bytes)
}

/// A feature's name must be a single word, so that a manifest cannot inject a list or an option.
pub(super) fn is_word(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 32
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
        && !name.starts_with('-')
}

pub(crate) fn has(made: &MadeWith, feature: &str) -> bool {
    made.features.iter().any(|name| name == feature)
}

#[cfg(test)]
mod tests {
    use super::unescaped;

    #[test]
    fn escapes_are_undone() {
        assert_eq!(unescaped("a\\xff\\\\"), Some(b"a\xff\\".to_vec()));
        assert_eq!(unescaped("a\\"), None);
    }
}
