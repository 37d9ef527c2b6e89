//! Sudden changes: a night that lost most of a volume's content, or changed most of its files.
//!
//! The figures come from the manifests. Only if most of a volume was not carried forward are the two indexes
//! compared, with a sample if there are many files. An ordinary night costs nothing.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::Arc;

use crate::archive::counts::Counts;
use crate::archive::index::{EntryLine, IndexedKind, Line};
use crate::archive::read::index_file::{IndexError, IndexReader};
use crate::config::ChangeLimits;
use crate::layout::{Handling, Holds, HoldsKind, Layout};
use crate::manifest::{CarriedRecord, ChangesRecord, Manifest, RegionRecord};
use crate::outside::BlockRead;
use crate::run::expected::Expected;
use crate::shown::counted;
use crate::store::open::OpenError;
use crate::units::ByteLen;

/// The number of last backups used as the baseline.
pub(super) const MEASURED: usize = 7;
/// Volumes with less data are not judged by their loss.
const MIN_BYTES: u64 = 1 << 20;
/// The approximate maximum number of files to compare.
const SAMPLE: u64 = 50_000;

/// Tonight's backup before it is published.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tonight<'a> {
    pub(super) entries: u64,
    pub(super) counts: &'a Counts,
    pub(super) layout: &'a Layout,
    pub(super) regions: &'a [RegionRecord],
    pub(super) changes: Option<ChangesRecord>,
    /// The content that the config expects.
    pub(super) expected: Expected<'a>,
}

impl Tonight<'_> {
    /// Whether the config expects that this region of an earlier backup is no longer the same filesystem.
    fn is_expected(&self, before: &Manifest, region: &str) -> bool {
        self.expected.explains(region, before, (&self.layout.regions, self.regions))
    }

    /// Whether an earlier backup had files in a region that, as the config expects, has none now: its figures are
    /// no baseline.
    pub(super) fn replaces(&self, before: &Manifest) -> bool {
        let has_files = |regions: &[RegionRecord], name: &str| {
            regions.iter().any(|region| region.name == name && region.handling == Handling::Files)
        };
        before.regions.iter().any(|region| {
            region.handling == Handling::Files
                && !has_files(self.regions, &region.name)
                && self.is_expected(before, &region.name)
        })
    }
}

/// Describes a sudden change with its figures, one line; `None` without one. `past` is the baseline: at most
/// [`MEASURED`] backups, oldest first.
pub(super) fn judge(past: &[&Manifest], tonight: &Tonight<'_>, limits: ChangeLimits) -> Option<String> {
    let last = past.last()?;
    let mut said: Vec<String> = gone_filesystems(last, tonight);
    let past: Vec<&Manifest> = past.iter().copied().filter(|before| !tonight.replaces(before)).collect();

    let is_below = |now: u64, usual: u64| now < usual.saturating_mul(limits.below_percent.into()) / 100;
    let usual = median(past.iter().map(|manifest| manifest.sizes.entries));
    if usual >= limits.min_entries && is_below(tonight.entries, usual) {
        said.push(format!("{}, where {usual} are usual", counted(tonight.entries, "entry", "entries")));
    }
    let usual = median(past.iter().map(|manifest| manifest.counts.data_bytes));
    if usual >= MIN_BYTES && is_below(tonight.counts.data_bytes, usual) {
        said.push(format!("{} of data, where {} are usual", ByteLen(tonight.counts.data_bytes), ByteLen(usual)));
    }
    if let Some(changes) = tonight.changes
        && !tonight.replaces(last)
        && changes.compared >= limits.min_entries
    {
        let percent = changes.percent();
        let known: Vec<u64> = past.iter().filter_map(|manifest| churn_percent(manifest)).collect();
        let usual = median(known.iter().copied());
        if percent >= u64::from(limits.changed_percent) && percent >= usual.saturating_mul(2) {
            let usual = if known.is_empty() { String::new() } else { format!(", where {usual} % are usual") };
            said.push(format!(
                "{percent} % of the files of {} have other content or are gone{usual} ({} changed and {} gone of {} compared)",
                last.local_date, changes.changed, changes.gone, changes.compared
            ));
        }
    }
    (!said.is_empty()).then(|| said.join("; "))
}

/// Regions whose content was known last time and is unknown now.
fn gone_filesystems(last: &Manifest, tonight: &Tonight<'_>) -> Vec<String> {
    let mut gone = Vec::new();
    for before in &last.layout.regions {
        let is_nothing = matches!(before.holds.kind, HoldsKind::Empty | HoldsKind::Unknown | HoldsKind::Swap);
        if is_nothing || tonight.is_expected(last, &before.name) {
            continue;
        }
        let now = tonight.layout.regions.iter().find(|region| region.name == before.name);
        let is_gone = now.is_none_or(|now| matches!(now.holds.kind, HoldsKind::Empty | HoldsKind::Unknown));
        // If a volume group is missing, only the group is named and not the volumes in it.
        let has_container = |name: &str| name.split_once('.').is_some_and(|(outer, _)| gone_names(&gone, outer));
        if is_gone && !has_container(&before.name) {
            let now = now.map_or_else(|| "it is not there".to_owned(), |now| described(&now.holds));
            gone.push((before.name.clone(), format!("{} held {}, now {now}", before.name, described(&before.holds))));
        }
        // Still a filesystem, but its files are no longer in the archive.
        let handled = |regions: &[RegionRecord]| {
            regions.iter().find(|region| region.name == before.name).map(|region| region.handling)
        };
        if !is_gone
            && handled(&last.regions) == Some(Handling::Files)
            && handled(tonight.regions) == Some(Handling::RawImage)
        {
            let what = format!("{} was archived as files, and is kept as a raw image now", before.name);
            gone.push((before.name.clone(), what));
        }
    }
    gone.into_iter().map(|(_, what)| what).collect()
}

fn gone_names(gone: &[(String, String)], name: &str) -> bool {
    gone.iter().any(|(gone, _)| gone == name)
}

fn described(holds: &Holds) -> String {
    match (&holds.fs, holds.kind) {
        (Some(fs), _) => fs.clone(),
        (None, HoldsKind::Luks) => "a LUKS container".to_owned(),
        (None, HoldsKind::Lvm2Pv) => "an LVM physical volume".to_owned(),
        (None, HoldsKind::Mdraid) => "a RAID member".to_owned(),
        (None, HoldsKind::Swap) => "swap".to_owned(),
        (None, HoldsKind::Empty) => "only zeros".to_owned(),
        (None, HoldsKind::Filesystem) => "a filesystem".to_owned(),
        (None, HoldsKind::Unknown) => "nothing that is known".to_owned(),
    }
}

/// The percentage of a volume that was new on an earlier night; `None` if unknown.
fn churn_percent(manifest: &Manifest) -> Option<u64> {
    let by_carry = || manifest.carried.as_ref().map(|carried| not_carried_percent(carried, manifest.sizes.entries));
    manifest.changes.map(ChangesRecord::percent).or_else(by_carry)
}

fn not_carried_percent(carried: &CarriedRecord, entries: u64) -> u64 {
    entries.saturating_sub(carried.counts.entries).saturating_mul(100) / entries.max(1)
}

/// Whether so little was carried forward that the indexes must be compared.
pub(super) fn is_doubtful(carried_entries: u64, entries: u64, limits: ChangeLimits) -> bool {
    let fresh = entries.saturating_sub(carried_entries);
    entries >= limits.min_entries && fresh.saturating_mul(100) >= entries.saturating_mul(limits.changed_percent.into())
}

fn median(figures: impl Iterator<Item = u64>) -> u64 {
    let mut sorted: Vec<u64> = figures.collect();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or(0)
}

/// An open index, or the error.
type Opened = Result<Arc<dyn BlockRead>, OpenError>;

/// Why two indexes could not be compared.
#[derive(Debug, thiserror::Error)]
pub(super) enum CompareError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Index(#[from] IndexError),
    #[error("cannot be read")]
    Io(#[from] io::Error),
}

/// Compares the content of files at the same paths. Of more than [`SAMPLE`] files, a keyed hash of the path selects
/// a part; the key is random, so that the selection is unpredictable. `files` is the approximate number of files in
/// the earlier index.
pub(super) fn compare(before: Opened, after: Opened, files: u64) -> Result<ChangesRecord, CompareError> {
    let keep_one_of = (files / SAMPLE).max(1);
    let hasher = RandomState::new();
    let chosen = |line: EntryLine| {
        let is_file = matches!(line.kind, IndexedKind::File | IndexedKind::SparseFile) && line.size > 0;
        let hash = hasher.hash_one(&line.path);
        let digest = line.content.and_then(|digest| digest.first_chunk::<16>().copied());
        (is_file && hash.is_multiple_of(keep_one_of)).then_some((hash, digest.unwrap_or_default()))
    };
    let mut known: HashMap<u64, [u8; 16]> = HashMap::new();
    each_entry(before, |line| {
        // Bounds the table whatever a hostile index contains.
        if known.len() as u64 <= 4 * SAMPLE {
            known.extend(chosen(line));
        }
    })?;
    let mut record = ChangesRecord { compared: known.len() as u64, ..ChangesRecord::default() };
    each_entry(after, |line| {
        if let Some((hash, digest)) = chosen(line)
            && let Some(was) = known.remove(&hash)
        {
            record.changed += u64::from(was != digest);
        }
    })?;
    record.gone = known.len() as u64;
    Ok(record)
}

fn each_entry(index: Opened, mut each: impl FnMut(EntryLine)) -> Result<(), CompareError> {
    let mut reader = IndexReader::new(index?)?;
    while let Some(line) = reader.next_line()? {
        if let Line::Entry(line) = line {
            each(line);
        }
    }
    Ok(())
}
