//! Checks that a volume's directory in the destination belongs to the source of this backup. Directories are
//! identified only by a short name, and a restore by that name must not yield another source.
//! `docs/decisions/0030-one-source-a-directory.md` gives the reasons.

use std::path::Path;

use crate::manifest::{Manifest, SourceRecord};
use crate::outside::RunCommand;
use crate::source;
use crate::store::catalog::{BackupState, CatalogEntry};

/// The relation of an earlier backup's source to the present one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Relation {
    /// The same source.
    Same,
    /// A successor: a volume that was recreated or moved, or an image that moved.
    Successor,
    /// Another source.
    Other,
}

/// The present source and host.
pub(super) struct Now<'a> {
    pub(super) source: &'a SourceRecord,
    pub(super) host: &'a str,
    /// Whether the user chose the directory name.
    pub(super) is_named: bool,
    pub(super) commands: &'a dyn RunCommand,
}

/// A volume is identified by its UUID, other sources by their path.
pub(in crate::run) fn is_same_source(before: &SourceRecord, now: &SourceRecord) -> bool {
    if before.kind != now.kind {
        return false;
    }
    match &now.lv_uuid {
        Some(uuid) => before.lv_uuid.as_ref() == Some(uuid),
        None => before.path == now.path || is_same_file(&before.path, &now.path),
    }
}

/// Whether two paths lead to the same file, also through links or in another spelling.
fn is_same_file(before: &str, now: &str) -> bool {
    let canonical = |path: &str| std::fs::canonicalize(path).ok();
    canonical(now).is_some_and(|now| canonical(before) == Some(now.clone()) || Path::new(before) == now)
}

impl Now<'_> {
    /// The relation of an earlier backup's source to the present one.
    pub(super) fn relation(&self, before: &Manifest) -> Relation {
        let (there, here) = (&before.source, self.source);
        let is_this_host = before.host == self.host;
        if is_same_source(there, here) {
            // Two hosts may have images at the same path. For an image on shared storage used from another host,
            // the user names the directory.
            return match (is_this_host || here.lv_uuid.is_some(), self.is_named) {
                (true, _) => Relation::Same,
                (false, true) => Relation::Successor,
                (false, false) => Relation::Other,
            };
        }
        if there.kind != here.kind {
            return Relation::Other;
        }
        let Some(lv) = &here.lv else {
            return if self.is_named { Relation::Successor } else { Relation::Other };
        };
        if there.lv.as_ref() != Some(lv) {
            return Relation::Other;
        }
        let is_in_its_place = there.vg == here.vg && is_this_host;
        if is_in_its_place || has_uuid(lv) || (is_this_host && self.is_gone(there)) {
            Relation::Successor
        } else {
            Relation::Other
        }
    }

    /// Whether the volume, by its UUID, no longer exists on this host.
    fn is_gone(&self, there: &SourceRecord) -> bool {
        source::list_volumes(&[], self.commands).is_ok_and(|found| {
            !found.volumes.iter().any(|one| {
                let facts = &one.facts;
                Some(&facts.uuid) == there.lv_uuid.as_ref()
                    || (Some(&facts.vg), Some(&facts.lv)) == (there.vg.as_ref(), there.lv.as_ref())
            })
        })
    }
}

/// Whether a name contains a UUID, as with Cinder's volumes: such a name is unique, so the volume was migrated.
pub(in crate::run) fn has_uuid(name: &str) -> bool {
    const GROUPS: [usize; 5] = [8, 4, 4, 4, 12];
    const LEN: usize = 36;
    let is_uuid = |text: &[u8]| {
        let groups: Vec<&[u8]> = text.split(|byte| *byte == b'-').collect();
        groups.iter().map(|group| group.len()).eq(GROUPS) && groups.concat().iter().all(u8::is_ascii_hexdigit)
    };
    name.as_bytes().windows(LEN).any(is_uuid)
}

/// The newest complete backup in a list ordered by date.
pub(super) fn newest(backups: &[CatalogEntry]) -> Option<&Manifest> {
    backups.iter().rev().find_map(|backup| match &backup.state {
        BackupState::Complete { manifest } => Some(&**manifest),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::io;

    use super::{has_uuid, is_same_source};
    use crate::manifest::SourceRecord;
    use crate::outside::{CommandOutput, RunCommand};

    struct NoLvm;

    impl RunCommand for NoLvm {
        fn run(&self, _: &str, _: &[OsString]) -> io::Result<CommandOutput> {
            Err(io::ErrorKind::NotFound.into())
        }
    }

    fn source(kind: &str, path: &str, uuid: Option<&str>) -> SourceRecord {
        SourceRecord {
            kind: kind.to_owned(),
            path: path.to_owned(),
            lv_uuid: uuid.map(str::to_owned),
            ..SourceRecord::default()
        }
    }

    #[test]
    fn a_volume_is_its_uuid_and_the_rest_is_its_path() {
        let volume = source("lv", "vg/a", Some("u1"));
        assert!(is_same_source(&volume, &source("lv", "vg/renamed", Some("u1"))));
        assert!(!is_same_source(&volume, &source("lv", "vg/a", Some("u2"))), "made anew under its name");
        assert!(!is_same_source(&volume, &source("image", "vg/a", None)));
        let image = source("image", "/a.img", None);
        assert!(is_same_source(&image, &image));
        assert!(!is_same_source(&image, &source("image", "/b.img", None)));
        assert!(!is_same_source(&image, &source("device", "/a.img", None)));
    }

    #[test]
    fn an_image_in_another_spelling_is_the_same() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("d")).unwrap();
        std::fs::write(dir.path().join("d/a.img"), "x").unwrap();
        std::os::unix::fs::symlink("d", dir.path().join("link")).unwrap();
        let image = |path: &str| source("image", dir.path().join(path).to_str().unwrap(), None);
        assert!(is_same_source(&image("d/a.img"), &image("link/a.img")));
        assert!(is_same_source(&image("d/a.img"), &image("d/../d/a.img")));
        assert!(!is_same_source(&image("d/a.img"), &image("d/b.img")));
    }

    #[test]
    fn successors_of_a_source() {
        use super::Relation::{Other, Same, Successor};
        let lv = |vg: &str, name: &str, uuid: &str| SourceRecord {
            vg: Some(vg.to_owned()),
            lv: Some(name.to_owned()),
            ..source("lv", &format!("{vg}/{name}"), Some(uuid))
        };
        let relation = |before: &SourceRecord, host: &str, now: &SourceRecord, is_named| {
            let manifest =
                crate::manifest::Manifest { host: host.to_owned(), source: before.clone(), ..crate::manifest::blank() };
            super::Now { source: now, host: "h", is_named, commands: &NoLvm }.relation(&manifest)
        };
        let now = lv("g", "x", "new");
        assert_eq!(relation(&lv("old", "y", "new"), "h", &now, false), Same);
        assert_eq!(relation(&lv("g", "x", "old"), "h", &now, false), Successor);
        // Another host also has a volume of that name.
        assert_eq!(relation(&lv("g", "x", "old"), "other", &now, false), Other);
        // Another group of this host may still have it: LVM cannot be queried here.
        assert_eq!(relation(&lv("old", "x", "old"), "h", &now, false), Other);
        assert_eq!(relation(&lv("old", "x", "old"), "h", &now, true), Other);
        let cinder = "volume-0e4e4e4e-1111-2222-3333-444444444444";
        assert!(has_uuid(cinder) && !has_uuid("volume-0e4e4e4e-1111-2222-3333-44444444444g") && !has_uuid("x"));
        assert_eq!(relation(&lv("old", cinder, "old"), "other", &lv("g", cinder, "new"), false), Successor);
        let image = source("image", "/b/disk.img", None);
        assert_eq!(relation(&source("image", "/a/disk.img", None), "h", &image, false), Other);
        assert_eq!(relation(&source("image", "/a/disk.img", None), "h", &image, true), Successor);
        assert_eq!(relation(&lv("g", "disk", "u"), "h", &image, true), Other);
        assert_eq!(relation(&image, "h", &image, false), Same);
        assert_eq!(relation(&image, "other", &image, false), Other);
        assert_eq!(relation(&image, "other", &image, true), Successor);
    }
}
