//! The filesystems of an image, open.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::{ImageFilesError, WantedFiles};
use crate::error::with_causes;
use crate::events::{Event, Observer, Problem, Severity};
use crate::layout::{Handling, Layout, Region, RegionBlocks, detect};
use crate::outside::{BlockRead, Cancel, RunCommand, SystemCommands};
use crate::reader::filesystem::{Backing, Filesystem, FsRegion, Means, NotOpened};
use crate::reader::open::{open, readers};
use crate::run::image_backup::{OpenImage, OpenImageError};
use crate::run::restore::select::{Base, Part, Selection};
use crate::run::unpacked::copy_data;
use crate::shown;
use crate::units::{ByteRange, Extent};

/// Maps of holes and long headers, beside data: a 64th of the region, and this much.
const BESIDE_DATA_BYTES: u64 = 4 << 20;
/// Data that are shared or compressed come out at most so many times as long.
const MAX_SHARED: u64 = 32;

/// A filesystem.
pub(super) struct OpenRegion {
    pub(super) name: String,
    /// Its directory among those of others; `None` at the top.
    pub(super) directory: Option<String>,
    pub(super) filesystem: Box<dyn Filesystem>,
    /// More than this comes out of none that is not damaged.
    pub(super) limit_bytes: u64,
}

impl OpenRegion {
    /// The path of an entry as in an archive of files, without `./`.
    pub(super) fn path_of(&self, path: &[u8]) -> Vec<u8> {
        match &self.directory {
            None => path.to_vec(),
            Some(directory) if path.is_empty() => directory.as_bytes().to_vec(),
            Some(directory) => [directory.as_bytes(), b"/", path].concat(),
        }
    }
}

/// The filesystems of an image.
pub(super) struct Opened {
    pub(super) layout: Layout,
    pub(super) regions: Vec<OpenRegion>,
    /// The filesystems that cannot be read here: the directory of each, and the reason.
    passed: Vec<(String, String)>,
    /// What is no filesystem that volbak reads, by name.
    raw: Vec<String>,
}

impl Opened {
    /// Opens each filesystem that can be read here, or the one of a region.
    pub(super) fn open(
        image: &OpenImage,
        only: Option<&str>,
        scratch: &Path,
        cancel: &Cancel,
        observer: &dyn Observer,
    ) -> Result<Self, ImageFilesError> {
        let source = &image.manifest.layout.source;
        let layout = detect(&*image.blocks, &source.path, Some(source.sector_size))?;
        if let Some(name) = only.filter(|name| !layout.regions.iter().any(|region| region.name == **name)) {
            let there: Vec<String> = layout.regions.iter().take(64).map(|region| shown::text(&region.name)).collect();
            return Err(OpenImageError::NoRegion { name: shown::text(name), there: there.join(", ") }.into());
        }
        let filesystems = || layout.regions.iter().filter(|region| region.handling == Handling::Files);
        // As in a backup of files.
        let has_directories = filesystems().nth(1).is_some();
        let mut regions = Vec::new();
        let mut passed = Vec::new();
        let chosen = filesystems().filter(|region| only.is_none_or(|only| only == region.name));
        for (number, region) in chosen.enumerate() {
            // Of its own: what cannot be read of one filesystem leaves the others as they are.
            let copy = Copied {
                blocks: Arc::clone(&image.blocks),
                extents: region.extents.clone(),
                path: scratch.join(format!("image-{number}")),
            };
            match open_region(region, &copy, scratch, cancel, observer) {
                Ok(filesystem) => {
                    for what in filesystem.complaints() {
                        let place = shown::text(&region.name);
                        observer.on_event(&Event::Problem(Problem::new(Severity::Warning, place, what.clone())));
                    }
                    let size = region.size_bytes;
                    let own = size.saturating_add(size / 64).saturating_add(BESIDE_DATA_BYTES);
                    let shares = matches!(region.holds.fs.as_deref(), Some("btrfs" | "xfs"));
                    regions.push(OpenRegion {
                        name: region.name.clone(),
                        directory: has_directories.then(|| region.name.clone()),
                        filesystem,
                        limit_bytes: if shares { own.saturating_mul(MAX_SHARED) } else { own },
                    });
                }
                Err(NotOpened::Cancelled) => return Err(ImageFilesError::Stopped),
                Err(why) => {
                    let what = format!("{}: {}", shown::text(&region.name), with_causes(&why));
                    passed.push((if has_directories { region.name.clone() } else { String::new() }, what));
                }
            }
        }
        if regions.is_empty() {
            return Err(ImageFilesError::NoFiles(passed.into_iter().map(|(_, what)| what).collect()));
        }
        let is_raw = |region: &&Region| region.handling == Handling::RawImage && !region.name.starts_with("disk.");
        let names = layout.regions.iter().filter(is_raw).map(|region| shown::text(&region.name));
        let raw = if only.is_none() { names.collect() } else { Vec::new() };
        Ok(Self { layout, regions, passed, raw })
    }

    /// Tells what the image has beside its files that are read. A filesystem that cannot be read is an error, if what is selected
    /// may be in it.
    pub(super) fn tell_left_out(&self, wanted: WantedFiles<'_>, selection: &Selection, observer: &dyn Observer) {
        let tell = |severity, what: String| observer.on_event(&Event::Problem(Problem::new(severity, "image", what)));
        for (directory, what) in &self.passed {
            let directory = directory.as_bytes();
            let may_be_in_it = wanted.paths.is_empty()
                || (self.regions.len() == 1 && !wanted.paths.iter().all(|path| self.is_in_an_open_one(path)))
                || selection.wants(directory, true)
                || selection.leads_to(directory);
            let severity = if may_be_in_it { Severity::Error } else { Severity::Warning };
            tell(severity, format!("{what}; its files are left out"));
        }
        for name in &self.raw {
            let what = format!(
                "{name} has no filesystem that is read: `volbak restore --region {name} --to-image FILE` brings it back"
            );
            tell(Severity::Warning, what);
        }
    }

    /// Whether a path begins with the directory of a filesystem that is open: without it, a path is looked up in the only one that is
    /// open, and may be meant in another.
    fn is_in_an_open_one(&self, path: &str) -> bool {
        let first = path.split('/').find(|part| !part.is_empty() && *part != ".");
        self.regions.iter().any(|region| region.directory.as_deref() == first)
    }

    /// What is wanted of it.
    pub(super) fn selection(&self, wanted: WantedFiles<'_>) -> Result<Selection, ImageFilesError> {
        let below = match (&self.regions[..], wanted.region) {
            ([one], _) => one.directory.clone().map_or_else(Vec::new, String::into_bytes),
            _ => Vec::new(),
        };
        let top_names = if below.is_empty() || wanted.region.is_some() { Vec::new() } else { vec![below.clone()] };
        let part = Part { below: below.clone(), except: Vec::new() };
        Ok(Selection::from(&Base { below, top_names }, wanted.paths)?.within(&part))
    }
}

/// Opens a filesystem by volbak's own reader, else through the kernel, which needs the image in a file.
fn open_region(
    region: &Region,
    copy: &Copied,
    scratch: &Path,
    cancel: &Cancel,
    observer: &dyn Observer,
) -> Result<Box<dyn Filesystem>, NotOpened> {
    let commands: Arc<dyn RunCommand> = Arc::new(SystemCommands);
    let of = FsRegion {
        name: &region.name,
        fs: region.holds.fs.as_deref().unwrap_or_default(),
        blocks: Arc::new(RegionBlocks::shared(Arc::clone(&copy.blocks), &region.extents)),
        pieces: &region.extents,
    };
    let means = Means { backing: copy, scratch, with_snapshots: true, commands: &commands, cancel };
    open(&readers(false), &of, &means, &mut |passed| {
        let step = format!("reading {} through the kernel: {}", region.name, with_causes(passed));
        observer.on_event(&Event::Step { step });
    })
}

/// A filesystem of the image, at its place in a file of its own, made when it is asked for.
struct Copied {
    blocks: Arc<dyn BlockRead>,
    extents: Vec<Extent>,
    path: PathBuf,
}

impl Copied {
    /// Under another name until it is whole: what was not copied would read as zeros.
    fn make(&self) -> io::Result<()> {
        let unfinished = self.path.with_extension("unfinished");
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
        let ranges = self.extents.iter().map(|extent| ByteRange::new(extent.source_offset, extent.length));
        let copied = copy_data(&*self.blocks, ranges, &file).and_then(|()| std::fs::rename(&unfinished, &self.path));
        if copied.is_err() {
            let _ = std::fs::remove_file(&unfinished);
        }
        copied
    }
}

impl Backing for Copied {
    fn open(&self) -> io::Result<File> {
        if !self.path.exists() {
            self.make()?;
        }
        OpenOptions::new().read(true).write(true).open(&self.path)
    }

    fn path(&self) -> &Path {
        &self.path
    }

    /// Pieces are put together from a device.
    fn is_writable(&self) -> bool {
        self.extents.len() == 1
    }
}
