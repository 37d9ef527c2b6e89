//! Active volumes, by the links that LVM and udev keep in `/dev`: no program runs, and no lock is taken.

use std::fs;
use std::path::Path;

use crate::source::naming::is_snapshot_name;

/// Directories of `/dev` with links to all devices, which are no volume groups.
const NO_GROUPS: [&str; 5] = ["block", "char", "disk", "mapper", "md"];

/// The group and the name of each volume with a link `DEV/VG/LV`, sorted, without volbak's own snapshots. Volumes that are not
/// active have no link. For completion: LVM itself says what can be backed up.
pub fn volumes_by_links(dev: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for group in fs::read_dir(dev).into_iter().flatten().flatten() {
        let Ok(name) = group.file_name().into_string() else { continue };
        if NO_GROUPS.contains(&name.as_str()) || !group.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        for volume in fs::read_dir(group.path()).into_iter().flatten().flatten() {
            let Ok(volume_name) = volume.file_name().into_string() else { continue };
            if !is_snapshot_name(&volume_name) && leads_to_mapped_device(&volume.path()) {
                found.push((name.clone(), volume_name));
            }
        }
    }
    found.sort_unstable();
    found
}

/// udev's links lead to `../dm-N`; those that LVM makes without udev lead to `/dev/mapper/NAME`.
fn leads_to_mapped_device(link: &Path) -> bool {
    let Ok(target) = fs::read_link(link) else { return false };
    let is_numbered = target.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"dm-"));
    is_numbered || target.starts_with("/dev/mapper")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::volumes_by_links;

    #[test]
    fn only_links_to_mapped_devices_are_volumes() {
        let dev = tempfile::tempdir().unwrap();
        let at = |name: &str| dev.path().join(name);
        for folder in ["vg", "cinder-volumes", "mapper", "block", "pts", "disk"] {
            fs::create_dir(at(folder)).unwrap();
        }
        for link in ["vg/vol-2", "vg/vol-1", "vg/vol-1-volbak-010203", "mapper/vg-vol--1", "block/253:0"] {
            symlink("../dm-0", at(link)).unwrap();
        }
        symlink("/dev/mapper/cinder--volumes-volume--1", at("cinder-volumes/volume-1")).unwrap();
        symlink("../sda", at("vg/other")).unwrap();
        fs::write(at("pts/0"), "").unwrap();
        symlink("vg", at("link")).unwrap();
        let found = volumes_by_links(dev.path());
        let found: Vec<String> = found.iter().map(|(vg, lv)| format!("{vg}/{lv}")).collect();
        assert_eq!(found, ["cinder-volumes/volume-1", "vg/vol-1", "vg/vol-2"]);
        assert!(volumes_by_links(&at("missing")).is_empty());
    }
}
