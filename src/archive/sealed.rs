//! Segments: members of another codec that are encrypted, each as an age file of its own.
//!
//! An archive of them is carried forward without a key, since a segment that is copied is the same bytes. Its member is
//! found and copied by its lengths, which are in the clear in the age header ([`crate::encryption::segment`]).

use std::io;
use std::sync::{Mutex, PoisonError};

use super::codec::contract::{
    Bounds, Codec, CodecRef, Decode, DecodeError, Encode, EncoderError, Format, MAX_MEMBER_DATA, MemberFrame,
};
use super::gzip::{self, Gzip};
use super::zstd::{self, Zstd};
use crate::encryption::segment::{
    GZIP_NAME, GZIP_SIGNATURE, MAX_HEADER_BYTES, MIN_BYTES, ZSTD_SIGNATURE, frame, longest,
};
use crate::encryption::{Recipients, open};

/// The lengths of a segment around a member of these lengths.
const fn around(inner: &Bounds) -> Bounds {
    Bounds {
        header_bytes: MAX_HEADER_BYTES,
        frame_bytes: MIN_BYTES,
        max_member_bytes: longest(inner.max_member_bytes),
        min_padding_bytes: inner.min_padding_bytes,
        max_padding_bytes: longest(inner.max_padding_bytes),
    }
}

/// The bounds of both, for buffers.
pub(super) const GZIP_BOUNDS: Bounds = around(&gzip::BOUNDS);
pub(super) const ZSTD_BOUNDS: Bounds = around(&zstd::BOUNDS);

// Each member has a header of some hundred bytes, so none is smaller.
static GZIP_FORMAT: Format =
    Format { bounds: GZIP_BOUNDS, sizes: gzip::SIZES, fine_sizes: gzip::SIZES, signature: GZIP_SIGNATURE };
static ZSTD_FORMAT: Format =
    Format { bounds: ZSTD_BOUNDS, sizes: zstd::SIZES, fine_sizes: zstd::SIZES, signature: ZSTD_SIGNATURE };

/// Reads archives; without recipients it makes none.
pub(super) static READ_GZIP: Sealed = Sealed { inner: &Gzip, name: GZIP_NAME, format: &GZIP_FORMAT, recipients: None };
/// The same around Zstandard frames.
pub(super) static READ_ZSTD: Sealed = Sealed { inner: &Zstd, name: "zstd", format: &ZSTD_FORMAT, recipients: None };

/// The codecs that were asked for; each set of recipients is one.
static MADE: Mutex<Vec<&'static Sealed>> = Mutex::new(Vec::new());

/// The codec that encrypts for these recipients. A process has few sets of recipients, and keeps each.
pub(super) fn for_recipients(like: &'static Sealed, recipients: &Recipients) -> CodecRef {
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    let is_it = |sealed: &&&'static Sealed| sealed.name == like.name && sealed.recipients.as_ref() == Some(recipients);
    if let Some(found) = made.iter().find(is_it) {
        return *found;
    }
    let sealed: &'static Sealed = Box::leak(Box::new(Sealed { recipients: Some(recipients.clone()), ..*like }));
    made.push(sealed);
    sealed
}

/// The codec.
pub(super) struct Sealed {
    inner: CodecRef,
    /// The inner codec's name in the stanza.
    name: &'static str,
    format: &'static Format,
    recipients: Option<Recipients>,
}

impl Codec for Sealed {
    fn format(&self) -> &'static Format {
        self.format
    }

    fn frame(&self, bytes: &[u8]) -> Option<MemberFrame> {
        let found = frame(bytes, self.signature())?;
        let inner = self.inner.bounds();
        let most = inner.max_member_bytes as u64;
        if found.member_bytes > most || found.data_bytes > MAX_MEMBER_DATA as u64 {
            return None;
        }
        let member_bytes = u32::try_from(found.segment_bytes).ok()?;
        Some(MemberFrame { member_bytes, data_bytes: u32::try_from(found.data_bytes).ok()? })
    }

    fn encoder(&self, level: i32) -> Result<Box<dyn Encode>, EncoderError> {
        let recipients = self.recipients.clone().ok_or(EncoderError::NoRecipients)?;
        let inner = self.inner.encoder(level)?;
        Ok(Box::new(SealingEncoder { inner, recipients, name: self.name, member: Vec::new() }))
    }

    fn encoder_bytes(&self, level: i32) -> usize {
        self.inner.encoder_bytes(level) + self.inner.bounds().max_member_bytes
    }

    fn decoder(&self) -> io::Result<Box<dyn Decode>> {
        Ok(Box::new(OpeningDecoder { inner: self.inner.decoder()?, member: Vec::new() }))
    }

    /// It fills a part of an upload. Empty without recipients.
    fn padding(&self, len: usize) -> Vec<u8> {
        let Bounds { min_padding_bytes, max_padding_bytes, .. } = *self.inner.bounds();
        let mut segment = Vec::new();
        if let Some(recipients) = &self.recipients {
            let member = self.inner.padding(len.clamp(min_padding_bytes, max_padding_bytes));
            recipients.seal_member(self.name, &member, 0, &mut segment);
        }
        segment
    }

    /// A header has no exact length.
    fn has_exact_padding(&self) -> bool {
        false
    }
}

struct SealingEncoder {
    inner: Box<dyn Encode>,
    recipients: Recipients,
    name: &'static str,
    /// The member before it is encrypted.
    member: Vec<u8>,
}

impl Encode for SealingEncoder {
    fn level(&self) -> i32 {
        self.inner.level()
    }

    fn set_level(&mut self, level: i32) -> Result<(), EncoderError> {
        self.inner.set_level(level)
    }

    fn encode(&mut self, data: &[u8], out: &mut Vec<u8>) -> usize {
        let len = self.inner.encode(data, &mut self.member);
        self.recipients.seal_member(self.name, &self.member[..len], data.len(), out)
    }
}

struct OpeningDecoder {
    inner: Box<dyn Decode>,
    member: Vec<u8>,
}

impl Decode for OpeningDecoder {
    fn decode(&mut self, member: &[u8], data_bytes: u64, data: &mut Vec<u8>) -> Result<(), DecodeError> {
        let opened = open(member, member.len() as u64, &mut self.member);
        opened.map_err(DecodeError::Sealed)?;
        self.inner.decode(&self.member, data_bytes, data)
    }
}
