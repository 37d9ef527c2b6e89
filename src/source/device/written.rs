//! What is written to a device while it is read, also by a way that the device's own counters do not see: through the disk of
//! a partition, or to the file or device below a loop device.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::loops::{loops_over_backing, whole_backing_of};
use super::node::DeviceNumber;
use super::sysfs::{disk_of, number_in, number_of_path, partitions_of, written_sectors};
use crate::source::image::Fingerprint;

/// How far it is followed downwards: a partition of a loop device over a partition has four levels.
const DEPTH_MAX: usize = 8;

/// Sectors written and discarded.
type Sectors = (u64, u64);

/// The state of a device, and of what it lies on, when it was opened.
#[derive(Debug)]
pub(crate) struct WriteWatch {
    number: DeviceNumber,
    own: Option<Sectors>,
    below: Vec<Below>,
}

/// Something below, and the counters of the devices through which it may be written without harm.
#[derive(Debug)]
struct Below {
    what: What,
    through: Vec<(DeviceNumber, Sectors)>,
}

#[derive(Debug)]
enum What {
    /// The disk of a partition. Its counters have those of its partitions in them.
    Disk { number: DeviceNumber, written: Sectors },
    /// The device below a loop device.
    Device { number: DeviceNumber, written: Sectors },
    /// The file below a loop device.
    File { path: PathBuf, fingerprint: Fingerprint },
}

impl WriteWatch {
    /// Begins to watch a device that was opened. What the kernel still holds back of earlier writes is written first.
    pub(crate) fn begin(number: DeviceNumber, file: &File) -> io::Result<Self> {
        let mut below = Vec::new();
        let mut current = number;
        for _ in 0..DEPTH_MAX {
            let Some((next, one)) = Below::of(current, file)? else { break };
            below.extend(one);
            let Some(next) = next else { break };
            current = next;
        }
        Ok(Self { number, own: written_sectors(number), below })
    }

    /// Who wrote, in words; `None` if nobody did.
    pub(crate) fn failure(&self) -> Option<String> {
        match (self.own, written_sectors(self.number)) {
            (Some(before), Some(now)) if before != now => {
                return Some("it was written to while it was read".to_owned());
            }
            (Some(_), None) => return Some("it is gone".to_owned()),
            _ => {}
        }
        self.below.iter().find_map(Below::failure)
    }
}

impl Below {
    /// What is directly below a device, and its number if something may lie below that.
    fn of(number: DeviceNumber, file: &File) -> io::Result<Option<(Option<DeviceNumber>, Option<Self>)>> {
        if let Some(disk) = disk_of(number) {
            let through = counters(partitions_of(disk).into_iter().map(|(partition, _)| partition));
            let what = written_sectors(disk).map(|written| What::Disk { number: disk, written });
            return Ok(Some((Some(disk), what.map(|what| Self { what, through }))));
        }
        let Some(path) = whole_backing_of(&number.sysfs()) else { return Ok(None) };
        // A flush of a loop device writes what the kernel holds back of the device below.
        file.sync_all()?;
        let names = loops_over_backing(&path);
        let through = counters(names.iter().filter_map(|name| number_in(&Path::new("/sys/block").join(name))));
        if let Some(device) = number_of_path(&path) {
            let what = written_sectors(device).map(|written| What::Device { number: device, written });
            return Ok(Some((Some(device), what.map(|what| Self { what, through }))));
        }
        // A file that was removed while the loop device has it cannot be written by its name any more.
        let Ok(fingerprint) = Fingerprint::settled_of_path(&path) else { return Ok(None) };
        Ok(Some((None, Some(Self { what: What::File { path, fingerprint }, through }))))
    }

    fn failure(&self) -> Option<String> {
        match &self.what {
            What::Disk { number, written } => {
                // The disk first: a partition that is in use may be written between the two readings.
                let now = written_sectors(*number)?;
                let own = since(*written, now);
                let of_partitions = self
                    .through
                    .iter()
                    .map(|(partition, before)| written_sectors(*partition).map_or((0, 0), |now| since(*before, now)));
                let (written, discarded) = of_partitions.fold((0_u64, 0_u64), |(written, discarded), one| {
                    (written.saturating_add(one.0), discarded.saturating_add(one.1))
                });
                let is_more = own.0 > written || own.1 > discarded;
                is_more.then(|| "it was written to through its disk while it was read".to_owned())
            }
            What::Device { number, written } => {
                let is_changed = written_sectors(*number).is_some_and(|now| now != *written) && self.is_untouched();
                is_changed.then(|| "the device below it was written to while it was read".to_owned())
            }
            What::File { path, fingerprint } => {
                // Its name may be another file's by now; the loop device keeps what it has.
                let now = Fingerprint::of_path(path).ok().filter(|now| now.is_of_the_file_of(fingerprint))?;
                let what = fingerprint.difference(&now).filter(|_| self.is_untouched())?;
                Some(format!("the file below it, {}: {what}", path.display()))
            }
        }
    }

    /// Whether nothing was written through a loop device: through its own, that was looked at before, and through others, which may
    /// be of another part.
    fn is_untouched(&self) -> bool {
        self.through.iter().all(|(number, before)| written_sectors(*number).is_none_or(|now| now == *before))
    }
}

fn counters(numbers: impl Iterator<Item = DeviceNumber>) -> Vec<(DeviceNumber, Sectors)> {
    numbers.filter_map(|number| Some((number, written_sectors(number)?))).collect()
}

fn since(before: Sectors, now: Sectors) -> Sectors {
    (now.0.wrapping_sub(before.0), now.1.wrapping_sub(before.1))
}
