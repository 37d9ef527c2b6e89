//! volbak backs up the block volumes of an OpenStack cinder-volume host and proves that each backup restores.

pub mod archive;
pub mod config;
pub mod entry;
pub mod error;
pub mod events;
pub(crate) mod field;
pub mod layout;
pub mod log;
pub mod mail;
pub mod manifest;
pub mod outside;
pub mod owner;
pub mod reader;
pub mod report;
pub mod run;
pub mod shown;
pub mod source;
pub mod store;
pub mod units;
