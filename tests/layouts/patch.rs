//! Damage that no tool makes: bytes of tables changed, with checksums made right again where the case wants that.

use std::fs::File;
use std::os::unix::fs::FileExt;

const SECTOR: u64 = 512;

pub(crate) fn read(file: &File, at: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, at).expect("inside the image");
    bytes
}

pub(crate) fn write(file: &File, at: u64, bytes: &[u8]) {
    file.write_all_at(bytes, at).expect("inside the image");
}

fn number(bytes: &[u8], at: usize, len: usize) -> u64 {
    bytes[at..at + len].iter().rev().fold(0, |value, byte| (value << 8) | u64::from(*byte))
}

/// Changes the entry array of a GPT in sectors of 512 bytes, primary and backup, and seals both copies.
pub(crate) fn gpt(file: &File, change: impl Fn(&mut Vec<u8>)) {
    gpt_headers(file, |_| (), change);
}

/// As [`gpt`], with a change of the header as well.
pub(crate) fn gpt_headers(file: &File, change_header: impl Fn(&mut [u8]), change: impl Fn(&mut Vec<u8>)) {
    let last = file.metadata().expect("a file").len() / SECTOR - 1;
    for lba in [1, last] {
        let mut header = read(file, lba * SECTOR, 512);
        let array_at = number(&header, 72, 8) * SECTOR;
        let mut array = read(file, array_at, 128 * 128);
        change(&mut array);
        change_header(&mut header);
        let len = usize::try_from(number(&header, 80, 4) * number(&header, 84, 4)).expect("small");
        write(file, array_at, &array);
        let covered = read(file, array_at, len);
        header[88..92].copy_from_slice(&crc32fast::hash(&covered).to_le_bytes());
        header[16..20].fill(0);
        let sum = crc32fast::hash(&header[..92]);
        header[16..20].copy_from_slice(&sum.to_le_bytes());
        write(file, lba * SECTOR, &header);
    }
}

/// Sets first and last sector of an entry, which is counted from 0.
pub(crate) fn entry_range(array: &mut [u8], index: usize, first: u64, last: u64) {
    array[index * 128 + 32..index * 128 + 40].copy_from_slice(&first.to_le_bytes());
    array[index * 128 + 40..index * 128 + 48].copy_from_slice(&last.to_le_bytes());
}

/// Writes a partition record `(slot, type, start, sectors)` and the signature into the boot record at `lba`.
pub(crate) fn record(file: &File, lba: u64, slot: u64, os_type: u8, start: u32, sectors: u32) {
    let mut bytes = [0_u8; 16];
    bytes[4] = os_type;
    bytes[8..12].copy_from_slice(&start.to_le_bytes());
    bytes[12..16].copy_from_slice(&sectors.to_le_bytes());
    write(file, lba * SECTOR + 0x1be + slot * 16, &bytes);
    write(file, lba * SECTOR + 0x1fe, &[0x55, 0xaa]);
}

/// Where the chain of the first extended partition leads, record by record.
pub(crate) fn chain(file: &File) -> Vec<u64> {
    let sector = read(file, 0, 512);
    let extended = (0..4)
        .map(|slot| 0x1be + slot * 16)
        .find(|at| matches!(sector[at + 4], 0x05 | 0x0f | 0x85))
        .map(|at| number(&sector, at + 8, 4))
        .expect("an extended partition");
    let mut found = vec![extended];
    loop {
        let record = read(file, found[found.len() - 1] * SECTOR, 512);
        let link = number(&record, 0x1ce + 8, 4);
        if record[0x1ce + 4] == 0 || found.len() > 200 {
            return found;
        }
        found.push(extended + link);
    }
}
