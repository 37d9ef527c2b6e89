//! Disks to make images of, and programs that judge these.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use volbak::image::copy::Copied;
use volbak::image::make::{Disk, ImageKind, MakeError, Making};
use volbak::image::sink::Sink;
use volbak::outside::{Cancel, FileBlocks};
use volbak::units::ByteRange;
use volbak::{Event, Observer, Silent};

/// A raw disk in a file.
pub(crate) struct RawDisk {
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
}

/// Numbers that look random, the same each time.
pub(crate) struct Noise(u64);

impl Noise {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..len.div_ceil(8)).flat_map(|_| self.next().to_le_bytes()).collect();
        bytes.truncate(len);
        bytes
    }
}

impl RawDisk {
    /// Holes, noise, text, and zeros that are written as such, in many places.
    pub(crate) fn mixed(directory: &Path, bytes: u64, seed: u64) -> Self {
        let path = directory.join(format!("disk-{seed}.img"));
        let file = File::create(&path).unwrap();
        file.set_len(bytes).unwrap();
        let mut noise = Noise::new(seed);
        for _ in 0..60 {
            let at = noise.below(bytes);
            let len = noise.below(200_000).min(bytes - at) as usize;
            let piece = match noise.below(4) {
                0 => vec![0; len],
                1 => noise.bytes(len),
                2 => b"all work and no play makes jack a dull boy\n".iter().copied().cycle().take(len).collect(),
                _ => vec![b'x'; len],
            };
            file.write_all_at(&piece, at).unwrap();
        }
        // The very last byte counts.
        file.write_all_at(b"!", bytes - 1).unwrap();
        Self { path, bytes }
    }

    pub(crate) fn blocks(&self) -> FileBlocks {
        FileBlocks::of_file(File::open(&self.path).unwrap()).unwrap()
    }

    pub(crate) fn content(&self) -> Vec<u8> {
        fs::read(&self.path).unwrap()
    }

    /// Writes an image of all of it.
    pub(crate) fn image(&self, kind: ImageKind, to: &Path) -> Copied {
        let blocks = self.blocks();
        let used = [ByteRange::new(0, self.bytes)];
        let file = File::create(to).unwrap();
        write_image(&Disk { blocks: &blocks, used: &used }, kind, Sink::to_file(file), &Silent).unwrap()
    }
}

pub(crate) fn write_image(
    disk: &Disk<'_>,
    kind: ImageKind,
    sink: Sink,
    observer: &dyn Observer,
) -> Result<Copied, MakeError> {
    disk.write_image(kind, sink, &Making { threads: 2, digest: true, observer, cancel: &Cancel::default() })
}

/// Counts the bytes that are read.
#[derive(Default)]
pub(crate) struct ReadBytes(std::sync::atomic::AtomicU64);

impl ReadBytes {
    pub(crate) fn count(&self) -> u64 {
        self.0.load(std::sync::atomic::Ordering::Relaxed)
    }
}

impl Observer for ReadBytes {
    fn on_event(&self, event: &Event) {
        if let Event::Read { bytes } = event {
            self.0.fetch_add(*bytes, std::sync::atomic::Ordering::Relaxed);
        }
    }
}

/// What a program printed, which must end well.
pub(crate) fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(
        output.status.success(),
        "{program} {args:?}: {}\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// QEMU finds no error in the image, and the disk in it equal to the raw one.
pub(crate) fn judge(image: &Path, format: &str, raw: &Path) {
    let image = image.to_str().unwrap();
    if format == "qcow2" {
        let said = run("qemu-img", &["check", "-f", "qcow2", image]);
        assert!(said.contains("No errors were found"), "{said}");
    }
    run("qemu-img", &["compare", "-f", format, "-F", "raw", image, raw.to_str().unwrap()]);
}
