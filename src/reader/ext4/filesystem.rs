//! [`Ext4`] behind the seam of all filesystems.

use std::io;
use std::sync::Arc;

use super::{Ext4, NotRead};
use crate::reader::FsReader;
use crate::reader::exclude::Excludes;
use crate::reader::filesystem::{
    Filesystem, FsRegion, Means, Met, NotOpened, NotReleased, Passed, QuotaLimits, Reader,
};

/// Opens ext2, ext3 and ext4 from their own bytes.
pub(in crate::reader) struct Ext4Reader;

impl Reader for Ext4Reader {
    fn open(&self, region: &FsRegion<'_>, _: &Means<'_>) -> Result<Box<dyn Filesystem>, NotOpened> {
        Ok(Box::new(open(region)?))
    }

    fn try_out(&self, region: &FsRegion<'_>) -> Result<(), NotOpened> {
        open(region).map(drop)
    }
}

fn open(region: &FsRegion<'_>) -> Result<Ext4, NotOpened> {
    if !matches!(region.fs, "ext2" | "ext3" | "ext4") {
        return Err(Passed::Foreign(region.fs.to_owned()).into());
    }
    Ext4::open(Arc::clone(&region.blocks)).map_err(|why| match why {
        NotRead::Endless => NotOpened::Refused(Box::new(why)),
        NotRead::Damaged(error) => Passed::Damaged(error).into(),
        NotRead::LeftToKernel(_) => Passed::Unsupported(Box::new(why)).into(),
    })
}

impl Filesystem for Ext4 {
    fn reader(&self) -> &'static str {
        "ext4"
    }

    fn walk(&self, excludes: Excludes) -> io::Result<Box<dyn FsReader + Send>> {
        Ok(Box::new(Self::walk(self, excludes)))
    }

    fn for_each_root_name(&self, with: &mut dyn FnMut(&[u8])) {
        Self::for_each_root_name(self, with);
    }

    fn used_bytes(&self) -> io::Result<u64> {
        Ok(Self::used_bytes(self))
    }

    fn was_in_use(&self) -> Option<bool> {
        Some(Self::was_in_use(self))
    }

    fn complaints(&self) -> &[String] {
        Self::complaints(self)
    }

    fn met(&self) -> Vec<Met> {
        self.take_problems().into_iter().map(Met::At).collect()
    }

    fn has_no_end(&self) -> bool {
        Self::has_no_end(self)
    }

    fn quota_limits(&self) -> Option<io::Result<QuotaLimits>> {
        Some(Self::quota_limits(self))
    }

    fn finish(self: Box<Self>) -> Result<(), NotReleased> {
        Ok(())
    }
}
