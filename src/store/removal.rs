//! Removes a backup, so that a crash leaves either the whole backup or identifiable remains.

use super::api::{Freed, Store};
use super::backup::RECORD;
use super::belongs::{kind_of_manifest, kind_of_stem};
use super::error::StoreError;
use super::names::{MANIFEST, files_before_manifest};

/// Removes the files of the backup `stem`, and frees their room. Requires the destination's lock.
///
/// Fails if there is no manifest: volbak removes only backups that it made.
pub fn remove_backup(volume: &dyn Store, stem: &str) -> Result<Removal, StoreError> {
    let mut removals = Removals::of(volume);
    removals.remove(stem)?;
    removals.finish()
}

/// Removes backups of one volume, and frees the room of all of them together. Requires the destination's lock.
///
/// The manifest of each goes first, by renaming it to its staged name. From then on it is no backup, and
/// [`remove_remains`](super::remains::remove_remains) removes what a crash leaves, and frees it. So the staged manifests
/// stay until all is freed.
#[derive(Debug)]
pub struct Removals<'a> {
    volume: &'a dyn Store,
    /// The manifests of those whose files are gone.
    set_aside: Vec<String>,
    /// Whether anything was removed.
    any: bool,
}

impl<'a> Removals<'a> {
    /// Removals from the folder of a volume.
    pub fn of(volume: &'a dyn Store) -> Self {
        Self { volume, set_aside: Vec::new(), any: false }
    }

    /// Removes the files of the backup `stem`. Fails if there is no manifest.
    pub fn remove(&mut self, stem: &str) -> Result<(), StoreError> {
        let volume = self.volume;
        let manifest = format!("{stem}{MANIFEST}");
        // Another program may have made an archive of the other kind with the same stem.
        let kind = kind_of_stem(volume, stem);
        volume.check_removable(&manifest)?;
        // Before its record: a bad backup without one would be a good one if the removal ended here.
        volume.set_aside(&manifest)?;
        volume.sync()?;
        volume.remove(&format!("{stem}{RECORD}"))?;
        for suffix in files_before_manifest(kind).into_iter().rev() {
            volume.remove(&format!("{stem}{suffix}"))?;
        }
        volume.sync()?;
        self.set_aside.push(manifest);
        self.any = true;
        // An object store frees only what is marked: nothing depends on the manifest.
        if volume.is_local() { Ok(()) } else { self.discard() }
    }

    /// Frees the room. Call it after a failed removal, too: the staged manifest of that one stays.
    pub fn finish(mut self) -> Result<Removal, StoreError> {
        // While the manifests are staged, the next run frees what a crash leaves.
        let freed = if self.any { self.volume.free_unneeded() } else { Ok(Freed::default()) };
        self.discard()?;
        Ok(Removal { freed })
    }

    fn discard(&mut self) -> Result<(), StoreError> {
        self.set_aside.drain(..).try_for_each(|manifest| self.volume.discard(&manifest))
    }
}

/// Whether [`Removals`] can remove the damaged backup `stem`, and nothing of another program: its manifest is there, and is that of the
/// archive, or can tell nothing.
pub fn is_removable(volume: &dyn Store, stem: &str) -> bool {
    let manifest = volume.open(&format!("{stem}{MANIFEST}"));
    manifest.is_ok_and(|manifest| kind_of_manifest(manifest).is_none_or(|kind| kind == kind_of_stem(volume, stem)))
}

/// The result of removals.
#[derive(Debug)]
pub struct Removal {
    /// The room that was freed of composed archives. An error says why none was; the next removal frees it.
    pub freed: Result<Freed, StoreError>,
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{Removals, remove_backup};
    use crate::store::Destination;
    use crate::store::api::Folder;
    use crate::store::names::SUFFIXES;
    use crate::store::remains::remove_remains;

    fn names(volume: &Folder) -> Vec<String> {
        let listing = volume.list().unwrap();
        [listing.files, listing.staged].concat()
    }

    #[test]
    fn one_backup_goes_and_its_neighbours_stay() {
        let dir = tempfile::tempdir().unwrap();
        let volume = Destination::open(dir.path()).unwrap().volume_directory("vol-1").unwrap();
        for stem in ["vol-1_01_11_2026", "vol-1_01_11_2026_010203", "vol-10_01_11_2026"] {
            for suffix in SUFFIXES {
                fs::write(volume.path().join(format!("{stem}{suffix}")), "").unwrap();
            }
        }
        remove_backup(&*volume, "vol-1_01_11_2026").unwrap();
        let names = names(&volume);
        assert_eq!(names.len(), 3 * SUFFIXES.len() - 4);
        // Which of several archives is the backup's, only a valid manifest says.
        let left: Vec<&String> = names.iter().filter(|name| name.starts_with("vol-1_01_11_2026.")).collect();
        let others = [
            ".img.gz",
            ".img.gz.age",
            ".index.age",
            ".manifest.sig",
            ".segments",
            ".tar.gz.age",
            ".tar.zst",
            ".tar.zst.age",
        ];
        assert!(left.into_iter().eq(&others.map(|suffix| format!("vol-1_01_11_2026{suffix}"))));
        assert!(remove_backup(&*volume, "vol-1_01_11_2026").is_err(), "there is none any more");
        assert!(!volume.remove_if_empty().unwrap());
    }

    #[test]
    fn what_a_crash_leaves_of_a_removal_is_removed() {
        for done in 0..5 {
            let dir = tempfile::tempdir().unwrap();
            let volume = Destination::open(dir.path()).unwrap().volume_directory("vol-1").unwrap();
            fs::write(volume.path().join(".volbak-tmp.s.manifest.json"), "").unwrap();
            for suffix in [".verified.json", ".tar.gz", ".checksum", ".index"].into_iter().skip(done) {
                fs::write(volume.path().join(format!("s{suffix}")), "").unwrap();
            }
            remove_remains(&*volume).unwrap();
            assert_eq!(names(&volume), Vec::<String>::new(), "{done}");
            assert!(volume.remove_if_empty().unwrap());
        }
    }

    #[test]
    fn what_a_verification_found_is_known_as_long_as_there_is_a_backup() {
        let dir = tempfile::tempdir().unwrap();
        let volume = Destination::open(dir.path()).unwrap().volume_directory("vol-1").unwrap();
        for suffix in SUFFIXES {
            fs::write(volume.path().join(format!("s{suffix}")), "").unwrap();
        }
        // It cannot be removed.
        fs::create_dir_all(volume.path().join("s.verified.json/x")).unwrap();
        remove_backup(&*volume, "s").unwrap_err();
        assert_eq!(volume.list().unwrap().staged, ["s.manifest.json"]);
        assert!(!volume.list().unwrap().has("s.manifest.json"));
    }

    #[test]
    fn several_are_freed_together_and_identified_until_then() {
        let dir = tempfile::tempdir().unwrap();
        let volume = Destination::open(dir.path()).unwrap().volume_directory("vol-1").unwrap();
        for (stem, suffix) in ["a", "b", "c"].iter().flat_map(|stem| SUFFIXES.map(|suffix| (stem, suffix))) {
            fs::write(volume.path().join(format!("{stem}{suffix}")), "").unwrap();
        }
        let mut removals = Removals::of(&*volume);
        removals.remove("a").unwrap();
        removals.remove("b").unwrap();
        let staged = |stem| names(&volume).contains(&format!("{stem}.manifest.json"));
        assert_eq!(volume.list().unwrap().staged, ["a.manifest.json", "b.manifest.json"]);
        assert!(removals.remove("a").is_err(), "there is none any more");
        removals.finish().unwrap().freed.unwrap();
        assert!(!staged("a") && !staged("b") && staged("c"));
        // A crash before that.
        fs::write(volume.path().join("a.manifest.json"), "").unwrap();
        let mut removals = Removals::of(&*volume);
        removals.remove("a").unwrap();
        removals.remove("c").unwrap();
        drop(removals);
        remove_remains(&*volume).unwrap();
        assert!(volume.list().unwrap().staged.is_empty());
    }

    #[test]
    fn an_archive_without_a_manifest_is_somebody_elses() {
        let dir = tempfile::tempdir().unwrap();
        let volume = Destination::open(dir.path()).unwrap().volume_directory("vol-1").unwrap();
        fs::write(volume.path().join("vol-1_01_11_2026.tar.gz"), "").unwrap();
        remove_backup(&*volume, "vol-1_01_11_2026").unwrap_err();
        assert_eq!(names(&volume).len(), 1);
    }
}
