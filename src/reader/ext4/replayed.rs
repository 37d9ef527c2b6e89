//! A filesystem's bytes as they are once its journal is replayed.

use std::io;
use std::sync::Arc;

use super::error::NotRead;
use super::superblock::Superblock;
use super::volume::Volume;
use super::{groups, journal};
use crate::outside::BlockRead;

/// The bytes of a region with ext4, with the journal's newer copies over them.
pub(crate) struct Replayed(Volume);

impl Replayed {
    /// Reads the journal, which the superblock must say that it is to be replayed.
    pub(crate) fn open(region: Arc<dyn BlockRead>) -> Result<Self, NotRead> {
        let found = Superblock::read(region.as_ref())?;
        let mut volume = Volume::new(region, found);
        volume.inode_tables = groups::read(&volume, false)?.inode_tables;
        let newer = journal::replay(&volume)?;
        volume.overlay(newer);
        Ok(Self(volume))
    }
}

impl BlockRead for Replayed {
    fn len_bytes(&self) -> u64 {
        self.0.len_bytes()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, buf)
    }
}
