//! Starts the system of a backup: its disk is restored into a file and started in an emulator, until a login prompt or the
//! guest agent shows that the system is up.
//!
//! The disk is a tenant's, and what starts is his: see `docs/decisions/0077-backups-that-are-booted.md` for what the
//! emulator may do.

mod agent;
mod console;
mod disk;
mod firmware;
mod machine;
mod options;
mod outcome;

use std::sync::Arc;

use self::disk::NoSystem;
use super::temporary::{TemporaryDirectory, Use};
use crate::error::with_causes;
use crate::events::{Event, Observer};
use crate::outside::{RunCommand, programs};
use crate::store::Backup;

pub(super) use self::firmware::UefiFiles;
pub use self::options::{BootOptions, EMULATOR};
pub use self::outcome::{BootOutcome, BootSign, Interrupted};

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
    let uefi = match disk::restore(files, directory.path(), options, commands, observer) {
        Ok(uefi) => uefi,
        Err(NoSystem::Stopped) => return Err(Interrupted),
        Err(error) => return not_started(with_causes(&error)),
    };
    observer.on_event(&Event::Step { step: format!("booting {}", files.stem()) });
    machine::run(directory.path(), uefi, options)
}
