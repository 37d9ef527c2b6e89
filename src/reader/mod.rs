//! Reading what a region holds.

pub mod device_map;
