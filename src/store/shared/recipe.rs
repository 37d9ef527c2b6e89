//! The recipe of a composed archive: a text from which a shell makes the archive, too.
//!
//! ```text
//! #volbak-parts 1 114000000
//! 2026-11-28 0 113000000
//! 2026-11-29 0 300000
//! 2026-11-28 113400000 700000
//! #sha256 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
//! ```
//!
//! The first line has the archive's length, the last one the SHA-256 of all lines before it. Each other line is a segment, an
//! offset in it and a length.

use std::collections::HashMap;
use std::io::Write;

use sha2::{Digest, Sha256};

use crate::outside::PartPlace;
use crate::shown::hex;

const HEAD: &str = "#volbak-parts 1 ";
const DIGEST: &str = "#sha256 ";
/// The most parts of an archive.
pub(super) const MOST_PARTS: usize = 1 << 20;
/// The most segments that a recipe may name. Those that are written name fewer.
pub(super) const MOST_SEGMENTS: usize = 4096;
/// The most bytes of a recipe.
pub(super) const MOST_BYTES: u64 = 64 << 20;
const MOST_NAME_BYTES: usize = 64;

/// The parts of an archive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recipe {
    /// The names of the segments.
    pub segments: Vec<String>,
    /// The parts, in order; see [`PartPlace`].
    pub places: Vec<PartPlace>,
    /// The archive's length.
    pub len_bytes: u64,
}

/// Why a text is no recipe.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecipeError {
    /// It does not begin or end like one.
    #[error("it is no list of parts, or was cut off")]
    NotOne,
    /// It was changed.
    #[error("its SHA-256 is not the one in its last line")]
    Changed,
    /// A line is none.
    #[error("line {0} is not the name of a segment, an offset and a length")]
    Line(usize),
    /// It has more parts or segments than a recipe can have.
    #[error("it has more parts or segments than an archive can have")]
    TooMany,
    /// The parts have another length than the archive.
    #[error("its parts have {found} bytes together, and its first line says {said}")]
    Length {
        /// The sum of the parts.
        found: u64,
        /// What it should be.
        said: u64,
    },
}

impl Recipe {
    /// Reads a text.
    pub fn parse(text: &[u8]) -> Result<Self, RecipeError> {
        let text = std::str::from_utf8(text).map_err(|_| RecipeError::NotOne)?;
        let lines = text.strip_suffix('\n').ok_or(RecipeError::NotOne)?;
        let (_, last) = lines.rsplit_once('\n').ok_or(RecipeError::NotOne)?;
        let digest = last.strip_prefix(DIGEST).ok_or(RecipeError::NotOne)?;
        let before = text.get(..lines.len() - last.len()).ok_or(RecipeError::NotOne)?;
        if hex(&Sha256::digest(before.as_bytes())) != digest {
            return Err(RecipeError::Changed);
        }
        let mut lines = before.lines();
        let said = lines.next().and_then(|head| number(head.strip_prefix(HEAD)?)).ok_or(RecipeError::NotOne)?;
        let (mut recipe, mut numbers) = (Self::default(), HashMap::new());
        for (at, line) in lines.enumerate() {
            let is_wrong = || RecipeError::Line(at + 2);
            let mut fields = line.split(' ');
            let (Some(name), Some(offset), Some(length), None) =
                (fields.next(), fields.next(), fields.next(), fields.next())
            else {
                return Err(is_wrong());
            };
            let (offset, length) = number(offset).zip(number(length)).ok_or_else(is_wrong)?;
            if !is_segment_name(name) || length == 0 || offset.checked_add(length).is_none() {
                return Err(is_wrong());
            }
            let segment = *numbers.entry(name).or_insert_with(|| {
                recipe.segments.push(name.to_owned());
                recipe.segments.len() - 1
            });
            if recipe.segments.len() > MOST_SEGMENTS || recipe.places.len() >= MOST_PARTS {
                return Err(RecipeError::TooMany);
            }
            let segment = u32::try_from(segment).map_err(|_| RecipeError::TooMany)?;
            recipe.places.push(PartPlace { at: recipe.len_bytes, segment, offset });
            recipe.len_bytes = recipe.len_bytes.checked_add(length).ok_or_else(is_wrong)?;
        }
        let found = recipe.len_bytes;
        if found == said { Ok(recipe) } else { Err(RecipeError::Length { found, said }) }
    }

    /// Its text.
    pub fn to_text(&self) -> Vec<u8> {
        let mut text = format!("{HEAD}{}\n", self.len_bytes).into_bytes();
        for (name, offset, length) in self.parts() {
            // Writing to memory cannot fail.
            let _ = writeln!(text, "{name} {offset} {length}");
        }
        let digest = hex(&Sha256::digest(&text));
        let _ = writeln!(text, "{DIGEST}{digest}");
        text
    }

    /// Each part: its segment, the offset there, and its length.
    pub fn parts(&self) -> impl Iterator<Item = (&str, u64, u64)> {
        self.places.iter().enumerate().map(|(number, place)| {
            let end = self.places.get(number + 1).map_or(self.len_bytes, |next| next.at);
            let name = usize::try_from(place.segment).ok().and_then(|number| self.segments.get(number));
            (name.map_or("", String::as_str), place.offset, end.saturating_sub(place.at))
        })
    }

    /// For each segment, the end of the last range in it.
    pub(super) fn ends(&self) -> Vec<u64> {
        let mut ends = vec![0; self.segments.len()];
        for (place, (_, offset, length)) in self.places.iter().zip(self.parts()) {
            if let Some(end) = usize::try_from(place.segment).ok().and_then(|number| ends.get_mut(number)) {
                *end = offset.saturating_add(length).max(*end);
            }
        }
        ends
    }
}

/// A number without sign, blanks or leading zeros.
fn number(digits: &str) -> Option<u64> {
    let is_plain = digits.bytes().all(|byte| byte.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
    if is_plain { digits.parse().ok() } else { None }
}

/// Whether this can be the name of a segment: it leads nowhere else, and a shell takes it as it is.
pub(super) fn is_segment_name(name: &str) -> bool {
    let is_fit = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=MOST_NAME_BYTES).contains(&name.len()) && !name.starts_with(['.', '-']) && name.bytes().all(is_fit)
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::{Recipe, RecipeError};
    use crate::outside::PartPlace;
    use crate::shown::hex;

    /// These lines with their digest.
    fn sealed(lines: &str) -> Vec<u8> {
        format!("{lines}#sha256 {}\n", hex(&Sha256::digest(lines))).into_bytes()
    }

    #[test]
    fn a_text_is_read_as_it_was_written() {
        let place = |at, segment, offset| PartPlace { at, segment, offset };
        let recipe = Recipe {
            segments: vec!["2026-11-28".to_owned(), "2026-11-29.2".to_owned()],
            places: vec![place(0, 0, 0), place(100, 1, 5), place(107, 0, 200)],
            len_bytes: 110,
        };
        let text = recipe.to_text();
        assert_eq!(text, sealed("#volbak-parts 1 110\n2026-11-28 0 100\n2026-11-29.2 5 7\n2026-11-28 200 3\n"));
        assert_eq!(Recipe::parse(&text).unwrap(), recipe);
        assert_eq!(recipe.ends(), [203, 12]);
        let empty = Recipe::default();
        assert_eq!(Recipe::parse(&empty.to_text()).unwrap(), empty);
        for len in 0..text.len() {
            assert!(Recipe::parse(&text[..len]).is_err(), "{len}");
            for bit in 0..8 {
                let mut flipped = text.clone();
                flipped[len] ^= 1 << bit;
                assert!(Recipe::parse(&flipped).is_err(), "{len}");
            }
        }
    }

    #[test]
    fn hostile_texts_are_refused() {
        for line in [
            "../x 0 1",
            "a/b 0 1",
            ". 0 1",
            ".. 0 1",
            ".volbak-tmp.a 0 1",
            "/etc/passwd 0 1",
            "-a 0 1",
            " 0 1",
            "a 0",
            "a 0 1 ",
            "a 0 1 2",
            "a +0 1",
            "a 0 -1",
            "a 0 0",
            "a 00 1",
            "a 18446744073709551615 1",
            "a 18446744073709551616 1",
            "a\t0 1",
            "a\\ 0 1",
            "$(id) 0 1",
            "\u{e4} 0 1",
            "",
        ] {
            let text = sealed(&format!("#volbak-parts 1 1\n{line}\n"));
            assert_eq!(Recipe::parse(&text), Err(RecipeError::Line(2)), "{line:?}");
        }
        let sum = "#volbak-parts 1 1\na 0 18446744073709551615\na 0 2\n";
        assert_eq!(Recipe::parse(&sealed(sum)), Err(RecipeError::Line(3)));
        let short = sealed("#volbak-parts 1 5\na 0 4\n");
        assert_eq!(Recipe::parse(&short), Err(RecipeError::Length { found: 4, said: 5 }));
        for text in ["#volbak-parts 2 1\na 0 1\n", "#volbak-parts 1 x\na 0 1\n", ""] {
            assert_eq!(Recipe::parse(&sealed(text)), Err(RecipeError::NotOne), "{text}");
        }
        assert_eq!(Recipe::parse(b"#volbak-parts 1 1\na 0 1\n"), Err(RecipeError::NotOne));
        assert_eq!(Recipe::parse(&[0xff; 40]), Err(RecipeError::NotOne));
    }
}
