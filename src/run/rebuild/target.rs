//! The target of a disk restore: an unused block device, or a new image file.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::on_target::what_is_on;
use crate::layout::SCAN_BYTES;
use crate::outside::{FileBlocks, RunCommand};
use crate::run::in_use::{lasting, opened_by};
use crate::shown;
use crate::source::{self, ListedVolume, LvFacts, Refusal, SourceError, SourceKind};

/// The prefix of an incomplete image's name; the image's own name and the process follow.
const TEMPORARY_PREFIX: &str = ".volbak-tmp.";

/// The target as given by the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetSpec {
    /// A block device, by its path or as `VG/LV`.
    Device(PathBuf),
    /// An image file and its size; without one, the source's size.
    Image(PathBuf, Option<u64>),
}

/// Why a target cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// It cannot be opened as a source either.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// It is unsuitable.
    #[error("{name}: {what}")]
    Unfit {
        /// The target as given by the user.
        name: String,
        /// The reason.
        what: String,
    },
    /// The system refused an operation.
    #[error("{}", path.display())]
    Io {
        /// The path.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// It has content, and the user did not allow to erase it.
    #[error(
        "{name} is not empty, and all of it would be lost: {}; to allow that, use --yes-erase={erase_name}",
        on_it.join("; ")
    )]
    NotEmpty {
        /// The target as given by the user.
        name: String,
        /// The value that the option requires.
        erase_name: String,
        /// The content.
        on_it: Vec<String>,
    },
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
    /// Opened exclusively; with its node.
    Device(File, PathBuf),
    /// Not created yet.
    Image(PathBuf),
}

/// A target open for writing.
#[derive(Debug)]
pub struct OpenTarget {
    /// The file or device, open for reading and writing.
    pub file: File,
    /// Whether it is a new file of zeros.
    pub is_new: bool,
    /// The image's final path, and its temporary path.
    image: Option<(PathBuf, PathBuf)>,
    device: Option<PathBuf>,
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> TargetError {
    let path = path.to_owned();
    move |source| TargetError::Io { path, source }
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
        Ok(Self { name, erase_name, size_bytes, sector_bytes, on_it, remarks, kind: Kind::Device(file, node) })
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
                if source::is_swap_file(path) {
                    return Err(unfit("it is in use as swap space".to_owned()));
                }
                vec![format!("there is a file of that name, {} bytes long", metadata.len())]
            }
        };
        let erase_name = file_name.to_string_lossy().into_owned();
        let left = left_of_killed_runs(path);
        let remark = |left: &PathBuf| {
            let name = left.file_name().unwrap_or_default();
            format!("an earlier restore left {}, which can be removed", shown::path(name.as_encoded_bytes()))
        };
        let (remarks, kind) = (left.iter().map(remark).collect(), Kind::Image(path.to_owned()));
        Ok(Self { name, erase_name, size_bytes, sector_bytes: None, on_it, remarks, kind })
    }

    /// Whether a device is the target, a partition of it, or its disk.
    pub fn is_or_shares(&self, device: &Path) -> bool {
        let Kind::Device(file, _) = &self.kind else { return false };
        let family = file.metadata().map_or_else(|_| Vec::new(), |own| source::related_devices(own.rdev()));
        fs::metadata(device).is_ok_and(|other| family.contains(&other.rdev()))
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

    /// Opens it for writing. An image is created sparse under a temporary name; fails if less than `needed_bytes`
    /// are free.
    pub fn open(self, needed_bytes: u64) -> Result<OpenTarget, TargetError> {
        let path = match self.kind {
            Kind::Device(file, node) => {
                return Ok(OpenTarget { file, is_new: false, image: None, device: Some(node) });
            }
            Kind::Image(path) => path,
        };
        let directory = directory_of(&path);
        let facts = rustix::fs::statvfs(directory).map_err(|error| io_error(directory)(error.into()))?;
        let free = facts.f_bavail.saturating_mul(facts.f_frsize);
        if free < needed_bytes {
            let what = format!("its filesystem has {free} bytes left, and about {needed_bytes} are needed");
            return Err(TargetError::Unfit { name: self.name, what });
        }
        let temporary = directory.join(format!("{TEMPORARY_PREFIX}{}.{}", self.erase_name, std::process::id()));
        let made = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&temporary);
        let file = made.map_err(io_error(&temporary))?;
        let target = OpenTarget { file, is_new: true, image: Some((path, temporary.clone())), device: None };
        target.file.set_len(self.size_bytes).map_err(io_error(&temporary))?;
        Ok(target)
    }
}

impl OpenTarget {
    /// The node of a device.
    pub(in crate::run) fn device(&self) -> Option<&Path> {
        self.device.as_deref()
    }

    /// Syncs it. A complete image gets its final name, and with `replace` replaces an existing file. Returns the
    /// device's node, if it is a device; afterwards it is no longer held exclusively.
    pub fn finish(mut self, replace: bool) -> Result<Option<PathBuf>, TargetError> {
        let shown = self.image.as_ref().map_or_else(PathBuf::new, |(path, _)| path.clone());
        self.file.sync_all().map_err(io_error(&shown))?;
        if let Some((path, temporary)) = self.image.take() {
            if replace {
                take_over_owner(&self.file, &path).map_err(io_error(&path))?;
            }
            give_name(&temporary, &path, replace).map_err(|error| TargetError::Unfit {
                name: shown::path(path.as_os_str().as_encoded_bytes()),
                what: format!(
                    "the new image cannot get its name ({error}); it is complete as {}",
                    shown::path(temporary.as_os_str().as_encoded_bytes())
                ),
            })?;
            let directory = directory_of(&path);
            File::open(directory).and_then(|directory| directory.sync_all()).map_err(io_error(directory))?;
        }
        Ok(self.device.take())
    }

    /// Syncs an image and keeps its temporary name, which is returned; `None` for a device.
    pub fn keep_temporary(mut self) -> Result<Option<PathBuf>, TargetError> {
        let Some((path, temporary)) = self.image.take() else { return Ok(None) };
        self.file.sync_all().map_err(io_error(&path))?;
        Ok(Some(temporary))
    }
}

impl Drop for OpenTarget {
    fn drop(&mut self) {
        if let Some((_, temporary)) = &self.image {
            // If this fails, its name identifies the remains.
            let _ = fs::remove_file(temporary);
        }
    }
}

/// Renames an image to its final name.
fn give_name(temporary: &Path, path: &Path, replace: bool) -> rustix::io::Result<()> {
    let cwd = rustix::fs::CWD;
    let flags = if replace { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
    match rustix::fs::renameat_with(cwd, temporary, cwd, path, flags) {
        // Not every filesystem supports the flag (NFS, CIFS, FUSE). A hard link does not replace an existing file
        // either.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) if !replace => {
            rustix::fs::linkat(cwd, temporary, cwd, path, AtFlags::empty())?;
            rustix::fs::unlinkat(cwd, temporary, AtFlags::empty())
        }
        renamed => renamed,
    }
}

/// An image that replaces another gets its owner and mode.
fn take_over_owner(file: &File, replaced: &Path) -> io::Result<()> {
    let was = fs::symlink_metadata(replaced)?;
    std::os::unix::fs::fchown(file, Some(was.uid()), Some(was.gid()))?;
    file.set_permissions(was.permissions())
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

/// Temporary files of the image `path` left by runs of this host that were killed, or that kept a new image beside an
/// old one.
pub(in crate::run) fn left_of_killed_runs(path: &Path) -> Vec<PathBuf> {
    let (Some(name), Ok(entries)) = (path.file_name(), fs::read_dir(directory_of(path))) else { return Vec::new() };
    let prefix = format!("{TEMPORARY_PREFIX}{}.", name.to_string_lossy());
    let is_left = |entry: &fs::DirEntry| {
        let name = entry.file_name();
        let process = name.to_str().and_then(|name| name.strip_prefix(&prefix)?.parse::<u32>().ok());
        process.is_some_and(|process| !Path::new("/proc").join(process.to_string()).exists())
    };
    entries.filter_map(Result::ok).filter(is_left).map(|entry| entry.path()).collect()
}

pub(in crate::run) fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
