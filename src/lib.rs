//! volbak backs up the block volumes of an OpenStack cinder-volume host and proves that each backup restores.

pub mod events;
pub mod layout;
pub mod outside;
pub mod owner;
pub mod reader;
pub mod source;
pub mod units;
