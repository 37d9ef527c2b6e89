//! The compression level as people write it.

use std::fmt;
use std::str::FromStr;

/// How hard archives are compressed: `6`, `auto`, or `auto:3-9`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompressionLevel {
    /// This level, 1 (fast) to 12 (small).
    Fixed(i32),
    /// What the host can do while the archive is written.
    Auto {
        /// Not below this.
        lowest: i32,
        /// Not above this.
        highest: i32,
    },
}

/// Without a range, `auto` goes no further: the levels above need many times the processor time for next to nothing.
const AUTO: CompressionLevel = CompressionLevel::Auto { lowest: 1, highest: 9 };

/// What a level must look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write a level from 1 (fast) to 12 (small), or \"auto\", or \"auto:3-9\" for a range of levels")]
pub struct BadCompressionLevel;

impl FromStr for CompressionLevel {
    type Err = BadCompressionLevel;

    fn from_str(text: &str) -> Result<Self, BadCompressionLevel> {
        let level = |text: &str| -> Result<i32, BadCompressionLevel> {
            text.parse().ok().filter(|level| (1..=12).contains(level)).ok_or(BadCompressionLevel)
        };
        match text.split_once(':') {
            None if text == "auto" => Ok(AUTO),
            None => Ok(Self::Fixed(level(text)?)),
            Some(("auto", range)) => {
                let (lowest, highest) = range.split_once('-').ok_or(BadCompressionLevel)?;
                let (lowest, highest) = (level(lowest)?, level(highest)?);
                if lowest <= highest { Ok(Self::Auto { lowest, highest }) } else { Err(BadCompressionLevel) }
            }
            Some(_) => Err(BadCompressionLevel),
        }
    }
}

impl fmt::Display for CompressionLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(level) => write!(f, "{level}"),
            Self::Auto { lowest, highest } => write!(f, "auto:{lowest}-{highest}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::CompressionLevel;

    #[test]
    fn levels_and_ranges_are_read_as_they_are_shown() {
        for (text, shown) in [("1", "1"), ("12", "12"), ("auto", "auto:1-9"), ("auto:3-3", "auto:3-3")] {
            assert_eq!(text.parse::<CompressionLevel>().unwrap().to_string(), shown);
            assert_eq!(shown.parse::<CompressionLevel>().unwrap().to_string(), shown);
        }
        for wrong in ["", "0", "13", "fast", "auto:", "auto:3", "auto:9-3", "auto:0-9", "auto:1-13", "6:1-9", "Auto"] {
            assert!(wrong.parse::<CompressionLevel>().is_err(), "{wrong}");
        }
    }
}
