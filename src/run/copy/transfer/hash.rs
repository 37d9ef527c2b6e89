//! The digest of a file, as its bytes pass by.

use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::run::copy::members::Members;
use crate::run::copy::segments::Segments;
use crate::shown::hex;

#[derive(Clone)]
pub(super) enum Hash {
    Sha1(Sha1),
    Sha256(Sha256),
    /// The SHA-256 of the index, if all members of the archive have the digests in it.
    Members(Box<Members>),
    /// The SHA-256 of the table of segments, if all segments of the archive have the digests in it.
    Segments(Box<Segments>),
}

impl Hash {
    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha1(hash) => hash.update(bytes),
            Self::Sha256(hash) => hash.update(bytes),
            Self::Members(members) => members.update(bytes),
            Self::Segments(segments) => segments.update(bytes),
        }
    }

    pub(super) fn finish(self) -> (&'static str, String) {
        match self {
            Self::Sha1(hash) => ("SHA-1", hex(&hash.finalize())),
            Self::Sha256(hash) => ("SHA-256", hex(&hash.finalize())),
            Self::Members(members) => ("index of members", members.finish()),
            Self::Segments(segments) => ("table of segments", segments.finish()),
        }
    }
}
