//! A small client of object stores: with an S3 API (Ceph's RADOS gateway, Swift's own, and others), or Swift natively.
//!
//! It blocks. Every answer is hostile: bounded in length, in pages and in time. A request that may be repeated is
//! repeated with growing pauses until its deadline. Each body that is sent carries its MD5, so that the store refuses
//! what was damaged on the way. Keys and tokens never appear in an error, in `{:?}` or in an argument of a program.
//!
//! It is a seam: what it returns are its own types, and no module that reads volumes or writes archives knows it. Within it
//! `bucket` is another one: who uses a client does not see which API it speaks.

mod address;
mod bucket;
mod call;
mod client;
mod error;
mod facts;
mod limits;
mod path;
mod plain;
mod profile;
mod s3;
mod settings;
#[cfg(feature = "swift")]
mod swift;
mod wire;

pub use address::{ObjectAddress, ObjectScheme};
pub use client::ObjectClient;
pub use error::ObjectError;
pub use facts::{
    CopySource, Found, ListedObject, LockHeaders, ObjectListing, ObjectVersion, Part, PartLimits, Written,
};
pub use limits::Limits;
pub use settings::{ObjectSettings, ObjectSources};
#[cfg(feature = "swift")]
pub use swift::SwiftSources;
