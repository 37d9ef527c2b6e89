//! The kinds of archives, told by the suffix of their names.

use serde::{Deserialize, Serialize};

use super::gzip;

/// What an archive is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ArchiveKind {
    /// `STEM.tar.gz`: files.
    #[default]
    Files,
    /// `STEM.img.gz`: a whole volume, byte for byte.
    Image,
}

impl ArchiveKind {
    /// All kinds.
    pub const ALL: [Self; 2] = [Self::Files, Self::Image];

    /// The suffix of an archive's name.
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Files => gzip::SUFFIX,
            Self::Image => ".img.gz",
        }
    }

    /// The stem and the kind of an archive of this name; `None` if no archive has such a name.
    pub fn of_name(name: &str) -> Option<(&str, Self)> {
        let stem = |kind: Self| Some((name.strip_suffix(kind.suffix()).filter(|stem| !stem.is_empty())?, kind));
        Self::ALL.into_iter().find_map(stem)
    }
}
