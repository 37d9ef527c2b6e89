//! Publishing and removing, with the power cut at each step.

use std::io::{Read, Write};

use chrono::{DateTime, NaiveDateTime};
use volbak::archive::kind::ArchiveKind;
use volbak::outside::BlockCursor;
use volbak::store::api::Folder;
use volbak::store::catalog::{BackupState, list_volume};
use volbak::store::pending::{PendingBackup, ToPublish};
use volbak::store::remains::remove_remains;
use volbak::store::removal::remove_backup;
use volbak::store::{Destination, Store, StoreError};

use super::memory::{Left, Memory};
use crate::testkit::proof::blank_manifest;

const VOLUME: &str = "vol-1";

fn night(day: u32) -> NaiveDateTime {
    format!("2026-11-{day}T01:00:00").parse().unwrap()
}

fn volume(memory: &Memory) -> Folder {
    memory.folder(VOLUME, true).unwrap().unwrap()
}

/// What a backup of that day has in its archive.
fn archive_of(day: u32) -> Vec<u8> {
    format!("archive {day} ").repeat(50).into_bytes()
}

fn publish(memory: &Memory, day: u32, with_checksum: bool) -> Result<(), StoreError> {
    let pending = PendingBackup::begin(volume(memory), VOLUME, night(day), ArchiveKind::default(), None)?;
    let (archive, index) = (archive_of(day), b"index".repeat(9));
    let write =
        |mut writer: Box<dyn Write + Send>, bytes: &[u8]| bytes.chunks(99).try_for_each(|part| writer.write_all(part));
    let failed = |source| StoreError::Io { what: "writing", path: "archive".into(), source };
    write(Box::new(pending.archive_writer(false).map_err(failed)?), &archive).map_err(failed)?;
    write(pending.index_writer().map_err(failed)?, &index).map_err(failed)?;
    let at = DateTime::UNIX_EPOCH + chrono::TimeDelta::days(day.into());
    let mut manifest = blank_manifest(pending.stem());
    (manifest.started_at, manifest.frozen_at, manifest.finished_at) = (at, at, at);
    manifest.local_date = night(day).date().to_string();
    manifest.sizes.archive_bytes = archive.len() as u64;
    manifest.sizes.index_bytes = index.len() as u64;
    pending.publish(&ToPublish {
        checksum: with_checksum.then_some(b"sum".as_slice()),
        manifest: &manifest.to_bytes().unwrap(),
        archive_bytes: archive.len() as u64,
        index_bytes: index.len() as u64,
        sealed: None,
    })?;
    Ok(())
}

/// The days whose backups the catalogue shows. Each of them is complete, with the archive of that day.
fn shown(memory: &Memory, what: &str) -> Vec<u32> {
    let volume = volume(memory);
    let shown = list_volume(&*volume, VOLUME).unwrap().into_iter().map(|entry| {
        let BackupState::Complete { manifest } = &entry.state else {
            panic!("{what}: {} is {:?}", entry.stem, entry.state)
        };
        let day = u32::try_from((manifest.started_at - DateTime::UNIX_EPOCH).num_days()).unwrap();
        let mut archive = Vec::new();
        BlockCursor::new(entry.files().open_archive().unwrap()).read_to_end(&mut archive).unwrap();
        assert!(archive == archive_of(day), "{what}: another archive of {day}");
        assert_eq!(entry.files().open_index().unwrap().len_bytes(), 45, "{what}");
        day
    });
    shown.collect()
}

/// Each state that a power cut now may leave.
fn each_power_cut(memory: &Memory, mut then: impl FnMut(Memory, String)) -> usize {
    let sets = 1_u32 << memory.unsynced();
    then(memory.after_power_cut(Left::Nothing), "nothing unsynced is left".to_owned());
    for bits in 0..sets {
        then(memory.after_power_cut(Left::Changes(bits)), format!("of what was unsynced, {bits:b} is left"));
    }
    sets as usize + 1
}

/// The next night cleans up, with the power cut at each step of that, too; then nothing but whole backups is left.
fn next_night_cleans_up(memory: &Memory, expected: &[u32], what: &str) {
    for stop_at in 0.. {
        let night = memory.after_power_cut(Left::Nothing);
        night.stop_at(stop_at);
        let cleaned = remove_remains(&*volume(&night));
        let is_all = night.steps() < stop_at;
        let later = if is_all { night.clone() } else { night.after_power_cut(Left::Nothing) };
        each_power_cut(&night, |after, _| assert_eq!(shown(&after, what), expected, "{what}"));
        if is_all {
            cleaned.unwrap();
        } else {
            later.stop_at(usize::MAX);
            remove_remains(&*volume(&later)).unwrap();
        }
        assert_eq!(shown(&later, what), expected, "{what}");
        let listing = volume(&later).list().unwrap();
        assert_eq!(listing.staged, Vec::<String>::new(), "{what}");
        let stems = expected.iter().map(|day| format!("{VOLUME}_{day}_11_2026."));
        let stems: Vec<String> = stems.collect();
        let strange: Vec<_> =
            listing.files.iter().filter(|name| !stems.iter().any(|stem| name.starts_with(stem.as_str()))).collect();
        assert!(strange.is_empty(), "{what}: {strange:?}");
        if is_all {
            break;
        }
    }
}

fn with_backups(days: &[u32]) -> Memory {
    let memory = Memory::new();
    for day in days {
        publish(&memory, *day, true).unwrap();
    }
    memory.after_power_cut(Left::Nothing)
}

/// Does `work` with the power cut at each of its steps; `results` are the days that may be shown after it. Says at how many
/// steps it was cut, and how many states that left.
fn enumerate(
    before: &Memory,
    results: [&[u32]; 2],
    work: impl Fn(&Memory) -> Result<(), StoreError>,
) -> (usize, usize) {
    let mut states = 0;
    for stop_at in 0.. {
        let memory = before.after_power_cut(Left::Nothing);
        memory.stop_at(stop_at);
        let done = work(&memory);
        let steps = memory.steps();
        states += each_power_cut(&memory, |after, left| {
            let what = format!("cut off at step {stop_at}, {left}");
            let shown = shown(&after, &what);
            assert!(results.contains(&shown.as_slice()), "{what}: {shown:?}");
            if done.is_ok() {
                assert_eq!(shown, results[1], "{what}: it was said to be done");
            }
            next_night_cleans_up(&after, &shown, &what);
        });
        if steps < stop_at {
            done.unwrap();
            return (stop_at - 1, states);
        }
    }
    unreachable!()
}

#[test]
fn publishing_leaves_all_or_nothing_at_each_of_its_steps() {
    let before = with_backups(&[19, 20]);
    for (with_checksum, least) in [(true, 21), (false, 16)] {
        let (steps, states) =
            enumerate(&before, [&[19, 20], &[19, 20, 21]], |memory| publish(memory, 21, with_checksum));
        println!("publishing was cut off at {steps} steps, which left {states} states");
        assert!(steps >= least && states > 2 * steps, "{steps} steps, {states} states");
    }
}

#[test]
fn removing_leaves_all_or_nothing_at_each_of_its_steps() {
    let before = with_backups(&[19, 20]);
    let stem = format!("{VOLUME}_19_11_2026");
    let (steps, states) =
        enumerate(&before, [&[19, 20], &[20]], |memory| remove_backup(&*volume(memory), &stem).map(drop));
    println!("removing was cut off at {steps} steps, which left {states} states");
    assert!(steps >= 8, "{steps}");
}

#[test]
fn a_list_of_protected_backups_is_the_old_or_the_new_one() {
    let lists = |memory: &Memory| Destination::over(std::sync::Arc::new(memory.clone())).protected().unwrap();
    let set =
        |memory: &Memory, list: &[String]| Destination::over(std::sync::Arc::new(memory.clone())).set_protected(list);
    let (old, new) = (vec!["v/a".to_owned()], vec!["v/a".to_owned(), "v/b".to_owned()]);
    let before = Memory::new();
    set(&before, &old).unwrap();
    for stop_at in 0.. {
        let memory = before.after_power_cut(Left::Nothing);
        memory.stop_at(stop_at);
        let done = set(&memory, &new).is_ok();
        each_power_cut(&memory, |after, left| {
            let there = lists(&after);
            assert!(there == new || there == old && !done, "cut off at {stop_at}, {left}: {there:?}");
            set(&after, &new).unwrap();
        });
        if memory.steps() < stop_at {
            break;
        }
    }
}
