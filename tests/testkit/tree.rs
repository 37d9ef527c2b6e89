//! Trees that are hard to back up, and fingerprints that tell two trees apart in every attribute.
//!
//! Test targets share this as `mod tree;`. A test makes a tree with [`make_hard_tree`], lets it go through a backup
//! and a restore, and compares the [`fingerprint`]s of both ends with [`assert_equal_trees`].

mod fingerprint;
mod hard;

pub use fingerprint::{Attributes, DataBytes, Kind, Tree, assert_equal_trees, fingerprint, shown};
pub use hard::{Filesystem, make_hard_tree, make_many_entries, noise, text};
