//! Moves the bytes of the tar stream into members.

use sha2::Digest;

use crate::archive::data::{DataOutcome, read_or_zero};
use crate::archive::error::{ArchiveError, StopCheck};
use crate::archive::members::MemberWriter;
use crate::archive::pax;
use crate::entry::FileContent;
use crate::events::{Event, Observer};
use crate::units::ByteRange;

/// The minimum step of progress reports.
const PROGRESS_STEP_BYTES: u64 = 1 << 20;

/// Accepts the bytes of the tar stream in order.
pub(super) struct TarStream<'a> {
    pub(super) members: MemberWriter,
    pub(super) observer: &'a dyn Observer,
    /// The number of next bytes that are already in the archive: they are produced but not written.
    pub(super) present_bytes: u64,
    stop: StopCheck,
    unreported_bytes: u64,
}

impl<'a> TarStream<'a> {
    pub(super) fn new(members: MemberWriter, stop: StopCheck, observer: &'a dyn Observer) -> Self {
        Self { members, observer, present_bytes: 0, stop, unreported_bytes: 0 }
    }

    pub(super) fn check_stop(&self) -> Result<(), ArchiveError> {
        if (self.stop)() { Err(ArchiveError::Stopped) } else { Ok(()) }
    }

    /// Adds bytes, except those already present.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), ArchiveError> {
        let present = usize::try_from(self.present_bytes).map_or(bytes.len(), |present| present.min(bytes.len()));
        self.present_bytes -= present as u64;
        self.members.push(&bytes[present..])
    }

    /// Adds the bytes of a run of `content`, read directly into the member.
    pub(super) fn push_run(
        &mut self,
        run: ByteRange,
        content: &dyn FileContent,
        outcome: &mut DataOutcome,
    ) -> Result<(), ArchiveError> {
        let mut done = 0;
        while done < run.len {
            let space = self.members.space();
            if space.is_empty() {
                self.check_stop()?;
                self.members.end_member()?;
                continue;
            }
            let mut len = usize::try_from(run.len - done).map_or(space.len(), |left| left.min(space.len()));
            if self.present_bytes > 0 {
                len = usize::try_from(self.present_bytes).map_or(len, |present| present.min(len));
            }
            let piece = &mut space[..len];
            read_or_zero(content, run.start + done, piece, outcome);
            outcome.digest.update(&*piece);
            if self.present_bytes > 0 {
                self.present_bytes -= len as u64;
            } else {
                self.members.commit(len);
            }
            done += len as u64;
            self.unreported_bytes += len as u64;
            if self.unreported_bytes >= PROGRESS_STEP_BYTES {
                self.report_progress();
            }
        }
        Ok(())
    }

    /// Adds the end-of-archive marker.
    pub(super) fn end(&mut self) -> Result<(), ArchiveError> {
        self.members.end_member()?;
        self.members.push(&pax::END)?;
        if self.unreported_bytes > 0 {
            self.report_progress();
        }
        Ok(())
    }

    fn report_progress(&mut self) {
        self.observer.on_event(&Event::Read { bytes: self.unreported_bytes });
        self.unreported_bytes = 0;
    }
}
