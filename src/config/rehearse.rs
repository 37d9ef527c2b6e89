//! The table `[rehearse]`.

use std::path::PathBuf;
use std::time::Duration;

use super::kinds::{bytes, minutes, seconds};
use super::section::Section;

/// The least memory that a machine is given.
const MIN_MEMORY_BYTES: u64 = 64 << 20;

/// What runs the instructions of a system that is booted for a test.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Accelerator {
    /// The processor, if this host has `/dev/kvm`; otherwise the emulator.
    #[default]
    Auto,
    /// The processor.
    Kvm,
    /// The emulator. It is slow, and needs no help from the hardware.
    Tcg,
}

/// The table `[rehearse]`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RehearsalOptions {
    /// Whether the nightly run restores some backups for a test.
    pub enabled: bool,
    /// The days from one rehearsal to the next.
    pub every_days: u32,
    /// The directory for what is restored.
    pub scratch: PathBuf,
    /// No further restore is begun after this time.
    pub time_budget: Duration,
    /// Whether disks with a system are booted.
    pub boot: bool,
    /// The time that a system has to come up.
    pub boot_limit: Duration,
    /// The memory of its machine, in bytes.
    pub boot_memory_bytes: u64,
    /// What runs its instructions.
    pub accelerator: Accelerator,
}

impl Default for RehearsalOptions {
    fn default() -> Self {
        Self {
            enabled: false,
            every_days: 7,
            scratch: PathBuf::from("/var/tmp"),
            time_budget: Duration::from_secs(2 * 3600),
            boot: true,
            boot_limit: Duration::from_secs(600),
            boot_memory_bytes: 1 << 30,
            accelerator: Accelerator::default(),
        }
    }
}

pub(super) fn read(section: &Section<'_>) -> RehearsalOptions {
    let usual = RehearsalOptions::default();
    let accelerators = [("auto", Accelerator::Auto), ("kvm", Accelerator::Kvm), ("tcg", Accelerator::Tcg)];
    let memory = bytes(section, "boot_memory").filter(|bytes| {
        let is_enough = *bytes >= MIN_MEMORY_BYTES;
        if !is_enough {
            let what = "no system starts in less than 64M of memory";
            section.reading.mistake(&section.place("boot_memory"), what, "write a size, like boot_memory = \"1G\"");
        }
        is_enough
    });
    RehearsalOptions {
        enabled: section.boolean("enabled").unwrap_or(usual.enabled),
        every_days: section.number("every_days", 1, 365).unwrap_or(usual.every_days),
        scratch: section.path("scratch", "/var/tmp").unwrap_or(usual.scratch),
        time_budget: minutes(section, "time_budget_minutes", 10_080).unwrap_or(usual.time_budget),
        boot: section.boolean("boot").unwrap_or(usual.boot),
        boot_limit: seconds(section, "boot_seconds", 86_400).unwrap_or(usual.boot_limit),
        boot_memory_bytes: memory.unwrap_or(usual.boot_memory_bytes),
        accelerator: section.choice("boot_accelerator", &accelerators).unwrap_or(usual.accelerator),
    }
}
