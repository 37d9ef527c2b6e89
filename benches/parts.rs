//! The parts of the pipeline one by one: `cargo bench`. The whole is measured by `scripts/bench`.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sha2::Digest;
use volbak::archive::gzip::MemberEncoder;
use volbak::archive::index::{EntryLine, IndexedKind};
use volbak::archive::pax::{EntryType, head};
use volbak::entry::{Metadata, Timestamp, Xattr};

const MEMBER_BYTES: usize = 512 * 1024;

/// Words of a dictionary of 2,000 in a fixed disorder: about as compressible as source code.
fn text() -> Vec<u8> {
    let mut state = 1_u64;
    let mut text = Vec::with_capacity(MEMBER_BYTES + 16);
    while text.len() < MEMBER_BYTES {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let word = (state >> 33) % 2000;
        text.extend_from_slice(format!("w{:x} ", word * word).as_bytes());
    }
    text.truncate(MEMBER_BYTES);
    text
}

fn noise() -> Vec<u8> {
    let seeds = 0..(MEMBER_BYTES / 32) as u64;
    seeds.flat_map(|seed| <[u8; 32]>::from(sha2::Sha256::digest(seed.to_le_bytes()))).collect()
}

fn members(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("member");
    group.throughput(Throughput::Bytes(MEMBER_BYTES as u64));
    let mut out = Vec::new();
    for (name, data) in [("text", text()), ("zeros", vec![0; MEMBER_BYTES]), ("noise", noise())] {
        for level in [1, 3, 6, 9] {
            let mut encoder = MemberEncoder::new(level).expect("the level exists");
            group.bench_function(format!("{name} level {level}"), |bencher| {
                bencher.iter(|| encoder.encode(black_box(&data), &mut out));
            });
        }
    }
    group.finish();
}

fn digests(criterion: &mut Criterion) {
    let data = text();
    let mut group = criterion.benchmark_group("digest");
    group.throughput(Throughput::Bytes(MEMBER_BYTES as u64));
    group.bench_function("sha1", |bencher| bencher.iter(|| sha1::Sha1::digest(black_box(&data))));
    group.bench_function("sha256", |bencher| bencher.iter(|| sha2::Sha256::digest(black_box(&data))));
    group.finish();
}

fn headers(criterion: &mut Criterion) {
    let time = Timestamp { sec: 1_763_600_000, nsec: 123_456_789 };
    let metadata = Metadata { mode: 0o644, size: 1000, mtime: time, ctime: time, ..Metadata::default() };
    let xattrs = [Xattr { name: b"security.selinux".to_vec(), value: b"system_u:object_r:etc_t:s0".to_vec() }];
    let path = b"./usr/share/doc/a-package/changelog.Debian.gz";
    let mut group = criterion.benchmark_group("entry");
    group.bench_function("headers", |bencher| {
        bencher.iter(|| head(black_box(path), EntryType::File, &metadata, &xattrs));
    });
    let line = EntryLine {
        kind: IndexedKind::File,
        damaged: false,
        tar_offset: 123_456,
        tar_length: 2048,
        size: 1000,
        ino: 1234,
        ctime: time,
        head: [1; 16],
        content: Some([2; 32]),
        path: path.to_vec(),
    };
    let mut out = Vec::new();
    group.bench_function("index line", |bencher| {
        bencher.iter(|| {
            out.clear();
            black_box(&line).add_to(&mut out);
        });
    });
    group.finish();
}

criterion_group!(parts, members, digests, headers);
criterion_main!(parts);
