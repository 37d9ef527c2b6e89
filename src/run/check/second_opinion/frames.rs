//! The content of Zstandard frames, as decompressed by ruzstd, a decoder that shares no code with volbak's.

use std::io::{self, BufRead, Read};

use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// Magic numbers of skippable frames: 0x184D2A50 to 0x184D2A5F (RFC 8878, section 3.1.2).
const SKIPPABLE: u32 = 0x184D_2A50;
const SKIPPABLE_MASK: u32 = !0xf;
/// The content of a frame is at most 1 MiB, and so is its window.
const MAX_WINDOW_BYTES: u64 = 1 << 20;

/// A stream of frames. Skippable ones are passed over; every other one must have a checksum and
/// the length of its content, which are compared.
pub(super) struct Frames<R> {
    input: R,
    decoder: FrameDecoder,
    in_frame: bool,
    /// The content of the frame so far, in bytes.
    content_bytes: u64,
}

impl<R: BufRead> Frames<R> {
    pub(super) fn new(input: R) -> Self {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(MAX_WINDOW_BYTES);
        Self { input, decoder, in_frame: false, content_bytes: 0 }
    }

    pub(super) fn get_ref(&self) -> &R {
        &self.input
    }

    /// Begins the next frame with content. False at the end of the input.
    fn begin_frame(&mut self) -> io::Result<bool> {
        loop {
            if self.input.fill_buf()?.is_empty() {
                return Ok(false);
            }
            let mut magic = [0; 4];
            self.input.read_exact(&mut magic)?;
            if u32::from_le_bytes(magic) & SKIPPABLE_MASK != SKIPPABLE {
                self.decoder.init(magic.as_slice().chain(&mut self.input)).map_err(io::Error::other)?;
                return Ok(true);
            }
            let mut len = [0; 4];
            self.input.read_exact(&mut len)?;
            let len = u64::from(u32::from_le_bytes(len));
            if io::copy(&mut (&mut self.input).take(len), &mut io::sink())? != len {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    fn check_frame(&self) -> io::Result<()> {
        if self.decoder.content_size() != self.content_bytes {
            return Err(io::Error::other("the length of a frame's content is wrong"));
        }
        match (self.decoder.get_checksum_from_data(), self.decoder.get_calculated_checksum()) {
            (Some(said), Some(found)) if said == found => Ok(()),
            (None, _) => Err(io::Error::other("a frame has no checksum")),
            _ => Err(io::Error::other("the checksum of a frame is wrong")),
        }
    }
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            if !self.in_frame {
                self.in_frame = self.begin_frame()?;
                self.content_bytes = 0;
                if !self.in_frame {
                    return Ok(0);
                }
            }
            while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                self.decoder
                    .decode_blocks(&mut self.input, BlockDecodingStrategy::UptoBlocks(1))
                    .map_err(io::Error::other)?;
            }
            let len = self.decoder.read(buf)?;
            self.content_bytes += len as u64;
            if len > 0 || buf.is_empty() {
                return Ok(len);
            }
            self.check_frame()?;
            self.in_frame = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Read};

    use super::Frames;

    fn content(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
        let mut read = Vec::new();
        Frames::new(BufReader::with_capacity(7, bytes)).read_to_end(&mut read).map(|_| read)
    }

    fn frame(data: &[u8]) -> Vec<u8> {
        let mut context = zstd::bulk::Compressor::new(3).unwrap();
        context.include_checksum(true).unwrap();
        context.compress(data).unwrap()
    }

    #[test]
    fn frames_are_joined_and_skippable_ones_passed_over() {
        let skippable = [&0x184D_2A5B_u32.to_le_bytes()[..], &[3, 0, 0, 0], b"abc"].concat();
        let text = b"some text ".repeat(30_000);
        let stream = [&skippable[..], &frame(&text), &frame(b""), &skippable, &frame(b"end"), &skippable].concat();
        assert_eq!(content(&stream).unwrap(), [&text[..], b"end"].concat());
        assert!(content(&stream[..stream.len() - 1]).is_err(), "cut off in a skippable frame");
        assert!(content(&stream[..stream.len() - 12]).is_err(), "cut off in a frame");
        assert_eq!(content(b"").unwrap(), b"");
    }

    #[test]
    fn each_changed_byte_is_an_error() {
        let good = frame(&b"some text ".repeat(100));
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x11;
            assert!(content(&bad).is_err(), "byte {at}");
        }
        assert!(content(&zstd::bulk::compress(b"without a checksum", 3).unwrap()).is_err());
    }
}
