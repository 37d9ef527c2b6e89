//! Where the archive holds each filesystem's files.

use crate::layout::Handling;
use crate::manifest::{Manifest, RegionRecord};
use crate::run::restore::select::Part;

/// The part of the archive that holds a filesystem's files; `None` when the manifest does not say where they are.
pub(super) fn part_of_record(manifest: &Manifest, record: &RegionRecord) -> Option<Part> {
    let below = part_of(record.archive_path.as_deref()?)?;
    // The raw images in the archive's root are none of the filesystem's files.
    let raw = manifest.regions.iter().filter(|record| below.is_empty() && record.handling == Handling::RawImage);
    let mut except: Vec<Vec<u8>> = raw.filter_map(|record| part_of(record.archive_path.as_deref()?)).collect();
    except.retain(|path| !path.is_empty());
    Some(Part { below, except })
}

/// A path of the manifest, `.` or `./p1`, as a directory of the archive without `./`.
fn part_of(path: &str) -> Option<Vec<u8>> {
    if path == "." {
        return Some(Vec::new());
    }
    let name = path.strip_prefix("./")?;
    let is_one = !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\0']);
    is_one.then(|| name.as_bytes().to_vec())
}
