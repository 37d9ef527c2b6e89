//! Makes a region's filesystem, and restores its files.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use super::boot_block::put_boot_block;
use super::carried::Carried;
use super::device::RegionDevice;
use super::error::{CarryOutError, ToolFailure, io_error};
use super::mark::Mark;
use crate::layout::TableKind;
use crate::outside::shown_command;
use crate::reader::kernel::mounted::{MountError, mount_writable};
use crate::run::rebuild::ext_settings::{self, OFF_WHILE_MOUNTED, When, reserved_blocks};
use crate::run::rebuild::makefs::call::ToolCall;
use crate::run::rebuild::makefs::names::has;
use crate::run::rebuild::makefs::tune2fs;
use crate::run::rebuild::options::DeviceOptions;
use crate::run::rebuild::plan::MakeStep;
use crate::run::rebuild::report::DeviceReport;
use crate::run::restore::select::Part;
use crate::run::restore::{RestoreError, RestoreOptions, RestoreReport, restore_part};
use crate::shown;

/// How long another device may have the UUID of the new filesystem.
const UNIQUE_WITHIN: Duration = Duration::from_secs(10);

impl Carried<'_> {
    pub(super) fn make(&self, step: &MakeStep, report: &mut DeviceReport) -> Result<(), CarryOutError> {
        let MakeStep { region, extents, check, files, boot_block, differs, .. } = step;
        for what in differs {
            self.fail(report, region, what.clone());
        }
        let device = RegionDevice::attach(&self.target.file, region, extents, &self.commands)?;
        if let Some(format) = &step.fat {
            let opened = File::options().write(true).open(&device.path);
            let written = opened.and_then(|device| format.write(&device, &self.options.cancel));
            written.map_err(io_error(format!("{region}: its FATs")))?;
        }
        self.make_filesystem(step, &device)?;
        let device = match files {
            Some(part) => self.put_all_files(step, part, device, report)?,
            None => device,
        };
        for call in &step.finish {
            if let Err(said) = self.run(region, call, &device.path)? {
                self.fail(report, region, format!("{} failed: {said}", shown_command(call.program, &call.args)));
            }
        }
        Self::put_settings(step, &device.path, When::After)?;
        device.finish(region)?;
        if let Some(boot) = boot_block {
            put_boot_block(&self.target.file, &step.fs, extents, boot)
                .map_err(io_error(format!("{region}: its boot block")))?;
        }
        if check.is_none() && step.fat.is_none() {
            return Ok(());
        }
        let device = RegionDevice::attach(&self.target.file, region, extents, &self.commands)?;
        if let Some(check) = check {
            match self.run(region, check, &device.path)? {
                Ok(()) => report.clean.push(region.clone()),
                Err(said) => self.fail(report, region, format!("{} finds errors: {said}", check.program)),
            }
        }
        if let Some(format) = &step.fat {
            let opened = File::options().write(true).open(&device.path);
            let written = opened.and_then(|device| format.write_last(&device));
            written.map_err(io_error(format!("{region}: its boot sector")))?;
        }
        device.finish(region)
    }

    /// Makes the filesystem, as far as a tool makes it.
    pub(super) fn make_filesystem(&self, step: &MakeStep, device: &RegionDevice) -> Result<(), CarryOutError> {
        let MakeStep { region, make, after, .. } = step;
        for call in Some(make).filter(|_| step.fat.is_none()).into_iter().chain(after) {
            self.run_when_unique(region, call, &device.path)?.map_err(|said| CarryOutError::Tool {
                region: region.clone(),
                command: shown_command(call.program, &call.args),
                said: said.to_string(),
            })?;
        }
        Self::put_settings(step, &device.path, When::Before)?;
        if step.files.is_some() && step.fs.starts_with("ext") {
            self.without_mount_features(step, &device.path)?;
        }
        Ok(())
    }

    /// Turns off features with which this kernel cannot mount the filesystem; they are turned on again after the
    /// files.
    fn without_mount_features(&self, step: &MakeStep, device: &Path) -> Result<(), CarryOutError> {
        let are_on: Vec<&str> =
            OFF_WHILE_MOUNTED.iter().filter(|feature| has(&step.made_with, feature)).copied().collect();
        if are_on.is_empty() || self.mount(step, device).is_ok() {
            return Ok(());
        }
        for feature in are_on {
            let call = tune2fs("-O", &format!("^{feature}"));
            let failed = |said: ToolFailure| CarryOutError::Tool {
                region: step.region.clone(),
                command: shown_command(call.program, &call.args),
                said: said.to_string(),
            };
            self.run(&step.region, &call, device)?.map_err(failed)?;
        }
        Ok(())
    }

    /// Restores settings of an ext superblock that mke2fs has no options for.
    fn put_settings(step: &MakeStep, device: &Path, when: When) -> Result<(), CarryOutError> {
        if !step.fs.starts_with("ext") {
            return Ok(());
        }
        let reserved = reserved_blocks(&step.made_with, step.was_bytes, step.size_bytes);
        ext_settings::put(device, &step.made_with, reserved, when)
            .map_err(io_error(format!("{}: the settings of its filesystem", step.region)))
    }

    /// Like [`Self::run`], with retries for up to [`UNIQUE_WITHIN`] while the tool finds the filesystem's UUID on
    /// another device. mkfs.btrfs and btrfstune scan all devices, and may see the loop device of a mount that has
    /// just ended. The plan has refused a device that keeps the UUID.
    fn run_when_unique(
        &self,
        region: &str,
        call: &ToolCall,
        device: &Path,
    ) -> Result<Result<(), ToolFailure>, CarryOutError> {
        let started = Instant::now();
        loop {
            let ran = self.run(region, call, device)?;
            let is_taken = ran.as_ref().err().is_some_and(ToolFailure::is_uuid_taken);
            if !is_taken || started.elapsed() > UNIQUE_WITHIN || self.options.cancel.is_cancelled() {
                return Ok(ran);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Runs a tool on a device. The inner error has the output of a failed tool.
    fn run(&self, region: &str, call: &ToolCall, device: &Path) -> Result<Result<(), ToolFailure>, CarryOutError> {
        let mut args = call.args.clone();
        args.push(device.into());
        let output = File::open(device)
            .and_then(|open| self.commands.run_on(&open, call.program, &args))
            .map_err(io_error(format!("{region}: {}", call.program)))?;
        if output.status.success() {
            return Ok(Ok(()));
        }
        let said = [output.stderr, output.stdout].map(|bytes| shown::path(bytes.trim_ascii()));
        let said = said.iter().filter(|text| *text != "/").map(|text| text.chars().take(600).collect::<String>());
        Ok(Err(ToolFailure(format!("{} ({})", said.collect::<Vec<_>>().join("; "), output.status))))
    }

    /// Mounts the new filesystem, detached.
    fn mount(&self, step: &MakeStep, device: &Path) -> Result<OwnedFd, MountError> {
        let mount = || mount_writable(device, &step.fs, step.compress);
        let scan = |more: &[&str]| {
            let args: Vec<_> = ["device", "scan"].iter().chain(more).map(std::ffi::OsString::from).collect();
            // Success shows when the filesystem is mounted.
            let _ = self.commands.run("btrfs", &args);
        };
        match mount() {
            // Linux, fs/btrfs/volumes.c, device_list_add(): the kernel still knows a removed device, such as the
            // snapshot that was backed up, by its UUID, and this filesystem has an older generation. No such device
            // exists, or the plan would have been refused. Make the kernel forget it and scan again.
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

    /// Mounts the new filesystem, detached, and restores its files.
    pub(super) fn put_files(
        &self,
        step: &MakeStep,
        part: &Part,
        device: &Path,
        report: &mut DeviceReport,
    ) -> Result<RestoreReport, CarryOutError> {
        let region = step.region.as_str();
        let root =
            self.mount(step, device).map_err(|source| CarryOutError::Mount { region: region.to_owned(), source })?;
        // Without a table there is no first sector to write last: a marker file shows that it is incomplete. It must
        // not take an inode that a file needs.
        let inodes = self.files.manifest().map_or(0, |manifest| manifest.counts.inodes());
        let mark = (self.plan.expected.table.kind == TableKind::None && has_inodes(&root, inodes))
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
        let name = shown::path(region.as_bytes());
        let DeviceOptions { ids, threads, cancel, .. } = self.options;
        let options = RestoreOptions::into_new_filesystem(name, root.as_fd(), ids, *threads, cancel);
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
}

/// Whether the filesystem has more free inodes than `needed`, or does not count them.
fn has_inodes(root: &OwnedFd, needed: u64) -> bool {
    rustix::fs::fstatvfs(root).is_ok_and(|facts| facts.f_files == 0 || facts.f_ffree > needed)
}
