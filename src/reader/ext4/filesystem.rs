//! [`Ext4`] as a [`Filesystem`](crate::reader::filesystem::Filesystem).

use std::cell::{Cell, RefCell};
use std::io;
use std::sync::Arc;

use super::{Ext4, NotRead};
use crate::outside::BlockRead;
use crate::reader::FsReader;
use crate::reader::exclude::Excludes;
use crate::reader::filesystem::{
    Filesystem, FsRegion, Means, Met, NotOpened, NotReleased, Passed, QuotaLimits, Reader,
};

/// Opens ext2, ext3 and ext4 from the region's bytes.
pub(in crate::reader) struct Ext4Reader;

impl Reader for Ext4Reader {
    fn open(&self, region: &FsRegion<'_>, _: &Means<'_>) -> Result<Box<dyn Filesystem>, NotOpened> {
        let ext4 = open(region)?;
        let (blocks, complaints) = (Arc::clone(&region.blocks), ext4.complaints().to_vec());
        Ok(Box::new(Reopened { blocks, current: RefCell::new(ext4), is_walked: Cell::new(false), complaints }))
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

/// Opens the [`Ext4`] anew for each further walk: its marks of blocks and inodes are valid for one walk only.
struct Reopened {
    blocks: Arc<dyn BlockRead>,
    current: RefCell<Ext4>,
    is_walked: Cell<bool>,
    complaints: Vec<String>,
}

impl Filesystem for Reopened {
    fn reader(&self) -> &'static str {
        "ext4"
    }

    fn walk(&self, excludes: Excludes) -> io::Result<Box<dyn FsReader + Send>> {
        if self.is_walked.replace(true) {
            *self.current.borrow_mut() = Ext4::open(Arc::clone(&self.blocks)).map_err(io::Error::other)?;
        }
        Ok(Box::new(self.current.borrow().walk(excludes)))
    }

    fn for_each_root_name(&self, with: &mut dyn FnMut(&[u8])) {
        self.current.borrow().for_each_root_name(with);
    }

    fn used_bytes(&self) -> io::Result<u64> {
        Ok(self.current.borrow().used_bytes())
    }

    fn was_in_use(&self) -> Option<bool> {
        Some(self.current.borrow().was_in_use())
    }

    fn complaints(&self) -> &[String] {
        &self.complaints
    }

    fn met(&self) -> Vec<Met> {
        self.current.borrow().take_problems().into_iter().map(Met::At).collect()
    }

    fn has_no_end(&self) -> bool {
        self.current.borrow().has_no_end()
    }

    fn quota_limits(&self) -> Option<io::Result<QuotaLimits>> {
        Some(self.current.borrow().quota_limits())
    }

    fn finish(self: Box<Self>) -> Result<(), NotReleased> {
        Ok(())
    }
}
