//! Restores the files of an ext4 filesystem without mounting it.

use std::fs::File;

use super::carried::Carried;
use super::device::RegionDevice;
use super::error::{CarryOutError, io_error};
use crate::events::{Event, Problem, Severity};
use crate::run::rebuild::options::DeviceOptions;
use crate::run::rebuild::plan::MakeStep;
use crate::run::rebuild::report::{DeviceReport, PutBy};
use crate::run::restore::select::Part;
use crate::run::restore::{RestoreError, RestoreOptions, RestoreReport, restore_unmounted};
use crate::shown;
use crate::units::ByteRange;
use crate::writer::ext4::{Ext4Writer, WriteError};

/// The result of an attempt.
enum Put {
    Restored(Box<RestoreReport>),
    /// The kernel must do it, for this reason. `is_begun`: the filesystem must be made again.
    Left {
        why: String,
        is_begun: bool,
    },
}

impl Carried<'_> {
    /// Restores the files of the new filesystem on `device`: without a mount if volbak's writer knows everything
    /// about it, otherwise through the kernel. Returns the device, which may be another one.
    pub(super) fn put_all_files(
        &self,
        step: &MakeStep,
        part: &Part,
        device: RegionDevice,
        report: &mut DeviceReport,
    ) -> Result<RegionDevice, CarryOutError> {
        let region = &step.region;
        let mut device = device;
        let mut why = None;
        if step.fs.starts_with("ext") {
            let put = if let [extent] = step.extents.as_slice()
                && step.check.is_some()
            {
                // The device's cache must not have what is now written to the target itself.
                device.finish(region)?;
                let range = ByteRange::new(extent.source_offset, extent.length);
                let put = self.put_unmounted(step, part, range)?;
                device = RegionDevice::attach(&self.target.file, region, &step.extents, &self.commands)?;
                put
            } else {
                let why = "it lies in several pieces, or there is no e2fsck to prove it".to_owned();
                Put::Left { why, is_begun: false }
            };
            match put {
                Put::Restored(restored) => {
                    self.tell_way(region, "without a mount, by volbak's own ext4 writer");
                    report.put_by.insert(region.clone(), PutBy::Volbak);
                    report.files.insert(region.clone(), *restored);
                    return Ok(device);
                }
                Put::Left { why: left, is_begun } => {
                    if is_begun {
                        let what = format!(
                            "the filesystem is made again and its files are restored again through the kernel, since {left}; \
                             problems that were told of them are told again"
                        );
                        let place = shown::path(region.as_bytes());
                        self.observer.on_event(&Event::Problem(Problem::new(Severity::Notice, place, what)));
                        self.make_filesystem(step, &device)?;
                    }
                    self.tell_way(region, &format!("through the kernel, since {left}"));
                    why = Some(left);
                }
            }
        }
        let restored = self.put_files(step, part, &device.path, report)?;
        report.put_by.insert(region.clone(), PutBy::Kernel { why });
        report.files.insert(region.clone(), restored);
        Ok(device)
    }

    fn tell_way(&self, region: &str, way: &str) {
        let step = format!("{}: its files are restored {way}", shown::path(region.as_bytes()));
        self.observer.on_event(&Event::Step { step });
    }

    fn put_unmounted(&self, step: &MakeStep, part: &Part, range: ByteRange) -> Result<Put, CarryOutError> {
        let region = step.region.as_str();
        let failed = |source| io_error(format!("{region}: its filesystem cannot be written"))(source);
        let file: File = self.target.file.try_clone().map_err(failed)?;
        let writer = match Ext4Writer::open(file, range) {
            Ok(writer) => writer,
            Err(WriteError::LeftToKernel(why)) => return Ok(Put::Left { why, is_begun: false }),
            Err(WriteError::Io(source)) => return Err(failed(source)),
            Err(WriteError::Refused(error)) => return Err(failed(error.into())),
        };
        let name = shown::path(region.as_bytes());
        let DeviceOptions { ids, threads, cancel, .. } = self.options;
        let options = RestoreOptions::into_unmounted(name, ids, *threads, cancel);
        match restore_unmounted(self.files, &options, part, writer, self.observer) {
            Ok(restored) => Ok(Put::Restored(Box::new(restored))),
            Err(RestoreError::LeftToKernel(why)) => Ok(Put::Left { why, is_begun: true }),
            Err(RestoreError::Stopped) => Err(CarryOutError::Stopped),
            Err(source) => Err(CarryOutError::Files { region: region.to_owned(), source }),
        }
    }
}
