//! Parses the output of `thin_dump` (thin-provisioning-tools 0.9 and 1.x) for one device of a pool, line by line: a pool's
//! whole dump may have gigabytes. Each line must have the form that the programs print, and must agree with the others.

use std::io::{self, BufRead, Read};

use super::error::ThinError;
use crate::digits::parse_decimal;
use crate::outside::Cancel;

/// A superblock's line has some 130 bytes.
const MAX_LINE_BYTES: u64 = 512;
/// A time is kept in 24 bits of a mapping (`pack_block_time` in drivers/md/dm-thin-metadata.c): a larger counter is ambiguous.
const MAX_TIME: u64 = (1 << 24) - 1;
/// Data blocks have the other 40 bits; a chunk of a volume cannot be further away than its last byte.
const MAX_BLOCKS: u64 = 1 << 40;
const MAX_CHUNKS: u64 = 1 << 48;
/// The lines between two looks whether the backup was cancelled.
const CANCEL_LINES: u64 = 4096;

/// Adjacent chunks of a volume in adjacent data blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MappedRun {
    pub(crate) first_chunk: u64,
    pub(crate) chunks: u64,
    pub(crate) data_block: u64,
    /// The pool's counter when the blocks were allocated.
    pub(crate) time: u64,
}

/// What is known of the device before.
pub(super) struct Expected {
    pub(super) thin_id: u64,
    pub(super) chunk_sectors: u64,
}

/// The facts around the mappings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dumped {
    pub(super) counter: u64,
    pub(super) transaction: u64,
    pub(super) created: u64,
}

/// Reads the whole output. Each run goes to `take`; runs ascend and do not overlap.
pub(super) fn read_dump(
    input: &mut dyn BufRead,
    expected: &Expected,
    cancel: &Cancel,
    take: &mut dyn FnMut(MappedRun) -> io::Result<()>,
) -> Result<Dumped, ThinError> {
    let mut lines = Lines { input, line: 0, buf: Vec::new() };
    let superblock = lines.tag("superblock", Shape::Start)?;
    let [counter, transaction, version, chunk_sectors] =
        lines.known(superblock.numbers(["time", "transaction", "version", "data_block_size"]))?;
    let flags = superblock.numbers(["flags"]).map_or(0, |[flags]| flags);
    if !matches!(version, 1 | 2) || flags != 0 {
        return lines.wrong("its metadata has another version, or needs a check");
    }
    if chunk_sectors != expected.chunk_sectors {
        return lines.wrong("its chunks have another length than those of the pool");
    }
    if counter > MAX_TIME {
        return lines.wrong("its counter is larger than the times of mappings can be");
    }
    let device = lines.tag("device", Shape::Start)?;
    let [thin_id, mapped, created] = lines.known(device.numbers(["dev_id", "mapped_blocks", "creation_time"]))?;
    if thin_id != expected.thin_id || created > counter {
        return lines.wrong("it is another device, or one of the future");
    }
    let (mut next_chunk, mut seen) = (0, 0_u64);
    loop {
        let tag = lines.next_tag()?;
        let run = match (tag.name.as_str(), tag.shape) {
            ("device", Shape::End) => break,
            ("single_mapping", Shape::Empty) => {
                let [first_chunk, data_block, time] =
                    lines.known(tag.numbers(["origin_block", "data_block", "time"]))?;
                MappedRun { first_chunk, chunks: 1, data_block, time }
            }
            ("range_mapping", Shape::Empty) => {
                let names = ["origin_begin", "length", "data_begin", "time"];
                let [first_chunk, chunks, data_block, time] = lines.known(tag.numbers(names))?;
                MappedRun { first_chunk, chunks, data_block, time }
            }
            _ => return lines.wrong("it is no mapping"),
        };
        let is_within = |start: u64, limit: u64| start.checked_add(run.chunks).is_some_and(|end| end <= limit);
        if run.chunks == 0 || !is_within(run.first_chunk, MAX_CHUNKS) || !is_within(run.data_block, MAX_BLOCKS) {
            return lines.wrong("its blocks are those of no pool");
        }
        if run.first_chunk < next_chunk {
            return lines.wrong("its chunks do not follow those before it");
        }
        if run.time > counter {
            return lines.wrong("its time is in the future");
        }
        next_chunk = run.first_chunk + run.chunks;
        seen += run.chunks;
        if lines.line.is_multiple_of(CANCEL_LINES) && cancel.is_cancelled() {
            return Err(ThinError::Cancelled);
        }
        take(run).map_err(ThinError::Keep)?;
    }
    if seen != mapped {
        return lines.wrong("the device has another number of mappings than it says");
    }
    lines.tag("superblock", Shape::End)?;
    lines.expect_end()?;
    Ok(Dumped { counter, transaction, created })
}

/// What kind of tag a line has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Start,
    Empty,
    End,
}

struct Tag {
    name: String,
    shape: Shape,
    /// Those with a number as their value.
    numbers: Vec<(String, u64)>,
}

impl Tag {
    /// The attributes of these names. `None` if one is missing.
    fn numbers<const N: usize>(&self, names: [&str; N]) -> Option<[u64; N]> {
        let mut values = [0; N];
        for (value, name) in values.iter_mut().zip(names) {
            *value = self.numbers.iter().find(|(given, _)| given == name)?.1;
        }
        Some(values)
    }

    /// Parses `<name a="1" b="2">`, `<name …/>` or `</name>`. A name may occur once; other values than numbers are only allowed
    /// if they are empty.
    fn parse(line: &str) -> Option<Self> {
        let inside = line.trim().strip_prefix('<')?.strip_suffix('>')?;
        if let Some(name) = inside.strip_prefix('/') {
            return is_name(name).then(|| Self { name: name.to_owned(), shape: Shape::End, numbers: Vec::new() });
        }
        let (inside, shape) = inside.strip_suffix('/').map_or((inside, Shape::Start), |inside| (inside, Shape::Empty));
        let mut words = inside.split_ascii_whitespace();
        let name = words.next().filter(|name| is_name(name))?.to_owned();
        let mut numbers: Vec<(String, u64)> = Vec::with_capacity(8);
        for word in words {
            let (name, value) = word.split_once('=')?;
            let value = value.strip_prefix('"')?.strip_suffix('"')?;
            if !is_name(name) || numbers.iter().any(|(given, _)| given == name) {
                return None;
            }
            if !value.is_empty() {
                numbers.push((name.to_owned(), parse_decimal(value.as_bytes())?));
            }
        }
        Some(Self { name, shape, numbers })
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

struct Lines<'a> {
    input: &'a mut dyn BufRead,
    /// The number of the last line.
    line: u64,
    buf: Vec<u8>,
}

impl Lines<'_> {
    fn wrong<T>(&self, what: &'static str) -> Result<T, ThinError> {
        Err(ThinError::Dump { line: self.line, what })
    }

    fn known<T>(&self, value: Option<T>) -> Result<T, ThinError> {
        value.map_or_else(|| self.wrong("an attribute is missing"), Ok)
    }

    /// Reads a line. False at the end.
    fn read(&mut self) -> Result<bool, ThinError> {
        self.line += 1;
        self.buf.clear();
        let read = (&mut *self.input).take(MAX_LINE_BYTES).read_until(b'\n', &mut self.buf);
        match read {
            Ok(len) => Ok(len > 0),
            Err(_) => self.wrong("it cannot be read"),
        }
    }

    fn next_tag(&mut self) -> Result<Tag, ThinError> {
        if !self.read()? {
            return self.wrong("it is missing");
        }
        let tag = std::str::from_utf8(&self.buf).ok().and_then(Tag::parse);
        tag.map_or_else(|| self.wrong("it is of no known form"), Ok)
    }

    fn tag(&mut self, name: &str, shape: Shape) -> Result<Tag, ThinError> {
        let tag = self.next_tag()?;
        if tag.name == name && tag.shape == shape { Ok(tag) } else { self.wrong("it is not the expected one") }
    }

    /// Nothing but empty lines follows.
    fn expect_end(&mut self) -> Result<(), ThinError> {
        while self.read()? {
            if !self.buf.trim_ascii().is_empty() {
                return self.wrong("it follows the end");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::{Dumped, Expected, MappedRun, read_dump};
    use crate::outside::Cancel;
    use crate::source::thin::error::ThinError;

    /// By thin_dump 0.9.0, in the lab.
    const PRINTED: &str = r#"<superblock uuid="" time="1" transaction="2" flags="0" version="2" data_block_size="128" nr_data_blocks="0">
  <device dev_id="2" mapped_blocks="321" transaction="1" creation_time="1" snap_time="1">
    <range_mapping origin_begin="0" data_begin="0" length="320" time="0"/>
    <single_mapping origin_block="1000" data_block="320" time="0"/>
  </device>
</superblock>
"#;
    const EXPECTED: Expected = Expected { thin_id: 2, chunk_sectors: 128 };

    fn read(text: &[u8]) -> Result<(Dumped, Vec<MappedRun>), ThinError> {
        let mut runs = Vec::new();
        let dumped = read_dump(&mut &*text, &EXPECTED, &Cancel::default(), &mut |run| {
            runs.push(run);
            Ok(())
        })?;
        Ok((dumped, runs))
    }

    #[test]
    fn what_thin_dump_prints_is_read() {
        let (dumped, runs) = read(PRINTED.as_bytes()).unwrap();
        assert_eq!(dumped, Dumped { counter: 1, transaction: 2, created: 1 });
        assert_eq!(
            runs,
            [
                MappedRun { first_chunk: 0, chunks: 320, data_block: 0, time: 0 },
                MappedRun { first_chunk: 1000, chunks: 1, data_block: 320, time: 0 }
            ]
        );
        // Version 1.x leaves out flags that are not set, and the last newline.
        let newer = PRINTED.replace(" flags=\"0\"", "").trim_end().to_owned();
        assert_eq!(read(newer.as_bytes()).unwrap(), (dumped, runs));
    }

    #[test]
    fn any_other_output_is_refused() {
        let replaced = |from: &str, to: &str| PRINTED.replacen(from, to, 1);
        let mut wrong = vec![
            String::new(),
            replaced("flags=\"0\"", "flags=\"1\""),
            replaced("version=\"2\"", "version=\"3\""),
            replaced("\"128\"", "\"256\""),
            replaced("time=\"1\"", "time=\"16777216\""),
            replaced("time=\"1\"", "time=\"0\""),
            replaced("dev_id=\"2\"", "dev_id=\"3\""),
            replaced("creation_time=\"1\"", "creation_time=\"2\""),
            replaced("mapped_blocks=\"321\"", "mapped_blocks=\"320\""),
            replaced("length=\"320\"", "length=\"0\""),
            replaced("length=\"320\"", "length=\"18446744073709551615\""),
            replaced("length=\"320\"", "length=\"99999999999999999999\""),
            replaced("length=\"320\"", "length=\"-1\""),
            replaced("length=\"320\"", "length=\"1001\""),
            replaced("origin_block=\"1000\"", "origin_block=\"319\""),
            replaced("data_block=\"320\"", "data_block=\"1099511627776\""),
            replaced("320\" time=\"0\"/>", "320\" time=\"2\"/>"),
            replaced("320\" time=\"0\"/>", "320\" time=\"0\" time=\"0\"/>"),
            replaced("320\" time=\"0\"/>", "320\"/>"),
            replaced("320\" time=\"0\"/>", "320\" time=\"0\">"),
            replaced("320\" time=\"0\"/>", "320\" time=0/>"),
            replaced("    <single", "    <ref name=\"1\"/>\n    <single"),
            replaced("  <device", "  <def name=\"1\">\n  </def>\n  <device"),
            replaced("    <single", &format!("{}<single", " ".repeat(600))),
            replaced("<single", "<\u{e9}single"),
            format!("{PRINTED}<superblock>\n"),
            format!("nag\n{PRINTED}"),
            replaced(
                "  </device>\n",
                "  </device>\n  <device dev_id=\"2\" mapped_blocks=\"0\" creation_time=\"1\">\n  </device>\n",
            ),
            "<superblock ".repeat(1 << 16),
        ];
        // Cut off anywhere but in the last newline.
        wrong.extend((0..PRINTED.len() - 1).map(|len| PRINTED[..len].to_owned()));
        for text in wrong {
            assert!(matches!(read(text.as_bytes()), Err(ThinError::Dump { .. })), "{text:.400}");
        }
        assert!(read(b"\xff\xfe").is_err());
    }

    #[test]
    fn a_mapping_that_cannot_be_kept_ends_it() {
        let mut full = |_| Err(io::ErrorKind::StorageFull.into());
        let result = read_dump(&mut PRINTED.as_bytes(), &EXPECTED, &Cancel::default(), &mut full);
        assert!(matches!(result, Err(ThinError::Keep(_))));
    }
}
