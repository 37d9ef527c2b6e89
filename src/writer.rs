//! Fills new filesystems without a mount: one folder for each type.

pub(crate) mod ext4;
