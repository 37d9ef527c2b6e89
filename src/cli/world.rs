//! What a verb works with: the system, and an observer that shows progress.

use std::sync::Arc;

use volbak::outside::{Cancel, SystemClock, SystemCommands};
use volbak::run::backup::BackupWorld;

use super::progress::{Progress, Verbosity};

pub(super) fn world(verbosity: Verbosity, cancel: Cancel) -> (Arc<Progress>, BackupWorld) {
    let progress = Arc::new(Progress::new(verbosity));
    let world = BackupWorld {
        commands: Arc::new(SystemCommands),
        clock: Arc::new(SystemClock),
        observer: progress.clone(),
        cancel,
    };
    (progress, world)
}
