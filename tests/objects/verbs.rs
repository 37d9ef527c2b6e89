//! Promise: the verbs work on an object store as on a directory; a backup there is complete or does not show; a run that is
//! killed at any moment leaves nothing that passes for a backup, and the next run removes what it left.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use chrono::Utc;
use serde_json::Value;
use sha1::{Digest, Sha1};
use volbak::objects::{Limits, ObjectAddress, ObjectClient, ObjectScheme, ObjectSettings};

use crate::client::{SECRET, sources};
use crate::storing::Storing;
use crate::testkit::stand_in::{Did, Host};
use crate::testkit::wait::{day_that_lasts, wait_until};

pub(crate) const ALL: u64 = 1 << 30;

/// A host whose destination is in a store.
pub(crate) struct Place {
    pub(crate) host: Host,
    pub(crate) client: ObjectClient,
}

impl Place {
    /// In a store of this process.
    pub(crate) fn in_process(server: &Storing, more: &str) -> Self {
        Self::in_prefix(server, "host-1", more)
    }

    pub(crate) fn in_prefix(server: &Storing, prefix: &str, more: &str) -> Self {
        let address = ObjectAddress::parse(&format!("s3://backups/{prefix}")).unwrap();
        let settings = ObjectSettings::find(&sources(&server.url)).unwrap();
        let place = Self::new(ObjectClient::new(address, settings, Limits::default()).unwrap());
        fs::write(
            place.host.at("keys"),
            format!("[default]\naws_access_key_id = KEY\naws_secret_access_key = {SECRET}\n"),
        )
        .unwrap();
        fs::set_permissions(place.host.at("keys"), fs::Permissions::from_mode(0o600)).unwrap();
        place.configure(more);
        place
    }

    /// In a new bucket of the store that scripts/test-objects started.
    pub(crate) fn real(name: &str, more: &str) -> Self {
        let place = Self::new(crate::real::bucket(name, &[]));
        place.configure(more);
        place
    }

    pub(crate) fn new(client: ObjectClient) -> Self {
        Self { host: Host::new(""), client }
    }

    /// `more` has the top of the config first, then tables.
    pub(crate) fn configure(&self, more: &str) {
        let keys = self.host.at("keys");
        let settings = self.client.settings();
        let named = if keys.exists() { format!("credentials_file = '{}'\n", keys.display()) } else { String::new() };
        // require_mount has its default: an object store is no mount.
        // Swift's own settings are those of the environment.
        let where_it_is = match self.client.address().scheme {
            ObjectScheme::S3 => format!("endpoint = '{}'\nregion = '{}'\n", settings.endpoint, settings.region),
            _ => String::new(),
        };
        let config = format!(
            "backup_destination = '{}'\nvolume_groups = ['vg0']\n{more}\n[store]\n{where_it_is}cache_directory = '{}'\n{named}",
            self.client.address(),
            self.host.at("cache").display()
        );
        fs::write(self.host.at("volbak.toml"), config).unwrap();
    }

    pub(crate) fn verb(&self, arguments: &[&str]) -> Did {
        self.host.verb(arguments)
    }

    /// A verb that ends well; what it printed.
    pub(crate) fn good(&self, arguments: &[&str]) -> String {
        let did = self.verb(arguments);
        assert_eq!(did.status, 0, "{arguments:?}: {did:?}");
        did.stdout
    }

    pub(crate) fn begin(&self, arguments: &[&str]) -> Child {
        let mut program = self.host.program(arguments);
        program.arg("--config").arg(self.host.at("volbak.toml"));
        program.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// The names in the volume's folder.
    pub(crate) fn names(&self, volume: &str) -> Vec<String> {
        let prefix = self.client.address().key(&format!("{volume}/"));
        let objects = self.client.list(&prefix, false).unwrap().objects;
        let names = objects.iter().map(|object| object.key[prefix.len()..].to_owned());
        names.filter(|name| name != ".volbak-folder").collect()
    }

    /// The stems of backups, which are whole: each manifest has its own archive, index and checksum.
    pub(crate) fn whole_backups(&self, volume: &str) -> BTreeSet<String> {
        self.whole_backups_besides(&BTreeSet::new(), volume)
    }

    /// As [`Self::whole_backups`], which reads every archive, but for those that are known to be whole.
    pub(crate) fn whole_backups_besides(&self, known: &BTreeSet<String>, volume: &str) -> BTreeSet<String> {
        let names = self.names(volume);
        let read = |name: &str| {
            let key = self.client.address().key(&format!("{volume}/{name}"));
            self.client.get(&key, ALL).unwrap().unwrap_or_else(|| panic!("{name} is missing: {names:?}"))
        };
        let stems = names.iter().filter(|name| !name.starts_with('.'));
        let stems: BTreeSet<String> =
            stems.filter_map(|name| name.strip_suffix(".manifest.json")).map(str::to_owned).collect();
        for stem in stems.difference(known) {
            let manifest: Value = serde_json::from_slice(&read(&format!("{stem}.manifest.json"))).unwrap();
            let suffix = if manifest["archive_kind"] == "image" { "img.gz" } else { "tar.gz" };
            let archive = read(&format!("{stem}.{suffix}"));
            assert_eq!(manifest["sizes"]["archive_bytes"], archive.len(), "{stem}");
            let sha1 = volbak::shown::hex(&Sha1::digest(&archive));
            let said = manifest["digests"]["archive_sha1"].as_str().unwrap();
            assert_eq!(manifest["sizes"]["index_bytes"], read(&format!("{stem}.index")).len(), "{stem}");
            // Where the store copied a part, a full verification writes the checksum.
            assert_eq!(said.is_empty(), manifest["format"] == 5, "{stem}");
            assert!(said.is_empty() || said == sha1, "{stem}");
            if !said.is_empty() || names.contains(&format!("{stem}.checksum")) {
                assert!(read(&format!("{stem}.checksum")).starts_with(sha1.as_bytes()), "{stem}");
            }
        }
        stems
    }

    pub(crate) fn listed(&self) -> Vec<Value> {
        let listed: Value = serde_json::from_str(&self.good(&["list", "--json"])).unwrap();
        listed["backups"].as_array().unwrap().clone()
    }
}

/// An image with some megabytes that do not compress, and the path of it.
pub(crate) fn disk(host: &Host, name: &str, megabytes: usize) -> String {
    let tree = tempfile::tempdir().unwrap();
    for number in 0..megabytes {
        let mut bytes = vec![0; 1 << 20];
        blake3::Hasher::new().update(number.to_string().as_bytes()).finalize_xof().fill(&mut bytes);
        fs::write(tree.path().join(format!("f{number}")), bytes).unwrap();
    }
    fs::write(tree.path().join("hostname"), format!("{name}\n")).unwrap();
    let image = host.at(&format!("{name}.img"));
    let size = format!("{}M", megabytes * 2 + 8);
    crate::testkit::stand_in::run(
        std::process::Command::new("mke2fs")
            .args(["-q", "-F", "-t", "ext4", "-d"])
            .arg(tree.path())
            .arg(&image)
            .arg(size),
    );
    image.to_str().unwrap().to_owned()
}

fn content(number: usize) -> String {
    format!("volume-1 {number}\n").repeat(100)
}

fn assert_restored(directory: &Path) {
    for number in 0..20 {
        assert_eq!(fs::read_to_string(directory.join(format!("file{number}"))).unwrap(), content(number));
    }
}

/// Waits, for what a run writes is named by the second of its start.
pub(crate) fn next_second() {
    let now = Utc::now().timestamp();
    wait_until("the next second", || Utc::now().timestamp() > now);
}

#[test]
fn credentials_that_every_user_can_read_are_told() {
    let server = Storing::start();
    let place = Place::in_process(&server, "");
    place.host.add_ext4("volume-1");
    place.good(&["run"]);
    let keys = place.host.at("keys");
    let told = format!("every user of this host can read {}", keys.display());
    assert!(!place.verb(&["doctor"]).stdout.contains(&told));
    fs::set_permissions(&keys, fs::Permissions::from_mode(0o604)).unwrap();
    let night = place.verb(&["run"]);
    assert!(night.status == 3 && night.stdout.contains(&told) && night.stdout.contains("chmod o="), "{night:?}");
    let doctor = place.verb(&["doctor"]).stdout;
    assert_eq!(doctor.matches(&told).count(), 1, "{doctor}");
}

/// Two nights, and each verb that reads them.
fn nights_are_kept_and_read(place: &Place) {
    day_that_lasts();
    place.host.add_ext4("volume-1");
    place.good(&["run"]);
    next_second();
    place.good(&["run"]);
    let stems: Vec<String> = place.whole_backups("volume-1").into_iter().collect();
    assert_eq!(stems.len(), 2, "{stems:?}");
    assert_eq!(place.names("volume-1").len(), 8, "{:?}", place.names("volume-1"));
    assert!(place.client.uploads("").unwrap().is_empty());
    // The date as a person types it, and the run's own name.
    let day = stems[0].strip_prefix("volume-1_").unwrap();
    let second = &day[..17];
    assert_ne!(second, &stems[1]["volume-1_".len()..][..17], "two runs in one second");

    let listed = place.listed();
    assert_eq!(listed.len(), 2, "{listed:?}");
    assert!(listed.iter().all(|one| one["state"]["state"] == "complete"), "{listed:?}");
    assert!(place.good(&["status"]).contains("volume-1"));
    assert!(place.good(&["report"]).contains("volume-1"));
    for level in ["quick", "full", "restore-test"] {
        place.good(&["verify", "--all", "--level", level]);
    }
    let listed = place.listed();
    assert!(listed.iter().all(|one| one["verified"]["verdict"] == "good"), "{listed:?}");
    let doctor = place.verb(&["doctor"]);
    assert!(doctor.stdout.contains("is in an object store") && !doctor.stdout.contains("EiB"), "{doctor:?}");

    let dated = |date: &str, path: &str| format!("volume-1@{date}:{path}");
    for wanted in [dated(second, "file7"), dated(day, "file7"), "volume-1:file7".to_owned()] {
        assert_eq!(place.good(&["cat", &wanted]), content(7), "{wanted}");
    }
    let today = place.verb(&["cat", &dated("today", "file7")]);
    assert!(today.status == 2 && today.stderr.contains(day), "two of that day: {today:?}");
    let archive = listed[0]["archive"].as_str().unwrap();
    assert!(archive.starts_with(place.client.address().scheme.text()), "{archive}");
    assert_eq!(place.good(&["cat", &format!("{archive}:file3")]), content(3));
    assert!(place.good(&["browse", "volume-1"]).contains("file19"));
    place.good(&["diff", &format!("volume-1@{day}"), "volume-1"]);
    let elsewhere = place.verb(&["browse", "s3://other/place/volume-1/volume-1_01_01_2026.tar.gz"]);
    assert!(elsewhere.status == 2 && elsewhere.stderr.contains("--destination"), "{elsewhere:?}");

    let (all, part, image) = (place.host.at("all"), place.host.at("part"), place.host.at("disk"));
    place.good(&["restore", "volume-1", "--to", all.to_str().unwrap()]);
    assert_restored(&all);
    place.good(&["restore", "volume-1", "--to", part.to_str().unwrap(), "--path", "file5"]);
    assert_eq!(fs::read_to_string(part.join("file5")).unwrap(), content(5));
    assert!(!part.join("file6").exists());
    place.good(&["restore", "volume-1", "--to-image", image.to_str().unwrap()]);
    let raw = place.host.at("raw");
    place.good(&["export", &format!("volume-1@{day}"), "--to", raw.to_str().unwrap(), "--format", "raw"]);
    for made in [image, raw] {
        let files = place.host.at("of-image");
        fs::create_dir(&files).unwrap();
        crate::testkit::stand_in::run(
            std::process::Command::new("debugfs").arg("-R").arg(format!("rdump / {}", files.display())).arg(&made),
        );
        assert_restored(&files);
        fs::remove_dir_all(files).unwrap();
    }
    // Copies lie in a directory, with their names.
    let copies = place.host.at("copies");
    fs::create_dir(&copies).unwrap();
    place.good(&["copy", "--all", "--to", copies.to_str().unwrap()]);
    let copied: BTreeSet<String> = fs::read_dir(copies.join("volume-1"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(stems.iter().all(|stem| copied.contains(&format!("{stem}.tar.gz"))), "{copied:?}");
    assert!(place.good(&["find", "--volume", "volume-1", "file1?"]).contains("file13"));

    place.good(&["remove", &format!("volume-1@{day}")]);
    assert!(!place.names("volume-1").iter().any(|name| name.contains(&stems[0])), "{:?}", place.names("volume-1"));
    assert_eq!(place.whole_backups("volume-1").len(), 1);
}

#[test]
fn nights_are_kept_in_a_store() {
    let server = Storing::start();
    nights_are_kept_and_read(&Place::in_process(&server, ""));
}

#[test]
#[ignore = "needs a store of scripts/objects"]
fn nights_are_kept_in_a_real_store() {
    nights_are_kept_and_read(&Place::real("nights", ""));
}

/// A manifest that says that the backup began so many days earlier, sealed again.
pub(crate) fn older(manifest: &str, days: i64) -> String {
    let facts: Value = serde_json::from_str(manifest).unwrap();
    let begun = facts["started_at"].as_str().unwrap();
    let earlier = begun.parse::<chrono::DateTime<chrono::Utc>>().unwrap() - chrono::TimeDelta::days(days);
    let seal = facts["self_sha256"].as_str().unwrap();
    let date = |at: chrono::DateTime<chrono::Utc>| at.format("%Y-%m-%d").to_string();
    let local = facts["local_date"].as_str().unwrap();
    let open = manifest.replace(begun, &earlier.to_rfc3339());
    sealed(&open.replace(&format!("\"{local}\""), &format!("\"{}\"", date(earlier))), seal)
}

/// A manifest that was changed, with its digest in the place of the one that it had.
pub(crate) fn sealed(manifest: &str, seal: &str) -> String {
    let open = manifest.replace(seal, &"0".repeat(seal.len()));
    let digest = volbak::shown::hex(&sha2::Sha256::digest(&open));
    open.replacen(&"0".repeat(seal.len()), &digest, 1)
}

/// What retention removes, and what it does not.
fn old_backups_are_removed(place: &Place) {
    place.host.add_ext4("volume-1");
    for _ in 0..3 {
        place.good(&["run"]);
    }
    let stems: Vec<String> = place.whole_backups("volume-1").into_iter().collect();
    let [oldest, old, _] = &stems[..] else { panic!("{stems:?}") };
    place.good(&["protect", &format!("volume-1@{}", &oldest["volume-1_".len()..])]);
    // Twenty days older.
    for stem in [oldest, old] {
        let key = place.client.address().key(&format!("volume-1/{stem}.manifest.json"));
        let text = String::from_utf8(place.client.get(&key, ALL).unwrap().unwrap()).unwrap();
        place.client.put(&key, older(&text, 20).as_bytes(), false).unwrap();
    }
    let forecast = place.good(&["prune", "--dry-run"]);
    assert!(forecast.contains(&format!("{old}.tar.gz")), "{forecast}");
    let said = place.good(&["run"]);
    let left = place.whole_backups("volume-1");
    assert!(left.contains(oldest) && !left.contains(old) && left.len() == 3, "{left:?} {said} {forecast}");
    let names = place.names("volume-1");
    assert!(!names.iter().any(|name| name.contains(old.as_str())), "{names:?}");
    place.good(&["unprotect", &format!("volume-1@{}", &oldest["volume-1_".len()..])]);
    place.good(&["run"]);
    assert!(!place.names("volume-1").iter().any(|name| name.contains(oldest.as_str())));
}

#[test]
fn retention_works_in_a_store() {
    let server = Storing::start();
    old_backups_are_removed(&Place::in_process(&server, "backups_retention_days = 7\n"));
}

#[test]
#[ignore = "needs a store of scripts/objects"]
fn retention_works_in_a_real_store() {
    old_backups_are_removed(&Place::real("retention", "backups_retention_days = 7\n"));
}

/// Kills `snapshot` at moments spread over its requests; after each, and after the next run, all is well.
fn kills(place: &Place, moments: u64, kill_at: &dyn Fn(&mut Child, u64)) {
    let image = disk(&place.host, "vol", 20);
    place.good(&["snapshot", &image]);
    let mut killed = 0;
    let mut whole = place.whole_backups("vol");
    for moment in 0..moments {
        let mut child = place.begin(&["snapshot", &image]);
        kill_at(&mut child, moment);
        child.kill().unwrap();
        killed += u64::from(child.wait().unwrap().code().is_none());
        whole = place.whole_backups_besides(&whole, "vol");
        let listed = place.listed();
        assert!(listed.iter().all(|one| one["state"]["state"] == "complete"), "moment {moment}: {listed:#?}");
        assert_eq!(listed.len(), whole.len(), "moment {moment}");
        // The lease of a process that is gone holds nobody up.
        place.good(&["snapshot", &image]);
        assert_eq!(place.client.uploads("").unwrap(), [], "moment {moment}");
        #[cfg(feature = "swift")]
        crate::swift::assert_no_dead_segments(place);
        let next = place.whole_backups_besides(&whole, "vol");
        assert_eq!(next.len(), whole.len() + 1, "moment {moment}");
        whole = next;
    }
    assert!(killed * 2 > moments, "{killed} of {moments} were killed in time");
    place.good(&["verify", "--all", "--quick"]);
}

#[test]
fn a_snapshot_that_is_killed_leaves_no_half_backup() {
    let server = Storing::start();
    let place = Place::in_process(&server, "");
    // Each at its own request, which the store has not answered, and has carried out or not.
    kills(&place, 14, &|child, moment| {
        let requests = 2 + usize::try_from(moment).unwrap() * 2;
        server.answer_so_many(requests, moment % 3 != 1);
        wait_until("so many requests", || server.stalled() > 0 || child.try_wait().unwrap().is_some());
        child.kill().unwrap();
        server.answer_all();
    });
    // Remains of a publication are left alone while they may be another run's, and removed later.
    server.age(Duration::from_secs(3 * 3600));
    place.good(&["snapshot", place.host.at("vol.img").to_str().unwrap()]);
    let whole = place.whole_backups("vol");
    for name in place.names("vol") {
        assert!(whole.iter().any(|stem| name.starts_with(stem.as_str())), "{name} is left");
    }
}

#[test]
#[ignore = "needs a store of scripts/objects"]
fn a_snapshot_that_is_killed_leaves_no_half_backup_in_a_real_store() {
    let place = Place::real("killed", "");
    kills(&place, 10, &|child, moment| {
        let limit = std::time::Instant::now() + Duration::from_millis(150 * (moment + 1));
        while std::time::Instant::now() < limit && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(5));
        }
    });
}

#[test]
fn a_publication_that_is_cut_off_does_not_show_and_is_removed_when_no_run_can_go_on() {
    let server = Storing::start();
    let place = Place::in_process(&server, "");
    let image = disk(&place.host, "vol", 1);
    place.good(&["snapshot", &image]);
    let before = place.names("vol");
    let cut_off = |request: &str| {
        server.stall(&[request]);
        let mut child = place.begin(&["snapshot", &image]);
        wait_until(request, || server.stalled() == 1);
        child.kill().unwrap();
        child.wait().unwrap();
        server.stall(&[]);
    };
    // Nothing is published before the next run can find it.
    cut_off("PUT /backups/host-1/vol/.volbak-tmp.*.manifest.json");
    assert_eq!(place.names("vol"), before);
    // All but the manifest is there.
    cut_off("PUT /backups/host-1/vol/vol_*.manifest.json");
    let names = place.names("vol");
    assert_eq!(names.len(), before.len() + 4, "{names:?}");
    assert_eq!(place.listed().len(), 1);
    // It may be another run's that is about to go on.
    place.good(&["snapshot", &image]);
    assert_eq!(place.names("vol").len(), before.len() * 2 + 4);
    assert_eq!(place.listed().len(), 2);
    server.age(Duration::from_secs(2 * 3600 + 1));
    place.good(&["snapshot", &image]);
    assert_eq!(place.names("vol").len(), before.len() * 3, "{:?}", place.names("vol"));
    assert_eq!(place.whole_backups("vol").len(), 3);
}

#[test]
fn a_lost_manifest_is_damage_and_never_a_remain() {
    let server = Storing::start();
    let place = Place::in_process(&server, "");
    let image = disk(&place.host, "vol", 1);
    place.good(&["snapshot", &image]);
    let stem = place.whole_backups("vol").pop_first().unwrap();
    server.remove(&format!("host-1/vol/{stem}.manifest.json"));
    server.age(Duration::from_secs(30 * 24 * 3600));
    let listed = place.listed();
    assert_eq!(listed[0]["state"]["state"], "damaged", "{listed:?}");
    let did = place.verb(&["snapshot", &image]);
    assert!(did.status == 3 && did.stderr.contains("warning: "), "{did:?}");
    assert!(place.names("vol").contains(&format!("{stem}.tar.gz")));
}

#[test]
fn a_key_that_cannot_delete_is_enough_for_backups() {
    let server = Storing::start();
    let place = Place::in_process(&server, "");
    let image = disk(&place.host, "vol", 9);
    server.forbid(&["DELETE /"]);
    place.good(&["snapshot", &image]);
    place.good(&["snapshot", &image]);
    assert_eq!(place.whole_backups("vol").len(), 2);
}

#[test]
fn four_hosts_with_the_same_names_do_not_mix() {
    let server = Storing::start();
    let places: Vec<Place> = (1..=4).map(|host| Place::in_prefix(&server, &format!("host-{host}"), "")).collect();
    let images: Vec<String> = places.iter().zip(1..).map(|(place, size)| disk(&place.host, "vol", size)).collect();
    let mut children: Vec<Child> =
        places.iter().zip(&images).map(|(place, image)| place.begin(&["snapshot", image])).collect();
    for child in &mut children {
        assert!(child.wait().unwrap().success());
    }
    let mut sizes = BTreeMap::new();
    for (host, place) in places.iter().enumerate() {
        assert_eq!(place.whole_backups("vol").len(), 1);
        sizes.insert(place.listed()[0]["archive_bytes"].as_u64().unwrap(), host);
    }
    assert_eq!(sizes.len(), 4);
}

#[test]
fn the_states_of_hosts_are_read_from_their_prefixes() {
    let server = Storing::start();
    let places = [1, 2].map(|host| Place::in_prefix(&server, &format!("host-{host}"), ""));
    let volumes = [1, 2].map(|host| format!("volume-{host}"));
    for (place, volume) in places.iter().zip(&volumes) {
        place.host.add_ext4(volume);
        // Both runs are of this machine: each gets a state of a host with a name of its own.
        place.good(&["run"]);
        let folder = place.client.address().key(".volbak/fleet/");
        let states = server.keys(&folder);
        let state = states.iter().find(|key| !key.ends_with(".volbak-folder")).unwrap();
        let (host, name) = state[folder.len()..].split_once('/').unwrap();
        let text = String::from_utf8(place.client.get(state, ALL).unwrap().unwrap()).unwrap();
        let (of_volume, quoted) = (format!("on-{volume}"), |name: &str| format!("\"host\":\"{name}\""));
        let text = text.replace("\"host\": \"", "\"host\":\"").replace(&quoted(host), &quoted(&of_volume));
        server.put(&format!("{folder}{of_volume}/{name}"), text.as_bytes());
    }
    let hosts = |status: i32, roots: &[&str]| -> Vec<String> {
        let did = places[0].verb(&[&["fleet", "--json"], roots].concat());
        assert_eq!(did.status, status, "{roots:?}: {did:?}");
        // Of a prefix with several hosts, none can speak for another one.
        assert_eq!(did.stdout.contains("its states are in several places"), status == 3, "{did:?}");
        let view: Value = serde_json::from_str(&did.stdout).unwrap();
        let names = view["hosts"].as_array().unwrap().iter().map(|host| host["name"].as_str().unwrap().to_owned());
        names.filter(|name| name.starts_with("on-")).collect()
    };
    assert_eq!(hosts(0, &[]), ["on-volume-1"]);
    let both = ["on-volume-1", "on-volume-2"];
    assert_eq!(hosts(0, &["s3://backups/host-1", "s3://backups/host-2"]), both);
    assert_eq!(hosts(3, &["s3://backups"]), both);
}

#[test]
fn two_runs_that_do_not_see_each_others_lease_do_not_mix() {
    let server = Storing::start();
    let place = Place::in_process(&server, "");
    let image = disk(&place.host, "vol", 10);
    server.delay(Duration::from_millis(3));
    let lease = place.client.address().key(".volbak/lock");
    for _ in 0..3 {
        let mut children = ["1", "9"].map(|level| place.begin(&["snapshot", &image, "--level", level]));
        wait_until("both end", || {
            server.put(&lease, b"");
            children.iter_mut().all(|child| child.try_wait().unwrap().is_some())
        });
    }
    // One may fail, since the other one ends its upload; none is mixed with another.
    place.whole_backups("vol");
    assert!(place.listed().iter().all(|one| one["state"]["state"] == "complete"));
}
