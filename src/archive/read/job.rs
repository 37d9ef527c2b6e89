//! What goes from thread to thread while an archive is read: its members, and what is found about them.

use crate::archive::index::{EntryLine, MemberDigest};

/// A piece of the tar stream: what a member holds.
#[derive(Debug, Default)]
pub struct Chunk {
    /// The member's number, from 0. Pieces of an archive that is not made of our members are counted alike.
    pub number: u64,
    /// Its first byte in the archive; of a foreign archive, unknown and 0.
    pub archive_offset: u64,
    /// Its first byte in the tar stream.
    pub tar_offset: u64,
    /// How long it is in the tar stream; 0 when that is not known.
    pub tar_length: u64,
    /// The data; empty when it is lost.
    pub data: Vec<u8>,
    /// Why the data is lost.
    pub lost: Option<String>,
    /// The index's lines of the entries that start in it; `None` when it is read without an index.
    pub entries: Option<Vec<EntryLine>>,
}

impl Chunk {
    /// Whether the index says that the member holds nothing. A member's own header is not believed when it is damaged.
    pub fn is_padding(&self) -> bool {
        self.entries.is_some() && self.tar_length == 0
    }
}

/// Something that is wrong with the archive or its index, seen while reading members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamFinding {
    /// Whether the index is to blame and not the archive.
    pub in_index: bool,
    /// The member.
    pub member: Option<u64>,
    /// Its first byte, or that of what is wrong, in the archive.
    pub offset: u64,
    /// What is wrong, one line.
    pub what: String,
}

/// What an archive is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// Members that say how long they are.
    #[default]
    Members,
    /// Any other gzip file.
    Gzip,
    /// A tar stream that is not compressed.
    Plain,
}

/// What is known after the last member.
#[derive(Clone, Debug, Default)]
pub struct StreamOutcome {
    /// What the archive is made of.
    pub form: Form,
    /// SHA-1 of the archive's bytes, when asked for and all of them could be read.
    pub archive_sha1: Option<[u8; 20]>,
    /// How many bytes of the archive were read.
    pub archive_bytes: u64,
    /// How many members were read.
    pub members: u64,
    /// How much of the tar stream they have.
    pub tar_bytes: u64,
    /// What is wrong; the first thousand.
    pub findings: Vec<StreamFinding>,
    /// How many things are wrong.
    pub findings_total: u64,
    /// It was told to stop.
    pub stopped: bool,
}

/// A member on its way. Its buffers are used again.
#[derive(Default)]
pub(super) struct Job {
    pub(super) member: Vec<u8>,
    pub(super) chunk: Chunk,
    /// The digest that the index says.
    pub(super) digest: Option<MemberDigest>,
    /// The member is read, but its header is not what it should be.
    pub(super) header_damaged: bool,
    /// What was found about it.
    pub(super) findings: Vec<StreamFinding>,
}

/// Things that are wrong, a bounded number of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Findings {
    pub(super) first: Vec<StreamFinding>,
    pub(super) total: u64,
}

impl Findings {
    pub(super) const KEPT: usize = 1000;

    pub(super) fn add(&mut self, finding: StreamFinding) {
        self.total += 1;
        if self.first.len() < Self::KEPT {
            self.first.push(finding);
        }
    }
}
