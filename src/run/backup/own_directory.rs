//! Refuses to back up a source into a directory with backups of another source.

use super::error::BackupError;
use super::options::BackupWorld;
use super::same_source::{Now, Relation, newest};
use crate::events::{Observer, Severity};
use crate::manifest::{Manifest, SourceRecord};
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
            if let Some(what) = by_turns(volume, backups, &record, before) {
                tell(observer, Severity::Warning, source.display_name().to_owned(), what);
                return Ok(());
            }
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

/// A warning if there are earlier backups of this volume, too: two volumes have one name, and each is taken for the other.
fn by_turns(volume: &Folder, backups: &[CatalogEntry], now: &SourceRecord, before: &Manifest) -> Option<String> {
    let (here, there) = (now.lv_uuid.as_ref()?, before.source.lv_uuid.as_ref()?);
    let mut earlier = backups.iter().filter_map(CatalogEntry::manifest);
    earlier.any(|manifest| manifest.source.lv_uuid.as_ref() == Some(here)).then(|| {
        format!(
            "{} gets the backups of two volumes by turns: {} with the UUID {there}, backed up on {}, and this one, with the UUID \
             {here}. A restore by name yields whichever is the newest, and retention counts both as one. If two hosts have one \
             hostname, give each a destination of its own",
            volume.path().display(),
            before.source.path,
            before.host
        )
    })
}
