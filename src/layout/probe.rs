//! What a region holds, by signatures that are checked further than their magic. Every probe looks at every region, so
//! that a conflict is seen; the order and the rules are in `docs/probing.md`. blkid's low-level probe is the oracle.

mod bitlocker;
pub(crate) mod btrfs;
mod btrfs_chunks;
mod exfat;
mod ext;
pub(crate) mod fat;
mod foreign;
mod iso9660;
mod luks;
pub(crate) mod mdraid;
pub(crate) mod ntfs;
mod squashfs;
mod stacked;
mod swap;
mod udf;
mod xfs;
mod zfs;

use std::cell::RefCell;
use std::rc::Rc;

use crate::layout::lvm2::{self, PhysicalVolume, Texts, compose};
use crate::layout::{Holds, HoldsKind, MadeWith};
use crate::outside::BlockRead;
use crate::units::ByteRange;
use crate::units::Extent;

/// How much of a region's start is read at once: past btrfs's superblock, the last of those that are near the start.
const HEAD_BYTES: usize = 72 << 10;

/// Something that was found on a region.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// What it is.
    pub holds: Holds,
    /// Where its magic is, in the region.
    pub magic_at: u64,
    /// What a backup can make of it.
    pub content: Content,
    /// What speaks against it: each is one line. With any, its files are not read.
    pub doubts: Vec<String>,
}

/// What a backup can make of something that was found.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// A filesystem that a reader takes.
    Files,
    /// Nothing that is read: its bytes are kept.
    Opaque,
    /// Nothing worth keeping beyond its facts.
    FactsOnly,
    /// A physical volume of LVM2.
    PhysicalVolume(Box<PhysicalVolume>),
    /// A member of a RAID1: the array's data, in the region.
    Mirror(ByteRange),
}

impl Found {
    /// A filesystem that a reader takes.
    fn filesystem(name: &str, magic_at: u64) -> Self {
        Self::new(HoldsKind::Filesystem, name, magic_at, Content::Files)
    }

    /// A filesystem, or something else, that is kept as it is.
    fn opaque(kind: HoldsKind, name: &str, magic_at: u64) -> Self {
        Self::new(kind, name, magic_at, Content::Opaque)
    }

    fn new(kind: HoldsKind, name: &str, magic_at: u64, content: Content) -> Self {
        Self {
            holds: Holds { kind, fs: Some(name.to_owned()), ..Holds::default() },
            magic_at,
            content,
            doubts: Vec::new(),
        }
    }

    fn with_uuid(mut self, uuid: Option<String>) -> Self {
        self.holds.uuid = uuid;
        self
    }

    fn with_label(mut self, label: Option<String>) -> Self {
        self.holds.label = label;
        self
    }

    fn with_version(mut self, version: impl Into<String>) -> Self {
        self.holds.version = Some(version.into());
        self
    }

    /// Takes note of what it was made with.
    fn with_parameters(mut self, made_with: MadeWith) -> Self {
        self.holds.made_with = Some(made_with);
        self
    }

    /// Takes note of the size it says that it has, and doubts it when the region is smaller.
    fn with_size(mut self, size_bytes: Option<u64>, window: &Window<'_>) -> Self {
        self.holds.size_bytes = size_bytes;
        match size_bytes {
            Some(size) if size <= window.len() => self,
            Some(size) => {
                let region = window.len();
                self.doubt(format!("it says that it is {size} bytes long and the region has {region}: it was cut off"))
            }
            None => self.doubt("the size that it says it has is impossible"),
        }
    }

    fn doubt(mut self, why: impl Into<String>) -> Self {
        self.doubts.push(why.into());
        self
    }

    fn doubt_if(self, wrong: bool, why: &str) -> Self {
        if wrong { self.doubt(why) } else { self }
    }
}

/// A region as probes see it: reads outside it give nothing, and read errors are remembered, so that a probe is free
/// of both.
pub struct Window<'a> {
    blocks: &'a dyn BlockRead,
    /// Where the region is on the source; `None` when it is the source.
    extents: Option<&'a [Extent]>,
    texts: Rc<Texts>,
    head: Vec<u8>,
    read_error: RefCell<Option<String>>,
}

impl<'a> Window<'a> {
    /// Looks at `blocks`, and reads its first bytes.
    pub fn new(blocks: &'a dyn BlockRead) -> Self {
        Self::within(blocks, None, &Rc::default())
    }

    /// As [`Window::new`], for a region of these extents, with the texts that the same detection has read so far.
    pub(in crate::layout) fn within(
        blocks: &'a dyn BlockRead,
        extents: Option<&'a [Extent]>,
        texts: &Rc<Texts>,
    ) -> Self {
        // The length is at most HEAD_BYTES, so it fits.
        let mut head = vec![0; usize::try_from(blocks.len_bytes()).unwrap_or(HEAD_BYTES).min(HEAD_BYTES)];
        if blocks.read_at(0, &mut head).is_err() {
            // Each probe then reads for itself what it wants, and remembers which bytes could not be read.
            head.clear();
        }
        Self { blocks, extents, texts: Rc::clone(texts), head, read_error: RefCell::new(None) }
    }

    /// The region's length in bytes.
    pub fn len(&self) -> u64 {
        self.blocks.len_bytes()
    }

    /// Whether the region has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes from `at` on, or `None` when they are not all in the region or cannot be read.
    pub fn read(&self, at: u64, len: usize) -> Option<Vec<u8>> {
        let end = at.checked_add(len as u64).filter(|end| *end <= self.len())?;
        if let (Ok(start), Ok(end)) = (usize::try_from(at), usize::try_from(end))
            && let Some(bytes) = self.head.get(start..end)
        {
            return Some(bytes.to_vec());
        }
        let mut bytes = vec![0; len];
        match self.blocks.read_at(at, &mut bytes) {
            Ok(()) => Some(bytes),
            Err(error) => {
                self.read_error.borrow_mut().get_or_insert_with(|| format!("cannot be read at byte {at}: {error}"));
                None
            }
        }
    }

    /// Where a range of the region is on the source; `None` when the region ends before it does.
    pub(in crate::layout) fn on_source(&self, range: ByteRange) -> Option<Vec<Extent>> {
        if let Some(extents) = self.extents {
            return compose(extents, range);
        }
        range.end().filter(|end| *end <= self.len())?;
        Some(vec![Extent { source_offset: range.start, length: range.len }])
    }

    /// The texts of LVM2 metadata that were read so far.
    pub(in crate::layout) fn texts(&self) -> &Texts {
        &self.texts
    }

    /// The first read error that a probe met.
    pub fn read_error(&self) -> Option<String> {
        self.read_error.borrow().clone()
    }
}

/// The names of the bits that are set.
fn names_of<'a>(bits: u64, names: &'a [(u64, &'a str)]) -> impl Iterator<Item = String> + 'a {
    names.iter().filter(move |(bit, _)| bits & bit != 0).map(|(_, name)| (*name).to_owned())
}

/// The names of the bits that are set; a bit without a name is called by its number in the field `field`.
fn names_of_all(field: &str, bits: u64, names: &[(u64, &str)], known_elsewhere: u64) -> Vec<String> {
    let named = names.iter().fold(known_elsewhere, |all, (bit, _)| all | bit);
    let unnamed = (0..u64::BITS).map(|shift| 1 << shift).filter(|bit| bits & bit & !named != 0);
    names_of(bits, names).chain(unnamed.map(|bit: u64| format!("{field}-{bit:#x}"))).collect()
}

/// A probe gives what it found, or `None`; it fails on nothing.
type Probe = fn(&Window<'_>) -> Option<Found>;

/// In the order of `docs/probing.md`: containers before what may show through from inside them.
const PROBES: [Probe; 27] = [
    luks::probe,
    mdraid::probe_1,
    mdraid::probe_0_90,
    lvm2::probe,
    stacked::probe_bcache,
    stacked::probe_drbd,
    zfs::probe,
    bitlocker::probe,
    ext::probe,
    xfs::probe,
    btrfs::probe,
    exfat::probe,
    ntfs::probe,
    fat::probe,
    iso9660::probe,
    udf::probe,
    squashfs::probe,
    foreign::probe_f2fs,
    foreign::probe_jfs,
    foreign::probe_reiserfs,
    foreign::probe_nilfs2,
    foreign::probe_hfsplus,
    foreign::probe_ufs2,
    foreign::probe_erofs,
    foreign::probe_vmfs,
    foreign::probe_bcachefs,
    swap::probe,
];

/// The UUID of a btrfs whose superblock is there, whole or not.
pub fn btrfs_uuid(blocks: &dyn BlockRead) -> Option<String> {
    btrfs::probe(&Window::new(blocks))?.holds.uuid
}

/// Everything that is recognised, in the order of the probes.
pub fn probe_all(window: &Window<'_>) -> Vec<Found> {
    PROBES.iter().filter_map(|probe| probe(window)).collect()
}

/// What became of everything that was found on a region.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// The one that counts; `None` when nothing was found.
    pub found: Option<Found>,
    /// Why the region is kept as it is although something was found, or what was passed over; one line each.
    pub remarks: Vec<String>,
    /// Whether the region's own bytes must be kept, whatever was found.
    pub keep_raw: bool,
}

/// Decides between everything that was found: one sound signature counts, whatever damaged ones lie beside it; of
/// several sound ones none is trusted, and the region is kept as it is.
pub fn judge(found: Vec<Found>) -> Verdict {
    let mut found = hide_what_shows_through(found);
    let names = |found: &[Found]| {
        found.iter().map(|one| one.holds.fs.clone().unwrap_or_default()).collect::<Vec<_>>().join(", ")
    };
    let sound: Vec<usize> = (0..found.len()).filter(|index| found[*index].doubts.is_empty()).collect();
    match (sound.as_slice(), found.len()) {
        (_, 0) => Verdict { found: None, remarks: Vec::new(), keep_raw: false },
        ([only], 1) => Verdict { found: Some(found.swap_remove(*only)), remarks: Vec::new(), keep_raw: false },
        ([only], _) => {
            let chosen = found.remove(*only);
            let mut remarks = vec![format!(
                "signatures of {} and {} lie on it; the damaged {} is passed over",
                chosen.holds.fs.as_deref().unwrap_or_default(),
                names(&found),
                names(&found),
            )];
            remarks.extend(found.iter().flat_map(|one| one.doubts.iter().map(|doubt| shown_doubt(one, doubt))));
            // What is dropped or taken apart must be beyond doubt.
            let keep_raw = !matches!(chosen.content, Content::Files);
            Verdict { found: Some(chosen), remarks, keep_raw }
        }
        ([], _) => {
            let remarks = found.iter().flat_map(|one| one.doubts.iter().map(|doubt| shown_doubt(one, doubt))).collect();
            Verdict { found: Some(found.swap_remove(0)), remarks, keep_raw: true }
        }
        ([first, ..], _) => {
            let remarks = vec![format!("it may hold any of {}: which one is in use cannot be told", names(&found))];
            Verdict { found: Some(found.swap_remove(*first)), remarks, keep_raw: true }
        }
    }
}

fn shown_doubt(found: &Found, doubt: &str) -> String {
    format!("{}: {doubt}", found.holds.fs.as_deref().unwrap_or_default())
}

/// A container whose data begin at its own first byte shows what is inside at the same places: a mirror with its
/// superblock at the end, DRBD with internal metadata, a UDF bridge beside ISO 9660. What shows through is no conflict.
fn hide_what_shows_through(mut found: Vec<Found>) -> Vec<Found> {
    let is = |one: &Found, name: &str| one.holds.fs.as_deref() == Some(name);
    let transparent = found.iter().any(|one| {
        one.doubts.is_empty() && (is(one, "drbd") || matches!(&one.content, Content::Mirror(data) if data.start == 0))
    });
    if transparent {
        found.retain(|one| is(one, "drbd") || one.holds.kind == HoldsKind::Mdraid);
    }
    if found.iter().any(|one| is(one, "udf")) {
        found.retain(|one| !is(one, "iso9660"));
    }
    found
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::{Content, Found, Window, judge, probe_all};
    use crate::layout::HoldsKind;
    use crate::outside::BlockRead;

    #[test]
    fn nothing_is_found_on_nothing() {
        for len in [0, 1, 511, 512, 4096, 1 << 20] {
            assert_eq!(probe_all(&Window::new(&vec![0_u8; len])), []);
            assert_eq!(probe_all(&Window::new(&vec![0xff_u8; len])), []);
        }
    }

    #[test]
    fn one_sound_signature_wins_over_damaged_ones_and_two_sound_ones_over_none() {
        let ext4 = || Found::filesystem("ext4", 1080);
        let xfs = || Found::filesystem("xfs", 0);
        let verdict = judge(vec![ext4().doubt("old"), xfs()]);
        assert_eq!(verdict.found.and_then(|found| found.holds.fs).as_deref(), Some("xfs"));
        assert!(!verdict.keep_raw);
        assert_eq!(verdict.remarks.len(), 2);
        let verdict = judge(vec![ext4(), xfs()]);
        assert!(verdict.keep_raw);
        let verdict = judge(vec![ext4().doubt("old")]);
        assert!(verdict.keep_raw);
        let swap = Found::new(HoldsKind::Swap, "swap", 4086, Content::FactsOnly);
        assert!(judge(vec![xfs().doubt("old"), swap]).keep_raw);
    }

    /// A disk whose first sector cannot be read.
    struct BadStart;

    impl BlockRead for BadStart {
        fn len_bytes(&self) -> u64 {
            1 << 20
        }

        fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
            buf.fill(0);
            if offset < 512 { Err(io::Error::other("medium error")) } else { Ok(()) }
        }
    }

    #[test]
    fn a_read_error_is_remembered_and_ends_nothing() {
        let window = Window::new(&BadStart);
        assert_eq!(probe_all(&window), []);
        assert!(window.read_error().expect("remembered").contains("medium error"));
        assert!(window.read(4096, 16).is_some());
    }
}
