//! A small client of object stores with an S3 API: Swift, Ceph's RADOS gateway, and others.
//!
//! It blocks. Every answer is hostile: bounded in length, in pages and in time. A request that may be repeated is
//! repeated with growing pauses until its deadline. Each body that is sent carries its MD5, so that the store refuses
//! what was damaged on the way. Keys and tokens never appear in an error, in `{:?}` or in an argument of a program.
//!
//! It is a seam: what it returns are its own types, and no module that reads volumes or writes archives knows it.

mod address;
mod answers;
mod bucket;
mod call;
mod calls;
mod client;
mod error;
mod limits;
mod listing;
mod multipart;
mod pages;
mod profile;
mod settings;

pub use address::ObjectAddress;
pub use bucket::{LockHeaders, ObjectVersion};
pub use calls::{Found, Written};
pub use client::ObjectClient;
pub use error::ObjectError;
pub use limits::Limits;
pub use listing::{ListedObject, ObjectListing};
pub use multipart::{CopySource, Part};
pub use settings::{ObjectSettings, ObjectSources};
