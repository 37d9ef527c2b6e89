//! The target of a disk restore: an unused block device, or a new image file.

mod error;
mod left;
mod open;
mod thin;

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::on_target::what_is_on;
use crate::layout::SCAN_BYTES;
use crate::outside::{FileBlocks, RunCommand};
use crate::run::in_use::{lasting, opened_by};
use crate::shown;
use crate::source::{self, ListedVolume, LvFacts, Refusal, SourceError, SourceKind};
use crate::store::names::{MANIFEST, SUFFIXES};
use crate::units::ByteLen;

pub use self::error::TargetError;
use self::error::io_error;
pub(in crate::run) use self::left::{LeftImage, directory_of, temporaries_of, temporary_name};
pub use self::open::OpenTarget;
use self::thin::PoolRoom;

/// The target as given by the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetSpec {
    /// A block device, by its path or as `VG/LV`.
    Device(PathBuf),
    /// An image file and its size; without one, the source's size.
    Image(PathBuf, Option<u64>),
}

/// A target that was examined and, if it is a device, opened exclusively. Nothing is written to it yet.
#[derive(Debug)]
pub struct Target {
    /// The target as given by the user.
    pub name: String,
    /// Its last path component.
    pub erase_name: String,
    /// Its size.
    pub size_bytes: u64,
    /// A device's logical sector size.
    pub sector_bytes: Option<u32>,
    /// Its content; empty without any.
    pub on_it: Vec<String>,
    /// Remarks, one line each.
    pub remarks: Vec<String>,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// Opened exclusively; with its node, and the room in its thin pool, if it has one.
    Device(File, PathBuf, Option<PoolRoom>),
    /// Not created yet.
    Image(PathBuf),
}

impl Target {
    /// Finds the target and checks that it is unused. `source_bytes` is the default size of a new image,
    /// `backup_directory` the place of the backup.
    pub fn look(
        spec: &TargetSpec,
        source_bytes: u64,
        backup_directory: &Path,
        commands: &dyn RunCommand,
    ) -> Result<Self, TargetError> {
        match spec {
            TargetSpec::Device(path) => Self::device(path, backup_directory, commands),
            TargetSpec::Image(path, size) => Self::image(path, size.unwrap_or(source_bytes), source_bytes),
        }
    }

    fn device(path: &Path, backup_directory: &Path, commands: &dyn RunCommand) -> Result<Self, TargetError> {
        let mut found = source::resolve(path.as_os_str(), commands).map_err(|error| in_place(error, path))?;
        // udev opens a volume for a moment after it was made, or after its last user closed it.
        let is_open = |kind: &SourceKind| matches!(kind, SourceKind::Volume(facts) if facts.is_open);
        if is_open(found.kind()) {
            lasting(|| {
                found = source::resolve(path.as_os_str(), commands).ok()?;
                is_open(found.kind()).then_some(())
            });
        }
        let name = found.display_name().to_owned();
        let unfit = |what: String| TargetError::Unfit { name: name.clone(), what };
        match found.kind() {
            SourceKind::Image => {
                return Err(unfit("it is a file; an image is made with --to-image".to_owned()));
            }
            SourceKind::Volume(facts) if facts.is_open => {
                return Err(unfit("it is open: an instance or something else uses it".to_owned()));
            }
            SourceKind::Volume(facts) if !facts.is_active => {
                return Err(unfit("it is not active; activate it with `lvchange -ay`".to_owned()));
            }
            SourceKind::Volume(facts) if is_thick_origin(facts) => {
                let of_it = snapshots_of(facts, commands)?;
                let what = "each would have to keep all that is overwritten, and overflow; remove them first";
                return Err(unfit(format!("it has snapshots ({}): {what}", of_it.join(", "))));
            }
            SourceKind::Volume(_) | SourceKind::Device { .. } => {}
        }
        let room = match found.kind() {
            SourceKind::Volume(facts) => PoolRoom::of(facts, commands)?,
            SourceKind::Device { .. } | SourceKind::Image => None,
        };
        let node = found.path().to_owned();
        let flags = OFlags::RDWR | OFlags::EXCL | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        // The last user's close may be under way.
        let mut opened = Err(Errno::BUSY);
        lasting(|| {
            opened = rustix::fs::open(&node, flags, Mode::empty());
            matches!(opened, Err(Errno::BUSY)).then_some(())
        });
        let file = match opened {
            Ok(file) => File::from(file),
            Err(Errno::BUSY) => {
                let rdev = fs::metadata(&node).map_or(0, |metadata| metadata.rdev());
                return Err(unfit(format!("it is in use: {}", source::holder_of(rdev))));
            }
            Err(error) => return Err(io_error(&node)(error.into())),
        };
        let metadata = file.metadata().map_err(io_error(&node))?;
        if !metadata.file_type().is_block_device() {
            return Err(unfit("it is no block device".to_owned()));
        }
        if fs::metadata(backup_directory).is_ok_and(|directory| directory.dev() == metadata.rdev()) {
            return Err(unfit("the backups lie on it".to_owned()));
        }
        if let Some(stem) = source::files_below(metadata.rdev()).iter().find_map(|file| backup_of(file)) {
            return Err(unfit(format!("its data lie in a file of the backup {}", shown::bytes(stem))));
        }
        if let Some(shown_by) = lasting(|| source::loop_device_over(&node)) {
            return Err(unfit(format!("it is in use: /dev/{shown_by} shows it or a part of it{}", use_of(&shown_by))));
        }
        if let Some(what) = lasting(|| source::other_way_to(metadata.rdev())) {
            return Err(unfit(format!("it is in use: {what}")));
        }
        if let Some(process) = opened_by(&metadata) {
            return Err(unfit(format!("it is open in process {process}")));
        }
        let sector_bytes = rustix::fs::ioctl_blksszget(&file).map_err(|error| io_error(&node)(error.into()))?;
        let size_bytes = found.size_bytes();
        let blocks = FileBlocks::new(file.try_clone().map_err(io_error(&node))?, size_bytes);
        let (on_it, remarks) = what_is_on(&blocks, sector_bytes, SCAN_BYTES).map_err(io_error(&node))?;
        let last =
            if let SourceKind::Volume(facts) = found.kind() { Some(OsStr::new(&facts.lv)) } else { node.file_name() };
        let erase_name = last.unwrap_or(node.as_os_str()).to_string_lossy().into_owned();
        let sector_bytes = Some(sector_bytes);
        Ok(Self { name, erase_name, size_bytes, sector_bytes, on_it, remarks, kind: Kind::Device(file, node, room) })
    }

    fn image(path: &Path, size_bytes: u64, source_bytes: u64) -> Result<Self, TargetError> {
        let name = shown::path(path.as_os_str().as_encoded_bytes());
        let unfit = |what: String| TargetError::Unfit { name: name.clone(), what };
        let Some(file_name) = path.file_name() else { return Err(unfit("it names no file".to_owned())) };
        // An image with the size of its source is exact even if that is no multiple of 512.
        if size_bytes == 0 || (!size_bytes.is_multiple_of(512) && size_bytes != source_bytes) {
            return Err(unfit(format!("an image of {size_bytes} bytes is not a whole number of sectors of 512")));
        }
        let on_it = match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(io_error(path)(error)),
            Ok(metadata) if !metadata.is_file() => {
                return Err(unfit("there is something that is no file; --to-device is for devices".to_owned()));
            }
            Ok(metadata) => {
                if let Some(process) = opened_by(&metadata) {
                    return Err(unfit(format!("it is open in process {process}")));
                }
                if let Some(shown_by) = lasting(|| source::loop_device_over(path)) {
                    return Err(unfit(format!("it is in use: /dev/{shown_by} shows it{}", use_of(&shown_by))));
                }
                if let Some(stem) = backup_of(path) {
                    return Err(unfit(format!(
                        "it is a file of the backup {}: choose another name",
                        shown::bytes(stem)
                    )));
                }
                if source::is_swap_file(path) {
                    return Err(unfit("it is in use as swap space".to_owned()));
                }
                vec![format!("there is a file of that name, {} bytes long", metadata.len())]
            }
        };
        let erase_name = file_name.to_string_lossy().into_owned();
        let left: Vec<LeftImage> = temporaries_of(path).into_iter().filter(LeftImage::is_left_here).collect();
        let remark = |left: &LeftImage| {
            let name = left.path.file_name().unwrap_or_default();
            format!("an earlier restore left {}, which can be removed", shown::path(name.as_encoded_bytes()))
        };
        let (remarks, kind) = (left.iter().map(remark).collect(), Kind::Image(path.to_owned()));
        Ok(Self { name, erase_name, size_bytes, sector_bytes: None, on_it, remarks, kind })
    }

    /// Whether a device is the target, a partition of it, or its disk.
    pub fn is_or_shares(&self, device: &Path) -> bool {
        let Kind::Device(file, ..) = &self.kind else { return false };
        let family = file.metadata().map_or_else(|_| Vec::new(), |own| source::related_devices(own.rdev()));
        fs::metadata(device).is_ok_and(|other| family.contains(&other.rdev()))
    }

    /// Checks that what is written to it does not overwrite `file`, from which it is written.
    pub(in crate::run) fn must_not_lie_in(&self, file: &Path) -> Result<(), TargetError> {
        let Kind::Device(device, ..) = &self.kind else { return Ok(()) };
        let id = |found: &fs::Metadata| (found.dev(), found.ino());
        let is_it = |below: &PathBuf| {
            fs::metadata(below).and_then(|below| Ok(id(&below) == id(&fs::metadata(file)?))).unwrap_or(false)
        };
        let rdev = device.metadata().map_err(io_error(file))?.rdev();
        if source::files_below(rdev).iter().any(is_it) {
            let file = shown::path(file.as_os_str().as_encoded_bytes());
            let what = format!("its data lie in {file}, which would be overwritten while it is read");
            return Err(TargetError::Unfit { name: self.name.clone(), what });
        }
        Ok(())
    }

    /// Checks that its content may be erased: `allowed` is the name given by the user.
    pub fn may_be_erased(&self, allowed: Option<&str>) -> Result<(), TargetError> {
        if self.on_it.is_empty() || allowed == Some(self.erase_name.as_str()) {
            return Ok(());
        }
        Err(TargetError::NotEmpty {
            name: self.name.clone(),
            erase_name: self.erase_name.clone(),
            on_it: self.on_it.clone(),
        })
    }

    /// The option without which [`Self::may_be_erased`] refuses; `None` if nothing is on it, or `allowed` names it.
    pub fn needs(&self, allowed: Option<&str>) -> Option<String> {
        self.may_be_erased(allowed).is_err().then(|| format!("--yes-erase={}", self.erase_name))
    }

    /// Why so many bytes cannot be written to it, where its thin pool has less room.
    pub(in crate::run) fn lacks_room_for(&self, needed_bytes: u64) -> Option<String> {
        let Kind::Device(_, _, room) = &self.kind else { return None };
        room.as_ref()?.lacks(needed_bytes)
    }

    /// Opens it for writing. An image is created sparse under a temporary name; fails if less than `needed_bytes`
    /// are free, there or in a device's thin pool.
    pub fn open(self, needed_bytes: u64) -> Result<OpenTarget, TargetError> {
        self.open_marked(needed_bytes, None)
    }

    /// Like [`Self::open`]; the temporary name of an image has a mark by which a later run knows it.
    pub(in crate::run) fn open_marked(self, needed_bytes: u64, mark: Option<&str>) -> Result<OpenTarget, TargetError> {
        if let Some(what) = self.lacks_room_for(needed_bytes) {
            return Err(TargetError::Unfit { name: self.name, what });
        }
        let path = match self.kind {
            Kind::Device(file, node, _) => return Ok(OpenTarget::of_device(file, node, self.size_bytes)),
            Kind::Image(path) => path,
        };
        let directory = directory_of(&path);
        let facts = rustix::fs::statvfs(directory).map_err(|error| io_error(directory)(error.into()))?;
        let free = facts.f_bavail.saturating_mul(facts.f_frsize);
        if free < needed_bytes {
            let what =
                format!("its filesystem has {} left, and about {} are needed", ByteLen(free), ByteLen(needed_bytes));
            return Err(TargetError::Unfit { name: self.name, what });
        }
        let temporary = directory.join(temporary_name(&self.erase_name, mark));
        let made = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&temporary);
        let file = made.map_err(io_error(&temporary))?;
        let target = OpenTarget::of_image(file, path, temporary.clone());
        target.file.set_len(self.size_bytes).map_err(io_error(&temporary))?;
        Ok(target)
    }

    /// Goes on with an image that another run began: `file` gets this run's temporary name.
    pub(in crate::run) fn open_begun(
        self,
        file: File,
        begun: &Path,
        mark: Option<&str>,
    ) -> Result<OpenTarget, TargetError> {
        let Kind::Image(path) = self.kind else {
            return Err(TargetError::Unfit { name: self.name, what: "it is no image".to_owned() });
        };
        let temporary = directory_of(&path).join(temporary_name(&self.erase_name, mark));
        fs::rename(begun, &temporary).map_err(io_error(begun))?;
        Ok(OpenTarget::of_image(file, path, temporary))
    }
}

/// The stem of the backup that has this file: its manifest lies beside it.
fn backup_of(path: &Path) -> Option<&[u8]> {
    let name = path.file_name()?;
    let stems = SUFFIXES.iter().filter_map(|suffix| name.as_bytes().strip_suffix(suffix.as_bytes()));
    let manifest = |stem: &[u8]| directory_of(path).join(OsStr::from_bytes(&[stem, MANIFEST.as_bytes()].concat()));
    stems.filter(|stem| !stem.is_empty()).find(|stem| manifest(stem).is_file())
}

/// The use of a loop device, as the end of a sentence.
fn use_of(name: &str) -> String {
    let found = fs::metadata(Path::new("/dev").join(name)).ok();
    let what = found.and_then(|found| source::user_of_device(found.rdev()));
    what.map_or_else(|| format!("; `losetup -d /dev/{name}` detaches it"), |what| format!(", and is {what}"))
}

/// Rewords an error about a source for a target.
fn in_place(error: SourceError, path: &Path) -> TargetError {
    let name = shown::path(path.as_os_str().as_encoded_bytes());
    let what = match &error {
        SourceError::Refused { reason: Refusal::Snapshot { origin }, .. } => format!("it is a snapshot of {origin}"),
        SourceError::Refused { reason: Refusal::InUse(who), .. } => format!("it is in use: {who}"),
        SourceError::Refused { reason: Refusal::WrongKind(what), .. } => format!("it is {what}, no block device"),
        _ => return TargetError::Source(error),
    };
    TargetError::Unfit { name, what }
}

/// lvs(8), attribute 1: `o` is an origin, `O` one with a merging snapshot. Origins of thin snapshots are `V`.
fn is_thick_origin(facts: &LvFacts) -> bool {
    facts.attr.starts_with(['o', 'O']) || facts.roles.iter().any(|role| role == "thickorigin")
}

fn snapshots_of(facts: &LvFacts, commands: &dyn RunCommand) -> Result<Vec<String>, TargetError> {
    let volumes = source::list_volumes(std::slice::from_ref(&facts.vg), commands)?.volumes;
    let is_of_it = |volume: &ListedVolume| volume.facts.origin.as_deref() == Some(facts.lv.as_str());
    Ok(volumes.into_iter().filter(is_of_it).map(|volume| shown::path(volume.facts.lv.as_bytes())).collect())
}
