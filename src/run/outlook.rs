//! What keeps this host, and this user, from reading a region's files: said before a backup keeps its image instead.

use std::fs::File;
use std::io;
use std::sync::Arc;

use crate::layout::{Region, RegionBlocks};
use crate::outside::BlockRead;
use crate::reader::ext4::{Ext4, NotRead};
use crate::reader::kernel::loop_device::LoopDevice;
use crate::reader::kernel::mounted::{driver_obstacle, reaches_outside};
use crate::units::ByteRange;

/// How much of a file a loop device is tried with.
const TRIED_BYTES: u64 = 4096;
/// Maps are made through this.
const MAPPER: &str = "/dev/mapper/control";

/// Why a region's files cannot be read here. `None` when nothing is known that speaks against it: the kernel may still
/// refuse a filesystem that is damaged, or that has features of a newer kernel.
pub(super) fn obstacle(blocks: &Arc<dyn BlockRead>, region: &Region) -> Option<String> {
    let fs = region.holds.fs.as_deref()?;
    let shared = RegionBlocks::shared(Arc::clone(blocks), &region.extents);
    if let Some(why) = reaches_outside(fs, &shared, 0) {
        return Some(why.to_owned());
    }
    if fs.starts_with("ext") {
        match Ext4::open(Arc::new(shared)) {
            Ok(_) => return None,
            Err(endless @ NotRead::Endless) => return Some(endless.to_string()),
            // The kernel is asked next.
            Err(NotRead::LeftToKernel(_) | NotRead::Damaged(_)) => {}
        }
    }
    let by_kernel = |why: String| format!("{fs} is read through the kernel, and {why}");
    if let Some(why) = driver_obstacle(fs) {
        return Some(by_kernel(why.to_owned()));
    }
    if let Err(error) = try_loop_device() {
        return Some(by_kernel(format!("no loop device can be made: {error}")));
    }
    if region.extents.len() > 1
        && let Err(error) = File::options().read(true).write(true).open(MAPPER)
    {
        return Some(by_kernel(format!("its pieces cannot be put together: {MAPPER}: {error}")));
    }
    None
}

/// Makes a loop device of a file in memory, and lets go of it.
fn try_loop_device() -> io::Result<()> {
    let file = File::from(rustix::fs::memfd_create("volbak", rustix::fs::MemfdFlags::CLOEXEC)?);
    file.set_len(TRIED_BYTES)?;
    LoopDevice::attach(&file, ByteRange::new(0, TRIED_BYTES), false).map(drop)
}
