use std::path::Path;

use super::Backup;

#[test]
fn an_archives_path_names_its_backup() {
    let backup = Backup::of_archive(Path::new("/b/vol/vol_01_01_2026.tar.gz")).unwrap();
    assert_eq!(backup.index_path(), Path::new("/b/vol/vol_01_01_2026.index"));
    assert_eq!(backup.volume(), "vol");
    assert_eq!(Backup::of_archive(Path::new("x.tar.gz")).unwrap().archive_path(), Path::new("./x.tar.gz"));
    for path in ["/b/vol.manifest.json", ".tar.gz", "/b/..", "/"] {
        assert_eq!(Backup::of_archive(Path::new(path)), None, "{path}");
    }
}
