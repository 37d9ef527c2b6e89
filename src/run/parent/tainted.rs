//! Backups that may have content of a bad one.

use crate::manifest::{CarriedRecord, Manifest};

/// Which of the backups may have content of a bad one: content carried from that would pass every check except the one that
/// found it. `bad`: those that are bad themselves.
pub(super) fn tainted(backups: &[&Manifest], bad: Vec<bool>) -> Vec<bool> {
    if !bad.contains(&true) {
        return bad;
    }
    let carried: Vec<Option<&CarriedRecord>> = backups.iter().map(|backup| backup.carried.as_ref()).collect();
    let parents: Vec<Option<usize>> = carried
        .iter()
        .map(|carried| backups.iter().position(|backup| carried.is_some_and(|carried| is_parent(backup, carried))))
        .collect();
    // What a store copied was not compared with its digests. If the link between was removed, the bad backup may have
    // been before it.
    let lost_its_parent =
        |at: usize| parents[at].is_none() && carried[at].is_some_and(|carried| carried.on_server.is_some());
    let mut tainted: Vec<bool> = bad.iter().enumerate().map(|(at, bad)| *bad || lost_its_parent(at)).collect();
    // Each round follows one link at least; the order of dates is that of clocks.
    while let Some(at) =
        (0..tainted.len()).find(|at| !tainted[*at] && parents[*at].is_some_and(|parent| tainted[parent]))
    {
        tainted[at] = true;
    }
    tainted
}

/// Whether this is the backup that was carried forward. Where it has no SHA-1, its name counts, too: earlier versions recorded
/// the digest of an index that only a key shows.
fn is_parent(manifest: &Manifest, carried: &CarriedRecord) -> bool {
    let has_its_name = carried.parent_archive_sha1.is_empty() && carried.parent == manifest.stem;
    carried.parent_identity() == manifest.identity() || has_its_name
}

#[cfg(test)]
mod tests {
    use super::{is_parent, tainted};
    use crate::manifest::{CarriedRecord, DigestsRecord, Manifest, OnServerRecord, blank};

    #[test]
    fn a_parent_is_known_by_its_digest_and_without_a_sha1_also_by_its_name() {
        let parent = |archive_sha1: &str, index_sha256: &str| {
            let digests = DigestsRecord {
                archive_sha1: archive_sha1.to_owned(),
                index_sha256: index_sha256.to_owned(),
                ..DigestsRecord::default()
            };
            Manifest { stem: "v_1".to_owned(), digests, ..blank() }
        };
        let carried = |name: &str, sha1: &str, index_sha256: Option<&str>| CarriedRecord {
            parent: name.to_owned(),
            parent_archive_sha1: sha1.to_owned(),
            parent_index_sha256: index_sha256.map(str::to_owned),
            ..CarriedRecord::default()
        };
        assert!(is_parent(&parent("a", "i"), &carried("v_0", "a", None)));
        assert!(!is_parent(&parent("b", "i"), &carried("v_1", "a", None)), "made again under its name");
        assert!(is_parent(&parent("", "i"), &carried("v_0", "", Some("i"))));
        assert!(is_parent(&parent("", "published"), &carried("v_1", "", Some("decrypted"))));
        assert!(!is_parent(&parent("", "published"), &carried("v_2", "", Some("decrypted"))));
    }

    /// The backups `NAME` or `NAME<PARENT`: those that may have content of the bad one.
    fn tainted_of(backups: &[&str], bad: &str, is_copied_by_store: bool) -> Vec<String> {
        let manifests: Vec<Manifest> = backups
            .iter()
            .map(|text| {
                let (name, parent) = text.split_once('<').unwrap_or((text, ""));
                let carried = (!parent.is_empty()).then(|| CarriedRecord {
                    parent_archive_sha1: parent.to_owned(),
                    on_server: is_copied_by_store.then(OnServerRecord::default),
                    ..CarriedRecord::default()
                });
                let digests = DigestsRecord { archive_sha1: name.to_owned(), ..DigestsRecord::default() };
                Manifest { stem: name.to_owned(), digests, carried, ..blank() }
            })
            .collect();
        let manifests: Vec<&Manifest> = manifests.iter().collect();
        let found = tainted(&manifests, manifests.iter().map(|manifest| manifest.stem == bad).collect());
        let named = manifests.iter().zip(found).filter(|(_, is_tainted)| *is_tainted);
        named.map(|(manifest, _)| manifest.stem.clone()).collect()
    }

    #[test]
    fn what_was_carried_from_a_bad_backup_is_not_carried_on() {
        for is_copied_by_store in [false, true] {
            let of = |backups: &[&str], bad| tainted_of(backups, bad, is_copied_by_store);
            assert_eq!(of(&["a", "b<a", "c<b", "d"], "a"), ["a", "b", "c"]);
            assert_eq!(of(&["a", "b<a", "c<b", "d<c"], "c"), ["c", "d"]);
            assert_eq!(of(&["d<c", "c<b", "b<a", "a", "e"], "a"), ["d", "c", "b", "a"], "a clock that was wrong");
            assert_eq!(of(&["b<a", "c<b"], ""), [""; 0], "their root was removed, and was not bad as far as is known");
        }
    }

    #[test]
    fn where_the_link_to_a_bad_backup_was_removed_what_a_store_copied_is_not_carried_on() {
        let backups = ["a", "c<b", "d<c", "e", "f<e"];
        assert_eq!(tainted_of(&backups, "a", true), ["a", "c", "d"]);
        // On a host each member is compared with its digest.
        assert_eq!(tainted_of(&backups, "a", false), ["a"]);
    }
}
