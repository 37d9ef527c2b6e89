//! Counts how often entries use each id.

use std::collections::BTreeMap;

use serde::Serialize;

use super::acl::{ACL_GROUP, ACL_USER, acl_entries};
use super::mapping::IdMap;
use super::maps::IdMaps;
use crate::archive::read::head::{EntryHead, HeadKind};

/// The maximum number of ids to count individually; an archive with more was crafted.
const MAX_COUNTED: usize = 1 << 16;

/// The uses of an id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Use {
    /// Entries that it owns; further names of a file are not counted again.
    pub entries: u64,
    /// Entries of access and default ACLs that name it.
    pub acl_entries: u64,
}

/// The ids of entries.
#[derive(Clone, Debug, Default)]
pub struct Uses {
    uids: BTreeMap<u32, Use>,
    gids: BTreeMap<u32, Use>,
    /// Uses not counted individually.
    pub uncounted: u64,
}

/// An id, its mapping, and its uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct MappedUse {
    /// The id in the backup.
    pub old: u32,
    /// The id after the restore.
    pub new: u32,
    /// Its uses.
    #[serde(flatten)]
    pub used: Use,
}

impl Uses {
    /// Counts the ids of an entry.
    pub fn note(&mut self, head: &EntryHead) {
        if !matches!(head.kind, HeadKind::HardLink(_)) {
            self.count(head.uid, true, |used| used.entries += 1);
            self.count(head.gid, false, |used| used.entries += 1);
        }
        for xattr in head.xattrs.iter().filter(|xattr| xattr.name.starts_with(b"system.posix_acl_")) {
            for (tag, _, id) in acl_entries(&xattr.value).unwrap_or_default() {
                if matches!(tag, ACL_USER | ACL_GROUP) {
                    self.count(id.into(), tag == ACL_USER, |used| used.acl_entries += 1);
                }
            }
        }
    }

    fn count(&mut self, id: u64, is_user: bool, add: impl FnOnce(&mut Use)) {
        let uses = if is_user { &mut self.uids } else { &mut self.gids };
        match u32::try_from(id) {
            Ok(id) if uses.len() < MAX_COUNTED || uses.contains_key(&id) => add(uses.entry(id).or_default()),
            _ => self.uncounted += 1,
        }
    }

    /// Users and groups, by their old ids.
    pub fn mapped(&self, maps: &IdMaps) -> (Vec<MappedUse>, Vec<MappedUse>) {
        let of = |uses: &BTreeMap<u32, Use>, map: &IdMap| {
            uses.iter().map(|(old, used)| MappedUse { old: *old, new: map.get(*old), used: *used }).collect()
        };
        (of(&self.uids, &maps.uids), of(&self.gids, &maps.gids))
    }

    /// One sentence for each new id that several old ones are mapped to.
    pub fn merged(&self, maps: &IdMaps) -> Vec<String> {
        let (uids, gids) = self.mapped(maps);
        let mut sentences = Vec::new();
        for (uses, what) in [(uids, "uid"), (gids, "gid")] {
            let mut by_new: BTreeMap<u32, Vec<String>> = BTreeMap::new();
            for used in uses {
                by_new.entry(used.new).or_default().push(used.old.to_string());
            }
            for (new, old) in by_new.into_iter().filter(|(_, old)| old.len() > 1) {
                let old = old.join(" and ");
                sentences
                    .push(format!("{what} {old} of the backup are both {new} here: their files cannot be told apart"));
            }
        }
        sentences
    }
}
