//! Promise: in the shared layout the nights of a volume in a store take the room of one and what changed; nothing of earlier
//! nights is sent, copied or read, and each archive is read with few requests. A segment that a kept night refers to is never
//! removed, whatever else runs at the same time, and what nobody needs is removed in the end.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::time::Duration;

use volbak::store::shared::Recipe;

use crate::carried::{change, manifest, newest, old_disk};
use crate::storing::{Storing, by_kind};
use crate::testkit::stand_in::run;
use crate::testkit::wait::wait_until;
use crate::verbs::{ALL, Place};

const MIB: usize = 1 << 20;
const DAY: Duration = Duration::from_secs(24 * 3600);
const SHARED: &str = "[archive]\nlayout = 'shared'\nfull_read_every_days = 0\n";

fn first_night(megabytes: usize) -> (Storing, Place, String) {
    let server = Storing::start();
    let place = Place::in_process(&server, SHARED);
    let image = old_disk(&place, megabytes);
    place.good(&["snapshot", &image]);
    (server, place, image)
}

fn read(place: &Place, name: &str) -> Vec<u8> {
    let key = place.client.address().key(&format!("vol/{name}"));
    place.client.get(&key, ALL).unwrap().unwrap_or_else(|| panic!("{name} is missing"))
}

fn recipe(place: &Place, stem: &str) -> Recipe {
    Recipe::parse(&read(place, &format!("{stem}.tar.gz.parts"))).unwrap()
}

fn stems(place: &Place) -> Vec<String> {
    let names = place.names("vol");
    let names = names.iter().filter(|name| !name.starts_with('.'));
    names.filter_map(|name| name.strip_suffix(".manifest.json")).map(str::to_owned).collect()
}

fn segments(place: &Place) -> BTreeSet<String> {
    let names = place.names("vol");
    let names = names.iter().filter_map(|name| name.strip_prefix("segments/"));
    names.filter(|name| !name.ends_with(".unneeded") && !name.starts_with('.')).map(str::to_owned).collect()
}

fn needed(place: &Place) -> BTreeSet<String> {
    let of_index = |stem: &String| Recipe::parse(&read(place, &format!("{stem}.index.parts"))).unwrap().segments;
    stems(place).iter().flat_map(|stem| [recipe(place, stem).segments, of_index(stem)].concat()).collect()
}

/// Fails unless the newest backup extracts as the same disk does from a backup in a directory.
fn assert_as_in_a_directory(place: &Place, image: &str) {
    let directory = place.host.at("as-in-a-directory");
    let (expected, found) = (directory.join("expected"), directory.join("found"));
    fs::create_dir_all(&expected).unwrap();
    let to = directory.join("to");
    fs::create_dir(&to).unwrap();
    place.good(&["snapshot", image, "--destination", to.to_str().unwrap(), "--layout", "plain"]);
    let archives = fs::read_dir(to.join("vol")).unwrap().map(|entry| entry.unwrap().path());
    let archive = archives.into_iter().find(|path| path.to_str().unwrap().ends_with(".tar.gz")).unwrap();
    run(Command::new("tar").arg("-xpzf").arg(archive).arg("-C").arg(&expected));
    place.good(&["restore", "vol", "--to", found.to_str().unwrap()]);
    run(Command::new("diff").arg("-r").arg(&expected).arg(&found));
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn a_night_sends_what_changed_and_reads_nothing_of_the_nights_before() {
    let (server, place, image) = first_night(30);
    let first = newest(&place);
    change(&place, &image, "f17", 100_000);
    server.list_long_pages();
    server.take_requests();
    server.take_bytes();
    let said = place.good(&["snapshot", &image]);
    let (sent, copied) = server.take_bytes();
    let requests = server.take_requests();
    println!("{} requests, {sent} bytes sent: {said}\n{:#?}", requests.len(), by_kind(&requests));
    let second = newest(&place);
    assert!(sent < MIB && copied == 0, "{sent} sent, {copied} copied");
    let reads =
        requests.iter().filter(|(what, bytes)| what.starts_with("GET ") && what.contains("/segments/") && *bytes > 0);
    let reads: Vec<_> = reads.filter(|(what, _)| !what.contains("list-type")).collect();
    assert!(reads.is_empty(), "{reads:#?}");
    assert!(requests.len() <= 28, "{} requests: {:#?}", requests.len(), by_kind(&requests));
    let facts = manifest(&place, &second);
    assert_eq!((&facts["carried"]["parent"], &facts["format"]), (&first.as_str().into(), &5.into()), "{facts:#}");
    assert_eq!(recipe(&place, &second).segments.len(), 2);

    for level in ["quick", "full", "restore-test"] {
        place.good(&["verify", "--all", "--level", level]);
    }
    assert!(place.names("vol").contains(&format!("{second}.checksum")), "a full verification writes it");
    assert_as_in_a_directory(&place, &image);
    // Everything is read again, and is the same: only the first members of changed files are new.
    place.configure("[archive]\nlayout = 'shared'\nfull_read_every_days = 1\n");
    server.take_bytes();
    place.good(&["snapshot", &image]);
    let (sent, _) = server.take_bytes();
    assert!(sent < MIB, "{sent} sent");
    place.good(&["verify", "--all", "--level", "full"]);
    assert_eq!(server.uploads(), 0);
}

/// Removes backups as an operator does; the stems that are left.
fn remove(place: &Place, stems: &[&str]) {
    for stem in stems {
        place.good(&["remove", &format!("vol@{}", &stem["vol_".len()..]), "--force"]);
    }
}

#[test]
fn what_nobody_needs_is_marked_and_removed_a_day_later() {
    let (server, place, image) = first_night(9);
    for night in 0..3 {
        change(&place, &image, "f5", 50_000 + night);
        place.good(&["snapshot", &image]);
    }
    let all = stems(&place);
    assert_eq!(segments(&place), needed(&place));
    // Young segments are not even marked: another run may be about to refer to them.
    let newest = newest(&place);
    let others: Vec<&str> = all.iter().map(String::as_str).filter(|stem| *stem != newest).collect();
    let before = segments(&place);
    remove(&place, &others[..1]);
    assert!(!place.names("vol").iter().any(|name| name.ends_with(".unneeded")));
    server.age(DAY);
    remove(&place, &others[1..]);
    let (kept, marked) = (needed(&place), marks(&place));
    assert_eq!(segments(&place), before, "nothing is removed yet");
    assert_eq!(marked, before.difference(&kept).cloned().collect());
    assert!(!marked.is_empty());
    place.good(&["verify", "--all"]);
    // A day after that the next run removes them, although no backup is removed.
    server.age(DAY);
    change(&place, &image, "f6", 1000);
    place.good(&["snapshot", &image]);
    assert_eq!(segments(&place), needed(&place));
    place.good(&["verify", "--all"]);
    // The marks go last, and with the last backup all of it.
    server.age(8 * DAY);
    place.good(&["snapshot", &image]);
    assert_eq!(marks(&place), BTreeSet::new());
    remove(&place, &stems(&place).iter().map(String::as_str).collect::<Vec<_>>());
    for _ in 0..4 {
        server.age(8 * DAY);
        let other = old_disk_named(&place, "other");
        place.good(&["snapshot", &other]);
    }
    assert_eq!(place.names("vol"), Vec::<String>::new());
}

/// The host that wrote it has its text.
#[test]
fn a_segment_of_an_index_that_rots_in_the_store_is_found() {
    let (server, place, _) = first_night(2);
    place.good(&["verify", "vol", "--level", "full"]);
    let index = segments(&place).into_iter().find(|name| name.strip_suffix(".index").is_some()).unwrap();
    server.rot(&place.client.address().key(&format!("vol/segments/{index}")), 500);
    place.good(&["browse", "vol"]);
    let did = place.verb(&["verify", "vol", "--level", "full"]);
    assert!(did.status == 1 && did.stdout.contains("BAD"), "{did:?}");
}

fn marks(place: &Place) -> BTreeSet<String> {
    let names = place.names("vol");
    let marks = names.iter().filter_map(|name| name.strip_prefix("segments/")?.strip_suffix(".unneeded"));
    marks.map(str::to_owned).collect()
}

fn old_disk_named(place: &Place, name: &str) -> String {
    crate::verbs::disk(&place.host, name, 1)
}

#[test]
fn a_run_that_is_killed_at_any_request_leaves_nothing_that_stays() {
    let (server, place, image) = first_night(12);
    let (mut tried, mut killed) = (0, 0);
    for moment in crate::testkit::cases::numbers(10) {
        change(&place, &image, &format!("f{moment}"), 5000);
        let begin = || place.begin(&["snapshot", &image]);
        killed += usize::from(server.kill_at(6 + 2 * moment, moment % 2 == 0, begin));
        tried += 1;
        assert!(needed(&place).is_subset(&segments(&place)));
        assert!(place.listed().iter().all(|one| one["state"]["state"] == "complete"));
    }
    assert!(killed * 2 > tried, "{killed} of {tried} were killed in time");
    place.good(&["snapshot", &image]);
    for _ in 0..3 {
        server.age(DAY);
        let stems = stems(&place);
        remove(&place, &[&stems[0]]);
        place.good(&["snapshot", &image]);
    }
    assert_eq!(segments(&place), needed(&place));
    assert_eq!(server.uploads(), 0);
    let recipes = place.names("vol").iter().filter(|name| name.ends_with(".tar.gz.parts")).count();
    assert_eq!(recipes, stems(&place).len());
    place.good(&["verify", "--all", "--level", "full"]);
}

#[test]
fn a_night_that_refers_to_a_marked_or_missing_segment_is_not_published() {
    let (server, place, image) = first_night(9);
    let first = newest(&place);
    let segment = recipe(&place, &first).segments[0].clone();
    let key = place.client.address().key(&format!("vol/segments/{segment}"));
    let vol = place.client.address().key("vol/");
    for is_gone in [false, true] {
        change(&place, &image, "f5", 50_000);
        let (whole, mut before) = (server.get(&key), segments(&place));
        // When its recipe is there, it has chosen what it refers to, and has not looked at it again.
        server.delay(Duration::from_millis(50));
        let mut child = place.begin(&["snapshot", &image]);
        wait_until("the recipe", || server.keys(&vol).iter().filter(|key| key.ends_with(".gz.parts")).count() > 1);
        if is_gone {
            server.remove(&key);
        } else {
            server.put(&format!("{key}.unneeded"), b"");
        }
        server.delay(Duration::ZERO);
        assert_eq!(child.wait().unwrap().code(), Some(1));
        assert_eq!(stems(&place), [first.as_str()]);
        let names = place.names("vol");
        assert!(!names.iter().any(|name| name.ends_with(".gz.parts") && !name.starts_with(&first)), "{names:?}");
        // Its own stay, for another run may refer to them already.
        if is_gone {
            before.remove(&segment);
        }
        assert_eq!(segments(&place).difference(&before).count(), 2);
        assert!(before.is_subset(&segments(&place)));
        if is_gone {
            server.put(&key, &whole);
        } else {
            server.remove(&format!("{key}.unneeded"));
        }
    }
    server.put(&format!("{key}.unneeded"), b"");
    // The next one refers to nothing that is marked.
    place.good(&["snapshot", &image]);
    assert_eq!(recipe(&place, &newest(&place)).segments.len(), 1);
    assert!(!recipe(&place, &newest(&place)).segments.contains(&segment));
    place.good(&["verify", "--all"]);
}

/// The requests that a verb makes, and what it printed.
fn requests_of(server: &Storing, place: &Place, arguments: &[&str]) -> Vec<(String, usize)> {
    server.list_long_pages();
    server.take_requests();
    place.good(arguments);
    server.take_requests()
}

fn of_segments(requests: &[(String, usize)]) -> Vec<&(String, usize)> {
    requests
        .iter()
        .filter(|(what, _)| what.starts_with("GET ") && what.contains("/segments/2") && !what.contains(".index"))
        .collect()
}

#[test]
fn an_archive_of_many_parts_is_read_with_few_requests() {
    let (server, place, image) = first_night(24);
    for night in 0..10 {
        // In the middle of a file, and another one as a whole.
        change(&place, &image, &format!("f{}", 2 * night + 1), 300_000);
        place.good(&["snapshot", &image]);
    }
    let newest = newest(&place);
    let recipe = recipe(&place, &newest);
    assert_eq!(recipe.segments.len(), 11);
    let requests = requests_of(&server, &place, &["verify", "vol", "--level", "full"]);
    let reads = of_segments(&requests);
    let bytes: usize = reads.iter().map(|(_, bytes)| bytes).sum();
    println!("{} parts, {} requests for segments, {} in all", recipe.places.len(), reads.len(), requests.len());
    assert!(reads.len() < 50, "{reads:#?}");
    let archive_bytes = usize::try_from(recipe.len_bytes).unwrap();
    assert!(bytes < archive_bytes + archive_bytes / 4, "{bytes} bytes for {archive_bytes}");

    // One file: what is cached here is not asked for.
    let requests = requests_of(&server, &place, &["cat", "vol:hostname"]);
    let bytes: usize = requests.iter().map(|(_, bytes)| bytes).sum();
    println!("one file: {} requests, {bytes} bytes: {:#?}", requests.len(), by_kind(&requests));
    assert!(requests.len() <= 4 && bytes < 2 * MIB, "{:#?}", by_kind(&requests));
    let requests = requests_of(&server, &place, &["list"]);
    assert!(requests.len() <= 3, "{:#?}", by_kind(&requests));
}

/// What docs/restore-without-volbak.md says: ranges of objects, one after another.
const LOOP: &str =
    r#"grep -v '^#' "$F.parts" | while read -r s o l; do rclone cat --offset "$o" --count "$l" "$D/segments/$s"; done"#;

fn composed_by_rclone(place: &Place, stem: &str, remote: &str, settings: &str) -> Vec<u8> {
    fs::write(place.host.at("rclone.conf"), settings).unwrap();
    fs::write(place.host.at(&format!("{stem}.tar.gz.parts")), read(place, &format!("{stem}.tar.gz.parts"))).unwrap();
    let out = place.host.at("composed");
    let script = format!("cd {}; {LOOP} > composed", place.host.at(".").display());
    let mut shell = Command::new("bash");
    shell.args(["-euc", &script]).env("F", format!("{stem}.tar.gz")).env("D", remote);
    // One of this host is for other stores.
    run(shell.env("RCLONE_CONFIG", place.host.at("rclone.conf")).env_remove("AWS_CA_BUNDLE"));
    fs::read(out).unwrap()
}

/// The archive as the verbs read it.
fn archive(place: &Place, stem: &str) -> Vec<u8> {
    let recipe = recipe(place, stem);
    let mut archive = Vec::new();
    for (segment, offset, length) in recipe.parts() {
        let key = place.client.address().key(&format!("vol/segments/{segment}"));
        archive.extend(place.client.get_range(&key, &(offset..offset + length)).unwrap());
    }
    archive
}

#[test]
fn what_is_not_covered_is_refused() {
    let server = Storing::start();
    let place = Place::in_process(&server, SHARED);
    let image = old_disk_named(&place, "vol");
    let did = place.verb(&["snapshot", &image, "--image"]);
    assert!(did.status == 1 && did.stderr.contains("does not work together with `mode = \"image\"`"), "{did:?}");
    place.configure("lock = 'governance'\n");
    let config = fs::read_to_string(place.host.at("volbak.toml")).unwrap();
    let locked = config.replace("\nlock = 'governance'\n", "\n").replace("[store]\n", "[store]\nlock = 'governance'\n");
    fs::write(place.host.at("volbak.toml"), &locked).unwrap();
    let did = place.verb(&["snapshot", &image, "--layout", "shared"]);
    assert!(did.status == 1 && did.stderr.contains("does not work together with `lock` in [store]"), "{did:?}");
    let shared = locked.replace("[store]\n", "[archive]\nlayout = 'shared'\n[store]\n");
    fs::write(place.host.at("volbak.toml"), shared).unwrap();
    let did = place.verb(&["config", "check"]);
    assert!(did.status == 2 && did.stderr.contains("does not work together with `lock` in [store]"), "{did:?}");
    assert_eq!(place.names("vol"), Vec::<String>::new());
}

#[test]
fn nothing_is_carried_from_segments_of_a_bad_backup_and_layouts_do_not_mix() {
    let (server, place, image) = first_night(9);
    change(&place, &image, "f5", 50_000);
    place.good(&["snapshot", &image]);
    let second = newest(&place);
    let segment = recipe(&place, &second).segments[0].clone();
    let key = place.client.address().key(&format!("vol/segments/{segment}"));
    let whole = server.get(&key);
    server.rot(&key, 4 * MIB);
    let named = format!("vol@{}", &second["vol_".len()..]);
    let did = place.verb(&["verify", &named, "--level", "full"]);
    assert!(did.status != 0 && did.stdout.contains("BAD"), "{did:?}");
    // The first night has the same bytes, and nobody looked at it yet.
    place.good(&["snapshot", &image]);
    let third = newest(&place);
    assert!(!recipe(&place, &third).segments.contains(&segment));
    place.good(&["verify", &format!("vol@{}", &third["vol_".len()..]), "--level", "full"]);
    server.put(&key, &whole);

    // To the plain layout and back.
    let did = place.verb(&["snapshot", &image, "--layout", "plain"]);
    assert!(did.status == 0 && did.stderr.contains("cannot be copied into the plain one"), "{did:?}");
    assert!(place.names("vol").contains(&format!("{}.tar.gz", newest(&place))));
    let did = place.verb(&["snapshot", &image]);
    assert!(did.status == 0 && did.stderr.contains("nothing is carried forward"), "{did:?}");
    place.good(&["verify", "--all", "--level", "full"]);

    // A copy is plain, wherever it is.
    let to = place.host.at("copies");
    fs::create_dir(&to).unwrap();
    place.good(&["copy", &format!("vol@{}", &third["vol_".len()..]), "--to", to.to_str().unwrap()]);
    let archives = fs::read_dir(to.join("vol")).unwrap().map(|entry| entry.unwrap().path());
    let copied = archives.into_iter().find(|path| path.to_str().unwrap().ends_with(".tar.gz")).unwrap();
    assert!(fs::read(copied).unwrap() == archive(&place, &third));
}

#[test]
#[ignore = "needs a store of scripts/objects"]
fn nights_in_a_real_store_share_their_bytes() {
    let place = Place::real("shared", SHARED);
    let image = old_disk(&place, 24);
    place.good(&["snapshot", &image]);
    for night in 0..3 {
        change(&place, &image, &format!("f{night}"), 200_000);
        let did = place.verb(&["snapshot", &image]);
        assert_eq!(did.status, 0, "{did:?}");
        println!("{}", did.stderr.lines().find(|line| line.contains("requests to the store")).unwrap());
    }
    assert_eq!(segments(&place), needed(&place));
    assert_as_in_a_directory(&place, &image);
    place.good(&["verify", "--all", "--level", "full"]);
    let newest = newest(&place);
    if !crate::real::is_native() {
        let (address, settings) = (place.client.address(), place.client.settings());
        let rclone = format!(
            "[r]\ntype = s3\nprovider = Other\nenv_auth = true\nendpoint = {}\nregion = {}\nforce_path_style = true\n",
            settings.endpoint, settings.region
        );
        let remote = format!("r:{}/{}", address.bucket, address.key("vol"));
        assert!(composed_by_rclone(&place, &newest, &remote, &rclone) == archive(&place, &newest));
    }
    let all = stems(&place);
    let others: Vec<&str> = all.iter().map(String::as_str).filter(|stem| *stem != newest).collect();
    remove(&place, &others);
    assert_eq!(marks(&place), BTreeSet::new(), "they are young");
    place.good(&["verify", "--all", "--level", "full"]);
    assert_eq!(place.client.uploads("").unwrap(), []);
}
