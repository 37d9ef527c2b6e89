//! Maps of files with holes, in each form that GNU tar has written them.
//!
//! Source: GNU tar's manual, "Storing Sparse Files"; `struct sparse` in its `tar.h`.

use super::records::decimal;
use crate::units::ByteRange;

/// A map with more runs is refused: it would only be there to fill the memory.
pub const MAX_RUNS: usize = 1 << 20;

/// Runs of data in a file of `real_size` bytes, checked: ascending, apart, inside of the file, and as long together as
/// the data that is stored.
pub fn check(runs: Vec<ByteRange>, real_size: u64, stored_bytes: u64) -> Result<Vec<ByteRange>, String> {
    let mut end_before = 0;
    let mut sum = 0_u64;
    for run in &runs {
        let end = run.end().filter(|end| *end <= real_size && run.start >= end_before);
        end_before = end.ok_or("its map of holes contradicts itself")?;
        // Runs that lie apart in 64 bits have a sum in 64 bits.
        sum = sum.saturating_add(run.len);
    }
    if sum != stored_bytes {
        return Err(format!("its map of holes has {sum} bytes of data, and {stored_bytes} are stored"));
    }
    Ok(runs.into_iter().filter(|run| run.len > 0).collect())
}

/// The runs of a list of offsets and lengths.
pub fn runs_of(numbers: &[u64]) -> Result<Vec<ByteRange>, String> {
    if !numbers.len().is_multiple_of(2) || numbers.len() > 2 * MAX_RUNS {
        return Err("its map of holes is cut off or too long".to_owned());
    }
    Ok(numbers.chunks_exact(2).map(|pair| ByteRange::new(pair[0], pair[1])).collect())
}

/// Reads the map of PAX format 1.0 as it comes, block by block.
#[derive(Debug, Default)]
pub struct MapReader {
    wanted: Option<usize>,
    numbers: Vec<u64>,
    partial: Vec<u8>,
}

impl MapReader {
    /// Takes a block of the data area. Gives the runs when it was the map's last.
    pub fn add_block(&mut self, block: &[u8]) -> Result<Option<Vec<ByteRange>>, String> {
        for byte in block {
            if self.wanted.is_some_and(|wanted| self.numbers.len() == wanted) {
                break;
            }
            if *byte != b'\n' {
                self.partial.push(*byte);
                if self.partial.len() > 20 {
                    return Err("its map of holes is damaged".to_owned());
                }
                continue;
            }
            let number = decimal(&self.partial).ok_or("its map of holes is damaged")?;
            self.partial.clear();
            if self.wanted.is_some() {
                self.numbers.push(number);
            } else {
                let runs = usize::try_from(number).ok().filter(|runs| *runs <= MAX_RUNS);
                self.wanted = Some(2 * runs.ok_or("its map of holes is too long")?);
            }
        }
        if self.wanted.is_some_and(|wanted| self.numbers.len() == wanted) {
            return runs_of(&self.numbers).map(Some);
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::{MapReader, check};
    use crate::units::ByteRange;

    #[test]
    fn a_map_may_take_several_blocks() {
        let mut text = b"100\n".to_vec();
        for run in 0..100_u64 {
            text.extend_from_slice(format!("{}\n512\n", run * 1_000_000).as_bytes());
        }
        text.resize(text.len().next_multiple_of(512), 0);
        let mut reader = MapReader::default();
        let mut runs = None;
        for block in text.chunks(512) {
            assert!(runs.is_none());
            runs = reader.add_block(block).unwrap();
        }
        let runs = check(runs.unwrap(), 99_000_512, 51_200).unwrap();
        assert_eq!((runs.len(), runs[99].start), (100, 99_000_000));
    }

    #[test]
    fn maps_that_lie_are_refused() {
        let run = ByteRange::new;
        assert!(check(vec![run(10, 5), run(0, 5)], 20, 10).is_err());
        assert!(check(vec![run(0, 5), run(4, 5)], 20, 10).is_err());
        assert!(check(vec![run(0, 30)], 20, 30).is_err());
        assert!(check(vec![run(u64::MAX, 2)], u64::MAX, 2).is_err());
        assert!(check(vec![run(0, 5)], 20, 6).is_err());
        assert!(MapReader::default().add_block(b"99999999999\n").is_err());
        assert!(MapReader::default().add_block(b"-1\n").is_err());
        assert!(MapReader::default().add_block(&[b'1'; 512]).is_err());
        // Never ends, but what it keeps of it does.
        let mut endless = MapReader::default();
        assert_eq!(endless.add_block(b"1000000\n"), Ok(None));
    }
}
