//! Archives other than volbak's: arbitrary gzip files, and uncompressed tar streams.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::GzDecoder;

use super::decode::Submit;
use super::input::{HashingInput, Input, PIECE_BYTES, Tally};
use super::job::{Chunk, DecodeJob, Form, StreamOutcome};
use crate::archive::codec::MAX_MEMBER_DATA;

/// Reads a gzip file without member lengths.
pub(super) fn read_gzip(input: Input<'_>, tally: Tally, submit: Submit) -> StreamOutcome {
    pieces(GzipMembers::new(buffered(input)), tally, Form::Gzip, submit)
}

/// Reads an uncompressed tar stream.
pub(super) fn read_plain(input: Input<'_>, tally: Tally, submit: Submit) -> StreamOutcome {
    pieces(buffered(input), tally, Form::Plain, submit)
}

fn buffered(input: Input<'_>) -> Buffered<'_> {
    BufReader::with_capacity(PIECE_BYTES, HashingInput(input))
}

type Buffered<'a> = BufReader<HashingInput<'a>>;

/// The tar stream of an archive without known pieces.
trait TarData<'a>: Read {
    fn input(&mut self) -> &mut Input<'a>;
    fn into_input(self) -> Input<'a>;
}

impl<'a> TarData<'a> for Buffered<'a> {
    fn input(&mut self) -> &mut Input<'a> {
        &mut self.get_mut().0
    }

    fn into_input(self) -> Input<'a> {
        self.into_inner().0
    }
}

/// Consecutive gzip members, with zeros after the last: tapes and block devices are padded with them, and gzip(1)
/// ignores them.
struct GzipMembers<'a> {
    /// `None` only during the search for the next one.
    member: Option<GzDecoder<Buffered<'a>>>,
    ended: bool,
}

impl<'a> GzipMembers<'a> {
    fn new(input: Buffered<'a>) -> Self {
        Self { member: Some(GzDecoder::new(input)), ended: false }
    }

    /// After the end of a member: true if another one follows.
    fn next_member(&mut self) -> io::Result<bool> {
        let Some(mut input) = self.member.take().map(GzDecoder::into_inner) else { return Ok(false) };
        let mut zeros = 0_u64;
        let found = loop {
            let bytes = match input.fill_buf() {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => break Err(error),
            };
            if bytes.is_empty() {
                break Ok(false);
            }
            let here = bytes.iter().take_while(|byte| **byte == 0).count();
            let ends_here = here < bytes.len();
            input.consume(here);
            zeros += here as u64;
            if ends_here {
                break if zeros == 0 {
                    Ok(true)
                } else {
                    Err(io::Error::other("something follows zeros behind a member"))
                };
            }
        };
        self.member = Some(GzDecoder::new(input));
        found
    }
}

impl Read for GzipMembers<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while !self.ended && !buf.is_empty() {
            let read = match &mut self.member {
                Some(member) => member.read(buf)?,
                None => 0,
            };
            if read > 0 {
                return Ok(read);
            }
            self.ended = !self.next_member()?;
        }
        Ok(0)
    }
}

impl<'a> TarData<'a> for GzipMembers<'a> {
    fn input(&mut self) -> &mut Input<'a> {
        // Only `next_member` takes it out, and puts it back.
        #[expect(clippy::expect_used, reason = "see above")]
        let member = self.member.as_mut().expect("a member is being read");
        &mut member.get_mut().get_mut().0
    }

    fn into_input(mut self) -> Input<'a> {
        #[expect(clippy::expect_used, reason = "as in `input`")]
        let member = self.member.take().expect("a member is being read");
        member.into_inner().into_inner().0
    }
}

/// Submits a tar stream in pieces of a member's size.
fn pieces<'a>(mut from: impl TarData<'a>, mut tally: Tally, form: Form, mut submit: Submit) -> StreamOutcome {
    loop {
        let mut job = match submit.job() {
            Ok(job) => job,
            Err(over) => {
                tally.end(&over);
                break;
            }
        };
        let mut data = std::mem::take(&mut job.chunk.data);
        data.resize(MAX_MEMBER_DATA, 0);
        let (filled, ended) = fill(&mut from, &mut data);
        data.truncate(filled);
        let offset = from.input().at;
        job.chunk = Chunk {
            number: tally.members,
            archive_offset: offset,
            tar_offset: tally.tar_bytes,
            tar_length: filled as u64,
            data,
            lost: None,
            entries: None,
        };
        let number = tally.members;
        if filled > 0 {
            tally.members += 1;
            tally.tar_bytes += filled as u64;
            submit.pass(job);
        }
        match ended {
            Ok(false) => {}
            Ok(true) => {
                if tally.tar_bytes == 0 {
                    tally.find(false, None, 0, "it is empty");
                }
                break;
            }
            Err(error) => {
                let what = format!("it cannot be decompressed any further: {error}");
                let lost = Chunk { number, archive_offset: offset, lost: Some(what.clone()), ..Chunk::default() };
                tally.find(false, None, offset, what);
                submit.pass(DecodeJob { chunk: lost, ..DecodeJob::default() });
                break;
            }
        }
    }
    let mut input = from.into_input();
    if !tally.over
        && let Err(error) = input.skip_to(input.len)
    {
        tally.find(false, None, input.at, format!("it cannot be read: {error}"));
    }
    input.outcome(form, tally)
}

/// Fills `buf`; returns the length, and whether the stream ended there.
fn fill(decoder: &mut impl Read, buf: &mut [u8]) -> (usize, io::Result<bool>) {
    let mut filled = 0;
    while filled < buf.len() {
        match decoder.read(&mut buf[filled..]) {
            Ok(0) => return (filled, Ok(true)),
            Ok(len) => filled += len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (filled, Err(error)),
        }
    }
    (filled, Ok(false))
}
