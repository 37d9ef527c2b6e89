//! Promise: whatever reads a filesystem keeps one contract: [`volbak::reader::filesystem::Filesystem`].
//!
//! The same tree is put into images of several kinds, and each check of `contract` runs on each of them: volbak's own ext4,
//! mounts of the kernel's, and a tar file as a tree, a reader that only this program knows. It is a folder here
//! (`tar_tree/`) and a line below. In `ext4`, volbak's own reader is compared with the kernel's mount, byte for byte.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod contract;
mod ext4;
mod images;
mod tar_tree;
#[path = "../testkit/mod.rs"]
mod testkit;

use volbak::reader::filesystem::Reader;
use volbak::reader::open::readers;

/// What volbak reads with, and one reader more.
fn all_readers(by_kernel: bool) -> Vec<&'static dyn Reader> {
    let mut all = readers(by_kernel);
    all.insert(0, &tar_tree::TarReader);
    all
}
