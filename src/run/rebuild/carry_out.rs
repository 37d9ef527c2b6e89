//! Carries out the steps of a plan.
//!
//! Filesystems are made on loop devices that show their place on the target, and mounted nowhere: when the process
//! dies, the kernel takes all of it apart. Only volumes in several pieces need device-mapper, whose maps the next run of
//! volbak removes.

use std::fs::File;
use std::io;
use std::num::NonZero;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, Mode, OFlags};

use super::compare::differences;
use super::ext_settings::{self, When, reserved_blocks};
use super::makefs::{ToolCall, has, tune2fs};
use super::plan::{MakeStep, Plan, Step};
use super::put_bytes::{Image, raw_image, zero};
use super::read_back::second_opinion;
use super::shown::step_as_text;
use super::target::OpenTarget;
use super::{DeviceOptions, DeviceReport};
use crate::error::with_causes;
use crate::events::{Event, Observer, Problem, Severity};
use crate::layout::{SCAN_BYTES, TableKind, detect_within};
use crate::outside::inode_flags;
use crate::outside::{FileBlocks, RunCommand, let_go_of_pages, shown_command};
use crate::reader::kernel::device_map::{DeviceMap, DeviceMapError};
use crate::reader::kernel::loop_device::LoopDevice;
use crate::reader::kernel::mounted::{MountError, mount_writable};
use crate::run::restore::attributes::times;
use crate::run::restore::select::Part;
use crate::run::restore::{Existing, RestoreError, RestoreOptions, restore_part};
use crate::shown;
use crate::store::Backup;
use crate::units::ByteRange;
use crate::units::Extent;

/// How long another device may have the UUID of what is made.
const UNIQUE_WITHIN: Duration = Duration::from_secs(10);

/// A multiple of any page's size.
const WHOLE_PAGES: u64 = 64 << 10;

/// Why a plan was not carried out to its end.
#[derive(Debug, thiserror::Error)]
pub enum CarryOutError {
    /// Writing failed.
    #[error("{what}")]
    Io {
        /// What was at work.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// A tool could not be run, or failed.
    #[error("{region}: `{command}` failed: {said}")]
    Tool {
        /// The region.
        region: String,
        /// The command, as a person would type it.
        command: String,
        /// What it said.
        said: String,
    },
    /// The pieces of a volume could not be put together.
    #[error("{region}: its pieces cannot be put together")]
    Pieces {
        /// The region.
        region: String,
        /// Why.
        source: DeviceMapError,
    },
    /// The new filesystem cannot be mounted.
    #[error("{region}: the new filesystem cannot be mounted")]
    Mount {
        /// The region.
        region: String,
        /// Why.
        source: MountError,
    },
    /// The files could not be restored.
    #[error("{region}: its files")]
    Files {
        /// The region.
        region: String,
        /// Why.
        source: RestoreError,
    },
    /// Somebody wanted it to stop.
    #[error("stopped")]
    Stopped,
}

/// A plan at work.
pub struct Carried<'a> {
    /// The backup.
    pub files: &'a Backup,
    /// The plan.
    pub plan: &'a Plan,
    /// The backup's index, when it is the one that the manifest knows.
    pub index: Option<&'a File>,
    /// Where it goes.
    pub target: &'a OpenTarget,
    /// How.
    pub options: &'a DeviceOptions,
    /// Runs the tools.
    pub commands: Arc<dyn RunCommand>,
    /// Is told what happens.
    pub observer: &'a dyn Observer,
}

/// What a region is made on. Fields are dropped in this order.
struct Place {
    path: PathBuf,
    map: Option<DeviceMap>,
    _device: LoopDevice,
}

impl Place {
    fn finish(self, region: &str) -> Result<(), CarryOutError> {
        let map = self.map.map_or(Ok(()), DeviceMap::finish);
        map.map_err(|source| CarryOutError::Pieces { region: region.to_owned(), source })
    }
}

fn io_error(what: impl Into<String>) -> impl FnOnce(io::Error) -> CarryOutError {
    let what = what.into();
    move |source| match source.kind() {
        io::ErrorKind::Interrupted => CarryOutError::Stopped,
        _ => CarryOutError::Io { what, source },
    }
}

impl Carried<'_> {
    /// All steps, and a look at what came of them.
    pub fn carry_out(&self, sector_bytes: u32) -> Result<DeviceReport, CarryOutError> {
        let mut report = DeviceReport::default();
        for step in &self.plan.steps {
            if self.options.cancel.is_cancelled() {
                return Err(CarryOutError::Stopped);
            }
            let words = step_as_text(step);
            self.observer.on_event(&Event::Step { step: words.clone() });
            match step {
                // A new file is zeros from the start.
                Step::Zero { .. } if self.target.is_new => {}
                Step::Zero { ranges } => {
                    for range in ranges {
                        let range = ByteRange::new(range.source_offset, range.length);
                        zero(&self.target.file, range, &self.options.cancel).map_err(io_error(words.as_str()))?;
                    }
                    self.target.file.sync_data().map_err(io_error(words.as_str()))?;
                }
                Step::RawImage { region, archive_path, extents } => {
                    let (threads, cancel) = (self.options.threads, &self.options.cancel);
                    let written = raw_image(
                        &Image { files: self.files, index: self.index, path: archive_path },
                        extents,
                        &self.target.file,
                        threads,
                        cancel,
                    );
                    if self.options.cancel.is_cancelled() {
                        return Err(CarryOutError::Stopped);
                    }
                    match written {
                        Ok(remarks) => {
                            for what in remarks {
                                self.fail(&mut report, region, format!("its image: {what}"));
                            }
                        }
                        Err(what) => self.fail(&mut report, region, format!("its image: {what}")),
                    }
                }
                Step::Make(made) => self.make(made, &mut report)?,
                Step::Write { start_bytes, bytes, .. } => {
                    // Everything before is on the disk before the table that leads to it.
                    self.target.file.sync_data().map_err(io_error(words.as_str()))?;
                    self.target.file.write_all_at(bytes, *start_bytes).map_err(io_error(words.as_str()))?;
                }
            }
        }
        self.target.file.sync_all().map_err(io_error("syncing the target"))?;
        self.compare(sector_bytes, &mut report)?;
        self.ask_others(sector_bytes, &mut report)?;
        Ok(report)
    }

    fn fail(&self, report: &mut DeviceReport, region: &str, what: String) {
        let region = shown::path(region.as_bytes());
        report.failures.push(format!("{region}: {what}"));
        self.observer.on_event(&Event::Problem(Problem::new(Severity::Error, region, what)));
    }

    fn make(&self, step: &MakeStep, report: &mut DeviceReport) -> Result<(), CarryOutError> {
        let MakeStep { region, extents, make, after, check, files, boot_block, differs, .. } = step;
        for what in differs {
            self.fail(report, region, what.clone());
        }
        let place = self.place(region, extents)?;
        if let Some(format) = &step.fat {
            let device = File::options().write(true).open(&place.path);
            let written = device.and_then(|device| format.write(&device, &self.options.cancel));
            written.map_err(io_error(format!("{region}: its FATs")))?;
        }
        for call in Some(make).filter(|_| step.fat.is_none()).into_iter().chain(after) {
            self.run_once_unique(region, call, &place.path)?.map_err(|said| CarryOutError::Tool {
                region: region.clone(),
                command: shown_command(call.program, &call.args),
                said,
            })?;
        }
        Self::put_settings(step, &place.path, When::Before)?;
        if step.files.is_some() && step.fs.starts_with("ext") && has(&step.made_with, "project") {
            self.without_projects(step, &place.path)?;
        }
        if let Some(part) = files {
            let restored = self.put_files(step, part, &place.path, report)?;
            report.files.insert(region.clone(), restored);
        }
        for call in &step.finish {
            if let Err(said) = self.run(region, call, &place.path)? {
                self.fail(report, region, format!("{} failed: {said}", shown_command(call.program, &call.args)));
            }
        }
        Self::put_settings(step, &place.path, When::After)?;
        place.finish(region)?;
        if let Some(boot) = boot_block {
            self.put_boot_block(&step.fs, extents, boot).map_err(io_error(format!("{region}: its boot block")))?;
        }
        if check.is_none() && step.fat.is_none() {
            return Ok(());
        }
        let place = self.place(region, extents)?;
        if let Some(check) = check {
            match self.run(region, check, &place.path)? {
                Ok(()) => report.clean.push(region.clone()),
                Err(said) => self.fail(report, region, format!("{} finds errors: {said}", check.program)),
            }
        }
        if let Some(format) = &step.fat {
            let device = File::options().write(true).open(&place.path);
            let written = device.and_then(|device| format.write_last(&device));
            written.map_err(io_error(format!("{region}: its boot sector")))?;
        }
        place.finish(region)
    }

    /// A kernel without quotas cannot write to a filesystem with project ids: the feature is off then
    /// while the files are put.
    fn without_projects(&self, step: &MakeStep, device: &Path) -> Result<(), CarryOutError> {
        if self.mount(step, device).is_ok() {
            return Ok(());
        }
        let call = tune2fs("-O", "^project");
        let failed = |said| CarryOutError::Tool {
            region: step.region.clone(),
            command: shown_command(call.program, &call.args),
            said,
        };
        self.run(&step.region, &call, device)?.map_err(failed)
    }

    /// What an ext filesystem's superblock held besides what mke2fs was told of.
    fn put_settings(step: &MakeStep, device: &Path, when: When) -> Result<(), CarryOutError> {
        if !step.fs.starts_with("ext") {
            return Ok(());
        }
        let reserved = reserved_blocks(&step.made_with, step.was_bytes, step.size_bytes);
        ext_settings::put(device, &step.made_with, reserved, when)
            .map_err(io_error(format!("{}: the settings of its filesystem", step.region)))
    }

    /// A device that shows the region's place on the target.
    fn place(&self, region: &str, extents: &[Extent]) -> Result<Place, CarryOutError> {
        let start = extents.iter().map(|piece| piece.source_offset).min().unwrap_or(0);
        let end = extents.iter().map(|piece| piece.source_offset.saturating_add(piece.length)).max().unwrap_or(0);
        let range = ByteRange::new(start, end.saturating_sub(start));
        let device = LoopDevice::attach(&self.target.file, range, true)
            .map_err(io_error(format!("{region}: no loop device can be made")))?;
        if extents.len() == 1 {
            return Ok(Place { path: device.path().to_owned(), map: None, _device: device });
        }
        let shifted: Vec<Extent> = extents
            .iter()
            .map(|piece| Extent { source_offset: piece.source_offset - start, length: piece.length })
            .collect();
        let map = DeviceMap::create(device.path(), &shifted, false, region, Arc::clone(&self.commands))
            .map_err(|source| CarryOutError::Pieces { region: region.to_owned(), source })?;
        Ok(Place { path: map.path().to_owned(), map: Some(map), _device: device })
    }

    /// As [`Self::run`]. mkfs.btrfs looks for its UUID on all devices: a loop device that is on its way out, of a mount that
    /// just ended, is waited for. (The plan refuses where another device has it.)
    fn run_once_unique(
        &self,
        region: &str,
        call: &ToolCall,
        device: &Path,
    ) -> Result<Result<(), String>, CarryOutError> {
        let started = Instant::now();
        loop {
            let ran = self.run(region, call, device)?;
            let is_taken = ran.as_ref().is_err_and(|said| said.contains("non-unique UUID"));
            if !is_taken || started.elapsed() > UNIQUE_WITHIN || self.options.cancel.is_cancelled() {
                return Ok(ran);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Runs a tool on a device. What it said when it failed is the inner error.
    fn run(&self, region: &str, call: &ToolCall, device: &Path) -> Result<Result<(), String>, CarryOutError> {
        let mut args = call.args.clone();
        args.push(device.into());
        let output = self.commands.run(call.program, &args).map_err(io_error(format!("{region}: {}", call.program)))?;
        if output.status.success() {
            return Ok(Ok(()));
        }
        let said = [output.stderr, output.stdout].map(|bytes| shown::path(bytes.trim_ascii()));
        let said = said.iter().filter(|text| *text != "/").map(|text| text.chars().take(600).collect::<String>());
        Ok(Err(format!("{} ({})", said.collect::<Vec<_>>().join("; "), output.status)))
    }

    /// Mounts the new filesystem, attached to nothing.
    fn mount(&self, step: &MakeStep, device: &Path) -> Result<OwnedFd, MountError> {
        let mount = || mount_writable(device, &step.fs, step.compress);
        let scan = |more: &[&str]| {
            let args: Vec<_> = ["device", "scan"].iter().chain(more).map(std::ffi::OsString::from).collect();
            // What came of it is seen when the filesystem is mounted.
            let _ = self.commands.run("btrfs", &args);
        };
        match mount() {
            // Linux, fs/btrfs/volumes.c, device_list_add(): a device that is gone, such as the snapshot that was backed
            // up, is still known by its UUID, and this one is older by its generation. None is there, or the plan had
            // been refused: what the kernel knows is forgotten, and looked for anew.
            Err(MountError::Mount { source, .. })
                if step.fs == "btrfs" && source.raw_os_error() == Some(rustix::io::Errno::EXIST.raw_os_error()) =>
            {
                scan(&["--forget"]);
                let mounted = mount();
                scan(&[]);
                mounted
            }
            mounted => mounted,
        }
    }

    /// Mounts the new filesystem, attached to nothing, and restores its files.
    fn put_files(
        &self,
        step: &MakeStep,
        part: &Part,
        device: &Path,
        report: &mut DeviceReport,
    ) -> Result<crate::run::restore::RestoreReport, CarryOutError> {
        let region = step.region.as_str();
        let root =
            self.mount(step, device).map_err(|source| CarryOutError::Mount { region: region.to_owned(), source })?;
        // Without a table there is no first sector to be written last: a file says that it is not complete.
        let mark = (self.plan.expected.table.kind == TableKind::None)
            .then(|| Mark::put(&root))
            .transpose()
            .map_err(|error| io_error(region.to_owned())(error.into()))?;
        let mut failures = Vec::new();
        let has_subvolumes = match step.subvolumes.create(&root) {
            Ok(()) => true,
            Err(error) => {
                failures.push(format!("its subvolumes cannot be made and are directories: {error}"));
                false
            }
        };
        let options = RestoreOptions {
            to: PathBuf::from(format!("/proc/self/fd/{}", root.as_raw_fd())),
            paths: Vec::new(),
            // A new ext4 has a lost+found.
            existing: Existing::Overwrite,
            verify: true,
            devices: true,
            // It is another machine's disk.
            top: true,
            keep_set_id: true,
            ids: crate::run::restore::names::IdWish::default(),
            threads: self.options.threads,
            cancel: self.options.cancel.clone(),
        };
        let restored = match restore_part(self.files, &options, part, self.observer) {
            Ok(restored) => restored,
            Err(RestoreError::Stopped) => return Err(CarryOutError::Stopped),
            Err(source) => return Err(CarryOutError::Files { region: region.to_owned(), source }),
        };
        if has_subvolumes {
            failures.extend(step.subvolumes.finish(&root));
        }
        for what in failures {
            self.fail(report, region, what);
        }
        let synced = mark.map_or(Ok(()), |mark| mark.remove(&root)).and_then(|()| rustix::fs::syncfs(&root));
        synced.map_err(|error| io_error(format!("{region}: its filesystem cannot be synced"))(error.into()))?;
        Ok(restored)
    }

    /// Boot code in front of a filesystem that was made anew.
    fn put_boot_block(&self, fs: &str, extents: &[Extent], boot: &[u8]) -> io::Result<()> {
        let Some(start) = extents.first().map(|extent| extent.source_offset) else { return Ok(()) };
        let file = &self.target.file;
        if fs != "vfat" {
            return file.write_all_at(boot, start);
        }
        let mut sector = [0; 512];
        file.read_exact_at(&mut sector, start)?;
        let Some(boot) = boot.get(..512) else { return Ok(()) };
        // Microsoft's FAT specification, section 3: the jump and the maker's name, then the filesystem's own numbers,
        // then code. FAT32 has more numbers, told by a 16-bit count of sectors for each FAT that is 0.
        let is_fat32 = sector[22..24] == [0, 0];
        let code_at = if is_fat32 { 90 } else { 62 };
        sector[..11].copy_from_slice(&boot[..11]);
        sector[code_at..510].copy_from_slice(&boot[code_at..510]);
        file.write_all_at(&sector, start)?;
        let backup = u64::from(u16::from_le_bytes([sector[50], sector[51]]));
        let sector_bytes = u64::from(u16::from_le_bytes([sector[11], sector[12]]));
        if is_fat32 && backup > 0 && backup < 64 {
            file.write_all_at(&sector, start + backup * sector_bytes)?;
        }
        Ok(())
    }

    /// Has other implementations read the table.
    fn ask_others(&self, sector_bytes: u32, report: &mut DeviceReport) -> Result<(), CarryOutError> {
        // From the target itself, not from what was written to memory a moment ago. Parts of pages would stay.
        for (start, len) in self.plan.steps.iter().filter_map(written) {
            let from = start - start % WHOLE_PAGES;
            let len = start.saturating_add(len).next_multiple_of(WHOLE_PAGES) - from;
            let_go_of_pages(&self.target.file, from, NonZero::new(len));
        }
        let file = self.target.file.try_clone().map_err(io_error("reading the target"))?;
        let opinion = second_opinion(self.plan, sector_bytes, &FileBlocks::new(file, self.plan.target_bytes));
        for what in &opinion.disagreements {
            self.fail(report, "table", what.clone());
        }
        report.second_opinion = opinion;
        Ok(())
    }

    /// Reads what was made with the eyes of a backup.
    fn compare(&self, sector_bytes: u32, report: &mut DeviceReport) -> Result<(), CarryOutError> {
        let file = self.target.file.try_clone().map_err(io_error("reading the target"))?;
        let blocks = FileBlocks::new(file, self.plan.target_bytes);
        let (found, not_looked_at) = match detect_within(&blocks, "target", Some(sector_bytes), SCAN_BYTES) {
            Ok(found) => found,
            Err(error) => {
                self.fail(report, "disk", with_causes(&error));
                return Ok(());
            }
        };
        for what in differences(&self.plan.expected, &found, &not_looked_at) {
            self.fail(report, "disk", what);
        }
        Ok(())
    }
}

/// Where a step writes bytes that the manifest keeps, and how many.
fn written(step: &Step) -> Option<(u64, u64)> {
    match step {
        Step::Write { start_bytes, size_bytes, .. } => Some((*start_bytes, *size_bytes)),
        _ => None,
    }
}

/// A file that says that a filesystem is not complete.
struct Mark {
    name: String,
}

impl Mark {
    fn put(root: &OwnedFd) -> rustix::io::Result<Self> {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
        let name = format!(".volbak-tmp.unfinished-restore-{}-{}", std::process::id(), now.tv_nsec);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::openat(root, name.as_str(), flags, Mode::RUSR)?);
        file.sync_all().map_err(|_| rustix::io::Errno::IO)?;
        rustix::fs::syncfs(root)?;
        Ok(Self { name })
    }

    /// Takes it away; the directory keeps the time that it got.
    fn remove(self, root: &OwnedFd) -> rustix::io::Result<()> {
        rustix::fs::syncfs(root)?;
        let facts = rustix::fs::fstat(root)?;
        // An immutable or append-only directory gives no name away.
        let locks = inode_flags::of_open(root).0 & inode_flags::LOCKS;
        if locks != 0 {
            inode_flags::remove(root, locks)?;
        }
        rustix::fs::unlinkat(root, self.name.as_str(), AtFlags::empty())?;
        let nsec = u32::try_from(facts.st_mtime_nsec).unwrap_or(0);
        let mtime = crate::entry::Timestamp { sec: facts.st_mtime, nsec };
        rustix::fs::futimens(root.as_fd(), &times(mtime))?;
        if locks != 0 {
            // What could not be set before was told.
            let _ = inode_flags::add(root, locks);
        }
        Ok(())
    }
}
