//! Images, programs, and the map of what lies on an image.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use volbak::layout::{Region, detect};
use volbak::outside::{BlockRead, Cancel, FileBlocks};
use volbak::used::{UsedMap, used_map};

/// A directory of a test's own, and the images in it.
pub(crate) struct Work(tempfile::TempDir);

impl Work {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// An image of stale data: noise in each block.
    pub(crate) fn stale_image(&self, name: &str, len: u64) -> PathBuf {
        let path = self.image(name, len);
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        let piece = noise(len, 1 << 20);
        for at in (0..len).step_by(piece.len()) {
            let rest = usize::try_from(len - at).unwrap().min(piece.len());
            std::os::unix::fs::FileExt::write_all_at(&file, &piece[..rest], at).unwrap();
        }
        path
    }

    /// An image of zeros.
    pub(crate) fn image(&self, name: &str, len: u64) -> PathBuf {
        let path = self.path(name);
        File::create(&path).unwrap().set_len(len).unwrap();
        path
    }
}

/// What mke2fs needs to leave the stale data of an image: it discards them otherwise, in a file, too.
pub(crate) const KEEP_STALE: [&str; 2] = ["-E", "nodiscard,lazy_itable_init=1"];

/// What a program prints; it must succeed. The system's own directories come first in its PATH.
pub(crate) fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program)
        .args(args)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LC_ALL", "C")
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(
        output.status.success(),
        "{program} {args:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The bytes of an image, with its holes.
pub(crate) fn blocks(image: &Path) -> Arc<dyn BlockRead> {
    Arc::new(FileBlocks::of_file(File::open(image).unwrap()).unwrap())
}

/// The only region of an image without a partition table.
pub(crate) fn region(blocks: &dyn BlockRead) -> Region {
    let layout = detect(blocks, "image", None).unwrap();
    layout.regions.into_iter().next().unwrap()
}

/// An image whose holes are not known, as those of a device are.
struct NoHoles(Arc<dyn BlockRead>);

impl BlockRead for NoHoles {
    fn len_bytes(&self) -> u64 {
        self.0.len_bytes()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.0.read_at(offset, buf)
    }
}

/// The map of an image without a partition table, as of a device that knows no holes.
pub(crate) fn map_of(image: &Path) -> UsedMap {
    let file = blocks(image);
    let region = region(file.as_ref());
    let blocks: Arc<dyn BlockRead> = Arc::new(NoHoles(file));
    used_map(&region, &blocks, &Cancel::default()).unwrap()
}

/// The map of bytes that have this region's content.
pub(crate) fn map_with(region: &Region, blocks: &Arc<dyn BlockRead>) -> UsedMap {
    used_map(region, blocks, &Cancel::default()).unwrap()
}

/// An image with other bytes in some places.
pub(crate) struct Patched {
    image: Arc<dyn BlockRead>,
    patches: Vec<(u64, u8)>,
}

impl Patched {
    pub(crate) fn new(image: &Arc<dyn BlockRead>, patches: Vec<(u64, u8)>) -> Self {
        Self { image: Arc::clone(image), patches }
    }
}

impl BlockRead for Patched {
    fn len_bytes(&self) -> u64 {
        self.image.len_bytes()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.image.read_at(offset, buf)?;
        for (at, byte) in &self.patches {
            if let Some(place) = at.checked_sub(offset).and_then(|at| buf.get_mut(usize::try_from(at).unwrap())) {
                *place = *byte;
            }
        }
        Ok(())
    }
}

/// Fails unless what tools list as free, first byte and length of each run, is what the map has as free.
pub(crate) fn assert_free(map: &UsedMap, name: &str, free: &[(u64, u64)], free_bytes: u64) {
    for (start, len) in free {
        if let Some(used) = map.next_used(*start) {
            assert!(used.start >= start + len, "{name}: {used:?} is listed as free, {start} {len}");
        }
    }
    assert_eq!(map.used_bytes() + free_bytes, map.len_bytes(), "{name}");
}

/// Fails unless the map is the filesystem's own, and gives it.
pub(crate) fn not_whole(map: UsedMap) -> UsedMap {
    assert_eq!(map.whole_because(), None);
    map
}

/// Makes an image that has what the map has as used, and nothing else.
pub(crate) fn write_used(image: &Path, map: &UsedMap, to: &Path) {
    let from = blocks(image);
    let file = File::create(to).unwrap();
    file.set_len(map.len_bytes()).unwrap();
    let mut buf = vec![0; 1 << 20];
    for run in map.clone().without_holes(from.as_ref(), &Cancel::default()).unwrap().runs() {
        let mut at = run.start;
        while at < run.start + run.len {
            let piece = usize::try_from(run.start + run.len - at).unwrap().min(buf.len());
            from.read_at(at, &mut buf[..piece]).unwrap();
            std::os::unix::fs::FileExt::write_all_at(&file, &buf[..piece], at).unwrap();
            at += piece as u64;
        }
    }
}

/// How many bytes of the used blocks of 4096 bytes are in blocks that are not zero.
pub(crate) fn not_zero_bytes(image: &Path, map: &UsedMap) -> u64 {
    let bytes = fs::read(image).unwrap();
    let runs = map.runs().iter();
    let used = runs.flat_map(|run| {
        bytes[usize::try_from(run.start).unwrap()..usize::try_from(run.start + run.len).unwrap()].chunks(4096)
    });
    used.filter(|block| block.iter().any(|byte| *byte != 0)).map(|block| block.len() as u64).sum()
}

/// Bytes that look random and are the same each time.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    (0..len.div_ceil(8)).flat_map(|_| next().to_le_bytes()).take(len).collect()
}

/// A tree of small and large files, directories and a sparse file.
pub(crate) fn tree(work: &Work) -> PathBuf {
    let root = work.path("tree");
    fs::create_dir_all(root.join("small")).unwrap();
    for number in 0..60_u64 {
        fs::write(root.join(format!("small/{number}")), noise(number + 1, 700 * usize::try_from(number).unwrap()))
            .unwrap();
    }
    fs::write(root.join("large"), noise(99, 3 << 20)).unwrap();
    let sparse = File::create(root.join("sparse")).unwrap();
    sparse.set_len(9 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, &noise(5, 50_000), 5 << 20).unwrap();
    root
}

/// Fails unless `restored` has the bytes of `image` in the blocks that its filesystem uses, and zeros elsewhere.
pub(crate) fn assert_has_used(image: &Path, restored: &Path) {
    let map = not_whole(map_of(image));
    let (before, after) = (fs::read(image).unwrap(), fs::read(restored).unwrap());
    assert_eq!(before.len(), after.len());
    let mut at = 0;
    for run in map.runs() {
        let (start, end) = (usize::try_from(run.start).unwrap(), usize::try_from(run.start + run.len).unwrap());
        assert!(before[start..end] == after[start..end], "{run:?}");
        assert!(after[at..start].iter().all(|byte| *byte == 0), "free blocks before {start} are not zero");
        at = end;
    }
}
