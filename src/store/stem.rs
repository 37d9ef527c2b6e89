//! The common start of a backup's names.
//!
//! In a directory it is `NAME_DD_MM_YYYY`, or `NAME_DD_MM_YYYY_HHMMSS` for a later backup of the day. An object store does
//! not keep two hosts from writing one key, so a stem there is `NAME_DD_MM_YYYY_HHMMSS_RUN`, where RUN is random:
//! archive, index and manifest of two runs never have a stem in common.

use chrono::{NaiveDateTime, TimeDelta};
use rustix::rand::{GetRandomFlags, getrandom};

use super::api::Store;
use super::error::StoreError;
use crate::shown;

/// Random bytes in the name of a run.
const RUN_BYTES: usize = 6;

/// A stem for a new backup of `name`, in use by no other; the names of its files end with `suffixes`.
pub(super) fn new(
    volume: &dyn Store,
    name: &str,
    local_now: NaiveDateTime,
    suffixes: &[&str],
) -> Result<String, StoreError> {
    if volume.refuses_to_replace() { free(volume, name, local_now, suffixes) } else { unique(volume, name, local_now) }
}

/// A date as it is in a name, without the random part that tells runs apart.
pub(crate) fn without_run(date: &str) -> &str {
    match date.rsplit_once('_') {
        Some((before, run)) if is_run(run) => before,
        _ => date,
    }
}

/// Whether these are the digits of a run.
pub(crate) fn is_run(text: &str) -> bool {
    text.len() == 2 * RUN_BYTES && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// A stem for a copy of `stem`, whose backup began at this local time: the same, or one of its own where a publication may
/// replace a file.
pub(crate) fn of_copy(volume: &dyn Store, name: &str, stem: &str, began: NaiveDateTime) -> Result<String, StoreError> {
    if volume.refuses_to_replace() { Ok(stem.to_owned()) } else { unique(volume, name, began) }
}

fn unique(volume: &dyn Store, name: &str, local_now: NaiveDateTime) -> Result<String, StoreError> {
    Ok(format!("{name}_{}_{}", local_now.format("%d_%m_%Y_%H%M%S"), run(volume)?))
}

/// Random digits that tell one run from all others.
pub(crate) fn run(volume: &dyn Store) -> Result<String, StoreError> {
    let mut run = [0_u8; RUN_BYTES];
    // The first bytes of a call come whole, or the call fails.
    getrandom(&mut run, GetRandomFlags::empty()).map_err(StoreError::errno("choosing a name in", volume.path()))?;
    Ok(shown::hex(&run))
}

/// `NAME_DD_MM_YYYY`; with `_HHMMSS` if that stem is in use, and later seconds if that is in use too.
fn free(volume: &dyn Store, name: &str, local_now: NaiveDateTime, suffixes: &[&str]) -> Result<String, StoreError> {
    let listing = volume.list()?;
    let is_free = |stem: &str| {
        suffixes.iter().map(|suffix| format!("{stem}{suffix}")).all(|name| {
            let is_folder = listing.folders.contains(&name);
            !listing.has(&name) && !listing.has_staged(&name) && !is_folder
        })
    };
    let first = format!("{name}_{}", local_now.format("%d_%m_%Y"));
    let later = (0..60).map(|seconds| {
        let time = local_now.checked_add_signed(TimeDelta::seconds(seconds)).unwrap_or(local_now);
        format!("{name}_{}", time.format("%d_%m_%Y_%H%M%S"))
    });
    std::iter::once(first)
        .chain(later)
        .find(|stem| is_free(stem))
        .ok_or_else(|| StoreError::NoFreeName(volume.path().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::without_run;

    #[test]
    fn a_run_is_no_part_of_the_date() {
        assert_eq!(without_run("20_11_2026_010203_0123456789ab"), "20_11_2026_010203");
        for date in ["20_11_2026", "20_11_2026_010203", "20_11_2026_010203_0123456789aB", "20_11_2026_010203_0"] {
            assert_eq!(without_run(date), date);
        }
    }
}
