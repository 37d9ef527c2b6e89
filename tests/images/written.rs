//! What is written: QEMU finds no error in it, and the same disk.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;

use volbak::Silent;
use volbak::image::format::{ClusterBits, Compat, Compression, Qcow2Options};
use volbak::image::make::{Disk, ImageKind, MakeError};
use volbak::image::qcow2::Qcow2;
use volbak::image::sink::Sink;
use volbak::outside::{BlockRead, FileBlocks};
use volbak::units::ByteRange;

use crate::disks::{RawDisk, ReadBytes, judge, run, write_image};

fn qcow2(compat: Compat, bits: u32, compression: Option<Compression>) -> ImageKind {
    ImageKind::Qcow2(Qcow2Options { compat, cluster: ClusterBits::new(bits).unwrap(), compression })
}

/// One kind of each code that writes.
fn some_kinds() -> [ImageKind; 5] {
    [
        ImageKind::Raw,
        qcow2(Compat::V3, 9, None),
        qcow2(Compat::V2, 16, None),
        qcow2(Compat::V2, 12, Some(Compression::Zlib)),
        qcow2(Compat::V3, 21, Some(Compression::Zstd)),
    ]
}

/// Each version, size of clusters and compression.
fn kinds() -> Vec<ImageKind> {
    let mut kinds = vec![ImageKind::Raw];
    for bits in [9, 12, 16, 21] {
        for compat in [Compat::V2, Compat::V3] {
            kinds.push(qcow2(compat, bits, None));
            kinds.push(qcow2(compat, bits, Some(Compression::Zlib)));
        }
        kinds.push(qcow2(Compat::V3, bits, Some(Compression::Zstd)));
    }
    kinds
}

#[test]
fn qemu_reads_every_kind_of_image() {
    let directory = tempfile::tempdir().unwrap();
    for (seed, bytes) in [(1, 4_718_592), (2, 3_000_320)] {
        let disk = RawDisk::mixed(directory.path(), bytes, seed);
        let mut digest = None;
        for kind in kinds() {
            let path = directory.path().join("image");
            let copied = disk.image(kind, &path);
            assert_eq!(fs::metadata(&path).unwrap().len(), copied.image_bytes, "{kind:?}");
            assert_eq!(*digest.get_or_insert(copied.digest), copied.digest, "{kind:?}");
            let format = if kind == ImageKind::Raw { "raw" } else { "qcow2" };
            judge(&path, format, &disk.path);
            if kind != ImageKind::Raw {
                let image = Qcow2::open(Arc::new(FileBlocks::of_file(File::open(&path).unwrap()).unwrap())).unwrap();
                let mut read = vec![1; usize::try_from(image.len_bytes()).unwrap()];
                image.read_at(0, &mut read).unwrap();
                assert!(read == disk.content(), "{kind:?} is read otherwise than it was written");
            }
        }
    }
}

#[test]
fn an_image_is_as_versions_and_options_say() {
    let directory = tempfile::tempdir().unwrap();
    let disk = RawDisk::mixed(directory.path(), 8 << 20, 4);
    let path = directory.path().join("image");
    for (kind, says) in [
        (qcow2(Compat::V2, 16, None), ["\"compat\": \"0.10\"", "\"cluster-size\": 65536", "\"refcount-bits\": 16"]),
        (
            qcow2(Compat::V3, 12, None),
            ["\"compat\": \"1.1\"", "\"cluster-size\": 4096", "\"compression-type\": \"zlib\""],
        ),
        (
            qcow2(Compat::V3, 16, Some(Compression::Zstd)),
            ["\"compat\": \"1.1\"", "\"compression-type\": \"zstd\"", "\"virtual-size\": 8388608"],
        ),
    ] {
        disk.image(kind, &path);
        let info = run("qemu-img", &["info", "--output=json", path.to_str().unwrap()]);
        for word in says {
            assert!(info.contains(word), "{word} is not in {info}");
        }
    }
}

/// QEMU can go on with what was written: refcounts and tables are whole.
#[test]
fn qemu_writes_into_an_image() {
    let directory = tempfile::tempdir().unwrap();
    let disk = RawDisk::mixed(directory.path(), 8 << 20, 5);
    let (path, raw) = (directory.path().join("image"), directory.path().join("raw"));
    for kind in some_kinds().into_iter().filter(|kind| *kind != ImageKind::Raw) {
        disk.image(kind, &path);
        fs::copy(&disk.path, &raw).unwrap();
        for (format, file) in [("qcow2", &path), ("raw", &raw)] {
            let writes = ["write -P 77 0 1000k", "write -P 78 5000000 70000", "write -z 2M 1M"];
            let mut args = vec!["-f", format];
            args.extend(writes.iter().flat_map(|write| ["-c", write]));
            run("qemu-io", &[&args[..], &[file.to_str().unwrap()]].concat());
        }
        judge(&path, "qcow2", &raw);
    }
}

/// Only what is used is read, and what is not used comes as zeros.
#[test]
fn what_is_not_used_is_neither_read_nor_written() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("full.img");
    fs::write(&path, vec![7; 32 << 20]).unwrap();
    let blocks = FileBlocks::of_file(File::open(&path).unwrap()).unwrap();
    let used = [(0, 4096), (8192, 512), (1 << 20, 3 << 20), (9_000_000, 1_000_001), ((32 << 20) - 10, 10)]
        .map(|(start, len)| ByteRange::new(start, len));
    let expected = directory.path().join("expected.img");
    let file = File::create(&expected).unwrap();
    file.set_len(32 << 20).unwrap();
    for range in used {
        file.write_all_at(&vec![7; usize::try_from(range.len).unwrap()], range.start).unwrap();
    }
    for kind in some_kinds() {
        let image = directory.path().join("image");
        let count = ReadBytes::default();
        let disk = Disk { blocks: &blocks, used: &used };
        let copied = write_image(&disk, kind, Sink::to_file(File::create(&image).unwrap()), &count).unwrap();
        let used_bytes: u64 = used.iter().map(|range| range.len).sum();
        assert_eq!((copied.read_bytes, count.count()), (used_bytes, used_bytes));
        judge(&image, if kind == ImageKind::Raw { "raw" } else { "qcow2" }, &expected);
    }
}

/// An image of nothing, one full of data, one with all data at its end, and one of one sector.
#[test]
fn odd_disks_have_images() {
    let directory = tempfile::tempdir().unwrap();
    for (name, bytes, data) in [
        ("nothing", 1 << 20, 0..0),
        ("full", 3 << 20, 0..3 << 20),
        ("end", 700 << 20, (700 << 20) - 1..700 << 20),
        ("sector", 512, 0..512),
        ("odd", 65536 + 512, 0..65536 + 512),
    ] {
        let path = directory.path().join(name);
        let file = File::create(&path).unwrap();
        file.set_len(bytes).unwrap();
        file.write_all_at(&vec![9; usize::try_from(data.end - data.start).unwrap()], data.start).unwrap();
        let disk = RawDisk { path, bytes };
        for kind in some_kinds() {
            let image = directory.path().join("image");
            disk.image(kind, &image);
            judge(&image, if kind == ImageKind::Raw { "raw" } else { "qcow2" }, &disk.path);
        }
    }
}

/// Zeros that were written to the source take no room.
#[test]
fn zeros_are_dropped() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("zeros.img");
    let mut content = vec![0; 16 << 20];
    content[10 << 20..11 << 20].fill(1);
    fs::write(&path, &content).unwrap();
    let disk = RawDisk { path, bytes: 16 << 20 };
    for kind in some_kinds() {
        let image = directory.path().join("image");
        disk.image(kind, &image);
        let blocks = fs::metadata(&image).unwrap().blocks() * 512;
        assert!(blocks < 7 << 20, "{kind:?}: {blocks} bytes");
        judge(&image, if kind == ImageKind::Raw { "raw" } else { "qcow2" }, &disk.path);
    }
}

/// A disk of 8 TiB with data here and there, in more than one refcount block, L1 cluster and L2 table.
#[test]
fn a_large_disk_has_a_small_image() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("large.img");
    let file = File::create(&path).unwrap();
    let bytes = 8 << 40;
    file.set_len(bytes).unwrap();
    for number in 0..200_u64 {
        file.write_all_at(&number.to_le_bytes(), bytes / 200 * number + 100).unwrap();
    }
    let disk = RawDisk { path, bytes };
    let image = directory.path().join("image");
    for kind in
        [qcow2(Compat::V3, 16, None), qcow2(Compat::V2, 21, None), qcow2(Compat::V3, 16, Some(Compression::Zlib))]
    {
        let copied = disk.image(kind, &image);
        assert!(copied.image_bytes < 900 << 20);
        judge(&image, "qcow2", &disk.path);
    }
    let blocks = disk.blocks();
    let used = [ByteRange::new(0, bytes)];
    let kind = qcow2(Compat::V3, 9, None);
    let sink = Sink::to_file(File::create(&image).unwrap());
    let made = write_image(&Disk { blocks: &blocks, used: &used }, kind, sink, &Silent);
    assert!(matches!(made, Err(MakeError::TooLarge(_))), "QEMU would not open it");
}

#[test]
fn a_pipe_takes_the_same_disk_as_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let disk = RawDisk::mixed(directory.path(), 9_437_184, 6);
    let (path, piped) = (directory.path().join("image"), directory.path().join("piped"));
    for kind in [ImageKind::Raw, qcow2(Compat::V3, 16, None), qcow2(Compat::V2, 9, None)] {
        disk.image(kind, &path);
        let blocks = disk.blocks();
        let used = [ByteRange::new(0, disk.bytes)];
        let (mut reader, writer) = std::io::pipe().unwrap();
        let to = File::create(&piped).unwrap();
        let copying = std::thread::spawn(move || std::io::copy(&mut reader, &mut &to).unwrap());
        let sink = Sink::to_stream(File::from(std::os::fd::OwnedFd::from(writer)));
        write_image(&Disk { blocks: &blocks, used: &used }, kind, sink, &Silent).unwrap();
        copying.join().unwrap();
        let format = if kind == ImageKind::Raw { "raw" } else { "qcow2" };
        judge(&piped, format, &disk.path);
        judge(&path, format, &disk.path);
    }
    let (_reader, writer) = std::io::pipe().unwrap();
    let sink = Sink::to_stream(File::from(std::os::fd::OwnedFd::from(writer)));
    let (blocks, used) = (disk.blocks(), [ByteRange::new(0, disk.bytes)]);
    let kind = qcow2(Compat::V3, 16, Some(Compression::Zlib));
    let refused = write_image(&Disk { blocks: &blocks, used: &used }, kind, sink, &Silent).unwrap_err();
    assert!(format!("{refused:?}").contains("pipe"), "{refused:?}");
}
