//! Where backups are kept, and for how long.

pub mod retention;
