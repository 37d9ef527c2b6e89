//! Which bytes of a region, or of a whole disk, its content uses: the filesystem's own map of what is allocated. An image of
//! a volume needs these alone; what is free may hold deleted files, and reads as zeros afterwards.
//!
//! A byte that is used and not in the map would be lost, so each map is checked against other metadata of its filesystem,
//! and wherever it is in doubt all of the region counts as used ([`UsedMap::whole_because`]). Nothing here writes, and
//! everything read is hostile: memory, time and recursion are bounded. docs/decisions/0046 says what is checked and why.

mod bits;
mod disk;
mod exfat;
mod ext;
mod fat;
mod map;
mod ntfs;
mod region;
mod swap;
mod xfs;

pub use self::disk::{DiskMap, used_map_of_disk, used_map_within};
pub use self::map::{UsedMap, Whole};
pub use self::region::used_map;
