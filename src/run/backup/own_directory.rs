//! Refuses to back up a source into a directory with backups of another source.

use super::error::BackupError;
use super::options::BackupWorld;
use super::same_source::{Now, Relation, newest};
use crate::events::{Observer, Severity};
use crate::outside::host;
use crate::run::collect::tell;
use crate::run::record::source_record;
use crate::source::Source;
use crate::store::Folder;
use crate::store::catalog::CatalogEntry;

/// Two sources may have the same name and so share a directory; a restore by that name would yield whichever was
/// backed up last. A successor of the earlier source continues in the directory, which is reported.
pub(super) fn check_source_of(
    volume: &Folder,
    backups: &[CatalogEntry],
    source: &Source,
    world: &BackupWorld,
    observer: &dyn Observer,
) -> Result<(), BackupError> {
    let Some(before) = newest(backups) else { return Ok(()) };
    let host = host::name();
    let record = source_record(source);
    let now = Now { source: &record, host: &host, is_named: source.is_named(), commands: &*world.commands };
    match now.relation(before) {
        Relation::Same => Ok(()),
        Relation::Successor => {
            let is_made_anew = before.source.lv_uuid.is_some() && before.source.path == record.path;
            let anew = if is_made_anew { " before it was recreated" } else { "" };
            let what = format!(
                "the last backup in {} is of another source, {} on {}{anew}: look at the manifests before you restore",
                volume.path().display(),
                before.source.path,
                before.host
            );
            tell(observer, Severity::Warning, source.display_name().to_owned(), what);
            Ok(())
        }
        Relation::Other => Err(BackupError::AnotherSource {
            directory: volume.path().to_owned(),
            there: format!("{} on {}", before.source.path, before.host),
            here: record.path,
        }),
    }
}
