//! Promise: what the config expects of a volume is no problem, and anything else is one.

use std::fs;
use std::io::{Seek, Write};
use std::process::Command;

use crate::testkit::stand_in::{Host, run};

/// A LUKS1 header's first fields (LUKS On-Disk Format Specification 1.2.3, 2.3.2.1), at this byte of the image.
fn luks_at(host: &Host, name: &str, offset: u64) {
    let mut header = vec![0; 592];
    header[..8].copy_from_slice(b"LUKS\xba\xbe\x00\x01");
    header[8..11].copy_from_slice(b"aes");
    header[40..51].copy_from_slice(b"xts-plain64");
    header[72..78].copy_from_slice(b"sha256");
    header[104..108].copy_from_slice(&4096_u32.to_be_bytes());
    header[168..204].copy_from_slice(b"11111111-2222-3333-4444-555555555555");
    let mut image = fs::OpenOptions::new().write(true).open(host.at(&format!("{name}.img"))).unwrap();
    image.seek(std::io::SeekFrom::Start(offset)).unwrap();
    image.write_all(&header).unwrap();
    image.seek(std::io::SeekFrom::Start(offset + (1 << 20))).unwrap();
    image.write_all(&vec![0x5a; 65536]).unwrap();
}

fn zero(host: &Host, name: &str, offset: u64, len: usize) {
    let mut image = fs::OpenOptions::new().write(true).open(host.at(&format!("{name}.img"))).unwrap();
    image.seek(std::io::SeekFrom::Start(offset)).unwrap();
    image.write_all(&vec![0; len]).unwrap();
}

fn swap(host: &Host, name: &str) {
    host.zeros(name);
    run(Command::new("mkswap").arg("-q").arg(host.at(&format!("{name}.img"))));
}

/// Two partitions: 1 to 4 MiB and 4 to 8 MiB.
fn partitioned(host: &Host, name: &str) {
    host.zeros(name);
    let table = "label: dos\n2048,6144,83\n8192,8192,83\n";
    let script = format!("printf '{table}' | sfdisk -q {}", host.at(&format!("{name}.img")).display());
    run(Command::new("sh").args(["-c", &script]));
}

/// What `config expect` prints for these volumes, put into the config.
fn expect_what_was_seen(host: &Host, names: &[&str]) -> String {
    let lines: String = names.iter().map(|name| host.verb(&["config", "expect", name]).stdout).collect();
    host.write_config("volbak.toml", &lines);
    lines
}

#[test]
fn a_night_with_expected_things_alone_is_a_good_one() {
    let host = Host::new("");
    host.zeros("volume-luks");
    luks_at(&host, "volume-luks", 0);
    host.zeros("volume-odd");
    fs::write(host.at("volume-odd.img"), vec![7; 1 << 20]).unwrap();
    host.zeros("volume-zero");
    swap(&host, "volume-swap");
    for name in ["volume-luks", "volume-odd", "volume-zero", "volume-swap"] {
        host.add(name);
    }
    host.add_ext4("volume-ext4");
    assert_eq!(host.verb(&["-q", "run"]).status, 3);
    let names = ["volume-luks", "volume-odd", "volume-zero", "vg0/volume-swap", "volume-ext4"];
    let lines = expect_what_was_seen(&host, &names);
    for line in ["expect = [\"luks\"]", "expect = [\"unknown\"]", "expect = [\"empty\"]", "expect = [\"swap-only\"]"] {
        assert!(lines.contains(line), "{lines}");
    }
    assert!(lines.contains("there is nothing to expect") && !lines.contains("[volume.\"volume-ext4\"]"), "{lines}");
    assert_eq!(host.verb(&["config", "check"]).status, 0);
    let night = host.verb(&["-q", "run"]);
    assert_eq!((night.status, night.stderr.as_str()), (0, ""), "{night:?}");
    let status = host.verb(&["status"]);
    assert_eq!(status.status, 0, "{status:?}");

    // Each becomes something else, and is a problem again.
    zero(&host, "volume-luks", 0, 8 << 20);
    luks_at(&host, "volume-zero", 0);
    host.ext4("volume-swap");
    let night = host.verb(&["-q", "run"]);
    assert_eq!(night.status, 3);
    for said in [
        "expects luks here, and it is not there any more: disk holds nothing but zeros",
        "expects empty here, and it is not there any more: disk holds luks",
        "expects swap-only here, and it is not there any more: disk holds ext4",
    ] {
        assert!(night.stderr.contains(said), "{said}: {night:?}");
    }
    assert_eq!(host.verb(&["status"]).status, 1);
}

#[test]
fn it_is_by_region_where_there_are_several_and_patterns_work() {
    let host = Host::new("");
    partitioned(&host, "volume-1");
    luks_at(&host, "volume-1", 1 << 20);
    luks_at(&host, "volume-1", 4 << 20);
    host.add("volume-1");
    assert_eq!(host.verb(&["-q", "run"]).status, 3);
    let lines = expect_what_was_seen(&host, &["volume-1"]);
    assert!(lines.contains("expect = [\"p1=luks\", \"p2=luks\"]"), "{lines}");
    let night = host.verb(&["-q", "run"]);
    assert_eq!(night.status, 0, "{night:?}");
    // By a pattern, and with alternatives.
    host.write_config("volbak.toml", "[volume.'vol*']\nexpect = ['p1 = ntfs|luks', 'p2=raw']\n");
    assert_eq!(host.verb(&["-q", "run"]).status, 0);
    // Only one of two is expected: the other is told.
    host.write_config("volbak.toml", "[volume.'vol*']\nexpect = ['p1=luks']\n");
    let night = host.verb(&["-q", "run"]);
    assert!(
        night.status == 3 && night.stderr.contains("p2: holds") && !night.stderr.contains("p1: holds"),
        "{night:?}"
    );
    // One of two became zeros, which alone is no problem.
    zero(&host, "volume-1", 4 << 20, 4 << 20);
    host.write_config("volbak.toml", &lines);
    let night = host.verb(&["-q", "run"]);
    assert!(night.status == 3 && night.stderr.contains("p2: the config expects luks"), "{night:?}");
    // The partition is no longer there.
    host.write_config("volbak.toml", "[volume.'vol*']\nexpect = ['p1=luks', 'p3=luks']\n");
    assert!(host.verb(&["-q", "run"]).stderr.contains("there is no region p3"));
}

#[test]
fn a_filesystem_that_cannot_be_read_is_not_the_one_that_is_expected() {
    let host = Host::new("[volume.'*']\nexpect = ['ext4']\n");
    host.add_ext4("volume-1");
    assert_eq!(host.verb(&["-q", "run"]).status, 0);
    // The root directory's inode table is gone: neither reader can open it.
    zero(&host, "volume-1", 4096, 1 << 20);
    assert_ne!(host.verb(&["-q", "run"]).status, 0);
}

#[test]
fn words_are_checked() {
    let host = Host::new("[volume.'*']\nexpect = ['luk', 'p1=swap-only', 7]\n");
    let check = host.verb(&["config", "check"]);
    assert!(check.status == 2 && check.stderr.contains("3 mistakes") && check.stderr.contains("\"luks\""), "{check:?}");
    host.write_config("volbak.toml", "");
    assert_eq!(host.verb(&["config", "expect", "volume-1"]).status, 2);
    assert_eq!(host.verb(&["config", "expect", "../x"]).status, 2);
}

#[test]
fn a_volume_without_files_is_verified_good() {
    let host = Host::new("");
    host.zeros("volume-zero");
    swap(&host, "volume-swap");
    host.add("volume-zero");
    host.add("volume-swap");
    assert_eq!(host.verb(&["-q", "run"]).status, 3);
    for entry in ["volume-zero", "volume-swap"].map(|name| host.at("backups").join(name)) {
        let mut files = fs::read_dir(entry).unwrap().map(|entry| entry.unwrap().path());
        let archive = files.find(|path| path.to_string_lossy().ends_with(".tar.gz")).unwrap();
        for level in ["quick", "full", "restore-test"] {
            let verified = host.volbak(&["verify", "--level", level, archive.to_str().unwrap()]);
            assert_eq!(verified.status, 0, "{level}: {verified:?}");
            assert!(!verified.stdout.contains("BAD"), "{verified:?}");
        }
    }
}
