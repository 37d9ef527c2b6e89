//! The names of all backups that the last listing of a destination showed, kept on this host: completion in a shell neither
//! waits for the store nor asks for its requests to be paid.
//!
//! A line `VOLUME/STEM` for each backup.

use std::fs::File;
use std::io::Read;

use super::cache::Cache;
use super::connect;
use crate::archive::kind::ArchiveKind;
use crate::objects::ObjectAddress;
use crate::outside::replaced::replace;
use crate::store::options::StoreOptions;

/// Names of some hundred thousand backups. More are not kept.
const MOST_BYTES: usize = 16 << 20;

/// Keeps the names of the archives among these keys, which begin with `root`. Without them nothing is completed.
pub(super) fn note<'a>(cache: &Cache, root: &str, keys: impl Iterator<Item = &'a str>) {
    let Some(file) = cache.names_file(root) else { return };
    let mut lines = String::new();
    for (volume, stem) in keys.filter_map(|key| backup_of(key.strip_prefix(root)?)) {
        let line = format!("{volume}/{stem}\n");
        if lines.len() + line.len() > MOST_BYTES {
            break;
        }
        lines.push_str(&line);
    }
    let _ = replace(&file, lines.as_bytes(), 0o600);
}

/// `VOLUME/STEM.tar.gz` as volume and stem. A name with a line break is left out.
fn backup_of(key: &str) -> Option<(&str, &str)> {
    let (volume, file) = key.split_once('/')?;
    let (stem, _) = ArchiveKind::of_name(file)?;
    let is_plain = !volume.starts_with('.') && !stem.contains('/') && !key.contains('\n');
    is_plain.then_some((volume, stem))
}

/// The volumes and stems that this host saw at `destination`; none if it saw none. Nothing is sent.
pub(crate) fn known_names(destination: &str, options: &StoreOptions) -> Vec<(String, String)> {
    read(destination, options).unwrap_or_default()
}

fn read(destination: &str, options: &StoreOptions) -> Option<Vec<(String, String)>> {
    let address = ObjectAddress::parse(destination).ok()?;
    let settings = connect::settings(&address, options).ok()?;
    let cache = Cache::existing(&options.cache_directory, connect::scope(&settings, &address));
    let mut text = String::new();
    let file = File::open(cache.names_file(&address.key(""))?).ok()?;
    file.take(MOST_BYTES as u64).read_to_string(&mut text).ok()?;
    let split = |line: &str| line.split_once('/').map(|(volume, stem)| (volume.to_owned(), stem.to_owned()));
    Some(text.lines().filter_map(split).collect())
}

#[cfg(test)]
mod tests {
    use super::backup_of;

    #[test]
    fn only_archives_of_volumes_are_backups() {
        assert_eq!(backup_of("vol/vol_01_01_2026.tar.gz"), Some(("vol", "vol_01_01_2026")));
        for other in ["vol/vol_01_01_2026.index", "vol", ".volbak/x.tar.gz", "vol/deep/x.tar.gz", "v/a\nb.tar.gz"] {
            assert_eq!(backup_of(other), None, "{other}");
        }
    }
}
