//! A small client of an OpenStack cloud: Keystone, Cinder and Nova, as far as backups need them.
//!
//! It blocks, and each use of it has one deadline. Every answer is hostile: bounded in length, in pages and in time. Reads
//! are repeated after an error that may pass; a write is sent once. Tokens and passwords never appear in an error, in
//! `{:?}` or in an argument of a program.
//!
//! It is a seam: what it returns are its own types, and no module that reads volumes or writes archives knows it.

#[cfg(feature = "swift")]
mod access;
mod actions;
mod answers;
mod catalogue;
mod error;
mod lists;
mod message;
mod pages;
mod session;
mod settings;
mod volumes;
mod yaml;

#[cfg(feature = "swift")]
pub(crate) use access::object_store;
pub use actions::Connector;
pub use answers::{
    Attachment, ConnectionFacts, InstanceAction, NovaAttachment, Project, Server, Service, Volume, VolumeAttachment,
};
pub use error::CloudError;
pub use session::{Limits, Session};
pub use settings::{CloudSettings, Sources};
pub use volumes::NewVolume;
