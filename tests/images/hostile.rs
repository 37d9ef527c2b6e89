//! qcow2 images that lie: an error or a disk, never a panic, a hang, or more memory than the tables take.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use volbak::image::format::{ClusterBits, Compat, Compression, Qcow2Options};
use volbak::image::make::ImageKind;
use volbak::image::qcow2::{Qcow2, Qcow2Error};
use volbak::image::runs::DataRuns;
use volbak::outside::BlockRead;
use volbak::units::ByteRange;

use crate::disks::{Noise, RawDisk, run};

/// A disk of every kind of content, and the directory that it lies in.
fn mixed(seed: u64) -> (TempDir, RawDisk) {
    let directory = tempfile::tempdir().unwrap();
    let disk = RawDisk::mixed(directory.path(), 3_000_320, seed);
    (directory, disk)
}

/// The qcow2 image that QEMU makes of a disk, with these options of `qemu-img convert`.
fn converted(disk: &RawDisk, options: &[&str]) -> Vec<u8> {
    let image = disk.path.with_extension("qcow2");
    let paths = [disk.path.to_str().unwrap(), image.to_str().unwrap()];
    run("qemu-img", &[&["convert", "-f", "raw", "-O", "qcow2"][..], options, &paths].concat());
    fs::read(image).unwrap()
}

/// Reads all data of an image, as export and import do.
fn read_all(bytes: Vec<u8>) -> Result<u64, String> {
    let image = Qcow2::open(Arc::new(bytes)).map_err(|error| error.to_string())?;
    let used = [ByteRange::new(0, image.len_bytes())];
    let mut read = 0;
    let mut buffer = vec![0; 1 << 20];
    for run in DataRuns::new(&image, &used) {
        let run = run.map_err(|error| error.to_string())?;
        let mut at = run.start;
        while at < run.start + run.len {
            let now = (run.start + run.len - at).min(1 << 20) as usize;
            image.read_at(at, &mut buffer[..now]).map_err(|error| error.to_string())?;
            at += now as u64;
            read += now as u64;
        }
    }
    Ok(read)
}

#[test]
fn images_that_lie_are_refused_or_read_in_bounds() {
    let (directory, disk) = mixed(11);
    let path = directory.path().join("image");
    let mut noise = Noise::new(42);
    for (bits, compat, compression) in [
        (9, Compat::V3, None),
        (12, Compat::V2, Some(Compression::Zlib)),
        (16, Compat::V3, None),
        (12, Compat::V3, Some(Compression::Zstd)),
    ] {
        let cluster = ClusterBits::new(bits).unwrap();
        disk.image(ImageKind::Qcow2(Qcow2Options { compat, cluster, compression }), &path);
        let good = fs::read(&path).unwrap();
        assert!(read_all(good.clone()).unwrap() > 0);
        let word = |at: usize| u64::from_be_bytes(good[at..at + 8].try_into().unwrap()) as usize;
        let (l1, l2) = (word(40), word(word(40)) & 0x00ff_ffff_ffff_fe00);
        for _ in 0..150 {
            let mut bad = good.clone();
            for _ in 0..=noise.below(3) {
                // The header, the L1 table, the first L2 table, or any place.
                let (start, len) = match noise.below(4) {
                    0 => (0, 112),
                    1 => (l1, 64),
                    2 => (l2, cluster.bytes() as usize),
                    _ => (0, good.len()),
                };
                let at = start + noise.below(len as u64) as usize;
                let Some(byte) = bad.get_mut(at) else { continue };
                *byte = match noise.below(3) {
                    0 => 0xff,
                    1 => *byte ^ 1 << noise.below(8),
                    _ => noise.below(256) as u8,
                };
            }
            if noise.below(5) == 0 {
                bad.truncate(noise.below(good.len() as u64) as usize);
            }
            let began = Instant::now();
            let read = read_all(bad);
            assert!(began.elapsed() < Duration::from_secs(60), "it took {:?}", began.elapsed());
            // What lies in the file once is read once.
            assert!(read.is_err() || read.unwrap() <= 8 << 20);
        }
    }
}

#[test]
fn one_cluster_is_not_the_place_of_two() {
    let (directory, disk) = mixed(12);
    let path = directory.path().join("image");
    disk.image(ImageKind::Qcow2(Qcow2Options::default()), &path);
    let mut bytes = fs::read(&path).unwrap();
    let l1 = u64::from_be_bytes(bytes[40..48].try_into().unwrap()) as usize;
    let l2 = (u64::from_be_bytes(bytes[l1..l1 + 8].try_into().unwrap()) & 0x00ff_ffff_ffff_fe00) as usize;
    let entries: Vec<usize> = (l2..l2 + 8 * 46).step_by(8).filter(|at| bytes[*at..at + 8] != [0; 8]).collect();
    let first: [u8; 8] = bytes[entries[0]..entries[0] + 8].try_into().unwrap();
    bytes[entries[1]..entries[1] + 8].copy_from_slice(&first);
    assert!(matches!(Qcow2::open(Arc::new(bytes)), Err(Qcow2Error::Damaged { .. })));
}

/// Data do not lie in what the image needs itself: header, L1 table, L2 tables, refcounts.
#[test]
fn data_in_the_place_of_metadata_are_refused() {
    let (_directory, disk) = mixed(16);
    let good = converted(&disk, &[]);
    let word = |at: usize| u64::from_be_bytes(good[at..at + 8].try_into().unwrap());
    let (l1, refcounts) = (word(40), word(48));
    let l2 = word(l1 as usize) & 0x00ff_ffff_ffff_fe00;
    let entry = (l2 as usize..).step_by(8).find(|at| word(*at) != 0).unwrap();
    for (name, place) in
        [("L1", l1), ("L2", l2), ("refcount table", refcounts), ("refcount block", word(refcounts as usize))]
    {
        let mut bad = good.clone();
        bad[entry..entry + 8].copy_from_slice(&(place | 1 << 63).to_be_bytes());
        assert!(matches!(Qcow2::open(Arc::new(bad)), Err(Qcow2Error::Damaged { .. })), "{name}");
    }
    // A refcount table that is nowhere is of no matter: it is not followed.
    let mut bad = good.clone();
    bad[48..56].copy_from_slice(&(1_u64 << 62).to_be_bytes());
    assert_eq!(read_all(bad), read_all(good));
}

/// A copy that ended early is refused wherever it ends: `qemu-img` reads zeros for the end of a cluster that is missing, and finds
/// nothing wrong. The end of the last cluster behind the end of the disk is nothing that is missing.
#[test]
fn an_image_that_was_cut_off_is_refused() {
    let (_directory, disk) = mixed(14);
    for options in
        [&["-S", "0"][..], &["-o", "compat=0.10"], &["-o", "cluster_size=4k"], &["-o", "cluster_size=2M"], &["-c"]]
    {
        let whole = converted(&disk, options);
        let mut noise = Noise::new(15);
        let cluster = 1 << u32::from_be_bytes(whole[20..24].try_into().unwrap());
        let in_last = (0..40).map(|_| 1 + noise.below(cluster) as usize).collect::<Vec<_>>();
        let anywhere = (0..40).map(|_| 1 + noise.below(whole.len() as u64 - 1) as usize);
        for cut in in_last.into_iter().chain(anywhere) {
            let content = Qcow2::open(Arc::new(whole[..whole.len() - cut].to_vec())).and_then(|read| {
                let mut content = vec![1; read.len_bytes() as usize];
                read.read_at(0, &mut content).map(|()| content).map_err(|source| Qcow2Error::Io { offset: 0, source })
            });
            assert!(
                content.is_err() || content.is_ok_and(|content| content == disk.content()),
                "{options:?}: {cut} bytes are missing, and nobody says so"
            );
        }
    }
    let message = Qcow2::open(Arc::new(converted(&disk, &["-c"])[..70_000].to_vec())).err().unwrap().to_string();
    assert!(message.contains("cut off") && message.contains("copy it again"), "{message}");
}

/// What QEMU makes and is not read here is refused with a message that says what to do.
#[test]
fn images_that_need_more_than_is_read_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let of = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let open = |path: &str| Qcow2::open(Arc::new(fs::read(Path::new(path)).unwrap()));
    run("qemu-img", &["create", "-q", "-f", "qcow2", &of("base"), "4M"]);
    assert_eq!(open(&of("base")).unwrap().len_bytes(), 4 << 20);
    run("qemu-img", &["create", "-q", "-f", "qcow2", "-b", &of("base"), "-F", "qcow2", &of("overlay")]);
    let secret = "secret,id=s,data=x";
    let encrypted = ["--object", secret, "-o", "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10"];
    run("qemu-img", &[&["create", "-q", "-f", "qcow2"][..], &encrypted, &[&of("luks"), "4M"]].concat());
    let data_file = format!("data_file={}", of("data"));
    run("qemu-img", &["create", "-q", "-f", "qcow2", "-o", &data_file, &of("external"), "4M"]);
    run("qemu-img", &["create", "-q", "-f", "qcow2", "-o", "extended_l2=on", &of("extended"), "4M"]);
    for (name, word) in
        [("overlay", "backing file"), ("luks", "encrypted"), ("external", "data file"), ("extended", "extended L2")]
    {
        let error = open(&of(name)).err().unwrap_or_else(|| panic!("{name} is read"));
        let said = error.to_string();
        assert!(said.contains(word) && said.contains("qemu-img convert"), "{name}: {said}");
    }
}

/// What qemu-img writes, in each of its ways, is read as the same disk.
#[test]
fn what_qemu_writes_is_read() {
    let (_directory, disk) = mixed(13);
    for options in [
        &["-o", "compat=0.10"][..],
        &["-o", "compat=1.1,cluster_size=512"],
        &["-o", "cluster_size=2M"],
        &["-c"],
        &["-c", "-o", "compression_type=zstd"],
        &["-S", "0"],
        &["-o", "preallocation=metadata"],
        &["-o", "refcount_bits=64,lazy_refcounts=on"],
    ] {
        let read = Qcow2::open(Arc::new(converted(&disk, options))).unwrap();
        let mut content = vec![1; read.len_bytes() as usize];
        read.read_at(0, &mut content).unwrap();
        assert!(content == disk.content(), "{options:?}");
    }
}
