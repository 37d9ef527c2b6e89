//! The beginning of a file, as lines for a terminal.

use std::io::{self, Write};

use volbak::outside::Cancel;
use volbak::run::browse::{self, BrowseError};
use volbak::shown;
use volbak::store::Backup;

/// The bytes of a file that are shown.
const SHOWN_BYTES: usize = 64 << 10;
/// The bytes in a line of a file that is no text.
const BYTES_IN_A_LINE: usize = 16;
/// A file in an image is copied as a whole before it is shown.
const COPIED_BYTES: u64 = 64 << 20;

/// The first lines of the file that the pattern `path` names; they have no control characters. `size` is its length in bytes.
pub(super) fn lines_of(files: &Backup, path: &str, size: u64, cancel: &Cancel) -> Result<Vec<String>, String> {
    if files.kind().is_image() && size > COPIED_BYTES {
        return Err(format!("too large to be shown from an image: `volbak cat {}:{path}` prints it", files.stem()));
    }
    let mut head = Head::default();
    let mut doubt = None;
    match browse::cat(files, path, cancel, &mut head) {
        Ok(printed) => doubt = printed.doubt,
        // The rest was not read, and its digest is not known.
        Err(BrowseError::Io { .. }) if head.is_cut => {}
        Err(error) => return Err(volbak::error::with_causes(&error)),
    }
    let Head { bytes, is_cut } = head;
    let mut lines: Vec<String> = if bytes.contains(&0) {
        let numbered = bytes.chunks(BYTES_IN_A_LINE).enumerate();
        numbered.map(|(number, bytes)| dumped(number * BYTES_IN_A_LINE, bytes)).collect()
    } else {
        bytes
            .split(|byte| *byte == b'\n')
            .map(|line| shown::text(&String::from_utf8_lossy(&tabs_to_blanks(line))))
            .collect()
    };
    if lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    lines.extend(doubt.map(|doubt| format!("… {doubt}")));
    if is_cut {
        lines.push(format!("… the first {} KiB of {size} bytes", SHOWN_BYTES >> 10));
    }
    Ok(lines)
}

fn tabs_to_blanks(line: &[u8]) -> Vec<u8> {
    let mut wide = Vec::with_capacity(line.len());
    for byte in line.strip_suffix(b"\r").unwrap_or(line) {
        match byte {
            b'\t' => wide.resize(wide.len() + 8 - wide.len() % 8, b' '),
            other => wide.push(*other),
        }
    }
    wide
}

fn dumped(offset: usize, bytes: &[u8]) -> String {
    let mut hex = String::new();
    for byte in bytes {
        hex.push_str(&format!("{byte:02x} "));
    }
    let text: String = bytes.iter().map(|byte| if byte.is_ascii_graphic() { char::from(*byte) } else { '.' }).collect();
    format!("{offset:08x}  {hex:<48} {text}")
}

/// Takes the beginning of what is written, and then refuses the rest.
#[derive(Default)]
struct Head {
    bytes: Vec<u8>,
    is_cut: bool,
}

impl Write for Head {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(SHOWN_BYTES - self.bytes.len());
        if taken == 0 && !bytes.is_empty() {
            self.is_cut = true;
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.bytes.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
