//! Promise: in the shared layout a night that removes old backups gives their room back, and harms none that stays.

use std::fs;
use std::path::Path;

use crate::testkit::guest::{quoted, sh};
use crate::testkit::stand_in::{Did, Host};
use crate::testkit::tree::noise;

const NIGHTS: u64 = 7;
const FILES: u64 = 40;
const CHANGED: u64 = FILES / 10;
const FILE_BYTES: usize = 40_000;

fn at(host: &Host, night: u64, arguments: &[&str]) -> Did {
    host.verb_at(&format!("2026-11-{night:02} 02:00:00"), arguments)
}

fn room(path: &Path) -> u64 {
    let shown = sh(&format!("sync -f {0}; du -s --block-size=1 {0}", quoted(path)));
    shown.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn what_retention_removes_in_the_shared_layout_is_room_again() {
    let host = Host::new("backups_retention_days = 2\n[archive]\nlayout = 'shared'\n");
    let tree = host.at("tree");
    fs::create_dir(&tree).unwrap();
    for number in 0..FILES {
        fs::write(tree.join(format!("file{number}")), noise(number, FILE_BYTES)).unwrap();
    }
    let image = host.at("volume-1.img");
    sh(&format!("truncate -s 16M {0}; mke2fs -q -F -t ext4 -d {1} {0}", quoted(&image), quoted(&tree)));
    host.add("volume-1");
    let folder = host.at("backups/volume-1");
    let mut first = 0;
    for night in 1..=NIGHTS {
        // A tenth of the files goes, and as much comes.
        let mut commands = String::new();
        for number in CHANGED * night..CHANGED * (night + 1) {
            let new = host.at(&format!("new{number}"));
            fs::write(&new, noise(100 + number, FILE_BYTES)).unwrap();
            commands += &format!("rm file{number}\nwrite {} new{number}\n", new.display());
        }
        let script = host.at("commands");
        fs::write(&script, commands).unwrap();
        sh(&format!("debugfs -w -f {} {} 2>&1", quoted(&script), quoted(&image)));
        let did = at(&host, night, &["run", "--quiet"]);
        assert!(did.status == 0 && did.stderr.is_empty(), "night {night}: {did:?}");
        if night == 1 {
            first = room(&folder);
        }
    }
    let kept = fs::read_dir(&folder)
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().ends_with(".manifest.json"));
    assert_eq!(kept.count(), 3, "two days, and tonight's");
    // With all that seven nights wrote it would be 1.6 times the first; two nights need 1.2 times.
    let last = room(&folder);
    assert!(last < first + first * 2 / 5, "{first} bytes after the first night, {last} after the last");
    let did = at(&host, NIGHTS, &["verify", "--all"]);
    assert!(did.status == 0 && did.stdout.matches("good").count() == 3, "{did:?}");
}
