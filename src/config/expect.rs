//! Content that a volume is expected to have and that cannot be archived as files: `expect = ["p2=luks",
//! "swap-only"]`.

use std::fmt;

use super::mistake::nearest;

/// The kinds of content, in the names of mount(8) or blkid(8).
const WORDS: [&str; 32] = [
    "raw",
    "unknown",
    "empty",
    "swap",
    "swap-only",
    "luks",
    "mdraid",
    "lvm2",
    "ext2",
    "ext3",
    "ext4",
    "xfs",
    "btrfs",
    "vfat",
    "exfat",
    "ntfs",
    "f2fs",
    "jfs",
    "reiserfs",
    "nilfs2",
    "hfsplus",
    "ufs",
    "erofs",
    "vmfs",
    "bcachefs",
    "squashfs",
    "iso9660",
    "udf",
    "bcache",
    "drbd",
    "zfs",
    "bitlocker",
];

/// One item of `expect`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expectation {
    /// The region; `None` means any region of the volume.
    pub region: Option<String>,
    /// The accepted kinds of content. `swap-only` and `empty` without a region apply to the whole volume.
    pub words: Vec<String>,
}

/// An invalid item of `expect`, and its correction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadExpectation {
    /// The region before the `=` is missing.
    #[error("before the = write a region's name as `volbak inspect` shows it, like \"p2=luks\"")]
    NoRegion,
    /// An unknown kind of content.
    #[error("{}it is one of {}", meant(*nearest), WORDS.join(", "))]
    UnknownWord {
        /// The most similar known word.
        nearest: Option<&'static str>,
    },
    /// `swap-only` applies to a whole volume.
    #[error("of a region, say \"swap\": swap-only is about a whole volume")]
    SwapOnlyOfRegion,
}

fn meant(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |near| format!("did you mean \"{near}\"? "))
}

impl Expectation {
    /// Parses `WORD`, `WORD|WORD` or `REGION=WORD`.
    pub(super) fn new(text: &str) -> Result<Self, BadExpectation> {
        let (region, words) = match text.split_once('=') {
            Some((region, words)) => (Some(region.trim().to_owned()), words),
            None => (None, text),
        };
        if region.as_ref().is_some_and(String::is_empty) {
            return Err(BadExpectation::NoRegion);
        }
        let words: Vec<String> = words.split('|').map(|word| word.trim().to_ascii_lowercase()).collect();
        for word in &words {
            if !WORDS.contains(&word.as_str()) {
                return Err(BadExpectation::UnknownWord { nearest: nearest(word, WORDS) });
            }
            if region.is_some() && word == "swap-only" {
                return Err(BadExpectation::SwapOnlyOfRegion);
            }
        }
        Ok(Self { region, words })
    }
}

impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(region) = &self.region {
            write!(f, "{region}=")?;
        }
        f.write_str(&self.words.join("|"))
    }
}

#[cfg(test)]
mod tests {
    use super::Expectation;

    #[test]
    fn items_are_read_as_they_are_shown() {
        for text in ["luks", "p2=luks", "luks|ntfs", "p2.vg0-root=ext4|xfs", "swap-only", "empty", "disk=raw"] {
            assert_eq!(Expectation::new(text).unwrap().to_string(), text);
        }
        assert_eq!(Expectation::new(" P2 = LUKS").unwrap().to_string(), "P2=luks");
        for wrong in ["", "luk", "p2=", "=luks", "luks|", "p1=swap-only", "a b"] {
            assert!(Expectation::new(wrong).is_err(), "{wrong}");
        }
        assert!(Expectation::new("lukss").unwrap_err().to_string().starts_with("did you mean \"luks\"?"));
    }
}
