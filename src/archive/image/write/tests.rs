//! Nights of a volume in a thin pool, both in memory: each image must be the volume, whatever was not read.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::sync::Arc;

use super::{ImageOf, WrittenImage, write_image};
use crate::archive::carry::Share;
use crate::archive::image::mapping::{ChunkRun, MappingBuilder, VolumeMapping};
use crate::archive::image::parent::{ImageParent, ImageParentFacts};
use crate::archive::level::CompressionLevel;
use crate::archive::members::Outputs;
use crate::archive::write::WriteOptions;
use crate::events::Silent;
use crate::outside::BlockRead;
use crate::shown::hex;
use crate::units::ByteRange;

const CHUNK: usize = 64 << 10;
/// Its last member is not a whole one.
const CHUNKS: usize = 5 * 16 + 3;
const VOLUME: usize = CHUNKS * CHUNK;

/// xorshift64*.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(number).unwrap() % limit
    }

    fn range(&mut self, end: usize) -> Range<usize> {
        let (a, b) = (self.below(end), self.below(end));
        a.min(b)..a.max(b) + 1
    }
}

/// A thin device as dm-thin has it: chunk → data block and its time, and when it was part of a snapshot last.
#[derive(Clone, Default)]
struct Device {
    chunks: BTreeMap<usize, (u64, u64)>,
    snapshotted: u64,
}

#[derive(Default)]
struct Pool {
    time: u64,
    blocks: BTreeMap<u64, Vec<u8>>,
    volume: Device,
    snapshots: Vec<Device>,
}

impl Pool {
    /// The lowest free block, as dm-thin takes it: numbers come back.
    fn allocate(&mut self) -> u64 {
        let devices = self.snapshots.iter().chain([&self.volume]);
        let held: BTreeSet<u64> = devices.flat_map(|device| device.chunks.values().map(|(block, _)| *block)).collect();
        (0..=held.len() as u64).find(|block| !held.contains(block)).unwrap()
    }

    fn write(&mut self, at: usize, data: &[u8]) {
        let mut done = 0;
        while done < data.len() {
            let (chunk, within) = ((at + done) / CHUNK, (at + done) % CHUNK);
            let len = (CHUNK - within).min(data.len() - done);
            let mapped = self.volume.chunks.get(&chunk).copied();
            let block = match mapped {
                Some((block, time)) if time >= self.volume.snapshotted => block,
                _ => {
                    let content = mapped.map_or_else(|| vec![0; CHUNK], |(block, _)| self.blocks[&block].clone());
                    let block = self.allocate();
                    self.blocks.insert(block, content);
                    self.volume.chunks.insert(chunk, (block, self.time));
                    block
                }
            };
            self.blocks.get_mut(&block).unwrap()[within..within + len].copy_from_slice(&data[done..done + len]);
            done += len;
        }
    }

    fn snapshot(&mut self) -> Device {
        self.time += 1;
        self.volume.snapshotted = self.time;
        self.volume.clone()
    }

    fn content(&self, device: &Device) -> Vec<u8> {
        let mut content = vec![0; VOLUME];
        for (chunk, (block, _)) in &device.chunks {
            content[chunk * CHUNK..][..CHUNK].copy_from_slice(&self.blocks[block]);
        }
        content
    }
}

fn mapping(device: &Device) -> VolumeMapping {
    let mut builder = MappingBuilder::new(VOLUME as u64, CHUNK as u64).unwrap();
    for (chunk, (block, time)) in &device.chunks {
        builder.push(ChunkRun { first_chunk: *chunk as u64, chunks: 1, data_block: *block, time: *time }).unwrap();
    }
    builder.finish().unwrap()
}

struct Image {
    archive: Vec<u8>,
    index: Vec<u8>,
    written: WrittenImage,
}

impl Image {
    fn write(of: ImageOf<'_>, previous: Option<&Self>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (archive, index) = (dir.path().join("archive"), dir.path().join("index"));
        let outputs = Outputs {
            archive: Box::new(File::create(&archive).unwrap()),
            index: Box::new(File::create(&index).unwrap()),
            segments: None,
        };
        let parent = previous.map(|previous| {
            let members = &previous.written.members;
            let facts = ImageParentFacts {
                stem: "previous".to_owned(),
                index_sha256: hex(&members.index_sha256),
                archive_bytes: members.totals.archive_bytes,
                members: members.totals.members,
            };
            let share = Share { every_days: 0, parent_day: 0, today: 1 };
            ImageParent::open(Arc::new(previous.archive.clone()), Arc::new(previous.index.clone()), &facts, share)
                .unwrap()
        });
        let written =
            write_image(of, outputs, &WriteOptions::new(CompressionLevel::Fixed(1), 2), parent, &Silent).unwrap();
        Self { archive: std::fs::read(archive).unwrap(), index: std::fs::read(index).unwrap(), written }
    }

    fn volume(&self) -> Vec<u8> {
        let mut volume = Vec::new();
        flate2::read::MultiGzDecoder::new(&*self.archive).read_to_end(&mut volume).unwrap();
        volume
    }
}

/// The used parts of the volume; all else is zeros.
fn masked(content: &[u8], used: &[ByteRange]) -> Vec<u8> {
    let mut masked = vec![0; content.len()];
    for run in used {
        let run = usize::try_from(run.start).unwrap()..usize::try_from(run.start + run.len).unwrap();
        masked[run.clone()].copy_from_slice(&content[run]);
    }
    masked
}

#[test]
fn nights_with_every_kind_of_change_lose_nothing() {
    let mut unread = 0;
    for seed in 1..=3 {
        let mut random = Random(seed);
        let mut pool = Pool::default();
        let first: Vec<u8> = (0..VOLUME).map(|at| u8::try_from(at * 7 / 1000 % 251).unwrap()).collect();
        pool.write(0, &first[..VOLUME * 3 / 4]);
        let mut used = vec![true; VOLUME / 4096];
        let mut previous: Option<(Image, u64)> = None;
        for night in 0..12 {
            for _ in 0..random.below(4) {
                let at = random.below(VOLUME - CHUNK);
                let data = vec![u8::try_from(random.below(256)).unwrap(); 1 + random.below(CHUNK)];
                pool.write(at, &data);
            }
            match random.below(6) {
                0 => {
                    let chunks = random.range(CHUNKS);
                    pool.volume.chunks.retain(|chunk, _| !chunks.contains(chunk) || chunk % 7 != 0);
                }
                // Blocks come into use, or out of it, without being written.
                1 => {
                    let (range, now) = (random.range(used.len() / 8), random.below(2) == 0);
                    used[range].fill(now);
                }
                2 => {
                    let snapshot = pool.snapshot();
                    pool.snapshots.push(snapshot);
                }
                // A merge: old blocks come back with old times.
                3 if !pool.snapshots.is_empty() => {
                    let number = random.below(pool.snapshots.len());
                    pool.volume = pool.snapshots.swap_remove(number);
                }
                _ => {}
            }
            let snapshot = pool.snapshot();
            let created = pool.time;
            let content = pool.content(&snapshot);
            let mut runs: Vec<ByteRange> = Vec::new();
            for at in (0..used.len()).filter(|at| used[*at]) {
                match runs.last_mut().filter(|run| run.start + run.len == at as u64 * 4096) {
                    Some(run) => run.len += 4096,
                    None => runs.push(ByteRange::new(at as u64 * 4096, 4096)),
                }
            }
            let of = ImageOf {
                blocks: &content,
                used: &runs,
                mapping: Some(&mapping(&snapshot)),
                unchanged_before: previous.as_ref().map(|(_, created)| *created),
            };
            let image = Image::write(of, previous.as_ref().map(|(image, _)| image));
            assert!(image.volume() == masked(&content, &runs), "seed {seed}, night {night}");
            unread += image.written.unread_bytes;
            previous = Some((image, created));
        }
    }
    assert!(unread > 40 << 20, "{unread}");
}

/// What is not read is taken from the last archive only as its index says.
#[test]
fn damaged_members_and_unreadable_places_are_read() {
    struct Bad<'a>(&'a Vec<u8>, Range<u64>);
    impl BlockRead for Bad<'_> {
        fn len_bytes(&self) -> u64 {
            self.0.len_bytes()
        }
        fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
            let is_bad = offset < self.1.end && offset + buf.len() as u64 > self.1.start;
            if is_bad { Err(io::ErrorKind::Other.into()) } else { self.0.read_at(offset, buf) }
        }
    }

    let mut pool = Pool::default();
    pool.write(0, &vec![3; VOLUME]);
    let snapshot = pool.snapshot();
    let (content, of_pool) = (pool.content(&snapshot), mapping(&snapshot));
    let used = [ByteRange::new(0, VOLUME as u64)];
    let bad = Bad(&content, 2 << 20..(2 << 20) + 4096);
    let of = ImageOf { blocks: &bad, used: &used, mapping: Some(&of_pool), unchanged_before: None };
    let mut first = Image::write(of, None);
    let lines = String::from_utf8(first.index.clone()).unwrap();
    let digests: Vec<bool> =
        lines.lines().filter(|line| line.starts_with('M')).map(|line| !line.ends_with("\t-")).collect();
    assert_eq!(digests, [true, true, false, false, false, false], "none from the unreadable place on: {lines}");
    // A bit of the second member, which begins where its line says.
    let begins: usize = lines.lines().nth(2).unwrap().split('\t').nth(2).unwrap().parse().unwrap();
    first.archive[begins + 100] ^= 1;
    let of = ImageOf { blocks: &content, unchanged_before: Some(1), ..of };
    let second = Image::write(of, Some(&first));
    assert!(second.volume() == content);
    assert_eq!((second.written.unread_bytes, second.written.carried.unwrap().mismatches), (1 << 20, 1));
    // Its chunks are not older than the last snapshot, or nothing is proven.
    for unchanged_before in [Some(0), None] {
        let third = Image::write(ImageOf { unchanged_before, ..of }, Some(&second));
        assert_eq!(third.written.unread_bytes, 0, "{unchanged_before:?}");
        assert_eq!(third.written.carried.unwrap().members, 6);
    }
    assert_eq!(Image::write(of, Some(&second)).written.unread_bytes, VOLUME as u64);
}
