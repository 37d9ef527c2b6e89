//! Promise: a later night in a store sends what changed and about one part around it; the store copies the rest, and nothing
//! of the previous archive comes to this host. The archive is that of a full night, and is proven as one.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use sha1::{Digest, Sha1};

use crate::storing::{Storing, by_kind};
use crate::testkit::cases;
use crate::testkit::stand_in::run;
use crate::verbs::{ALL, Place, disk};

const MIB: usize = 1 << 20;

/// Commands of debugfs on an image.
pub(crate) fn debugfs(image: &str, commands: &str) {
    let mut child = Command::new("debugfs")
        .args(["-w", "-f", "-", image])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(commands.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

/// A disk with so many files of 1 MiB that do not compress, which last changed long ago.
pub(crate) fn old_disk(place: &Place, megabytes: usize) -> String {
    let image = disk(&place.host, "vol", megabytes);
    let old: Vec<String> = (0..megabytes).map(|number| format!("sif f{number} ctime @1700000000\n")).collect();
    debugfs(&image, &old.concat());
    image
}

/// Gives a file of the disk other content of so many bytes.
pub(crate) fn change(place: &Place, image: &str, name: &str, bytes: usize) {
    let mut content = vec![0; bytes];
    let seed = format!("{name} {}", fs::read_dir(place.host.at(".")).unwrap().count());
    blake3::Hasher::new().update(seed.as_bytes()).finalize_xof().fill(&mut content);
    let new = place.host.at("new-content");
    fs::write(&new, &content).unwrap();
    debugfs(image, &format!("rm {name}\nwrite {} {name}\n", new.display()));
}

pub(crate) fn manifest(place: &Place, stem: &str) -> Value {
    let key = place.client.address().key(&format!("vol/{stem}.manifest.json"));
    serde_json::from_slice(&place.client.get(&key, ALL).unwrap().unwrap()).unwrap()
}

/// The stem of the newest backup.
pub(crate) fn newest(place: &Place) -> String {
    let names = place.names("vol");
    let names = names.iter().filter(|name| !name.starts_with('.'));
    let mut stems: Vec<String> =
        names.filter_map(|name| name.strip_suffix(".manifest.json")).map(str::to_owned).collect();
    stems.sort_by_key(|stem| manifest(place, stem)["started_at"].as_str().unwrap().to_owned());
    stems.pop().unwrap()
}

/// The archive of a backup, extracted by GNU tar.
fn extracted(place: &Place, stem: &str, to: &str) -> PathBuf {
    let key = place.client.address().key(&format!("vol/{stem}.tar.gz"));
    let (archive, tree) = (place.host.at(&format!("{to}.tar.gz")), place.host.at(to));
    fs::write(&archive, place.client.get(&key, ALL).unwrap().unwrap()).unwrap();
    extract(&archive, &tree);
    tree
}

fn extract(archive: &Path, tree: &Path) {
    fs::create_dir(tree).unwrap();
    run(Command::new("tar").arg("-xpzf").arg(archive).arg("-C").arg(tree));
}

/// Fails unless the newest backup extracts as the same disk does from a backup in a directory.
fn assert_as_in_a_directory(place: &Place, image: &str, name: &str) {
    let directory = place.host.at(&format!("{name}-directory"));
    fs::create_dir(&directory).unwrap();
    place.good(&["snapshot", image, "--destination", directory.to_str().unwrap()]);
    let archive = fs::read_dir(directory.join("vol")).unwrap().map(|entry| entry.unwrap().path());
    let archive = archive.into_iter().find(|path| path.to_str().unwrap().ends_with(".tar.gz")).unwrap();
    let expected = place.host.at(&format!("{name}-expected"));
    extract(&archive, &expected);
    let found = extracted(place, &newest(place), &format!("{name}-found"));
    run(Command::new("diff").arg("-r").arg(&expected).arg(&found));
    let listed = |tree: &Path| {
        let listing =
            Command::new("find").args([".", "-printf", "%p %y %m %U %G %s %T@ %l\n"]).current_dir(tree).output();
        let text = String::from_utf8(listing.unwrap().stdout).unwrap();
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(listed(&expected), listed(&found));
    for tree in [directory, expected, found] {
        fs::remove_dir_all(tree).unwrap();
    }
}

/// Requests that read bytes of an archive.
fn archive_reads(requests: &[(String, usize)]) -> Vec<&(String, usize)> {
    requests.iter().filter(|(what, bytes)| what.starts_with("GET ") && what.contains(".tar.gz") && *bytes > 0).collect()
}

/// A store with the first backup of a disk of so many megabytes.
fn first_night(megabytes: usize) -> (Storing, Place, String) {
    let server = Storing::start();
    let place = Place::in_process(&server, "");
    let image = old_disk(&place, megabytes);
    place.good(&["snapshot", &image]);
    (server, place, image)
}

/// Backs up a disk of 60 MiB of which one was changed. Fails unless the store copies nearly all of the previous archive, and
/// nothing of it is read. Returns the requests.
pub(crate) fn night_that_sends_one_part(server: &Storing, place: &Place, image: &str) -> Vec<(String, usize)> {
    let before = newest(place);
    server.list_long_pages();
    server.take_requests();
    server.take_bytes();
    let said = place.good(&["snapshot", image]);
    let (sent, copied) = server.take_bytes();
    let requests = server.take_requests();
    println!("{} requests, {sent} bytes sent, {copied} copied: {said}\n{:#?}", requests.len(), by_kind(&requests));
    assert!(sent < 14 * MIB, "{sent} bytes sent");
    assert!(copied > 45 * MIB, "{copied} bytes copied");
    assert!(archive_reads(&requests).is_empty(), "{:#?}", archive_reads(&requests));
    let facts = manifest(place, &newest(place));
    assert_eq!(facts["carried"]["parent"], before.as_str(), "{facts:#}");
    assert_eq!(facts["carried"]["on_server"]["copied_bytes"], copied);
    requests
}

#[test]
fn one_changed_file_sends_one_part() {
    let (server, place, image) = first_night(60);
    assert_eq!(manifest(&place, &newest(&place))["format"], 1);
    change(&place, &image, "f31", MIB);
    let requests = night_that_sends_one_part(&server, &place, &image);
    // 20, and 2 for each stretch that is read: the changed one, and the one that is due.
    assert!(requests.len() <= 20 + 2 * 2, "{} requests: {:#?}", requests.len(), by_kind(&requests));
    let second = newest(&place);
    let facts = manifest(&place, &second);
    assert_eq!(facts["format"], 5, "{facts:#}");
    assert_eq!((&facts["digests"]["archive_sha1"], &facts["digests"]["checksum_sha256"]), (&"".into(), &"".into()));
    assert!(!place.names("vol").contains(&format!("{second}.checksum")));
    place.whole_backups("vol");
    assert_as_in_a_directory(&place, &image, "second");
}

#[test]
fn its_sha1_is_found_by_the_first_full_verification() {
    let (_server, place, image) = first_night(20);
    change(&place, &image, "f3", 100);
    place.good(&["snapshot", &image]);
    let stem = newest(&place);
    let checksum = format!("{stem}.checksum");
    let named = format!("vol@{}", &stem["vol_".len()..]);
    place.good(&["verify", &named, "--quick"]);
    assert!(!place.names("vol").contains(&checksum), "a quick look does not find it");
    let said = place.good(&["verify", &named]);
    let archive = place.client.get(&place.client.address().key(&format!("vol/{stem}.tar.gz")), ALL).unwrap().unwrap();
    let sha1 = volbak::shown::hex(&Sha1::digest(&archive));
    assert!(said.contains(&sha1), "{said}");
    let key = place.client.address().key(&format!("vol/{checksum}"));
    let line = String::from_utf8(place.client.get(&key, ALL).unwrap().unwrap()).unwrap();
    assert_eq!(line, format!("{sha1}  {stem}.tar.gz\n"));
    place.good(&["verify", &named, "--level", "restore-test"]);
    let listed = place.listed();
    let one = listed.iter().find(|one| one["stem"] == stem.as_str()).unwrap();
    assert_eq!(one["verified"]["verdict"], "good", "{one:#}");

    // From now on all bytes are compared with it, and each member with its digest.
    let key = place.client.address().key(&format!("vol/{stem}.tar.gz"));
    let mut bad = archive.clone();
    bad[12 * MIB] ^= 1;
    place.client.put(&key, &bad, false).unwrap();
    let did = place.verb(&["verify", &named]);
    assert!(did.status != 0 && did.stdout.contains("BAD"), "{did:?}");
    // A night does not carry from it.
    place.good(&["snapshot", &image]);
    assert_ne!(manifest(&place, &newest(&place))["carried"]["parent"], stem.as_str());
}

#[test]
fn damage_is_found_without_a_sha1() {
    let (_server, place, image) = first_night(20);
    change(&place, &image, "f3", 100);
    place.good(&["snapshot", &image]);
    let stem = newest(&place);
    let named = format!("vol@{}", &stem["vol_".len()..]);
    let key = place.client.address().key(&format!("vol/{stem}.tar.gz"));
    let whole = place.client.get(&key, ALL).unwrap().unwrap();
    let mut flipped = whole.clone();
    flipped[7 * MIB] ^= 1;
    for (bad, level) in [(flipped.as_slice(), "full"), (&whole[..whole.len() - 1], "quick")] {
        place.client.put(&key, bad, false).unwrap();
        let did = place.verb(&["verify", &named, "--level", level]);
        assert!(did.status != 0, "{level}: {did:?}");
        assert!(!place.names("vol").contains(&format!("{stem}.checksum")), "{level}");
        // The bad record stays, and does not hide what the next one finds.
        place.client.put(&key, &whole, false).unwrap();
    }
}

#[test]
fn night_after_night_is_that_of_the_disk() {
    let server = Storing::start();
    let place = Place::in_process(&server, "[archive]\nfull_read_every_days = 0\n");
    let image = old_disk(&place, 40);
    place.good(&["snapshot", &image]);
    for (night, changes) in [&["f1"][..], &["f0", "f39"], &["f20", "f21", "f5"], &[]].into_iter().enumerate() {
        for name in changes {
            change(&place, &image, name, 300_000 + night * 1000);
        }
        if night == 2 {
            debugfs(&image, "rm f30\nrm f10\n");
        }
        server.take_bytes();
        place.good(&["snapshot", &image]);
        let (sent, copied) = server.take_bytes();
        println!("night {night}: {sent} bytes sent, {copied} copied");
        place.whole_backups("vol");
        assert!(copied > 5 * MIB, "night {night}: {copied}");
        assert_as_in_a_directory(&place, &image, &format!("night-{night}"));
    }
    place.good(&["verify", "--all", "--level", "full"]);
    assert_eq!(server.uploads(), 0);
}

#[test]
fn a_previous_archive_that_changes_is_not_carried_from() {
    for heeds in [true, false] {
        let server = Storing::start();
        let place = Place::in_process(&server, "");
        if !heeds {
            server.heeds_no_conditions();
        }
        let image = old_disk(&place, 20);
        place.good(&["snapshot", &image]);
        let first = newest(&place);
        // Replaced before the night: its length says so.
        let key = format!("host-1/vol/{first}.tar.gz");
        let whole = place.client.get(&key, ALL).unwrap().unwrap();
        server.put(&key, b"x");
        let did = place.verb(&["snapshot", &image]);
        assert!(did.status == 3 && did.stderr.contains("nothing is carried forward"), "{did:?}");
        server.put(&key, &whole);
        // Replaced or removed while it is copied from: all is read and sent in the same night.
        server.replace_at_copy(&"other content".repeat(3 * MIB));
        let did = place.verb(&["snapshot", &image]);
        assert_eq!(did.status, 0, "{heeds}: {did:?}");
        assert!(did.stderr.contains("everything is read again"), "{heeds}: {did:?}");
        assert_eq!(manifest(&place, &newest(&place))["format"], 1);
        assert_eq!(server.uploads(), 0);
        assert_as_in_a_directory(&place, &image, "replaced");
    }
}

#[test]
fn a_night_that_copies_is_killed_at_any_request() {
    let (server, place, image) = first_night(30);
    let (mut tried, mut killed) = (0, 0);
    let mut known = place.whole_backups("vol");
    for moment in cases::numbers(12) {
        change(&place, &image, &format!("f{moment}"), 5000);
        // At a request that the store has not answered, and has carried out or not.
        let begin = || place.begin(&["snapshot", &image]);
        killed += usize::from(server.kill_at(4 + moment * 2, moment % 2 == 0, begin));
        tried += 1;
        known = place.whole_backups_besides(&known, "vol");
        server.take_bytes();
        place.good(&["snapshot", &image]);
        assert!(server.take_bytes().1 > 5 * MIB, "moment {moment} is carried");
        assert_eq!(server.uploads(), 0, "moment {moment}");
        known = place.whole_backups_besides(&known, "vol");
    }
    assert!(killed * 2 > tried, "{killed} of {tried} were killed in time");
    place.good(&["verify", "--all", "--level", "full"]);
}

#[test]
#[ignore = "needs a store of scripts/objects"]
fn one_changed_file_sends_one_part_to_a_real_store() {
    let megabytes = std::env::var("VOLBAK_CARRIED_MIB").map_or(96, |text| text.parse().unwrap());
    let place = Place::real("carried", "");
    let image = old_disk(&place, megabytes);
    place.good(&["snapshot", &image]);
    for (night, name) in ["f40", "f7"].into_iter().enumerate() {
        change(&place, &image, name, MIB);
        let did = place.verb(&["snapshot", &image]);
        assert_eq!(did.status, 0, "{did:?}");
        let transfers = did.stderr.lines().find(|line| line.contains("requests to the store")).unwrap();
        println!("night {night} of {megabytes} MiB: {transfers}");
        assert!(!transfers.contains("MiB received"), "{transfers}");
        let facts = manifest(&place, &newest(&place));
        let bytes = |pointer: &str| facts.pointer(pointer).unwrap().as_u64().unwrap();
        let sent = bytes("/sizes/archive_bytes") - bytes("/carried/on_server/copied_bytes");
        assert!(sent < 80 << 20 && sent < bytes("/sizes/archive_bytes") / 3, "{sent} sent: {facts:#}");
        assert_as_in_a_directory(&place, &image, &format!("night-{night}"));
    }
    place.whole_backups("vol");
    place.good(&["verify", "--all", "--level", "full"]);
    place.whole_backups("vol");
    assert!(place.names("vol").iter().filter(|name| name.ends_with(".checksum")).count() == 3);
    assert_eq!(place.client.uploads("").unwrap(), []);

    // What is replaced by something of the same length is not carried from for long: all members are compared.
    let key = place.client.address().key(&format!("vol/{}.tar.gz", newest(&place)));
    let mut bytes = place.client.get(&key, ALL).unwrap().unwrap();
    bytes[20 * MIB] ^= 1;
    place.client.put(&key, &bytes, false).unwrap();
    assert_ne!(place.verb(&["verify", "vol"]).status, 0);
}
