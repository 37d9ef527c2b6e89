//! Whether the objects of a backup in an object store are those that its run published. Keys are unique to a run, and volbak
//! writes none again: a second content under a key is somebody else's.

use std::collections::{BTreeMap, BTreeSet};

use super::finding::{BackupFile, Findings};
use crate::archive::kind::ArchiveKind;
use crate::error::with_causes;
use crate::manifest::{Manifest, ObjectRecord};
use crate::shown;
use crate::store::api::ObjectState;
use crate::store::names::{CHECKSUM, INDEX, MANIFEST, SEGMENTS, SIGNATURE, index_suffix};
use crate::store::{Backup, StoreError};

/// Compares the objects with those in the manifest, and looks for older versions. Nothing is found in a directory.
pub(crate) fn check(files: &Backup, manifest: Option<&Manifest>, findings: &mut Findings) {
    let states = match files.objects() {
        Ok(Some(states)) => states,
        Ok(None) => return,
        Err(error) => return findings.not_checked(not_compared(&error)),
    };
    if let Some(why) = states.without_versions {
        findings.not_checked(format!("whether objects were overwritten: {why}"));
    }
    if let Some(why) = states.without_parts {
        findings.not_checked(format!("whether segments were overwritten: {why}"));
    }
    let recorded = manifest.and_then(|manifest| manifest.objects.as_ref());
    for (suffix, file) in suffixes(files.kind()) {
        let Some(state) = states.by_name.get(&format!("{}{suffix}", files.stem())) else { continue };
        let expected = recorded.and_then(|objects| objects.of(files.directory(), suffix));
        if let Some(what) = overwritten(state, expected) {
            findings.about(file, what);
        }
        for what in &state.wrong_parts {
            findings.about(file, what.clone());
        }
    }
    if let Some(segments) = recorded.and_then(|objects| objects.segments_in(files.directory())) {
        check_segments(files, segments, findings);
    }
}

/// Compares the segments that the archive and the index refer to.
fn check_segments(files: &Backup, recorded: &BTreeMap<String, ObjectRecord>, findings: &mut Findings) {
    if recorded.is_empty() {
        return;
    }
    let changed = match files.changed_segments(recorded) {
        Ok(changed) => changed,
        Err(error) => return findings.not_checked(not_compared(&error)),
    };
    for (name, state) in changed {
        let file = if name.ends_with(INDEX) { BackupFile::Index } else { BackupFile::Archive };
        if let Some(what) = overwritten(&state, recorded.get(&name)) {
            findings.about(file, format!("its segment {}: {what}", shown::text(&name)));
        }
        for what in &state.wrong_parts {
            findings.about(file, format!("its segment {}: {what}", shown::text(&name)));
        }
    }
}

fn not_compared(error: &StoreError) -> String {
    format!("whether objects were overwritten: {}", with_causes(error))
}

/// The files of a backup of this kind.
fn suffixes(kind: ArchiveKind) -> impl Iterator<Item = (&'static str, BackupFile)> {
    let sealed = [(SEGMENTS, BackupFile::Segments), (SIGNATURE, BackupFile::Signature)];
    let all = [
        (index_suffix(kind), BackupFile::Index),
        (CHECKSUM, BackupFile::Checksum),
        (kind.suffix(), BackupFile::Archive),
        (MANIFEST, BackupFile::Manifest),
    ];
    all.into_iter().chain(sealed.into_iter().filter(move |_| kind.is_sealed()))
}

/// What is wrong with an object; `expected` is the one that was published, if that is known.
///
/// Versions of the same ETag are one content: a request whose answer was lost is sent again.
fn overwritten(state: &ObjectState, expected: Option<&ObjectRecord>) -> Option<String> {
    let named = |object: &ObjectRecord| match &object.version {
        Some(version) => format!("version {}", shown::text(version)),
        None => format!("the one with the ETag {}", shown::text(&object.etag)),
    };
    // Without a record it is the first one.
    let published = expected.or_else(|| state.older.last());
    let Some(current) = &state.current else {
        let left = state.older.last()?;
        return Some(format!("it was deleted; the store still has {}", named(published.unwrap_or(left))));
    };
    let is_other = |object: &ObjectRecord| {
        let is_by_etag = !object.etag.is_empty() && !current.etag.is_empty();
        if is_by_etag { object.has_other_etag(&current.etag) } else { object.version != current.version }
    };
    let is_replaced = expected.is_some_and(is_other);
    let contents: BTreeSet<&str> =
        state.older.iter().chain(&state.current).map(|object| object.etag.as_str()).collect();
    if !is_replaced && contents.len() < 2 {
        return None;
    }
    let is_left = |published: &&ObjectRecord| state.older.iter().any(|older| older.etag == published.etag);
    let left = match published.filter(is_left) {
        Some(published) if is_other(published) => {
            format!("; the store still has what was published: {}", named(published))
        }
        Some(_) => "; the newest version is what was published".to_owned(),
        None if is_replaced => "; what was published is gone".to_owned(),
        None => String::new(),
    };
    Some(format!("it was overwritten: its store has {}, written by others{left}", named(current)))
}

#[cfg(test)]
mod tests {
    use super::overwritten;
    use crate::manifest::ObjectRecord;
    use crate::store::api::ObjectState;

    fn object(etag: &str, version: &str) -> ObjectRecord {
        ObjectRecord { etag: etag.to_owned(), version: Some(version.to_owned()).filter(|version| !version.is_empty()) }
    }

    fn said(current: Option<(&str, &str)>, older: &[(&str, &str)], expected: Option<(&str, &str)>) -> String {
        let of = |(etag, version): (&str, &str)| object(etag, version);
        let state = ObjectState {
            current: current.map(of),
            older: older.iter().copied().map(of).collect(),
            wrong_parts: Vec::new(),
        };
        overwritten(&state, expected.map(of).as_ref()).unwrap_or_default()
    }

    #[test]
    fn a_second_content_is_told_and_a_repeated_request_is_not() {
        assert_eq!(said(Some(("a", "1")), &[], Some(("a", "1"))), "");
        assert_eq!(said(Some(("a", "1")), &[], None), "");
        assert_eq!(said(Some(("a", "2")), &[("a", "1")], Some(("a", "1"))), "", "sent twice");
        // A record of another backup, or none: versions alone say it.
        for expected in [Some(("a", "1")), None] {
            let what = said(Some(("b", "3")), &[("b", "2"), ("a", "1")], expected);
            assert!(what.contains("overwritten") && what.contains("published: version 1"), "{what}");
        }
        // What was overwritten was written back, or its version is gone, or there never were versions.
        let back = said(Some(("a", "3")), &[("b", "2"), ("a", "1")], Some(("a", "1")));
        assert!(back.contains("overwritten") && back.contains("the newest version is"), "{back}");
        for version in ["2", ""] {
            let gone = said(Some(("b", version)), &[], Some(("a", "1")));
            assert!(gone.contains("overwritten") && gone.contains("is gone"), "{gone}");
        }
        // ETags that the store does not show.
        assert_eq!(said(Some(("", "1")), &[], Some(("a", "1"))), "");
        assert!(said(Some(("", "2")), &[], Some(("a", "1"))).contains("overwritten"));
        assert!(said(None, &[("a", "1")], Some(("a", "1"))).contains("deleted; the store still has version 1"));
        assert_eq!(said(None, &[], Some(("a", "1"))), "", "a missing file is found elsewhere");
    }
}
