//! Blocks of extended attributes. Inodes with the same attributes share one, as with the kernel.

use std::collections::{HashMap, VecDeque};

use super::error::WriteError;
use super::output::Output;
use super::volume::Volume;
use super::xattrs::seal;

/// The maximum number of blocks in memory: 4 MiB.
const KEPT: usize = 1024;
/// `EXT4_XATTR_REFCOUNT_MAX`.
const INODES_MAX: u32 = 1024;

#[derive(Default)]
pub(super) struct AttributeBlocks {
    /// By content: the place, and the number of inodes.
    kept: HashMap<Vec<u8>, (u64, u32)>,
    order: VecDeque<Vec<u8>>,
}

impl AttributeBlocks {
    /// The block with this content, for one more inode; `None` if there is none.
    pub(super) fn share(&mut self, content: &[u8]) -> Option<u64> {
        let (place, inodes) = self.kept.get_mut(content).filter(|(_, inodes)| *inodes < INODES_MAX)?;
        *inodes += 1;
        Some(*place)
    }

    /// Adds a block of one inode.
    pub(super) fn add(
        &mut self,
        content: Vec<u8>,
        place: u64,
        volume: &Volume,
        output: &mut Output,
    ) -> Result<(), WriteError> {
        if self.kept.len() >= KEPT
            && let Some(oldest) = self.order.pop_front()
        {
            self.write(&oldest, volume, output)?;
        }
        if self.kept.contains_key(&content) {
            // It has as many inodes as a block may have.
            self.write(&content, volume, output)?;
            self.order.retain(|other| *other != content);
        }
        self.order.push_back(content.clone());
        self.kept.insert(content, (place, 1));
        Ok(())
    }

    fn write(&mut self, content: &[u8], volume: &Volume, output: &mut Output) -> Result<(), WriteError> {
        if let Some((place, inodes)) = self.kept.remove(content) {
            let mut block = content.to_vec();
            seal(&mut block, place, inodes, volume);
            output.write(volume.byte_of(place), &block)?;
        }
        Ok(())
    }

    pub(super) fn finish(&mut self, volume: &Volume, output: &mut Output) -> Result<(), WriteError> {
        while let Some(content) = self.order.pop_front() {
            self.write(&content, volume, output)?;
        }
        Ok(())
    }
}
