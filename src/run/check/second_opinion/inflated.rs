//! The tar stream as decompressed by another library than in a backup: flate2 or ruzstd.

use std::io::{self, BufReader, Read};

use flate2::bufread::MultiGzDecoder;

use super::frames::Frames;
use crate::archive::kind::Compression;
use crate::archive::read::index_file::IndexError;
use crate::events::{Event, Observer};
use crate::outside::{BlockRead, Cancel, memory};

const INPUT_BYTES: usize = 256 << 10;
/// Input and output, and the tables and window of a decoder.
const DECODER_BYTES: usize = 4 << 20;
const REPORT_BYTES: u64 = 64 << 20;

/// Why the tar stream ends early.
pub(super) enum Ended {
    Archive(String),
    Index(IndexError),
}

/// A reader of the archive with its own position, since the descriptor is shared.
struct Positioned<'a> {
    file: &'a dyn BlockRead,
    at: u64,
    end: u64,
    /// Whether reading failed, rather than decompression.
    failed: bool,
    cancel: &'a Cancel,
}

impl Read for Positioned<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.end - self.at).map_or(buf.len(), |left| left.min(buf.len()));
        loop {
            if self.cancel.is_cancelled() {
                // Not `Interrupted`, which makes readers retry.
                return Err(io::Error::other("interrupted"));
            }
            match self.file.read_some(self.at, &mut buf[..most]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.failed = true;
                    return Err(error);
                }
                Ok(len) => {
                    self.at += len as u64;
                    return Ok(len);
                }
            }
        }
    }
}

type Input<'a> = BufReader<Positioned<'a>>;

enum Decoder<'a> {
    Gzip(Box<MultiGzDecoder<Input<'a>>>),
    Zstd(Box<Frames<Input<'a>>>),
}

impl<'a> Decoder<'a> {
    fn new(compression: Compression, input: Input<'a>) -> Self {
        match compression {
            Compression::Gzip => Self::Gzip(Box::new(MultiGzDecoder::new(input))),
            Compression::Zstd => Self::Zstd(Box::new(Frames::new(input))),
        }
    }

    fn input(&self) -> &Positioned<'a> {
        match self {
            Self::Gzip(decoder) => decoder.get_ref().get_ref(),
            Self::Zstd(frames) => frames.get_ref().get_ref(),
        }
    }

    fn library(&self) -> &'static str {
        match self {
            Self::Gzip(_) => "flate2",
            Self::Zstd(_) => "ruzstd",
        }
    }
}

impl Read for Decoder<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Gzip(decoder) => decoder.read(buf),
            Self::Zstd(frames) => frames.read(buf),
        }
    }
}

/// The tar stream as decompressed by the other library. After a failure it returns nothing more, since flate2 would
/// report the end of the stream.
pub(super) struct Inflated<'a> {
    decoder: Decoder<'a>,
    observer: &'a dyn Observer,
    at: u64,
    reported: u64,
    failure: Option<String>,
}

impl<'a> Inflated<'a> {
    /// The tar stream of the archive `file` with `archive_bytes` bytes.
    pub(super) fn new(
        compression: Compression,
        file: &'a dyn BlockRead,
        archive_bytes: u64,
        cancel: &'a Cancel,
        observer: &'a dyn Observer,
    ) -> io::Result<Self> {
        let file = Positioned { file, at: 0, end: archive_bytes, failed: false, cancel };
        let decoder = || Decoder::new(compression, BufReader::with_capacity(INPUT_BYTES, file));
        let decoder = memory::made(DECODER_BYTES, decoder)?;
        Ok(Self { decoder, observer, at: 0, reported: 0, failure: None })
    }

    /// The name of the library.
    pub(super) fn library(&self) -> &'static str {
        self.decoder.library()
    }

    /// The offset in the tar stream, in bytes.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// The failure that ended the stream, if any.
    pub(super) fn take_failure(&mut self) -> Option<String> {
        self.failure.take()
    }

    /// Reports the bytes read since the last call, where a rate limit applies.
    pub(super) fn report(&mut self) {
        let bytes = self.at - std::mem::replace(&mut self.reported, self.at);
        self.observer.on_event(&Event::Read { bytes });
    }

    pub(super) fn failed(&mut self) -> Ended {
        Ended::Archive(self.failure.take().unwrap_or_else(|| format!("it cannot be read with {}", self.library())))
    }

    /// Fills `buf`.
    pub(super) fn fill(&mut self, buf: &mut [u8]) -> Result<(), Ended> {
        let mut filled = 0;
        while filled < buf.len() {
            match self.read(&mut buf[filled..]) {
                Ok(0) => return Err(self.cut_off()),
                Ok(len) => filled += len,
                Err(_) => return Err(self.failed()),
            }
        }
        Ok(())
    }

    pub(super) fn cut_off(&self) -> Ended {
        Ended::Archive(format!(
            "{} finds its end at byte {} of the tar stream, before the index's",
            self.library(),
            self.at
        ))
    }
}

impl Read for Inflated<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if let Some(what) = &self.failure {
            return Err(io::Error::other(what.clone()));
        }
        match self.decoder.read(buf) {
            Ok(len) => {
                self.at += len as u64;
                if self.at - self.reported >= REPORT_BYTES {
                    self.report();
                }
                Ok(len)
            }
            Err(error) => {
                let file = self.decoder.input();
                self.failure = Some(if file.failed {
                    format!("it was read once, and cannot be read again at byte {}: {error}", file.at)
                } else {
                    let (library, at) = (self.library(), self.at);
                    format!(
                        "{library} cannot decompress it beyond byte {at} of the tar stream, and volbak can: {error}"
                    )
                });
                Err(error)
            }
        }
    }
}
