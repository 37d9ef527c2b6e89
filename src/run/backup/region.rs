//! One region's way into the archive.

mod subvolumes;

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use self::subvolumes::Subvolumes;
use super::error::BackupError;
use super::previous::PreviousBackup;
use crate::archive::error::ArchiveError;
use crate::archive::write::ArchiveWriter;
use crate::entry::Timestamp;
use crate::error::with_causes;
use crate::events::{Event, Observer, Problem, Severity};
use crate::layout::{Handling, HoldsKind, Region, RegionBlocks, recorded_damage};
use crate::manifest::{BtrfsRecord, QuotaRecord, RegionReader, RegionRecord};
use crate::outside::inode_flags;
use crate::outside::{BlockRead, Cancel, RunCommand};
use crate::reader::ahead::ReadAhead;
use crate::reader::exclude::Excludes;
use crate::reader::ext4::{Ext4, NotRead};
use crate::reader::kernel::device_map::{DeviceMap, DeviceMapError};
use crate::reader::kernel::loop_device::LoopDevice;
use crate::reader::kernel::mounted::{MountError, MountSource, Mounted, driver_obstacle};
use crate::reader::kernel::scratch::ScratchError;
use crate::reader::raw::RawImage;
use crate::reader::{Found, FsReader};
use crate::run::expected::Expected;
use crate::source::SnapshotGuard;
use crate::units::Extent;
use crate::units::{ByteLen, ByteRange};

/// The type of a GPT partition that holds boot code and never a filesystem ("BIOS boot", GNU GRUB's manual).
const BIOS_BOOT: &str = "21686148-6449-6e6f-744e-656564454649";

/// What files take beside the data that their region has room for: maps of holes and long headers. A region's 64th part,
/// and this much.
const BESIDE_DATA_BYTES: u64 = 4 << 20;
/// Btrfs compresses pieces of 128 KiB, each into a block of 4 KiB at least: no data that it holds once is longer.
const MAX_COMPRESSION: u64 = 32;

/// The type that the layout gives to what lies behind a filesystem's end.
const BEHIND_THE_CONTENT: &str = "behind the content";

/// What all regions of a source have in common.
pub(super) struct RegionContext<'a> {
    pub(super) guard: &'a SnapshotGuard,
    pub(super) commands: &'a Arc<dyn RunCommand>,
    pub(super) blocks: &'a Arc<dyn BlockRead>,
    pub(super) excludes: &'a Excludes,
    pub(super) scratch: &'a Path,
    /// Whether the kernel reads what volbak could read itself.
    pub(super) by_kernel: bool,
    /// Whether read-only snapshots in a btrfs are archived.
    pub(super) with_snapshots: bool,
    pub(super) cancel: &'a Cancel,
    pub(super) observer: &'a dyn Observer,
    /// The modification time of raw images.
    pub(super) frozen_at: Timestamp,
    /// What the regions hold that is no problem.
    pub(super) expected: Expected<'a>,
}

/// A region as something that can be mounted. Fields are dropped in this order: each holds the one after it.
struct Assembled {
    file: File,
    range: ByteRange,
    map: Option<DeviceMap>,
    base: Option<LoopDevice>,
}

/// A mounted region, with what its mount lies on. Fields are dropped in this order.
pub(super) struct MountedRegion {
    mounted: Mounted,
    map: Option<DeviceMap>,
    base: Option<LoopDevice>,
}

/// A region whose filesystem can be read.
pub(super) enum OpenRegion {
    /// By volbak's own reader, which needs nothing but the region's bytes.
    Ext4(Ext4),
    /// Through the kernel's.
    Mounted(Box<MountedRegion>),
}

impl OpenRegion {
    fn walk(&self, excludes: &Excludes) -> io::Result<Box<dyn FsReader + Send>> {
        match self {
            Self::Ext4(ext4) => Ok(Box::new(ext4.walk(excludes.clone()))),
            Self::Mounted(region) => Ok(Box::new(region.mounted.walk(excludes.clone())?)),
        }
    }

    fn used_bytes(&self) -> io::Result<u64> {
        match self {
            Self::Ext4(ext4) => Ok(ext4.used_bytes()),
            Self::Mounted(region) => region.mounted.used_bytes(),
        }
    }

    /// Calls `with` with each name in the root directory, as far as they can be read.
    pub(super) fn for_each_root_name(&self, with: impl FnMut(&[u8])) {
        match self {
            Self::Ext4(ext4) => ext4.for_each_root_name(with),
            Self::Mounted(region) => region.mounted.for_each_root_name(with),
        }
    }

    /// Lets go of it; unmounts it and takes it apart. Says what could not be removed.
    pub(super) fn finish(self) -> Result<(), DeviceMapError> {
        let Self::Mounted(region) = self else { return Ok(()) };
        let region = *region;
        drop(region.mounted);
        region.map.map_or(Ok(()), DeviceMap::finish)?;
        drop(region.base);
        Ok(())
    }
}

/// What came of a region's files.
pub(super) struct Archived {
    pub(super) record: RegionRecord,
    /// How many files, and directories with all in them, are encrypted or hidden, and not in the archive.
    pub(super) sealed: u64,
}

/// How much of a region's files is archived as files. A filesystem without shared blocks never holds more than its region
/// has room for. One that does could not be restored to a region of that size, and may have been made to fill the destination.
struct Room {
    limit_bytes: u64,
    /// Up to where it is clear that the files can be restored; `None` when that is clear for all of them.
    clear_bytes: Option<u64>,
}

impl Room {
    fn of(region: &Region) -> Self {
        let size = region.size_bytes;
        let own_bytes = size.saturating_add(size / 64).saturating_add(BESIDE_DATA_BYTES);
        if may_compress(region) {
            Self { limit_bytes: own_bytes.saturating_mul(MAX_COMPRESSION), clear_bytes: Some(own_bytes) }
        } else {
            Self { limit_bytes: own_bytes, clear_bytes: None }
        }
    }

    /// Takes note that so much was archived. An error when it could not be restored to a region of the same size.
    fn check(&mut self, taken_bytes: u64, open: &OpenRegion) -> Result<(), ArchiveError> {
        if let Some(clear_bytes) = self.clear_bytes.filter(|clear_bytes| taken_bytes > *clear_bytes) {
            let OpenRegion::Mounted(region) = open else {
                return Err(ArchiveError::TooMuch { limit_bytes: clear_bytes });
            };
            // Compressed data may be longer than the region and fit into it all the same; shared data do not.
            if region.mounted.restored_bytes().is_none_or(|restored| restored > clear_bytes) {
                return Err(ArchiveError::TooMuch { limit_bytes: clear_bytes });
            }
            self.clear_bytes = None;
        }
        Ok(())
    }
}

fn may_compress(region: &Region) -> bool {
    region.holds.fs.as_deref() == Some("btrfs")
}

/// Whether files of the filesystem may have blocks in common, as it was meant.
fn may_share(region: &Region) -> bool {
    let has = |name: &str| {
        let made_with = region.holds.made_with.as_ref();
        made_with.is_some_and(|made_with| made_with.features.iter().any(|feature| feature == name))
    };
    may_compress(region) || has("reflink") || has("shared_blocks")
}

/// Why a region is kept as a raw image although its files can be read.
pub(super) fn too_much(region: &Region, limit_bytes: u64) -> (Severity, String) {
    let what = format!(
        "its files hold more than {} together, and it is {} long",
        ByteLen(limit_bytes),
        ByteLen(region.size_bytes)
    );
    if may_share(region) {
        let why = "snapshots or reflinks share their data, so its files could not be restored to its own size";
        (Severity::Warning, format!("{what}: {why}; kept as a raw image, which can"))
    } else {
        let why = "blocks are mapped more than once, so it is damaged, or was made to fill the destination";
        (Severity::Error, format!("{what}: {why}; kept as a raw image"))
    }
}

fn range_of(extent: &Extent) -> ByteRange {
    ByteRange::new(extent.source_offset, extent.length)
}

impl RegionContext<'_> {
    fn tell(&self, severity: Severity, region: &Region, what: String) {
        self.observer.on_event(&Event::Problem(Problem::new(severity, region.name.clone(), what)));
    }

    /// Warns of what a filesystem's own headers say of damage.
    pub(super) fn tell_damage(&self, region: &Region) {
        let Some(fs) = region.holds.fs.as_deref() else { return };
        for what in recorded_damage(fs, &RegionBlocks::shared(Arc::clone(self.blocks), &region.extents)) {
            self.tell(Severity::Warning, region, what);
        }
    }

    /// Makes a region that holds a filesystem ready to be read. Why it cannot be read is told, and then there is none: it
    /// is kept as a raw image instead.
    pub(super) fn open(&self, region: &Region) -> Result<Option<OpenRegion>, BackupError> {
        let Some(fs) = region.holds.fs.as_deref() else { return Ok(None) };
        if fs.starts_with("ext") && !self.by_kernel {
            match Ext4::open(Arc::new(RegionBlocks::shared(Arc::clone(self.blocks), &region.extents))) {
                Ok(ext4) => {
                    for what in ext4.complaints() {
                        self.tell(Severity::Warning, region, what.clone());
                    }
                    return Ok(Some(OpenRegion::Ext4(ext4)));
                }
                Err(NotRead::Endless) => {
                    self.tell(
                        self.expected.severity_of_raw(region),
                        region,
                        format!("{}; kept as a raw image", NotRead::Endless),
                    );
                    return Ok(None);
                }
                Err(NotRead::Damaged(error)) => {
                    let what = format!("{error}: left to the kernel");
                    self.tell(Severity::Notice, region, what);
                }
                Err(why) => {
                    let step = format!("reading {} through the kernel: {}", region.name, with_causes(&why));
                    self.observer.on_event(&Event::Step { step });
                }
            }
        }
        Ok(self.mount(region, fs)?.map(|mounted| OpenRegion::Mounted(Box::new(mounted))))
    }

    fn mount(&self, region: &Region, fs: &str) -> Result<Option<MountedRegion>, BackupError> {
        let backing = self.guard.open_backing().map_err(BackupError::Open)?;
        let assembled = match region.extents.as_slice() {
            [extent] => Assembled { file: backing, range: range_of(extent), map: None, base: None },
            pieces => match self.assemble(&backing, pieces, &region.name) {
                Ok(assembled) => assembled,
                Err(error) => {
                    let what = format!("its {} pieces cannot be put together: {error}", pieces.len());
                    self.tell(self.expected.severity_of_raw(region), region, format!("{what}; kept as a raw image"));
                    return Ok(None);
                }
            },
        };
        let source = MountSource {
            backing: &assembled.file,
            range: assembled.range,
            fs,
            writable: self.guard.is_writable(),
            with_snapshots: self.with_snapshots,
            scratch: self.scratch,
        };
        match Mounted::open(&source, self.cancel) {
            Ok(mounted) => match mounted.root().and_then(|_| mounted.used_bytes()) {
                Ok(_) => {
                    for what in &mounted.complaints {
                        self.tell(Severity::Warning, region, what.clone());
                    }
                    Ok(Some(MountedRegion { mounted, map: assembled.map, base: assembled.base }))
                }
                Err(error) => {
                    let what = format!("its {fs} is mounted, and its root cannot be read: {error}");
                    self.tell(self.expected.severity_of_raw(region), region, format!("{what}; kept as a raw image"));
                    Ok(None)
                }
            },
            Err(MountError::Scratch(ScratchError::Cancelled)) => Err(BackupError::Cancelled),
            Err(MountError::Loop(error)) => {
                let why =
                    driver_obstacle(fs).map_or_else(|| format!("no loop device can be made: {error}"), str::to_owned);
                let what = format!("{fs} is read through the kernel, and {why}; kept as a raw image");
                self.tell(self.expected.severity_of_raw(region), region, what);
                Ok(None)
            }
            Err(error) => {
                self.tell(
                    self.expected.severity_of_raw(region),
                    region,
                    format!("{}; kept as a raw image", with_causes(&error)),
                );
                Ok(None)
            }
        }
    }

    /// Makes one device of the pieces of a region.
    fn assemble(&self, backing: &File, pieces: &[Extent], name: &str) -> Result<Assembled, DeviceMapError> {
        let writable = self.guard.is_writable();
        let (base, base_start, base_path) = if writable {
            (None, 0, self.guard.path().to_owned())
        } else {
            // Only the stretch with the pieces: a loop device that showed the label of the tenant's physical volume
            // would have the host's own LVM look at it.
            let start = pieces.iter().map(|piece| piece.source_offset).min().unwrap_or(0);
            let end = pieces.iter().map(|piece| piece.source_offset.saturating_add(piece.length)).max().unwrap_or(0);
            let range = ByteRange::new(start, end.saturating_sub(start));
            let device = LoopDevice::attach(backing, range, false)
                .map_err(|source| DeviceMapError::Base { path: self.guard.path().to_owned(), source })?;
            let path = device.path().to_owned();
            (Some(device), start, path)
        };
        let shifted: Vec<Extent> = pieces
            .iter()
            .map(|piece| Extent { source_offset: piece.source_offset - base_start, length: piece.length })
            .collect();
        let map = DeviceMap::create(&base_path, &shifted, !writable, name, Arc::clone(self.commands))?;
        let path = map.path().to_owned();
        let file = File::options()
            .read(true)
            .write(writable)
            .open(&path)
            .map_err(|source| DeviceMapError::Base { path, source })?;
        let len = pieces.iter().map(|piece| piece.length).sum();
        Ok(Assembled { file, range: ByteRange::new(0, len), map: Some(map), base })
    }

    /// Archives the files of an opened region under `directory`, or at the top without one. What is encrypted or hidden is told and
    /// left to the caller, who has the region's image archived.
    pub(super) fn archive_files(
        &self,
        writer: &mut ArchiveWriter<'_>,
        previous: &mut PreviousBackup<'_, '_>,
        region: &Region,
        open: &OpenRegion,
        directory: Option<&str>,
    ) -> Result<Archived, BackupError> {
        let used_bytes = open.used_bytes().map_err(BackupError::Open)?;
        self.observer.on_event(&Event::ExpectedBytes { bytes: used_bytes });
        let archive_path = directory.map_or_else(|| ".".to_owned(), |directory| format!("./{directory}"));
        let walk = open.walk(self.excludes).map_err(BackupError::Open)?;
        let opens_files = Arc::new(AtomicBool::new(false));
        let mut walk = ReadAhead::new(walk, Arc::clone(&opens_files)).map_err(BackupError::Open)?;
        // The previous index may still be read: the walk has begun without it.
        let carry_before =
            previous.join(writer).and_then(|previous| previous.trust.carry_before(region, &archive_path));
        // Without a previous backup it is clear that all files are read.
        opens_files.store(carry_before.is_none(), Ordering::Relaxed);
        writer.start_filesystem(directory, carry_before)?;
        let mut sealed = 0;
        let mut subvolumes = match open {
            OpenRegion::Mounted(region) => Subvolumes::of(&region.mounted),
            OpenRegion::Ext4(_) => None,
        };
        let placed = |mut problem: Problem| {
            if let Some(directory) = directory {
                problem.location = format!("{directory}/{}", problem.location.trim_start_matches('/'));
            }
            problem
        };
        let mut room = Room::of(region);
        writer.limit_filesystem(room.limit_bytes);
        while let Some(found) = walk.next_found() {
            match found {
                Found::Entry(entry) => {
                    if let Some(subvolumes) = &mut subvolumes {
                        subvolumes.note(&entry);
                    }
                    writer.append(entry)?;
                    if let Some(spent) = writer.take_spent() {
                        walk.free(spent);
                    }
                    room.check(writer.taken_bytes(), open)?;
                    if let OpenRegion::Ext4(ext4) = open
                        && ext4.has_no_end()
                    {
                        return Err(ArchiveError::TooMuch { limit_bytes: room.limit_bytes }.into());
                    }
                }
                Found::Problem(problem) => self.observer.on_event(&Event::Problem(placed(problem))),
                Found::Sealed(problem) => {
                    sealed += 1;
                    self.observer.on_event(&Event::Problem(placed(problem)));
                }
            }
        }
        // Before it is unmounted.
        writer.end_filesystem()?;
        if let OpenRegion::Mounted(mounted) = open {
            for (severity, what) in mounted.mounted.met() {
                self.tell(severity, region, what);
            }
        }
        if let OpenRegion::Ext4(ext4) = open {
            if ext4.has_no_end() {
                return Err(ArchiveError::TooMuch { limit_bytes: room.limit_bytes }.into());
            }
            for problem in ext4.take_problems() {
                self.observer.on_event(&Event::Problem(placed(problem)));
            }
        }
        let btrfs = subvolumes.map(|subvolumes| {
            let (record, failures) = subvolumes.finish();
            for what in failures {
                self.tell(Severity::Warning, region, what);
            }
            record
        });
        // Only ext says whether it was. A copy of an image may have been made at any moment, as a snapshot is.
        let (reader, from_copy, in_use) = match open {
            OpenRegion::Ext4(ext4) => (RegionReader::Ext4, false, ext4.was_in_use()),
            OpenRegion::Mounted(region) => {
                let mounted = &region.mounted;
                (RegionReader::Kernel, mounted.from_copy, mounted.was_in_use.unwrap_or(true))
            }
        };
        let has_fat_attributes = match open {
            OpenRegion::Mounted(region) => region.mounted.root().is_ok_and(inode_flags::fat::has_some),
            OpenRegion::Ext4(_) => false,
        };
        let record = RegionRecord {
            name: region.name.clone(),
            handling: Handling::Files,
            archive_path: Some(archive_path),
            files_path: None,
            used_bytes: Some(used_bytes),
            journal_replayed_in_copy: from_copy,
            in_use: Some(in_use),
            reader: Some(reader),
            has_fat_attributes,
            quota_limits: self.quota_limits(region, open),
            btrfs: btrfs.filter(|record| *record != BtrfsRecord::default()).map(Box::new),
        };
        Ok(Archived { record, sealed })
    }

    /// The limits of a filesystem's quotas, and what is to be known of them.
    fn quota_limits(&self, region: &Region, open: &OpenRegion) -> Option<Box<QuotaRecord>> {
        let OpenRegion::Ext4(ext4) = open else {
            let xfs = region.holds.made_with.as_ref().and_then(|made| made.xfs.as_deref());
            if xfs.is_some_and(|xfs| !xfs.quotas.is_empty()) {
                self.tell(Severity::Notice, region, "the limits of its quotas are not in the backup".to_owned());
            }
            return None;
        };
        match ext4.quota_limits() {
            Ok(limits) if limits.count == 0 => None,
            Ok(limits) => {
                let what = format!(
                    "{} quota limits are in the manifest; a restore does not set them: setquota does, with what stands there",
                    limits.count
                );
                self.tell(Severity::Notice, region, what);
                Some(Box::new(QuotaRecord { count: limits.count, setquota: limits.kept }))
            }
            Err(error) => {
                let what =
                    format!("its quota files cannot be read, so that their limits are not in the backup: {error}");
                self.tell(Severity::Warning, region, what);
                None
            }
        }
    }

    /// Archives the image of a region whose files are in the archive as `files` says, but for those that are sealed.
    pub(super) fn archive_besides(
        &self,
        writer: &mut ArchiveWriter<'_>,
        region: &Region,
        files: Archived,
        file_name: &str,
    ) -> Result<RegionRecord, BackupError> {
        let Archived { record, sealed } = files;
        let what = format!(
            "{sealed} of its files and directories cannot be read (encrypted with fscrypt, or hidden by another one of the \
             same name): all of it is kept as a raw image besides, {file_name}"
        );
        self.tell(Severity::Warning, region, what);
        let RegionRecord { archive_path, used_bytes, .. } = self.archive_raw(writer, region, file_name)?;
        let files_path = record.archive_path;
        Ok(RegionRecord { handling: Handling::RawImage, archive_path, files_path, used_bytes, ..record })
    }

    /// Archives a region's bytes as the sparse file `file_name`.
    pub(super) fn archive_raw(
        &self,
        writer: &mut ArchiveWriter<'_>,
        region: &Region,
        file_name: &str,
    ) -> Result<RegionRecord, BackupError> {
        // What lies behind a filesystem's end was told of when it was found, by how much it matters.
        if region.handling == Handling::RawImage && region.type_name != BEHIND_THE_CONTENT {
            let holds = match (&region.holds.fs, region.holds.kind) {
                (Some(fs), _) => fs.clone(),
                (None, HoldsKind::Unknown) => "something unknown".to_owned(),
                (None, kind) => format!("{kind:?}").to_lowercase(),
            };
            // Boot code is what belongs there: nothing that anybody has to look at every night.
            let severity = match region.type_id.as_str() {
                BIOS_BOOT => Severity::Notice,
                _ => self.expected.severity_of_raw(region),
            };
            self.tell(severity, region, format!("holds {holds}; kept as a raw image, {file_name}"));
        }
        self.observer.on_event(&Event::ExpectedBytes { bytes: region.size_bytes.saturating_mul(2) });
        let blocks = RegionBlocks::shared(Arc::clone(self.blocks), &region.extents);
        let scanned = RawImage::scan(Arc::new(blocks), self.cancel, |bytes| {
            self.observer.on_event(&Event::Read { bytes });
        });
        let image = match scanned {
            Ok(image) => image,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => return Err(BackupError::Cancelled),
            Err(error) => return Err(BackupError::Open(error)),
        };
        writer.append_raw_image(file_name, &image, region.size_bytes, self.frozen_at)?;
        Ok(RegionRecord {
            name: region.name.clone(),
            handling: Handling::RawImage,
            archive_path: Some(format!("./{file_name}")),
            files_path: None,
            used_bytes: Some(image.data_bytes()),
            journal_replayed_in_copy: false,
            btrfs: None,
            in_use: None,
            reader: None,
            has_fat_attributes: false,
            quota_limits: None,
        })
    }
}
