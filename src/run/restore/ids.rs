//! Maps owner and group ids, for a target host with other ids than the source.

mod acl;
mod mapping;
mod maps;
mod uses;

pub(super) use self::acl::merged_acl;
pub use self::mapping::{BadMapping, IdMap, Mapping};
pub use self::maps::IdMaps;
pub use self::uses::{MappedUse, Use, Uses};
