//! An entry as read by the `tar` crate, and its differences from the index and from volbak's own reader.

use std::io::{self, Read};

use sha2::{Digest, Sha256};
use tar::{Archive, EntryType};

use crate::archive::index::{EntryLine, IndexedKind, escape_path};
use crate::archive::pax::padding_after;
use crate::archive::read::head::{EntryHead, HeadKind};
use crate::shown::hex;

/// Names in a finding are cut to this length, so that both opinions fit on one line.
const SHOWN_BYTES: usize = 256;
const NANOS: i128 = 1_000_000_000;

/// An entry as read by the `tar` crate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Opinion {
    pub(super) path: Vec<u8>,
    pub(super) entry_type: EntryType,
    /// Empty without a link.
    pub(super) link: Vec<u8>,
    pub(super) mode: u32,
    pub(super) uid: u64,
    pub(super) gid: u64,
    /// Nanoseconds since 1970; `None` if it is not a number.
    pub(super) mtime: Option<i128>,
    /// Major and minor number; 0 for entries other than devices.
    pub(super) device: (u32, u32),
    pub(super) size: u64,
    /// The length of headers, data and padding.
    pub(super) length: u64,
    /// The length of the data, at most one byte more than requested.
    pub(super) read_bytes: u64,
    /// SHA-256 of the data.
    pub(super) content: [u8; 32],
    /// The number of extended records that the crate cannot read.
    pub(super) bad_records: u64,
}

/// Reads the single entry in `archive`, and at most one byte more than `size` of its data, through `buffer`.
pub(super) fn ask(archive: impl Read, size: u64, buffer: &mut [u8]) -> io::Result<Opinion> {
    let mut archive = Archive::new(archive);
    let mut entries = archive.entries()?;
    let mut entry = entries.next().ok_or_else(|| io::Error::other("it finds no entry"))??;
    let header = entry.header();
    let entry_type = header.entry_type();
    let (mode, uid, gid) = (header.mode()?, header.uid()?, header.gid()?);
    let device = if matches!(entry_type, EntryType::Char | EntryType::Block) {
        (header.device_major()?.unwrap_or(0), header.device_minor()?.unwrap_or(0))
    } else {
        (0, 0)
    };
    // The crate returns the field's 64 bits unsigned, also for times before 1970.
    let mut mtime = Some(i128::from(header.mtime()?.cast_signed()) * NANOS);
    let (path, link) = (entry.path_bytes().into_owned(), entry.link_name_bytes().unwrap_or_default().into_owned());
    let mut bad_records = 0;
    if let Some(records) = entry.pax_extensions()? {
        for record in records {
            match record {
                Ok(record) if record.key_bytes() == b"mtime" => mtime = nanoseconds(record.value_bytes()),
                Ok(_) => {}
                Err(_) => bad_records += 1,
            }
        }
    }
    let entry_size = entry.size();
    let length = entry
        .raw_file_position()
        .checked_add(entry_size)
        .and_then(|end| end.checked_add(padding_after(entry_size)))
        .ok_or_else(|| io::Error::other("its size is out of bounds"))?;

    let mut hash = Sha256::new();
    let mut read_bytes = 0;
    let mut data = (&mut entry).take(size.saturating_add(1));
    loop {
        match data.read(buffer) {
            Ok(0) => break,
            Ok(len) => {
                hash.update(&buffer[..len]);
                read_bytes += len as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let content = hash.finalize().into();
    let size = entry_size;
    Ok(Opinion {
        path,
        entry_type,
        link,
        mode,
        uid,
        gid,
        mtime,
        device,
        size,
        length,
        read_bytes,
        content,
        bad_records,
    })
}

/// The value of a record `mtime`: POSIX.1-2001, pax(1), "pax Extended Header File Times". The crate returns its
/// text. It is parsed separately here, since volbak's own parser would repeat its own mistakes.
fn nanoseconds(text: &[u8]) -> Option<i128> {
    let text = std::str::from_utf8(text).ok()?;
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |digits| (-1, digits));
    let (seconds, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(seconds) || !is_number(fraction) {
        return None;
    }
    let fraction: i128 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    Some(sign * (seconds.parse::<u64>().map(i128::from).ok()? * NANOS + fraction))
}

/// The difference between the crate's reading of an entry and that of the index and volbak; `None` without one.
pub(super) fn disagreement(opinion: &Opinion, head: &EntryHead, line: &EntryLine) -> Option<String> {
    let mut differs = Differs(Vec::new());
    let path = opinion.path.strip_suffix(b"/").unwrap_or(&opinion.path);
    differs.index("the name", path == line.path, || (shown(path), shown(&line.path)));
    differs.index("the type", is_kind(opinion.entry_type, line.kind), || {
        (format!("`{}`", opinion.entry_type.as_byte().escape_ascii()), format!("`{}`", line.kind.letter()))
    });
    let is_file = line.kind == IndexedKind::File;
    let size = if is_file { line.size } else { 0 };
    differs.index("the size", opinion.size == size, || (opinion.size.to_string(), size.to_string()));
    differs.index("a length in the archive", opinion.length == line.tar_length, || {
        (opinion.length.to_string(), line.tar_length.to_string())
    });
    if opinion.size == size {
        differs.index("data", opinion.read_bytes == size, || {
            let found = if opinion.read_bytes > size { "more".to_owned() } else { opinion.read_bytes.to_string() };
            (format!("of {found} bytes"), size.to_string())
        });
    }
    if is_file && opinion.read_bytes == size {
        differs.index("the SHA-256", Some(opinion.content) == line.content, || {
            (hex(&opinion.content), line.content.map_or_else(|| "none".to_owned(), |content| hex(&content)))
        });
    }

    let link: &[u8] = match &head.kind {
        HeadKind::Symlink(target) | HeadKind::HardLink(target) => target,
        _ => b"",
    };
    differs.reader("the link target", opinion.link == link, || (shown(&opinion.link), shown(link)));
    let mtime = i128::from(head.mtime.sec) * NANOS + i128::from(head.mtime.nsec);
    differs.reader("the time", opinion.mtime == Some(mtime), || {
        let found = opinion.mtime.map_or_else(|| "that is not a number".to_owned(), |nanos| format!("{nanos} ns"));
        (found, format!("{mtime} ns"))
    });
    let mode = opinion.mode & 0o7777;
    differs.reader("the mode", mode == head.mode, || (format!("{mode:04o}"), format!("{:04o}", head.mode)));
    differs.reader("the owner", opinion.uid == head.uid, || (opinion.uid.to_string(), head.uid.to_string()));
    differs.reader("the group", opinion.gid == head.gid, || (opinion.gid.to_string(), head.gid.to_string()));
    let device = match head.kind {
        HeadKind::CharDevice(number) | HeadKind::BlockDevice(number) => (number.major, number.minor),
        _ => (0, 0),
    };
    differs.reader("the device", opinion.device == device, || {
        let text = |(major, minor): (u32, u32)| format!("{major}:{minor}");
        (text(opinion.device), text(device))
    });
    if opinion.bad_records > 0 {
        let count = opinion.bad_records;
        differs.0.push(format!("the tar crate finds {count} damaged records in its headers, and volbak none"));
    }
    (!differs.0.is_empty()).then(|| differs.0.join("; "))
}

/// The differing values in words, one text per field.
struct Differs(Vec<String>);

impl Differs {
    fn index(&mut self, what: &str, is_same: bool, texts: impl FnOnce() -> (String, String)) {
        self.add(what, is_same, "the index says", texts);
    }

    fn reader(&mut self, what: &str, is_same: bool, texts: impl FnOnce() -> (String, String)) {
        self.add(what, is_same, "volbak reads", texts);
    }

    fn add(&mut self, what: &str, is_same: bool, who: &str, texts: impl FnOnce() -> (String, String)) {
        if !is_same {
            let (theirs, ours) = texts();
            self.0.push(format!("the tar crate reads {what} {theirs}, and {who} {ours}"));
        }
    }
}

fn is_kind(entry_type: EntryType, kind: IndexedKind) -> bool {
    match entry_type {
        EntryType::Regular | EntryType::Continuous => kind == IndexedKind::File,
        EntryType::Directory => kind == IndexedKind::Directory,
        EntryType::Symlink => kind == IndexedKind::Symlink,
        EntryType::Link => kind == IndexedKind::HardLink,
        EntryType::Char => kind == IndexedKind::CharDevice,
        EntryType::Block => kind == IndexedKind::BlockDevice,
        EntryType::Fifo => kind == IndexedKind::Fifo,
        _ => false,
    }
}

fn shown(name: &[u8]) -> String {
    let (start, rest) = name.split_at(name.len().min(SHOWN_BYTES));
    format!("{:?}{}", escape_path(start), if rest.is_empty() { "" } else { "…" })
}

#[cfg(test)]
mod tests;
