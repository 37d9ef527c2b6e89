//! Starts the system of a backup: its disk is restored into a file and started in an emulator, until a login prompt or the
//! guest agent shows that the system is up.
//!
//! The disk is a tenant's, and what starts is his: see `docs/decisions/0077-backups-that-are-booted.md` for what the
//! emulator may do.

mod agent;
mod console;
mod disk;
mod machine;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use self::disk::{Firmware, NoSystem};
use super::temporary::{TemporaryDirectory, Use};
use crate::config::{Accelerator, RehearsalOptions};
use crate::events::{Event, Observer};
use crate::outside::host::processors;
use crate::outside::{Cancel, RunCommand, programs};
use crate::store::Backup;

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

/// What shows that a system is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BootSign {
    /// A login prompt on the first serial console.
    LoginPrompt,
    /// An answer of the QEMU guest agent.
    GuestAgent,
}

impl fmt::Display for BootSign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LoginPrompt => "login prompt",
            Self::GuestAgent => "answer of the guest agent",
        })
    }
}

/// The result of a start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "boot")]
#[non_exhaustive]
pub enum BootOutcome {
    /// The system came up.
    Up {
        /// What showed it.
        sign: BootSign,
        /// After so many seconds.
        seconds: u64,
    },
    /// The machine was started, and the system did not come up. That does not make the backup bad: a system may need
    /// another volume, or a network.
    NotUp {
        /// What happened, and the last lines of the console.
        what: String,
    },
    /// It was not started.
    NotStarted {
        /// Why.
        why: String,
    },
}

impl fmt::Display for BootOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Up { sign, seconds } => write!(f, "booted: {sign} after {seconds} s"),
            Self::NotUp { what } => write!(f, "started, and its system did not come up: {what}"),
            Self::NotStarted { why } => write!(f, "not booted: {why}"),
        }
    }
}

/// The start was cancelled.
#[derive(Debug, thiserror::Error)]
#[error("interrupted while a backup was started")]
pub struct Interrupted;

/// Restores the disk of a backup into `options.scratch`, starts it, and waits for its system. The disk is removed at the end.
pub fn boot(
    files: &Backup,
    options: &BootOptions,
    commands: &Arc<dyn RunCommand>,
    observer: &dyn Observer,
) -> Result<BootOutcome, Interrupted> {
    let not_started = |why: String| Ok(BootOutcome::NotStarted { why });
    for (program, package) in [(EMULATOR, "qemu-system-x86"), ("setpriv", "util-linux")] {
        if !programs::is_installed(program) {
            return not_started(format!("{program} is not installed on this host (package {package})"));
        }
    }
    let directory = match TemporaryDirectory::new(&options.scratch, files.stem(), Use::Boot, observer) {
        Ok(directory) => directory,
        Err(error) => return not_started(format!("{}: {error}", options.scratch.display())),
    };
    let firmware = match disk::restore(files, directory.path(), options, commands, observer) {
        Ok(firmware) => firmware,
        Err(NoSystem::Stopped) => return Err(Interrupted),
        Err(error) => return not_started(crate::error::with_causes(&error)),
    };
    let bios = match firmware {
        Firmware::Bios => None,
        Firmware::Uefi => match disk::uefi_firmware() {
            Some(path) => Some(path),
            None => return not_started("it starts by UEFI, whose firmware is missing here (package ovmf)".to_owned()),
        },
    };
    observer.on_event(&Event::Step { step: format!("booting {}", files.stem()) });
    machine::run(directory.path(), bios, options)
}
