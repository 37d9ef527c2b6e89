//! A catalogue: one object with the content of many small ones, so that a list of thousands of backups needs no request for
//! each manifest.
//!
//! It is only a cache. An entry counts if the listing shows an object of the same key, length and ETag, and the ETag is the
//! MD5 of the entry's bytes. So a catalogue that is stale, torn or made by somebody else costs requests, never an answer.

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Read, Write as _};

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use md5::{Digest, Md5};

use super::cache::Named;
use crate::shown;

/// The folder of the catalogues, below the destination.
pub(super) const FOLDER: &str = ".volbak/catalogue/";
/// A longer object is in no catalogue.
pub(super) const MOST_BYTES: u64 = 256 << 10;
/// Content of all entries of a catalogue.
const MOST_IN_ALL: u64 = 256 << 20;
const MOST_LINE_BYTES: u64 = 4096;
const HEADER: &str = "volbak catalogue 1\n";
/// The end of the name of one with all entries; it supersedes earlier ones.
const FULL: &str = ".full.gz";
const PART: &str = ".part.gz";

/// The name of a catalogue that is made at this time, in milliseconds. Names sort by time.
pub(super) fn name(millis: i64, random: &str, is_full: bool) -> String {
    format!("{:016}_{random}{}", millis.max(0), if is_full { FULL } else { PART })
}

pub(super) fn is_full(key: &str) -> bool {
    key.ends_with(FULL)
}

pub(super) fn is_catalogue(key: &str) -> bool {
    is_full(key) || key.ends_with(PART)
}

/// Whether the ETag is the MD5 of these bytes. Stores that encrypt with keys of their own give other ETags.
pub(super) fn is_md5_of(etag: &str, bytes: &[u8]) -> bool {
    looks_like_md5(etag) && md5(bytes) == etag
}

pub(super) fn looks_like_md5(etag: &str) -> bool {
    etag.len() == 32 && etag.bytes().all(|byte| byte.is_ascii_hexdigit())
}

pub(super) fn md5(bytes: &[u8]) -> String {
    shown::hex(&Md5::digest(bytes))
}

/// A catalogue of these objects, keys below the destination. Those beyond the most that a catalogue has are left out.
pub(super) fn encode<'a>(entries: impl Iterator<Item = (Named<'a>, &'a [u8])>) -> io::Result<Vec<u8>> {
    let mut out = GzEncoder::new(Vec::new(), Compression::new(6));
    out.write_all(HEADER.as_bytes())?;
    let mut all = 0;
    let mut line = String::new();
    for (named, bytes) in entries {
        all += named.len;
        line.clear();
        let _ = writeln!(line, "{} {} {}", named.len, named.etag, named.key);
        let is_line = line.matches('\n').count() == 1 && line.len() as u64 <= MOST_LINE_BYTES;
        if is_line && all <= MOST_IN_ALL && bytes.len() as u64 == named.len {
            out.write_all(line.as_bytes())?;
            out.write_all(bytes)?;
        }
    }
    out.finish()
}

/// Gives `each` the entries that `is_wanted`, up to the first place where the catalogue is not one.
pub(super) fn decode(
    catalogue: &[u8],
    is_wanted: impl Fn(Named<'_>) -> bool,
    mut each: impl FnMut(&str, Vec<u8>),
) -> io::Result<()> {
    let limit = MOST_IN_ALL * 2;
    let mut input = BufReader::new(MultiGzDecoder::new(catalogue).take(limit));
    let mut line = Vec::new();
    let mut is_first = true;
    loop {
        line.clear();
        (&mut input).take(MOST_LINE_BYTES).read_until(b'\n', &mut line)?;
        let text = std::str::from_utf8(&line).ok().and_then(|text| text.strip_suffix('\n'));
        let wrong = || io::Error::from(io::ErrorKind::InvalidData);
        match text {
            None if line.is_empty() && !is_first => return Ok(()),
            None => return Err(wrong()),
            Some(text) if is_first => {
                is_first = false;
                if text != HEADER.trim_end() {
                    return Err(wrong());
                }
            }
            Some(text) => {
                let mut words = text.splitn(3, ' ');
                let (len, etag, key) = (words.next(), words.next(), words.next());
                let len = len.and_then(|len| len.parse().ok()).ok_or_else(wrong)?;
                let (etag, key) = etag.zip(key).ok_or_else(wrong)?;
                if len <= MOST_BYTES && is_wanted(Named { key, etag, len }) {
                    let mut bytes = Vec::new();
                    (&mut input).take(len).read_to_end(&mut bytes)?;
                    if bytes.len() as u64 != len {
                        return Err(wrong());
                    }
                    if is_md5_of(etag, &bytes) {
                        each(key, bytes);
                    }
                } else if io::copy(&mut (&mut input).take(len), &mut io::sink())? != len {
                    return Err(wrong());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Named, decode, encode, md5};

    fn decoded(catalogue: &[u8], wanted: &BTreeMap<&str, (String, u64)>) -> BTreeMap<String, Vec<u8>> {
        let mut found = BTreeMap::new();
        let is_wanted = |named: Named<'_>| wanted.get(named.key) == Some(&(named.etag.to_owned(), named.len));
        let _ = decode(catalogue, is_wanted, |key, bytes| drop(found.insert(key.to_owned(), bytes)));
        found
    }

    #[test]
    fn an_entry_counts_only_as_the_bytes_of_the_listed_object() {
        let content: Vec<(&str, Vec<u8>)> =
            (0..50).map(|at| (["a b", "v/ü", "x"][at % 3], format!("{at}\n").repeat(at).into_bytes())).collect();
        let etags: Vec<String> = content.iter().map(|(_, bytes)| md5(bytes)).collect();
        let entries = content
            .iter()
            .zip(&etags)
            .map(|((key, bytes), etag)| (Named { key, etag, len: bytes.len() as u64 }, bytes.as_slice()));
        let catalogue = encode(entries).unwrap();
        let (last, etag) = (&content[47].1, &etags[47]);
        let wanted = BTreeMap::from([("x", (etag.clone(), last.len() as u64))]);
        assert_eq!(decoded(&catalogue, &wanted), BTreeMap::from([("x".to_owned(), last.clone())]));
        // Another ETag or length, also of honest bytes.
        for other in [(etags[44].clone(), last.len() as u64), (etag.clone(), 1)] {
            assert!(decoded(&catalogue, &BTreeMap::from([("x", other)])).is_empty());
        }
        // One that lies: the listed key and ETag with other bytes of the same length.
        let lie = vec![b'!'; last.len()];
        let forged = encode([(Named { key: "x", etag, len: lie.len() as u64 }, lie.as_slice())].into_iter()).unwrap();
        assert!(decoded(&forged, &wanted).is_empty());
        for len in 0..catalogue.len() {
            let found = decoded(&catalogue[..len], &wanted);
            assert!(found.is_empty() || found["x"] == *last, "{len}");
        }
        for at in 0..catalogue.len() {
            let mut flipped = catalogue.clone();
            flipped[at] ^= 0x10;
            let found = decoded(&flipped, &wanted);
            assert!(found.is_empty() || found["x"] == *last, "{at}");
        }
    }
}
