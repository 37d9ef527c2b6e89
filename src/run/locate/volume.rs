//! Which part of a name is the volume's, and which is the date.

use super::error::LocateError;
use super::moment::Moment;
use crate::store::catalog::{CatalogEntry, list_volume};
use crate::store::{Destination, Folder, StoreError};

/// The folder of a volume, to look at.
pub(super) fn folder_of(destination: &Destination, volume: &str) -> Result<Option<Folder>, StoreError> {
    destination.surveyed(&[volume.to_owned()])?.existing_volume_directory(volume)
}

pub(super) type Entries = Vec<CatalogEntry>;

/// Splits the name into the volume with its backups, and the date. A volume's name may contain an `@`, and a `_`.
pub(super) fn volume_of(
    destination: &Destination,
    wanted: &str,
) -> Result<(String, Entries, Option<String>), LocateError> {
    let entries_of = |name: &str| -> Result<Entries, LocateError> {
        if name.is_empty() || name.starts_with('.') {
            return Ok(Vec::new());
        }
        match folder_of(destination, name)? {
            Some(directory) => Ok(list_volume(&*directory, name)?),
            None => Ok(Vec::new()),
        }
    };
    let whole = entries_of(wanted)?;
    let Some((volume, date)) = wanted.rsplit_once('@') else {
        let Some((volume, date)) = parts_of_stem(wanted) else { return Ok((wanted.to_owned(), whole, None)) };
        let dated = entries_of(volume)?;
        return match (whole.is_empty(), dated.iter().find(|entry| entry.stem == wanted)) {
            // A volume whose name is that of another one's backup.
            (false, Some(backup)) => Err(LocateError::Ambiguous {
                wanted: wanted.to_owned(),
                candidates: vec![format!("{wanted}@last"), typed(volume, backup)],
            }),
            (true, Some(_)) => Ok((volume.to_owned(), dated, Some(date.to_owned()))),
            (_, None) => Ok((wanted.to_owned(), whole, None)),
        };
    };
    let dated = entries_of(volume)?;
    match (whole.is_empty(), dated.is_empty()) {
        (false, true) => Ok((wanted.to_owned(), whole, None)),
        (false, false) => Err(LocateError::Ambiguous {
            wanted: wanted.to_owned(),
            candidates: vec![format!("{wanted}@last"), typed_all(volume, &dated).join(", ")],
        }),
        (true, _) => Ok((volume.to_owned(), dated, Some(date.to_owned()))),
    }
}

/// The volume and the date in `VOLUME_DD_MM_YYYY`, with what may follow it.
fn parts_of_stem(stem: &str) -> Option<(&str, &str)> {
    let mut parts = stem.match_indices('_').map(|(at, _)| (&stem[..at], &stem[at + 1..]));
    parts.find(|(_, date)| Moment::of_name(date).is_some())
}

/// A backup in a form that can be typed: `VOLUME@DATE`, or its path if its name has no date.
pub fn typed(volume: &str, entry: &CatalogEntry) -> String {
    let date = entry.stem.strip_prefix(volume).and_then(|rest| rest.strip_prefix('_'));
    match date.filter(|date| Moment::of_name(date).is_some()) {
        Some(date) => format!("{volume}@{date}"),
        None => entry.archive.display().to_string(),
    }
}

pub(super) fn typed_all(volume: &str, entries: &[CatalogEntry]) -> Vec<String> {
    entries.iter().map(|entry| typed(volume, entry)).collect()
}

#[cfg(test)]
mod tests {
    use super::parts_of_stem;

    #[test]
    fn a_stem_has_a_volume_and_a_date() {
        let run = "0123456789ab";
        for (volume, date) in
            [("v", "20_11_2026"), ("v_1_2", "20_11_2026_010203"), ("v", &*format!("20_11_2026_010203_{run}"))]
        {
            assert_eq!(parts_of_stem(&format!("{volume}_{date}")), Some((volume, date)));
        }
        for other in ["v", "v_", "v_20_11", "v_40_11_2026", "v_20_11_2026_x"] {
            assert_eq!(parts_of_stem(other), None, "{other}");
        }
    }
}
