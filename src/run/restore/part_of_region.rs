//! Locates each filesystem's files in the archive.

use super::error::RestoreError;
use super::options::RestoreOptions;
use super::select::{Base, Part};
use crate::layout::Handling;
use crate::manifest::{Manifest, RegionRecord};
use crate::shown;
use crate::store::Backup;

/// The part of the archive with a filesystem's files; `None` if the manifest does not locate them.
pub(crate) fn part_of_record(manifest: &Manifest, record: &RegionRecord) -> Option<Part> {
    part_at(manifest, record.archive_path.as_deref()?)
}

/// The part of the archive that is restored, and the directory in which patterns of paths start.
pub(super) fn wanted_part(files: &Backup, options: &RestoreOptions) -> Result<(Part, Base), RestoreError> {
    match &options.region {
        Some(name) => {
            let part = part_of_region(files, name)?;
            let base = Base { below: part.below.clone(), top_names: Vec::new() };
            Ok((part, base))
        }
        None if options.paths.is_empty() => Ok((Part::default(), Base::default())),
        None => Ok((Part::default(), base_of(files))),
    }
}

/// The part of the archive with the files of the region `name`.
fn part_of_region(files: &Backup, name: &str) -> Result<Part, RestoreError> {
    let manifest = files.read_manifest().map_err(RestoreError::Manifest)?;
    let shown = || shown::text(name);
    let Some(record) = manifest.regions.iter().find(|record| record.name == name) else {
        let there: Vec<String> = manifest.regions.iter().take(64).map(|record| shown::text(&record.name)).collect();
        return Err(RestoreError::NoRegion { name: shown(), there: there.join(", ") });
    };
    record.files_path().and_then(|path| part_at(&manifest, path)).ok_or_else(|| RestoreError::RegionWithoutFiles {
        name: shown(),
        image: record.archive_path.clone().map(|path| shown::text(&path)),
    })
}

/// Where the paths that a person types start: in the only directory with a filesystem's files if there is one, else in
/// the archive's root.
pub(crate) fn base_of(files: &Backup) -> Base {
    files.manifest().as_ref().map(base_in).unwrap_or_default()
}

/// As [`base_of`], with the manifest at hand.
pub(crate) fn base_in(manifest: &Manifest) -> Base {
    let mut directories: Vec<Vec<u8>> =
        manifest.regions.iter().filter_map(|record| name_at_top(record.files_path()?)).collect();
    directories.sort_unstable();
    directories.dedup();
    let [below] = directories.as_slice() else { return Base::default() };
    if below.is_empty() {
        return Base::default();
    }
    let images = manifest.regions.iter().filter_map(|record| name_at_top(record.archive_path.as_deref()?));
    Base { below: below.clone(), top_names: images.chain([below.clone()]).collect() }
}

fn part_at(manifest: &Manifest, path: &str) -> Option<Part> {
    let below = name_at_top(path)?;
    // Raw images in the archive's root do not belong to the filesystem.
    let raw = manifest.regions.iter().filter(|record| below.is_empty() && record.handling == Handling::RawImage);
    let mut except: Vec<Vec<u8>> = raw.filter_map(|record| name_at_top(record.archive_path.as_deref()?)).collect();
    except.retain(|path| !path.is_empty());
    Some(Part { below, except })
}

/// A path of the manifest, `.` or `./p1`, as a name in the archive's root; empty for the root itself.
fn name_at_top(path: &str) -> Option<Vec<u8>> {
    if path == "." {
        return Some(Vec::new());
    }
    let name = path.strip_prefix("./")?;
    let is_one = !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\0']);
    is_one.then(|| name.as_bytes().to_vec())
}
