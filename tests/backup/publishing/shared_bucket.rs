//! Archives that share segments in an object store, against a model: three processes write, remove and free at the same time
//! without a lock, their requests in any order, days apart or not, and each may be killed at any of them. At no request is a
//! segment missing that a backup refers to, and in the end all room is free.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::sync::{Arc, Mutex};

use chrono::{DateTime, NaiveDateTime, TimeDelta};
use volbak::archive::kind::ArchiveKind;
use volbak::outside::BlockCursor;
use volbak::store::api::Folder;
use volbak::store::pending::PendingBackup;
use volbak::store::remains::remove_remains;
use volbak::store::removal::Removals;
use volbak::store::shared::{PARTS, SharedFolder};
use volbak::store::{Store, StoreError};

use super::bucket::Bucket;
use super::shared::{Random, blake3, index_of, known, publish_written};

const VOLUME: &str = "vol-1";
const SEEDS: u64 = 4;
const DAY_MINUTES: u64 = 24 * 60;

/// The members of each backup that was begun, by its stem.
type Model = Mutex<BTreeMap<String, Vec<Vec<u8>>>>;

fn volume(bucket: &Bucket) -> Folder {
    SharedFolder::over(bucket.folder(VOLUME, true).unwrap().unwrap(), true)
}

fn stems(bucket: &Bucket) -> Vec<String> {
    let keys = bucket.keys();
    let names = keys.iter().filter_map(|key| key.strip_prefix("vol-1/")?.strip_suffix(".manifest.json"));
    names.filter(|name| !name.starts_with('~')).map(str::to_owned).collect()
}

/// A night, which carries forward from one of the backups.
fn night(bucket: &Bucket, day: usize, model: &Model, random: &mut Random) -> Result<(), StoreError> {
    let volume = volume(bucket);
    let failed = |source| StoreError::Io { what: "writing", path: "archive".into(), source };
    let at = DateTime::UNIX_EPOCH + TimeDelta::days(i64::try_from(day).unwrap());
    let local: NaiveDateTime = at.naive_utc();
    let pending = PendingBackup::begin(Arc::clone(&volume), VOLUME, local, ArchiveKind::default(), None)?;
    let mut writer = pending.archive_writer(true).map_err(failed)?;
    let all = stems(bucket);
    let parent = (!all.is_empty() && random.below(10) > 0).then(|| all[random.below(all.len())].clone());
    let before = parent.as_ref().map(|stem| model.lock().unwrap()[stem].clone()).unwrap_or_default();
    let (mut places, mut parts) = (BTreeMap::new(), None);
    if let Some(stem) = &parent {
        let known = known(&before);
        places.extend(known.iter().map(|member| (member.digest, member.offset)));
        let archive = volume.open(&format!("{stem}.tar.gz"))?;
        parts = archive.parts().cloned();
        writer.refer_to(&archive, Box::new(known.into_iter()));
    }
    let members = random.changed(&before);
    model.lock().unwrap().insert(pending.stem().to_owned(), members.clone());
    for member in &members {
        let (digest, len) = (blake3(member), member.len() as u64);
        let from = places.get(&digest).copied().filter(|_| random.below(4) > 0);
        let may_be = |from: &u64| parts.as_ref().is_some_and(|parts| parts.may_be_referred_to(*from, len));
        match from.filter(may_be) {
            Some(from) => writer.refer_to_range(from..from + len).map_err(failed)?,
            None => writer.write_members(member, &mut std::iter::once((len, digest)), None).map_err(failed)?,
        }
    }
    writer.flush().map_err(failed)?;
    drop(writer);
    let index = index_of(&members);
    pending.index_writer().and_then(|mut writer| writer.write_all(&index)).map_err(failed)?;
    publish_written(pending, (at, local), &members, &index, None)
}

/// Removes one backup, or more, and frees.
fn removal(bucket: &Bucket, random: &mut Random) -> Result<(), StoreError> {
    let volume = volume(bucket);
    let mut removals = Removals::of(&*volume);
    let mut all = stems(bucket);
    while all.len() > 3 || (!all.is_empty() && random.below(3) > 0) {
        removals.remove(&all.remove(random.below(all.len())))?;
    }
    removals.finish()?.freed?;
    Ok(())
}

/// What happened.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    nights: usize,
    unneeded: usize,
    freed: usize,
    killed: usize,
}

fn process(bucket: &Bucket, seed: u64, day: usize, model: &Model) -> Tally {
    let (mut random, mut tally) = (Random(seed), Tally::default());
    for work in 0..4 {
        let did = match random.below(5) {
            0 | 1 => night(bucket, day + work, model, &mut random).map(|()| tally.nights += 1),
            2 | 3 => removal(bucket, &mut random),
            _ => volume(bucket).free_unneeded().map(|freed| tally.freed += usize::from(freed.bytes > 0)),
        };
        match did {
            Err(StoreError::Unneeded { .. }) => tally.unneeded += 1,
            Err(error) if format!("{error:?}").contains("was killed") => {
                tally.killed += 1;
                break;
            }
            _ => {}
        }
    }
    bucket.end();
    tally
}

fn assert_readable(bucket: &Bucket, model: &Model) {
    for stem in stems(bucket) {
        let mut archive = Vec::new();
        let open = volume(bucket).open(&format!("{stem}.tar.gz")).unwrap();
        BlockCursor::new(open).read_to_end(&mut archive).unwrap();
        let members = &model.lock().unwrap()[&stem];
        assert!(archive == members.concat(), "{stem} has other bytes");
        let mut index = Vec::new();
        BlockCursor::new(volume(bucket).open(&format!("{stem}.index")).unwrap()).read_to_end(&mut index).unwrap();
        assert!(index == index_of(members), "{stem} has another index");
    }
}

fn rounds(seed: u64) -> Tally {
    let (bucket, model, mut all) = (Bucket::new(Random(seed)), Model::default(), Tally::default());
    let mut random = Random(seed ^ 0x5eed);
    for round in 0..25 {
        let processes: Vec<Bucket> = (0..3)
            .map(|number| bucket.process(number, if random.below(3) == 0 { random.below(90) } else { usize::MAX }))
            .collect();
        let tallies: Vec<Tally> = std::thread::scope(|scope| {
            let running: Vec<_> = processes
                .iter()
                .enumerate()
                .map(|(number, bucket)| {
                    let (model, seed) = (&model, seed * 1000 + round * 3 + number as u64);
                    let day = usize::try_from(round).unwrap() * 10 + 4 * number;
                    scope.spawn(move || process(bucket, seed, day, model))
                })
                .collect();
            running.into_iter().map(|running| running.join().unwrap()).collect()
        });
        for one in tallies {
            all.nights += one.nights;
            all.unneeded += one.unneeded;
            all.freed += one.freed;
            all.killed += one.killed;
        }
        assert_readable(&bucket, &model);
        bucket.wait(DAY_MINUTES / 2);
    }
    // When all runs are over, what they left goes, and with the last backup everything.
    let bucket = bucket.when_all_is_old();
    remove_remains(&*volume(&bucket)).unwrap();
    assert_readable(&bucket, &model);
    let folder = volume(&bucket);
    let mut removals = Removals::of(&*folder);
    for stem in stems(&bucket) {
        removals.remove(&stem).unwrap();
    }
    removals.finish().unwrap().freed.unwrap();
    for _ in 0..4 {
        bucket.wait(8 * DAY_MINUTES);
        remove_remains(&*volume(&bucket)).unwrap();
        volume(&bucket).free_unneeded().unwrap();
    }
    // A killed run left files without a recipe or a manifest, which nothing identifies.
    let left: Vec<String> =
        bucket.keys().into_iter().filter(|key| key.contains("segments/") || key.ends_with(PARTS)).collect();
    assert_eq!(left, Vec::<String>::new(), "seed {seed}");
    all
}

#[test]
fn processes_without_a_lock_never_lose_a_segment() {
    let mut all = Tally::default();
    for seed in 0..SEEDS {
        let one = rounds(seed);
        all.nights += one.nights;
        all.unneeded += one.unneeded;
        all.freed += one.freed;
        all.killed += one.killed;
    }
    println!("{all:?}");
    assert!(all.nights > 100 && all.unneeded > 0 && all.freed > 0 && all.killed > 20, "{all:?}");
}
