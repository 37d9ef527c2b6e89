//! The reading thread: splits an archive's bytes into members, by the index or by their own headers.

use std::io;

use super::decode::Submit;
use super::foreign;
use super::header::{self, BLOCK};
use super::index_plan::IndexPlan;
use super::input::{Input, Tally};
use super::job::{Chunk, DecodeJob, Form, StreamFinding, StreamOutcome};
use crate::archive::codec::CodecRef;
use crate::error::with_causes;
use crate::outside::BlockRead;

/// The maximum length of a first member with a damaged header.
const FIRST_MEMBER_WITHIN: u64 = 3 << 20;
/// `FLG.FEXTRA` of RFC 1952.
const FLAG_EXTRA: u8 = 4;

fn unreadable(error: &io::Error) -> StreamOutcome {
    let what = format!("the archive cannot be read: {error}");
    let finding = StreamFinding { in_index: false, member: None, offset: 0, what };
    StreamOutcome { findings: vec![finding], findings_total: 1, ..StreamOutcome::default() }
}

/// Reads the members in the plan.
pub(super) fn read_archive(
    file: &dyn BlockRead,
    codec: CodecRef,
    mut plan: IndexPlan,
    hash: bool,
    mut submit: Submit,
) -> StreamOutcome {
    let partial = plan.is_partial();
    let mut input = Input::new(file, codec, hash && !partial);
    if !partial {
        input.read_ahead();
    }
    let mut tally = Tally::default();
    loop {
        let planned = match plan.next_member() {
            Ok(Some(planned)) => planned,
            Ok(None) => break,
            Err(error) => {
                tally.find(true, None, input.at, with_causes(&error));
                if partial {
                    return input.outcome(Form::Members, tally);
                }
                // Members contain their own length, so the rest is read without the index.
                return Scanner { input, tally }.members(submit);
            }
        };
        let mut job = match submit.job() {
            Ok(job) => job,
            Err(over) => {
                tally.end(&over);
                break;
            }
        };
        let line = planned.line;
        input.at = line.offset;
        job.chunk = Chunk {
            number: line.number,
            archive_offset: line.offset,
            tar_offset: line.tar_offset,
            tar_length: line.tar_length,
            data: std::mem::take(&mut job.chunk.data),
            lost: None,
            entries: Some(planned.entries),
        };
        job.digest = Some(line.digest);
        // Only the next backup needs it.
        job.data_digest = line.data.filter(|_| hash);
        tally.members += 1;
        tally.tar_bytes += line.tar_length;
        let lost = match input.next(line.length, &mut job.member) {
            Err(error) => Some(format!("it cannot be read: {error}")),
            Ok(()) if (job.member.len() as u64) < line.length => Some("the archive ends before it does".to_owned()),
            Ok(()) => None,
        };
        if let Some(what) = lost {
            pass_lost(job, what, &mut tally, &mut submit);
            continue;
        }
        job.header_damaged = !input.frame_of(&job.member).is_some_and(|frame| frame.is(line.length, line.tar_length));
        submit.decode(job);
    }
    if !partial && !tally.over {
        let end = plan.totals().archive_bytes;
        if input.len > end {
            tally.find(false, None, end, format!("{} bytes follow its last member", input.len - end));
        }
        if let Err(error) = input.skip_to(input.len) {
            tally.find(false, None, input.at, format!("it cannot be read: {error}"));
        }
    }
    input.outcome(Form::Members, tally)
}

/// Passes on a member whose data is lost.
fn pass_lost(mut job: DecodeJob, what: String, tally: &mut Tally, submit: &mut Submit) {
    job.chunk.data.clear();
    tally.find(false, Some(job.chunk.number), job.chunk.archive_offset, what.clone());
    job.chunk.lost = Some(what);
    submit.pass(job);
}

/// Reads an archive without an index.
struct Scanner<'a> {
    input: Input<'a>,
    tally: Tally,
}

/// Detects the structure, and starts reading.
pub(super) fn scan_archive(file: &dyn BlockRead, codec: CodecRef, hash: bool, submit: Submit) -> StreamOutcome {
    Scanner { input: Input::new(file, codec, hash), tally: Tally::default() }.run(submit)
}

impl Scanner<'_> {
    fn run(self, submit: Submit) -> StreamOutcome {
        match self.kind() {
            Ok(Kind::Ours) => self.members(submit),
            Ok(Kind::Gzip) => foreign::read_gzip(self.input, self.tally, submit),
            Ok(Kind::Plain) => foreign::read_plain(self.input, self.tally, submit),
            Ok(Kind::Other(what)) => {
                let mut tally = self.tally;
                tally.find(false, None, 0, what);
                self.input.outcome(Form::Gzip, tally)
            }
            Err(error) => unreadable(&error),
        }
    }

    fn kind(&self) -> io::Result<Kind> {
        if self.is_ours()? {
            return Ok(Kind::Ours);
        }
        let block = self.input.peek(0, BLOCK)?;
        if block.is_empty() {
            return Ok(Kind::Other("it is empty".to_owned()));
        }
        if block.starts_with(&[0x1f, 0x8b]) {
            return Ok(Kind::Gzip);
        }
        if let Some((_, program)) = COMPRESSED.iter().find(|(magic, _)| block.starts_with(magic)) {
            let what = format!(
                "another program compressed it with {program}: `{program} -dc FILE | gzip >NEW.tar.gz` makes it readable"
            );
            return Ok(Kind::Other(what));
        }
        match block.first_chunk().map(header::parse) {
            Some(Ok(header::Block::Header(_))) => Ok(Kind::Plain),
            // The decoder reports what is wrong with it.
            _ => Ok(Kind::Gzip),
        }
    }

    /// Whether the archive consists of volbak's members. The first one may be damaged.
    fn is_ours(&self) -> io::Result<bool> {
        let header = self.input.peek_header()?;
        if self.input.frame_of(&header).is_some() {
            return Ok(true);
        }
        // A gzip file without an extra field, or one that begins with another format, was made by another program, and may
        // contain a volbak archive.
        let is_plain_gzip =
            header.starts_with(&[0x1f, 0x8b, 8]) && header.get(3).is_some_and(|flags| flags & FLAG_EXTRA == 0);
        let is_other = is_plain_gzip || COMPRESSED.iter().any(|(magic, _)| header.starts_with(magic));
        Ok(!is_other && self.input.find_member(1, FIRST_MEMBER_WITHIN)?.is_some())
    }

    fn members(mut self, mut submit: Submit) -> StreamOutcome {
        if let Err(error) = self.each_member(&mut submit) {
            self.tally.find(false, None, self.input.at, format!("it cannot be read: {error}"));
        }
        self.input.outcome(Form::Members, self.tally)
    }

    fn each_member(&mut self, submit: &mut Submit) -> io::Result<()> {
        while self.input.at < self.input.len {
            let mut job = match submit.job() {
                Ok(job) => job,
                Err(over) => {
                    self.tally.end(&over);
                    return Ok(());
                }
            };
            let start = self.input.at;
            let frame = self.input.frame_of(&self.input.peek_header()?);
            job.chunk = Chunk {
                number: self.tally.members,
                archive_offset: start,
                tar_offset: self.tally.tar_bytes,
                tar_length: frame.map_or(0, |frame| frame.data_bytes.into()),
                data: std::mem::take(&mut job.chunk.data),
                lost: None,
                entries: None,
            };
            (job.digest, job.data_digest, job.header_damaged) = (None, None, false);
            self.tally.members += 1;
            self.tally.tar_bytes += job.chunk.tar_length;
            let Some(frame) = frame else {
                let next = self.input.find_member(start + 1, u64::MAX)?;
                let end = next.unwrap_or(self.input.len);
                self.input.skip_to(end)?;
                pass_lost(
                    job,
                    format!("no member begins here; {} bytes are of no use", end - start),
                    &mut self.tally,
                    submit,
                );
                continue;
            };
            self.input.next(frame.member_bytes.into(), &mut job.member)?;
            if (job.member.len() as u64) < u64::from(frame.member_bytes) {
                pass_lost(job, "the archive ends before it does".to_owned(), &mut self.tally, submit);
                continue;
            }
            submit.decode(job);
        }
        Ok(())
    }
}

/// The detected structure of an archive.
enum Kind {
    Ours,
    Gzip,
    Plain,
    /// Another format, in words.
    Other(String),
}

/// Magic numbers of other compressed formats, and the programs that read them.
const COMPRESSED: [(&[u8], &str); 5] = [
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\0", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"LZIP", "lzip"),
    (b"\x1f\x9d", "uncompress"),
];
