//! Executes the steps of a plan.
//!
//! Filesystems are made on loop devices over the target and mounted detached: when the process dies, the kernel
//! releases everything. Only volumes in several extents need device-mapper; the next run of volbak removes stale
//! maps.

mod boot_block;
mod carried;
mod device;
mod error;
mod make;
mod mark;
mod unmounted;

use std::num::NonZero;
use std::os::unix::fs::FileExt;

use self::error::io_error;
use super::compare::differences;
use super::plan::Step;
use super::put_bytes::{Image, raw_image, zero};
use super::read_back::second_opinion;
use super::report::DeviceReport;
use super::shown::step_as_text;
use crate::error::with_causes;
use crate::events::Event;
use crate::layout::{SCAN_BYTES, detect_within};
use crate::outside::{FileBlocks, let_go_of_pages};
use crate::units::ByteRange;

pub use self::carried::Carried;
pub use self::error::CarryOutError;

/// A multiple of any page size.
const WHOLE_PAGES: u64 = 64 << 10;

impl Carried<'_> {
    /// Executes all steps, and compares the result.
    pub fn carry_out(&self, sector_bytes: u32) -> Result<DeviceReport, CarryOutError> {
        let mut report = DeviceReport::default();
        for step in &self.plan.steps {
            if self.options.cancel.is_cancelled() {
                return Err(CarryOutError::Stopped);
            }
            let words = step_as_text(step);
            self.observer.on_event(&Event::Step { step: words.clone() });
            match step {
                // A new file contains only zeros.
                Step::Zero { .. } if self.target.is_new => {}
                Step::Zero { ranges } => {
                    let cleared = self.target.clear(&self.options.cancel);
                    cleared.and_then(|()| self.target.discard(&*self.commands)).map_err(io_error(words.as_str()))?;
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
                    // Everything must be durable before the table that leads to it.
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

    /// Has other implementations read the table.
    fn ask_others(&self, sector_bytes: u32, report: &mut DeviceReport) -> Result<(), CarryOutError> {
        // Drop whole pages, so that the data is read from the target itself and not from the page cache.
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

    /// Detects the layout of the result as a backup would, and compares it.
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

/// The place and length at which a step writes bytes from the manifest.
fn written(step: &Step) -> Option<(u64, u64)> {
    match step {
        Step::Write { start_bytes, size_bytes, .. } => Some((*start_bytes, *size_bytes)),
        _ => None,
    }
}
