//! The shared layout: the nights of a volume share the bytes of their archives, in a directory whose filesystem does not
//! share blocks.
//!
//! | in the volume's folder | what it is |
//! | --- | --- |
//! | `NAME.tar.gz.parts` | in place of `NAME.tar.gz`: which ranges of which segments it consists of, as text |
//! | `segments/DATE` | what was new in the archive of that night |
//! | `NAME.index.parts`, `segments/DATE.index` | the same for its index, see `index_text` |
//!
//! A [`SharedFolder`] lies over the folder of a volume, and shows a composed archive under its usual name. So all that reads
//! archives reads these as well. What nothing refers to any more is freed (`free`); what refers is found by reading all
//! recipes, never by a count that was kept. In an object store there is no lock: there a segment is marked, and removed
//! much later (`marks`).

mod facts;
mod file;
mod folder;
mod free;
mod index_file;
mod index_text;
mod known;
mod marks;
mod names;
mod reading;
mod recipe;
mod scratch;
mod segment;
mod segments_now;
mod writer;

pub use self::folder::SharedFolder;
pub(super) use self::marks::has_marks;
pub use self::names::{ArchiveLayout, PARTS, SEGMENTS_FOLDER};
pub use self::recipe::{Recipe, RecipeError};
pub(super) use self::segments_now::changed_segments;
