use std::fs::File;
use std::sync::Arc;

use super::super::parent::{Parent, ParentFacts};
use super::{Carry, GivenUp, Offer, Share, Why};
use crate::archive::level::CompressionLevel;
use crate::archive::members::Outputs;
use crate::archive::placed::{Link, MemberPlace, Placed};
use crate::archive::write::{ArchiveWriter, WriteOptions};
use crate::entry::{Entry, EntryKind, Metadata, Timestamp};
use crate::events::Silent;
use crate::outside::FileBlocks;
use crate::shown::hex;

const ENTRIES: u64 = 200;

fn entry(number: u64) -> Entry {
    let ctime = Timestamp { sec: 1000, nsec: 0 };
    Entry {
        path: format!("{number:04}").into_bytes(),
        kind: EntryKind::Symlink(b"target".to_vec()),
        metadata: Metadata { mode: 0o777, ino: number + 10, ctime, nlink: 1, ..Metadata::default() },
        xattrs: Vec::new(),
    }
}

fn placed(entry: Entry) -> Box<Placed> {
    let path = [b"./", entry.path.as_slice()].concat();
    Box::new(Placed { entry, path, link: Link::None, previous: None, is_due: false, place: MemberPlace::Unknown })
}

/// Carries from an archive of [`ENTRIES`] symbolic links, written only by this test.
fn carry(trusted_before: Option<i64>) -> Carry {
    let dir = tempfile::tempdir().unwrap();
    let (archive, index) = (dir.path().join("a"), dir.path().join("i"));
    let outputs = Outputs {
        archive: Box::new(File::create(&archive).unwrap()),
        index: Box::new(File::create(&index).unwrap()),
        segments: None,
    };
    let options = WriteOptions::new(CompressionLevel::Fixed(1), 1);
    let mut writer = ArchiveWriter::new(outputs, &options, &Silent).unwrap();
    (0..ENTRIES).for_each(|number| writer.append(entry(number)).unwrap());
    let members = writer.finish().unwrap().members;
    let said = ParentFacts {
        stem: "v_01_01_2026".to_owned(),
        suffix: ".tar.gz",
        archive_bytes: members.totals.archive_bytes,
        members: members.totals.members,
        index_sha256: hex(&members.index_sha256),
        archive_paths: vec![".".to_owned()],
    };
    let open = |path| FileBlocks::of_file(File::open(path).unwrap()).unwrap();
    let parent = Parent::open(&open(archive), Arc::new(open(index)), &said).unwrap();
    let share = Share { every_days: 0, parent_day: 0, today: 1 };
    let mut carry = Carry::new(parent, share, Arc::new(|| false));
    carry.start_filesystem(trusted_before.map(|sec| Timestamp { sec, nsec: 0 }));
    carry
}

/// Offers entries, again after a give-up, and records each decision: `r`ead, `h`eld, `c`opy, `d`iffers, other
/// h`H`eads.
fn offer(carry: &mut Carry, entries: impl Iterator<Item = Entry>) -> (String, u64) {
    let (mut decisions, mut done) = (String::new(), 0);
    for entry in entries {
        let mut next = Some(placed(entry));
        while let Some(placed) = next.take() {
            decisions.push(match carry.offer(placed, 0).unwrap() {
                Offer::Read(_) => {
                    done += 1;
                    'r'
                }
                Offer::Held => 'h',
                Offer::Copy(complete) => {
                    assert_eq!(complete.taken.len(), complete.group.entries.len());
                    done += complete.taken.len() as u64;
                    'c'
                }
                Offer::GiveUp(GivenUp { held, why }) => {
                    assert!(held.iter().all(|taken| taken.placed.previous.is_some()));
                    done += held.len() as u64;
                    match why {
                        Why::Differs(offered) => {
                            next = Some(offered);
                            'd'
                        }
                        Why::OtherHeads => 'H',
                        Why::Ends => 'e',
                    }
                }
            });
        }
    }
    (decisions, done)
}

#[test]
fn unchanged_groups_are_copied() {
    let mut carry = carry(Some(2000));
    let (decisions, done) = offer(&mut carry, (0..ENTRIES).map(entry));
    assert!(decisions.chars().all(|decision| "hc".contains(decision)), "{decisions}");
    assert!(decisions.ends_with('c') && decisions.matches('c').count() > 1, "{decisions}");
    assert_eq!(done, ENTRIES);
    assert!(carry.end_filesystem().is_none());
}

#[test]
fn an_entry_that_differs_costs_its_group_alone() {
    for at in [0, 1, 77, ENTRIES - 1] {
        let mut carry = carry(Some(2000));
        let changed = |number| {
            let mut entry = entry(number);
            entry.metadata.ctime.sec += i64::from(number == at);
            entry
        };
        let (decisions, done) = offer(&mut carry, (0..ENTRIES).map(changed));
        // The first entry of a group that differs is not held.
        assert!(decisions.matches('d').count() <= 1 && decisions.contains('r'), "{decisions}");
        assert!(decisions.contains('c'), "the other groups: {decisions}");
        assert_eq!(done, ENTRIES);
    }
}

#[test]
fn headers_that_differ_are_seen_when_the_group_is_complete() {
    let mut carry = carry(Some(2000));
    let changed = |number| {
        let mut entry = entry(number);
        entry.metadata.mode = if number == 3 { 0o700 } else { 0o777 };
        entry
    };
    let (decisions, done) = offer(&mut carry, (0..ENTRIES).map(changed));
    assert_eq!((decisions.matches('H').count(), decisions.matches('r').count(), done), (1, 0, ENTRIES), "{decisions}");
}

#[test]
fn untrusted_entries_are_read_and_held_ones_are_returned() {
    // Changed at the trusted moment or later; without such a moment; and on another filesystem.
    for trusted_before in [Some(1000), None] {
        let (decisions, done) = offer(&mut carry(trusted_before), (0..ENTRIES).map(entry));
        assert_eq!((decisions, done), ("r".repeat(200), ENTRIES));
    }
    let mut carry = carry(Some(2000));
    let (decisions, done) = offer(&mut carry, (0..3).map(entry));
    assert_eq!((decisions.as_str(), done), ("hhh", 0));
    let given_up = carry.end_filesystem().unwrap();
    assert!(matches!(given_up.why, Why::Ends) && given_up.held.len() == 3);
    offer(&mut carry, (0..3).map(entry));
    carry.stop_carrying();
    assert!(carry.end_filesystem().is_none(), "what was held is dropped");
    assert_eq!(offer(&mut carry, (0..3).map(entry)).0, "rrr");
}
