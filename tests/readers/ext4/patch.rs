//! A filesystem in memory, in which bytes are changed, and volbak run on it within bounds.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Output};

use super::alike::{at, debugfs, keep};
use crate::testkit::guest::{both_outputs, quoted, sh_output};

/// So much processor time a run may take, and so long, which is more where other tests run beside it.
const CPU_SECONDS: u32 = 60;
const SECONDS: u32 = 600;
/// So much memory it may ask for, its threads' stacks included.
const MEMORY_BYTES: u64 = 150 << 20;

/// An image in memory.
#[derive(Clone)]
pub(crate) struct Disk {
    pub(crate) bytes: Vec<u8>,
    pub(crate) block: usize,
}

impl Disk {
    pub(crate) fn read(image: &Path) -> Self {
        let bytes = fs::read(image).unwrap();
        let log_block = u32::from_le_bytes(bytes[0x418..0x41C].try_into().unwrap());
        Self { bytes, block: 1024 << log_block }
    }

    /// Writes it to a new sparse file.
    pub(crate) fn write(&self, image: &Path) {
        let _ = fs::remove_file(image);
        let file = File::create(image).unwrap();
        file.set_len(self.bytes.len() as u64).unwrap();
        for (number, block) in self.bytes.chunks(4096).enumerate() {
            if block.iter().any(|byte| *byte != 0) {
                file.write_all_at(block, number as u64 * 4096).unwrap();
            }
        }
    }

    /// Changes bytes; those past the end are dropped.
    pub(crate) fn put(&mut self, at: usize, bytes: &[u8]) {
        let at = at.min(self.bytes.len());
        let len = bytes.len().min(self.bytes.len() - at);
        self.bytes[at..at + len].copy_from_slice(&bytes[..len]);
    }

    pub(crate) fn put_u16(&mut self, at: usize, value: u16) {
        self.put(at, &value.to_le_bytes());
    }

    pub(crate) fn put_u32(&mut self, at: usize, value: u32) {
        self.put(at, &value.to_le_bytes());
    }

    pub(crate) fn u32_at(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.bytes[at..at + 4].try_into().unwrap())
    }

    /// A field of the superblock.
    pub(crate) fn superblock(&self, field: usize) -> usize {
        usize::try_from(self.u32_at(1024 + field)).unwrap()
    }

    /// Where inode `number` begins. ext4 layout, "Super Block" and "Block Group Descriptors".
    pub(crate) fn inode(&self, number: usize) -> usize {
        let per_group = self.superblock(0x28);
        let inode_bytes = self.superblock(0x58) & 0xFFFF;
        let descriptor_bytes = match self.superblock(0xFC) >> 16 {
            _ if self.superblock(0x60) & 0x80 == 0 => 32,
            bytes => bytes,
        };
        let descriptors = (self.superblock(0x14) + 1) * self.block;
        let (group, index) = ((number - 1) / per_group, (number - 1) % per_group);
        let table = usize::try_from(self.u32_at(descriptors + group * descriptor_bytes + 8)).unwrap();
        table * self.block + index * inode_bytes
    }
}

/// The inode that a path leads to.
pub(crate) fn inode_number(image: &Path, path: &str) -> usize {
    let said = debugfs(image, &format!("stat {path}"));
    let line = said.lines().find(|line| line.starts_with("Inode:")).unwrap_or_else(|| panic!("{path}: {said}"));
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// The blocks of a file, those of its map among them.
pub(crate) fn blocks(image: &Path, path: &str) -> Vec<usize> {
    let said = debugfs(image, &format!("blocks {path}"));
    said.lines().last().unwrap().split_whitespace().map(|block| block.parse().unwrap()).collect()
}

/// All that is not files' data: the superblock, descriptors, bitmaps and inodes in use, by blocks.
pub(crate) fn metadata_blocks(image: &Path) -> Vec<usize> {
    let said = at(image, "dumpe2fs $IMG 2>/dev/null | grep -oE '(superblock|descriptors|table) at [0-9]+(-[0-9]+)?'");
    let ranges = said.lines().filter_map(|line| {
        let range = line.rsplit(' ').next()?;
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.parse::<usize>().ok()?..=last.parse::<usize>().ok()?)
    });
    ranges.flatten().collect()
}

/// Backs the image up, and fails unless that comes to a proper end, with what can be read in an archive that tar can list.
/// Gives the exit status.
pub(crate) fn assert_well_behaved(image: &Path, reader: &str) -> i32 {
    let dest = image.with_extension("backups");
    let _ = fs::remove_dir_all(&dest);
    fs::create_dir(&dest).unwrap();
    let output = run_bounded(image, &dest, reader);
    let said = both_outputs(&output);
    let fail = |what: &str| {
        keep(image);
        panic!("{}: {what}: {}\n{}", image.display(), output.status, &said[..said.len().min(3000)]);
    };
    let Some(status @ (0 | 1 | 3)) = output.status.code() else { return fail("no proper end") };
    if said.contains("panicked") {
        return fail("it panicked");
    }
    if status != 1 {
        let listed = sh_output(&format!("cd {}; tar tzf */*.tar.gz >/dev/null", quoted(&dest)));
        if !listed.status.success() {
            return fail(&both_outputs(&listed));
        }
    }
    status
}

fn run_bounded(image: &Path, dest: &Path, reader: &str) -> Output {
    Command::new("prlimit")
        .args([&format!("--data={MEMORY_BYTES}"), &format!("--cpu={CPU_SECONDS}")])
        .args(["timeout", "-s", "KILL", &SECONDS.to_string()])
        .arg(env!("CARGO_BIN_EXE_volbak"))
        .args(["snapshot", "--level", "1", "--full", "--threads", "2", "--scratch", "/nonexistent/scratch"])
        .args(["--reader", reader])
        .arg(image)
        .arg("--to")
        .arg(dest)
        .output()
        .unwrap()
}
