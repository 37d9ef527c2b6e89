//! The names that a shell completes: volumes, and the dates of their backups.
//!
//! Only names are read: no manifest, no archive. Nothing is sent to an object store: what the last listing of this host
//! showed is offered.

use std::collections::BTreeMap;
use std::path::Path;

use chrono::{NaiveDate, NaiveTime};

use crate::archive::kind::ArchiveKind;
use crate::run::locate::moment::Moment;
use crate::store::{Destination, StoreOptions, is_in_object_store};

/// The names in a destination.
#[derive(Debug)]
pub struct KnownNames(Place);

#[derive(Debug)]
enum Place {
    Directory(Destination),
    /// The stems of each volume, as they were seen last.
    #[cfg(feature = "s3")]
    Store(BTreeMap<String, Vec<String>>),
}

impl KnownNames {
    /// The names in the destination `root`; `None` if it is not there, or not mounted and must be.
    pub fn of(root: &Path, options: &StoreOptions, must_be_mounted: bool) -> Option<Self> {
        if !is_in_object_store(root) {
            return Some(Self(Place::Directory(Destination::open_mounted(root, must_be_mounted).ok()?)));
        }
        #[cfg(feature = "s3")]
        {
            let mut stems: BTreeMap<String, Vec<String>> = BTreeMap::new();
            for (volume, stem) in crate::store::object::known_names(root.to_str()?, options) {
                stems.entry(volume).or_default().push(stem);
            }
            Some(Self(Place::Store(stems)))
        }
        #[cfg(not(feature = "s3"))]
        {
            let _ = options;
            None
        }
    }

    /// The volumes whose names begin with `typed`, sorted.
    pub fn volumes(&self, typed: &str) -> Vec<String> {
        let mut names = match &self.0 {
            Place::Directory(destination) => destination.volume_names().unwrap_or_default(),
            #[cfg(feature = "s3")]
            Place::Store(stems) => stems.keys().cloned().collect(),
        };
        names.retain(|name| name.starts_with(typed) && is_plain(name));
        names
    }

    /// The dates of a volume's backups that begin with `typed`, in a form that can be typed after `VOLUME@`: `last`, then the
    /// newest first. They are written `2026-11-20`, or as in file names if only that begins with `typed`.
    pub fn dates(&self, volume: &str, typed: &str) -> Vec<String> {
        if !is_plain(volume) {
            return Vec::new();
        }
        let stems = match &self.0 {
            Place::Directory(destination) => stems_in(destination, volume),
            #[cfg(feature = "s3")]
            Place::Store(stems) => stems.get(volume).cloned().unwrap_or_default(),
        };
        dates_of(volume, &stems, typed)
    }
}

/// The stems of a volume's archives. They need not be whole: the verb says it.
fn stems_in(destination: &Destination, volume: &str) -> Vec<String> {
    let folder = destination.existing_volume_directory(volume).ok().flatten();
    let listing = folder.and_then(|folder| folder.list().ok()).unwrap_or_default();
    let stem = |name: &String| ArchiveKind::of_name(name).map(|(stem, _)| stem.to_owned());
    listing.files.iter().filter_map(stem).collect()
}

/// Whether a shell takes this name as it is: letters, digits and what LVM allows besides. Others are not offered.
pub fn is_plain(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"+-._@".contains(&byte);
    !name.is_empty() && !name.starts_with('-') && name.bytes().all(allowed)
}

fn dates_of(volume: &str, stems: &[String], typed: &str) -> Vec<String> {
    let moment = |stem: &String| {
        let date = stem.strip_prefix(volume)?.strip_prefix('_')?;
        Some(Moment::of_name(date)?.parts())
    };
    let mut moments: Vec<(NaiveDate, Option<NaiveTime>)> = stems.iter().filter_map(moment).collect();
    moments.sort_unstable_by(|one, other| other.cmp(one));
    moments.dedup();
    let mut of_day: BTreeMap<NaiveDate, u32> = BTreeMap::new();
    for (day, _) in &moments {
        *of_day.entry(*day).or_default() += 1;
    }
    let in_names = |(day, time): &(NaiveDate, Option<NaiveTime>)| match time {
        Some(time) => format!("{}_{}", day.format("%d_%m_%Y"), time.format("%H%M%S")),
        None => day.format("%d_%m_%Y").to_string(),
    };
    let written = |moment: &(NaiveDate, Option<NaiveTime>)| match moment {
        (day, _) if of_day[day] == 1 => day.format("%Y-%m-%d").to_string(),
        (day, Some(time)) => format!("{}_{}", day.format("%Y-%m-%d"), time.format("%H%M%S")),
        // The first of several on a day: its name has no time, and its day alone would mean any of them.
        (_, None) => in_names(moment),
    };
    let mut dates: Vec<String> = moments.iter().map(written).filter(|date| date.starts_with(typed)).collect();
    if dates.is_empty() {
        dates = moments.iter().map(in_names).filter(|date| date.starts_with(typed)).collect();
    }
    if "last".starts_with(typed) && !moments.is_empty() {
        dates.insert(0, "last".to_owned());
    }
    dates
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::{KnownNames, dates_of, is_plain};
    use crate::store::StoreOptions;

    #[test]
    fn dates_are_offered_newest_first_in_a_form_that_can_be_typed() {
        let stems = ["v_01_12_2025", "v_20_11_2026", "v_20_11_2026_101500", "v_21_11_2026", "v_new", "w_22_11_2026"];
        let stems: Vec<String> = stems.map(str::to_owned).to_vec();
        let dates = |typed| dates_of("v", &stems, typed);
        assert_eq!(dates(""), ["last", "2026-11-21", "2026-11-20_101500", "20_11_2026", "2025-12-01"]);
        assert_eq!(dates("2026-"), ["2026-11-21", "2026-11-20_101500"]);
        assert_eq!(dates("20_"), ["20_11_2026"]);
        assert_eq!(dates("01_"), ["01_12_2025"]);
        assert_eq!(dates("la"), ["last"]);
        assert!(dates("x").is_empty() && dates_of("none", &stems, "").is_empty());
        // Those of an object store, with the digits of the run.
        let in_store = ["v_20_11_2026_010203_0123456789ab".to_owned(), "v_20_11_2026_020304_0123456789ac".to_owned()];
        assert_eq!(dates_of("v", &in_store, "2"), ["2026-11-20_020304", "2026-11-20_010203"]);
    }

    #[test]
    fn hostile_names_are_not_offered() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["vol-1", "v;reboot", "v $(reboot)", "v\nx", "-v", "v@2", ".volbak", "völ"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let names = KnownNames::of(dir.path(), &StoreOptions::default(), false).unwrap();
        assert_eq!(names.volumes(""), ["v@2", "vol-1"]);
        assert!(names.dates("../vol-1", "").is_empty() && !is_plain("a/b"));
        assert!(KnownNames::of(Path::new("/nonexistent/x"), &StoreOptions::default(), false).is_none());
    }
}
