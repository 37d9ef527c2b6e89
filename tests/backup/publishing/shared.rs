//! Archives that share segments, against a model: random nights, removals and power cuts. Every backup that is kept has the
//! bytes that were written, at each moment, and in the end all room is free.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::sync::Arc;

use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};
use volbak::archive::kind::ArchiveKind;
use volbak::archive::members::KnownMember;
use volbak::outside::BlockCursor;
use volbak::shown::hex;
use volbak::store::api::Folder;
use volbak::store::catalog::{BackupState, list_volume};
use volbak::store::pending::{PendingBackup, ToPublish};
use volbak::store::remains::remove_remains;
use volbak::store::removal::{Removals, remove_backup};
use volbak::store::shared::{PARTS, Recipe, SharedFolder};
use volbak::store::{Store, StoreError};

use super::memory::{Left, Memory};
use crate::testkit::proof::blank_manifest;

const VOLUME: &str = "vol-1";
/// How many courses of 40 nights are tried.
const SEEDS: u64 = 3;

/// A generator of numbers.
#[derive(Clone, Debug, Default)]
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % end
    }

    fn member(&mut self) -> Vec<u8> {
        let len = [1, 50, 700, 5000, 9000, 20_000][self.below(6)] + self.below(100);
        // No zeros: what was freed shows.
        let (mut at, step) = (self.below(1 << 30), 2 * self.below(1 << 20) + 1);
        let mut next = || {
            at = at.wrapping_mul(69_069).wrapping_add(step);
            u8::try_from(1 + (at >> 16) % 255).unwrap()
        };
        (0..len).map(|_| next()).collect()
    }

    /// The members of the next night.
    pub(super) fn changed(&mut self, members: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let mut next = Vec::new();
        for member in members {
            match self.below(20) {
                0 => {}
                1 => next.push(self.member()),
                2 => next.extend([member.clone(), self.member()]),
                _ => next.push(member.clone()),
            }
        }
        while next.len() < 30 {
            next.push(self.member());
        }
        next.truncate(60);
        next
    }
}

fn night(day: usize) -> NaiveDateTime {
    "2026-01-01T01:00:00".parse::<NaiveDateTime>().unwrap() + TimeDelta::days(i64::try_from(day).unwrap())
}

fn below(memory: &Memory) -> Folder {
    memory.folder(VOLUME, true).unwrap().unwrap()
}

fn volume(memory: &Memory) -> Folder {
    SharedFolder::over(below(memory), true)
}

pub(super) fn known(members: &[Vec<u8>]) -> Vec<KnownMember> {
    let mut offset = 0;
    let place = |member: &Vec<u8>| {
        let (digest, length) = (blake3(member), member.len() as u64);
        offset += length;
        KnownMember { offset: offset - length, length, digest }
    };
    members.iter().map(place).collect()
}

/// Stands for the BLAKE3 of a member: whoever writes says what is the same.
pub(super) fn blake3(member: &[u8]) -> [u8; 32] {
    use sha2::{Digest, Sha256};
    Sha256::digest(member).into()
}

/// An index of these members, of which every other one has entries. That of a long list is of another version.
pub(super) fn index_of(members: &[Vec<u8>]) -> Vec<u8> {
    let version = if members.len() > 45 { 3 } else { 4 };
    let mut text = format!("volbak-index\t{version}\n");
    let (mut offset, mut tar_offset) = (0, 0);
    for (number, member) in members.iter().enumerate() {
        let (length, digest) = (member.len(), hex(&blake3(member)));
        let _ = writeln!(text, "M\t{number}\t{offset}\t{length}\t{tar_offset}\t1024\t{digest}\t-\t-");
        for entry in 0..member.len() % 40 {
            let at = if entry == 0 { tar_offset } else { tar_offset + 512 };
            let _ = writeln!(text, "E\tf\t{at}\t512\t{entry}\t7\t1.000000000\t{digest}\t-\t./{entry}");
        }
        (offset, tar_offset) = (offset + length, tar_offset + 1024);
    }
    text.into_bytes()
}

/// A backup of that day, which carries from `previous`; three quarters of what is the same are known to be.
fn publish(
    memory: &Memory,
    day: usize,
    members: &[Vec<u8>],
    previous: Option<(&str, &[Vec<u8>])>,
    random: &mut Random,
) -> Result<(), StoreError> {
    let volume = volume(memory);
    let failed = |source| StoreError::Io { what: "writing", path: "archive".into(), source };
    let pending = PendingBackup::begin(Arc::clone(&volume), VOLUME, night(day), ArchiveKind::default(), None)?;
    let mut writer = pending.archive_writer(true).map_err(failed)?;
    let mut places = BTreeMap::new();
    if let Some((stem, members)) = previous {
        let known = known(members);
        places.extend(known.iter().map(|member| (member.digest, member.offset)));
        let archive = volume.open(&format!("{stem}.tar.gz"))?;
        writer.refer_to(&archive, Box::new(known.into_iter()));
    }
    for member in members {
        let digest = blake3(member);
        let from = places.get(&digest).copied().filter(|_| random.below(4) > 0);
        let mut one = std::iter::once((member.len() as u64, digest));
        writer.write_members(member, &mut one, from).map_err(failed)?;
    }
    writer.flush().map_err(failed)?;
    drop(writer);
    let index = index_of(members);
    index.chunks(20_000).try_for_each(|piece| pending.index_writer()?.write_all(piece)).map_err(failed)?;
    let at = DateTime::UNIX_EPOCH + TimeDelta::days(i64::try_from(day).unwrap());
    publish_written(pending, (at, night(day)), members, &index, Some(b"sum"))
}

/// Publishes a backup with these members and this index, which are written, as of this time.
pub(super) fn publish_written(
    pending: PendingBackup,
    (at, local): (DateTime<Utc>, NaiveDateTime),
    members: &[Vec<u8>],
    index: &[u8],
    checksum: Option<&[u8]>,
) -> Result<(), StoreError> {
    let mut manifest = blank_manifest(pending.stem());
    (manifest.started_at, manifest.frozen_at, manifest.finished_at) = (at, at, at);
    manifest.local_date = local.date().to_string();
    let archive_bytes = members.iter().map(|member| member.len() as u64).sum();
    let index_bytes = index.len() as u64;
    (manifest.sizes.archive_bytes, manifest.sizes.index_bytes) = (archive_bytes, index_bytes);
    let manifest = &manifest.to_bytes().unwrap();
    pending.publish(&ToPublish { checksum, manifest, archive_bytes, index_bytes, sealed: None })?;
    Ok(())
}

/// The members of each backup, by its stem.
type Model = BTreeMap<String, Vec<Vec<u8>>>;

/// The stems of the backups that the catalogue shows; each has the bytes of the model.
fn shown(memory: &Memory, model: &Model, what: &str) -> Vec<String> {
    let volume = SharedFolder::over(below(memory), false);
    let entries = list_volume(&*volume, VOLUME).unwrap();
    let mut stems: Vec<String> = entries
        .into_iter()
        .map(|entry| {
            assert!(matches!(entry.state, BackupState::Complete { .. }), "{what}: {} is {:?}", entry.stem, entry.state);
            let members = model.get(&entry.stem).unwrap_or_else(|| panic!("{what}: {} is unknown", entry.stem));
            let mut archive = Vec::new();
            BlockCursor::new(entry.files().open_archive().unwrap()).read_to_end(&mut archive).unwrap();
            assert!(archive == members.concat(), "{what}: {} has other bytes", entry.stem);
            let mut index = Vec::new();
            BlockCursor::new(entry.files().open_index().unwrap()).read_to_end(&mut index).unwrap();
            assert!(index == index_of(members), "{what}: {} has another index", entry.stem);
            entry.stem
        })
        .collect();
    stems.sort();
    stems
}

/// The segments' bytes that are not zero, and those that the recipes refer to with their number.
fn room(memory: &Memory) -> (usize, usize, usize) {
    let volume = below(memory);
    let Some(segments) = volume.folder("segments", false).unwrap() else { return (0, 0, 0) };
    let read = |folder: &dyn Store, name: &str| {
        let mut bytes = Vec::new();
        BlockCursor::new(folder.open(name).unwrap()).read_to_end(&mut bytes).unwrap();
        bytes
    };
    let names = segments.list().unwrap().files;
    let used = names.iter().flat_map(|name| read(&*segments, name)).filter(|byte| *byte != 0).count();
    let mut needed: BTreeMap<String, Vec<bool>> = BTreeMap::new();
    let mut parts = 0;
    for name in volume.list().unwrap().files.iter().filter(|name| name.ends_with(PARTS)) {
        let recipe = Recipe::parse(&read(&*volume, name)).unwrap();
        for (segment, offset, length) in recipe.parts() {
            parts += 1;
            let needed = needed.entry(segment.to_owned()).or_default();
            let (from, to) = (usize::try_from(offset).unwrap(), usize::try_from(offset + length).unwrap());
            needed.resize(needed.len().max(to), false);
            needed[from..to].fill(true);
        }
    }
    (used, needed.values().flatten().filter(|is_needed| **is_needed).count(), parts)
}

fn nights(seed: u64) -> (usize, usize) {
    let mut random = Random(seed);
    let (mut memory, mut model) = (Memory::new(), Model::new());
    let mut newest: Vec<Vec<u8>> = Vec::new();
    let (mut cuts, mut shared) = (0, 0);
    for day in 0..40 {
        let what = format!("seed {seed}, day {day}");
        // The night cleans up, publishes and removes; the power may be cut at any step of it.
        let is_cut = random.below(2) == 0;
        memory.stop_at(if is_cut { random.below(110) } else { usize::MAX });
        let before: Vec<String> = model.keys().cloned().collect();
        let mut may_be = vec![before.clone()];
        let mut expected = before;
        let worked = (|| {
            remove_remains(&*volume(&memory))?;
            if random.below(5) > 0 {
                newest = random.changed(&newest);
                let parent = expected.last().cloned().filter(|_| random.below(8) > 0);
                let stem = format!("{VOLUME}_{}", night(day).format("%d_%m_%Y"));
                let parents = parent.as_ref().map(|stem| (stem.as_str(), model[stem].clone()));
                model.insert(stem.clone(), newest.clone());
                expected.push(stem);
                expected.sort();
                may_be.push(expected.clone());
                let previous = parents.as_ref().map(|(stem, members)| (*stem, members.as_slice()));
                publish(&memory, day, &newest, previous, &mut random)?;
            }
            let folder = volume(&memory);
            let mut removals = Removals::of(&*folder);
            while expected.len() > 6 || (expected.len() > 2 && random.below(2) == 0) {
                let gone = expected.remove(random.below(expected.len()));
                may_be.push(expected.clone());
                removals.remove(&gone)?;
            }
            removals.finish()?.freed?;
            Ok::<(), StoreError>(())
        })();
        if !is_cut {
            worked.unwrap_or_else(|error| panic!("{what}: {error:?}"));
        }
        if is_cut {
            cuts += 1;
            let bits = u32::try_from(random.below(1 << 16)).unwrap();
            let left = if random.below(3) == 0 { Left::Nothing } else { Left::Changes(bits | bits << 16) };
            memory = memory.after_power_cut(left);
        }
        let now = shown(&memory, &model, &what);
        assert!(may_be.contains(&now), "{what}: {now:?} is none of {may_be:?}");
        if !is_cut {
            assert_eq!(now, expected, "{what}");
        }
        model.retain(|stem, _| now.contains(stem));
        // The names have the days in front, not the years: in the order of time.
        let at = |stem: &String| NaiveDateTime::parse_from_str(&format!("{stem} 0:0"), "vol-1_%d_%m_%Y %H:%M").unwrap();
        if let Some(last) = now.iter().max_by_key(|stem| at(stem)) {
            newest.clone_from(&model[last]);
        }
        if !is_cut {
            remove_remains(&*volume(&memory)).unwrap();
            volume(&memory).free_unneeded().unwrap();
            let (used, needed, parts) = room(&memory);
            assert!(
                used <= needed + 2 * 4096 * parts,
                "{what}: {used} bytes are used, {needed} needed in {parts} parts"
            );
            let whole: usize = model.values().map(|members| members.concat().len()).sum();
            shared += usize::from(needed < whole);
        }
    }
    memory.stop_at(usize::MAX);
    remove_remains(&*volume(&memory)).unwrap();
    for stem in model.keys() {
        remove_backup(&*volume(&memory), stem).unwrap().freed.unwrap();
    }
    assert!(below(&memory).folder("segments", false).unwrap().is_none(), "seed {seed}: segments are left");
    assert_eq!(below(&memory).list().unwrap().files, Vec::<String>::new());
    (cuts, shared)
}

#[test]
fn kept_nights_stay_what_they_were_and_room_is_freed() {
    let (mut cuts, mut shared) = (0_u64, 0_u64);
    for seed in 0..SEEDS {
        let (cut, with_shared) = nights(seed);
        (cuts, shared) = (cuts + cut as u64, shared + with_shared as u64);
    }
    println!("the power was cut in {cuts} nights; after {shared} others, archives had bytes in common");
    assert!(cuts > 15 * SEEDS && shared > 10 * SEEDS, "{cuts} {shared}");
}

/// A night, its recipe, and how often each of its files would be opened.
fn with_nights(count: usize) -> (Memory, Model) {
    let (mut random, memory, mut model) = (Random(7), Memory::new(), Model::new());
    let mut members = Vec::new();
    let mut last: Option<String> = None;
    for day in 0..count {
        let before = members.clone();
        members = random.changed(&members);
        let previous = last.as_deref().map(|stem| (stem, before.as_slice()));
        publish(&memory, day, &members, previous, &mut random).unwrap();
        let stem = format!("{VOLUME}_{}", night(day).format("%d_%m_%Y"));
        model.insert(stem.clone(), members.clone());
        last = Some(stem);
    }
    (memory, model)
}

fn bytes_of(folder: &Folder, name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    BlockCursor::new(folder.open(name).unwrap()).read_to_end(&mut bytes).unwrap();
    bytes
}

fn replace(folder: &Folder, name: &str, bytes: &[u8]) {
    folder.remove(name).unwrap();
    folder.put(name, bytes, volbak::store::api::Writers::One).unwrap();
}

type Breaking = fn(&Folder, &str);

/// What is not understood is not freed, and what is freed is only what nobody needs.
#[test]
fn nothing_is_freed_if_anything_is_unclear() {
    let first = format!("{VOLUME}_01_01_2026");
    let second = format!("{VOLUME}_02_01_2026");
    let breakings: [(&str, Breaking); 6] = [
        ("a damaged recipe", |volume, stem| {
            let name = format!("{stem}.tar.gz.parts");
            let mut text = bytes_of(volume, &name);
            text[40] ^= 1;
            replace(volume, &name, &text);
        }),
        ("an empty recipe", |volume, stem| replace(volume, &format!("{stem}.tar.gz.parts"), b"")),
        ("a missing recipe", |volume, stem| volume.remove(&format!("{stem}.tar.gz.parts")).unwrap()),
        ("a damaged manifest", |volume, stem| replace(volume, &format!("{stem}.manifest.json"), b"{}")),
        ("a recipe of another length", |volume, stem| {
            let name = format!("{stem}.tar.gz.parts");
            let mut recipe = Recipe::parse(&bytes_of(volume, &name)).unwrap();
            recipe.len_bytes -= 1;
            replace(volume, &name, &recipe.to_text());
        }),
        ("a recipe of another kind", |volume, stem| {
            volume
                .put(&format!("{stem}.img.gz.parts"), b"#volbak-parts 2 1\n", volbak::store::api::Writers::One)
                .unwrap();
        }),
    ];
    for (what, breaking) in breakings {
        let (memory, _) = with_nights(4);
        let below = below(&memory);
        breaking(&below, &second);
        let segments = || below.folder("segments", false).unwrap().unwrap();
        let before: Vec<_> = segments().list().unwrap().files.iter().map(|name| bytes_of(&segments(), name)).collect();
        let freed = remove_backup(&*volume(&memory), &first).unwrap().freed;
        assert!(matches!(freed, Err(StoreError::NotFreed { .. })), "{what}: {freed:?}");
        let after: Vec<_> = segments().list().unwrap().files.iter().map(|name| bytes_of(&segments(), name)).collect();
        assert!(before == after, "{what}: something was freed");
    }
}

/// Whoever reads an archive can read it to its end.
#[test]
fn nothing_is_freed_while_an_archive_is_read() {
    let (memory, model) = with_nights(3);
    let stem = format!("{VOLUME}_01_01_2026");
    let open = volume(&memory).open(&format!("{stem}.tar.gz")).unwrap();
    assert!(matches!(remove_backup(&*volume(&memory), &stem).unwrap().freed, Err(StoreError::NotFreed { .. })));
    let mut archive = vec![0; usize::try_from(open.len_bytes()).unwrap()];
    open.read_at(0, &mut archive).unwrap();
    assert!(archive == model[&stem].concat());
    drop(open);
    assert!(volume(&memory).free_unneeded().unwrap().bytes > 0);
    let kept: Model = model.into_iter().filter(|(other, _)| *other != stem).collect();
    assert_eq!(shown(&memory, &kept, "later").len(), 2);
}

/// A night's files may be removed by hand; a segment may not, and all nights that need it are named.
#[test]
fn each_night_that_needs_a_missing_segment_is_damaged() {
    let (memory, model) = with_nights(5);
    let below = below(&memory);
    let gone = format!("{VOLUME}_02_01_2026");
    for suffix in [".tar.gz.parts", ".index", ".index.parts", ".checksum", ".manifest.json"] {
        below.remove(&format!("{gone}{suffix}")).unwrap();
    }
    volume(&memory).free_unneeded().unwrap();
    let kept: Model = model.into_iter().filter(|(stem, _)| *stem != gone).collect();
    assert_eq!(shown(&memory, &kept, "removed by hand").len(), 4);

    let segments = below.folder("segments", false).unwrap().unwrap();
    let needs = |name: &str| {
        let recipes = below.list().unwrap().files.into_iter().filter(|name| name.ends_with(".gz.parts"));
        let needs = recipes.filter(|recipe| {
            Recipe::parse(&bytes_of(&below, recipe)).unwrap().segments.iter().any(|segment| segment == name)
        });
        needs.map(|recipe| recipe.replace(".tar.gz.parts", "")).collect::<Vec<_>>()
    };
    let name = "2026-01-03";
    let need = needs(name);
    assert!(need.len() > 1, "{need:?}");
    segments.remove(name).unwrap();
    let damaged: Vec<String> = list_volume(&*volume(&memory), VOLUME)
        .unwrap()
        .into_iter()
        .filter_map(|entry| match entry.state {
            BackupState::Damaged { what } => {
                assert!(what.contains("segments/2026-01-03") && what.contains("is missing"), "{what}");
                Some(entry.stem)
            }
            _ => None,
        })
        .collect();
    assert_eq!(damaged, need);
}
