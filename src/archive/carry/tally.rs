//! Counts and reports carried content.

use std::collections::HashSet;

use crate::archive::counts::CarryCounts;
use crate::archive::index::MemberLine;
use crate::archive::members::MemberFault;
use crate::archive::placed::tell;
use crate::events::{Event, Observer, Problem, Severity};

/// After this many members that differ from the index, carrying stops.
const MAX_MISMATCHES: u64 = 100;

/// The counts of content carried from one backup.
pub(in crate::archive) struct Tally {
    /// The common start of that backup's file names.
    stem: String,
    /// The name of its archive.
    archive_name: String,
    counts: CarryCounts,
    /// The numbers of damaged members that were reported. One is found twice if the rest of its file is then read, and has
    /// the same data.
    reported: HashSet<u64>,
}

impl Tally {
    pub(super) fn new(stem: &str, archive_name: String) -> Self {
        Self { stem: stem.to_owned(), archive_name, counts: CarryCounts::default(), reported: HashSet::new() }
    }

    pub(in crate::archive) fn counts(&self) -> CarryCounts {
        self.counts
    }

    /// Whether the previous archive is too damaged to be carried from.
    pub(super) fn is_given_up(&self) -> bool {
        self.counts.mismatches >= MAX_MISMATCHES
    }

    /// Counts a group that is re-read because it is due.
    pub(super) fn note_reread(&mut self) {
        self.counts.groups_reread += 1;
    }

    /// Counts a copied member: its length in the archive, the number of entries that end in it, and the length of
    /// their data.
    pub(in crate::archive) fn note_copied(
        &mut self,
        bytes: u64,
        entries: u64,
        data_bytes: u64,
        observer: &dyn Observer,
    ) {
        self.counts.members += 1;
        self.counts.bytes += bytes;
        self.counts.entries += entries;
        observer.on_event(&Event::Carried { bytes: data_bytes });
    }

    /// Counts members of large files and raw images that were copied by the digest of their data: their number and length in
    /// the archive.
    pub(in crate::archive) fn note_copied_data(&mut self, members: u64, bytes: u64) {
        self.counts.members += members;
        self.counts.bytes += bytes;
    }

    /// Reports a member that is damaged in the previous archive.
    pub(in crate::archive) fn note_mismatch(
        &mut self,
        member: &MemberLine,
        fault: &MemberFault,
        observer: &dyn Observer,
    ) {
        if !self.reported.insert(member.number) {
            return;
        }
        self.counts.mismatches += 1;
        let location = self.archive_name.clone();
        let number = member.number;
        let mut text = format!(
            "member {number} of the previous backup (byte {}) is damaged: {fault}; \
             its entries were read from the source",
            member.offset
        );
        if self.counts.mismatches == MAX_MISMATCHES {
            text.push_str("; so is everything that follows, after too many of them");
        }
        observer.on_event(&Event::Problem(Problem::new(Severity::Warning, location, text)));
    }

    /// Reports a file whose data changed although its times did not. `is_mixed`: its first part was copied.
    pub(in crate::archive) fn note_changed_unseen(&mut self, path: &[u8], is_mixed: bool, observer: &dyn Observer) {
        self.counts.changed_unseen += 1;
        let stem = &self.stem;
        let what = format!("its content changed since {stem} though its times did not");
        if is_mixed {
            let what = format!("{what}, and a part of {stem} is damaged: the archive has a mixture of both");
            tell(observer, Severity::Error, path, what);
        } else {
            tell(observer, Severity::Warning, path, format!("{what}; archived as it is now"));
        }
    }
}
