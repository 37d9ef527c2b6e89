//! The previous backup. Its index, which may be long, is read by a thread while the snapshot is taken; the thread
//! is joined once the walk of the first filesystem has begun.

use std::thread::{Builder, Scope, ScopedJoinHandle};

use super::error::BackupError;
use super::under_way::UnderWay;
use crate::archive::write::ArchiveWriter;
use crate::error::with_causes;
use crate::events::Severity;
use crate::manifest::DigestsRecord;
use crate::run::parent::{Previous, PreviousError, Trust, previous};
use crate::run::record::source_record;
use crate::shown::counted;

/// The result of the search; an error says why no backup is usable.
type SearchResult = Result<Option<Previous>, PreviousError>;

/// The previous backup: being read, or ready.
pub(super) struct PreviousBackup<'scope, 'env> {
    backup: &'env UnderWay<'env>,
    /// The thread that reads its index; `None` after it was joined.
    search: Option<ScopedJoinHandle<'scope, SearchResult>>,
    /// Whether the result was reported.
    is_reported: bool,
    known: Option<KnownPrevious>,
}

/// The facts of the previous backup that remain after the writer has taken it.
pub(super) struct KnownPrevious {
    pub(super) stem: String,
    pub(super) trust: Trust,
    pub(super) digests: DigestsRecord,
}

impl<'scope, 'env> PreviousBackup<'scope, 'env> {
    /// Starts to search for it.
    pub(super) fn seek(
        scope: &'scope Scope<'scope, 'env>,
        backup: &'env UnderWay<'env>,
        is_reported: bool,
    ) -> Result<Self, BackupError> {
        let search = Builder::new().name("previous".to_owned()).spawn_scoped(scope, || find(backup));
        Ok(Self { backup, search: Some(search.map_err(BackupError::Thread)?), is_reported, known: None })
    }

    /// None: all is read.
    pub(super) fn nothing(backup: &'env UnderWay<'env>) -> Self {
        Self { backup, search: None, is_reported: false, known: None }
    }

    /// Waits for it on the first call, and sets it as the archive's parent. `None` if there is no usable one.
    pub(super) fn join(&mut self, writer: &mut ArchiveWriter<'_>) -> Option<&KnownPrevious> {
        if let Some(search) = self.search.take() {
            let found = search.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            if self.is_reported {
                report(self.backup, &found);
            }
            self.known = found.ok().flatten().map(|Previous { parent, share, trust, digests, reread_from }| {
                let stem = parent.stem().to_owned();
                writer.carry_from(parent, share, reread_from);
                KnownPrevious { stem, trust, digests }
            });
        }
        self.known.as_ref()
    }

    /// The previous backup, if it was joined.
    pub(super) fn known(&self) -> Option<&KnownPrevious> {
        self.known.as_ref()
    }
}

fn find(backup: &UnderWay<'_>) -> SearchResult {
    let source = source_record(backup.source);
    let wanted = backup.sought(&source);
    previous(&wanted, backup.backups, backup.destination)
}

/// Reports the result. Without a previous backup the new one only takes longer.
fn report(backup: &UnderWay<'_>, found: &SearchResult) {
    match found {
        Ok(Some(previous)) => {
            backup.step(&format!("carrying forward from {}", previous.parent.stem()));
            let left_out = previous.parent.left_out_groups();
            if left_out > 0 {
                let what = format!(
                    "the previous backup is so large that {} read again",
                    counted(left_out, "part of it is", "parts of it are")
                );
                backup.tell(Severity::Notice, what);
            }
        }
        Ok(None) => {}
        Err(error) => {
            let why = with_causes(error);
            let severity = if error.is_damage() { Severity::Warning } else { Severity::Notice };
            backup.tell(severity, format!("nothing is carried forward, everything is read: {why}"));
        }
    }
}
