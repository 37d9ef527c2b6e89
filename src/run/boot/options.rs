//! Options of a start.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::{Accelerator, RehearsalOptions};
use crate::outside::Cancel;
use crate::outside::host::processors;

/// The emulator, of Debian's package qemu-system-x86.
pub const EMULATOR: &str = "qemu-system-x86_64";

/// Options of a start.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BootOptions {
    /// The time that the system has to come up.
    pub limit: Duration,
    /// The memory of the machine, in bytes.
    pub memory_bytes: u64,
    /// What runs its instructions.
    pub accelerator: Accelerator,
    /// The directory for the disk, which takes as much space as its files.
    pub scratch: PathBuf,
    /// The number of decompression threads.
    pub threads: usize,
    /// Cancels the operation.
    pub cancel: Cancel,
}

impl BootOptions {
    /// Those of a rehearsal, with all processors.
    pub fn of(options: &RehearsalOptions) -> Self {
        Self {
            limit: options.boot_limit,
            memory_bytes: options.boot_memory_bytes,
            accelerator: options.accelerator,
            scratch: options.scratch.clone(),
            threads: processors(),
            cancel: Cancel::default(),
        }
    }
}
