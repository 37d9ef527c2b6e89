//! Selects the reader of a filesystem: volbak's own if it has one, otherwise the kernel's.

use super::filesystem::{Filesystem, FsRegion, Means, NotOpened, Passed, Reader};
use super::{ext4, kernel};

/// volbak's own readers. A new reader adds its folder and a line here.
const OWN: &[&dyn Reader] = &[&ext4::filesystem::Ext4Reader];

/// The readers in the order they are tried; the kernel's is last. `by_kernel` selects the kernel's alone.
pub fn readers(by_kernel: bool) -> Vec<&'static dyn Reader> {
    let own = if by_kernel { &[] } else { OWN };
    own.iter().copied().chain([&kernel::filesystem::KernelReader as &dyn Reader]).collect()
}

/// Opens the filesystem in `region` with the first of `readers` that accepts it. `on_pass` is called for each
/// reader that passes it on, before the next one is tried.
pub fn open(
    readers: &[&dyn Reader],
    region: &FsRegion<'_>,
    means: &Means<'_>,
    on_pass: &mut dyn FnMut(&Passed),
) -> Result<Box<dyn Filesystem>, NotOpened> {
    first(readers, region, |reader| reader.open(region, means), on_pass)
}

/// Why none of `readers` can open the filesystem in `region` on this host; see [`Reader::try_out`].
pub fn try_out(readers: &[&dyn Reader], region: &FsRegion<'_>) -> Result<(), NotOpened> {
    first(readers, region, |reader| reader.try_out(region), &mut |_| {})
}

fn first<T>(
    readers: &[&dyn Reader],
    region: &FsRegion<'_>,
    by: impl Fn(&dyn Reader) -> Result<T, NotOpened>,
    on_pass: &mut dyn FnMut(&Passed),
) -> Result<T, NotOpened> {
    let mut last = Passed::Foreign(region.fs.to_owned());
    for reader in readers {
        match by(*reader) {
            Err(NotOpened::Passed(passed)) => {
                on_pass(&passed);
                last = passed;
            }
            other => return other,
        }
    }
    Err(last.into())
}
