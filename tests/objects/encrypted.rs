//! Promise: an encrypted backup in an object store is whole, has no name of a file in any object, and is read with a key alone.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::carried::{change, debugfs, manifest, newest, night_that_sends_one_part, old_disk};
use crate::copies::{Pair, directory};
use crate::storing::Storing;
use crate::testkit::guest::{quoted, sh};
use crate::verbs::{ALL, Place, next_second};

/// A new key of a recipient; returns its public half.
fn recipient(path: &Path) -> String {
    sh(&format!("umask 077; age-keygen -o {0} 2>/dev/null; age-keygen -y {0}", quoted(path))).trim().to_owned()
}

/// A host that encrypts, with the public keys of its recipients.
fn encrypting() -> (Storing, Place, [String; 2]) {
    let server = Storing::start();
    let place = Place::in_process(&server, "");
    let recipients = make_keys(&place);
    encrypt(&place, &recipients);
    (server, place, recipients)
}

fn make_keys(place: &Place) -> [String; 2] {
    sh(&format!("ssh-keygen -q -t ed25519 -N '' -f {}", quoted(&place.host.at("signing"))));
    ["one", "two"].map(|name| recipient(&place.host.at(name)))
}

fn encrypt(place: &Place, recipients: &[String; 2]) {
    place.configure(&format!(
        "[encryption]\nrecipients = ['{}', '{}']\nsigning_key = '{}'\nindex_cache = '{}'\n",
        recipients[0],
        recipients[1],
        place.host.at("signing").display(),
        place.host.at("indexes").display()
    ));
}

#[test]
fn plain_backups_beside_encrypted_ones_are_told() {
    let (_server, place, recipients) = encrypting();
    place.host.add_ext4("volume-1");
    place.configure("");
    place.good(&["run"]);
    let status = || -> Value { serde_json::from_str(&place.verb(&["status", "--json"]).stdout).unwrap() };
    let none: [&str; 0] = [];
    assert_eq!(status()["notices"], serde_json::json!(none));
    encrypt(&place, &recipients);
    let told = "not encrypted: volume-1 (1);";
    assert!(status()["notices"][0].as_str().unwrap().contains(told), "the next one will be encrypted");
    next_second();
    let report = place.good(&["run"]);
    assert!(report.contains("\nEncrypted - all 1 new backups\n"), "{report}");
    let is_encrypted: Vec<Value> = place.listed().iter().map(|one| one["encrypted"].clone()).collect();
    assert_eq!(is_encrypted, [false, true]);
    let found = status();
    let volume = &found["volumes"][0];
    assert_eq!((&volume["backups"], &volume["encrypted"]), (&2.into(), &1.into()), "{found:#}");
    assert_eq!((&volume["last_encrypted"], &found["level"]), (&true.into(), &"OK".into()), "{found:#}");
    assert!(found["notices"][0].as_str().unwrap().contains(told), "{found:#}");
    let text = place.good(&["status"]);
    assert!(text.starts_with("VOLBAK OK - 1 volume has") && text.contains(told), "{text}");
    assert!(text.contains("2 (1 encrypted)"), "{text}");
    let doctor = place.verb(&["doctor"]).stdout;
    assert!(doctor.contains(told), "{doctor}");
    // A lost manifest does not make it plain.
    let key = |name: &str| place.client.address().key(&format!("volume-1/{name}"));
    let sealed = place.names("volume-1").into_iter().find(|name| name.ends_with(".tar.gz.age")).unwrap();
    let stem = sealed.strip_suffix(".tar.gz.age").unwrap();
    place.client.delete(&key(&format!("{stem}.manifest.json")), None).unwrap();
    let listed = place.verb(&["list"]).stdout;
    assert!(listed.contains("DAMAGED: the manifest is missing, encrypted"), "{listed}");
}

#[test]
fn nights_are_encrypted_in_a_store_and_come_back_with_a_key() {
    let (_server, place, recipients) = encrypting();
    place.host.add_ext4("volume-1");
    for night in 1..=2 {
        let did = place.verb(&["run"]);
        assert_eq!(did.status, 0, "night {night}: {did:?}");
    }
    let manifests = place.names("volume-1").into_iter().filter(|name| name.ends_with(".manifest.json")).count();
    assert_eq!(manifests, 2, "{:?}", place.names("volume-1"));
    for name in place.names("volume-1") {
        let key = place.client.address().key(&format!("volume-1/{name}"));
        let bytes = place.client.get(&key, ALL).unwrap().unwrap();
        assert!(!bytes.windows(5).any(|window| window == b"file7"), "{name} names a file");
    }
    assert!(place.good(&["list"]).contains("encrypted"));
    place.good(&["status"]);

    let identity = place.host.at("two");
    let key = ["--identity", identity.to_str().unwrap()];
    let with_key = |arguments: &[&str]| place.good(&[arguments, &key].concat());
    with_key(&["verify", "volume-1", "--restore-test"]);
    assert_eq!(with_key(&["cat", "volume-1:file7"]), "volume-1 7\n".repeat(100));
    let to = place.host.at("restored");
    with_key(&["restore", "volume-1", "--to", to.to_str().unwrap()]);
    assert_eq!(fs::read_to_string(to.join("file7")).unwrap(), "volume-1 7\n".repeat(100));

    // Without a key: all that can be checked is, nothing is read.
    place.good(&["verify", "volume-1"]);
    let refused = place.verb(&["cat", "volume-1:file7"]);
    assert_eq!(refused.status, 1, "{refused:?}");
    assert!(refused.stdout.is_empty() && refused.stderr.contains(&recipients[0]), "{refused:?}");
}

const MIB: usize = 1 << 20;

/// Fails unless the newest backup restores, with a key, as the files of the image.
fn assert_restores(place: &Place, image: &str, name: &str) {
    let identity = place.host.at("one");
    let (restored, expected) = (place.host.at(&format!("{name}-restored")), place.host.at(&format!("{name}-expected")));
    let to = restored.to_str().unwrap();
    place.good(&["restore", "vol", "--to", to, "--identity", identity.to_str().unwrap()]);
    fs::create_dir(&expected).unwrap();
    debugfs(image, &format!("rdump / {}\n", expected.display()));
    sh(&format!("diff -r -x lost+found {} {}", quoted(&expected), quoted(&restored)));
    place.good(&["verify", "vol"]);
    place.good(&["verify", "vol", "--restore-test", "--identity", identity.to_str().unwrap()]);
    for tree in [restored, expected] {
        fs::remove_dir_all(tree).unwrap();
    }
}

#[test]
fn a_later_encrypted_night_is_copied_in_the_store() {
    let (server, place, _) = encrypting();
    let image = old_disk(&place, 60);
    place.good(&["snapshot", &image]);
    for name in ["f31", "f3"] {
        change(&place, &image, name, MIB);
        night_that_sends_one_part(&server, &place, &image);
        assert_restores(&place, &image, name);
    }
    // Each segment can be found by its digest: one that is damaged in the store is named without a key.
    let key = place.client.address().key(&format!("vol/{}.tar.gz.age", newest(&place)));
    let mut bad = place.client.get(&key, ALL).unwrap().unwrap();
    bad[40 * MIB] ^= 1;
    place.client.put(&key, &bad, false).unwrap();
    let did = place.verb(&["verify", "vol"]);
    assert!(did.status != 0 && did.stderr.contains("not the one in the table of segments"), "{did:?}");
}

/// Those that were carried from a bad backup have its damage, whether or not a key is there.
#[test]
fn nothing_is_carried_from_what_was_carried_from_a_bad_backup() {
    let (server, place, _) = encrypting();
    let image = old_disk(&place, 20);
    let night = |name: &str| {
        change(&place, &image, name, MIB);
        place.good(&["snapshot", &image]);
        newest(&place)
    };
    let [first, bad, child] = ["f1", "f2", "f3"].map(night);
    for stem in [&bad, &child] {
        assert_eq!(manifest(&place, stem)["digests"]["archive_sha1"], "");
    }
    assert_eq!(manifest(&place, &child)["carried"]["parent"], bad.as_str());
    let published = manifest(&place, &bad)["digests"]["index_sha256"].clone();
    assert_eq!(manifest(&place, &child)["carried"]["parent_index_sha256"], published);
    let key = place.client.address().key(&format!("vol/{bad}.tar.gz.age"));
    let mut bytes = server.get(&key);
    bytes[9 * MIB] ^= 1;
    server.put(&key, &bytes);
    let named = format!("vol@{}", bad.trim_start_matches("vol_"));
    assert_eq!(place.verb(&["verify", &named]).status, 1);
    let last = night("f4");
    let carried = &manifest(&place, &last)["carried"];
    assert!(carried.is_null() || carried["parent"] == first.as_str(), "{carried:#}");
    // With the key it is known to be bad, too.
    let identity = place.host.at("one");
    let identity = identity.to_str().unwrap();
    let target = place.host.at("target.img");
    fs::copy(&image, &target).unwrap();
    let target = target.to_str().unwrap();
    let did = place.verb(&[
        "restore",
        &named,
        "--identity",
        identity,
        "--to-image",
        target,
        &format!("--yes-erase={target}"),
    ]);
    assert!(did.status == 1 && did.stderr.contains("--even-if-bad"), "{did:?}");
    let to = place.host.at("to");
    let did = place.verb(&["restore", &named, "--identity", identity, "--to", to.to_str().unwrap()]);
    assert!(did.stderr.contains("BAD") || did.stderr.contains("found it bad"), "{did:?}");
}

#[test]
fn a_huge_unchanged_file_is_not_encrypted_again_to_fill_a_part() {
    let (server, place, _) = encrypting();
    let tree = tempfile::tempdir().unwrap();
    // One of the two small files is in front of the huge one.
    for (name, len) in [("a", MIB), ("huge", 80 * MIB), ("z", MIB)] {
        let mut bytes = vec![0; len];
        blake3::Hasher::new().update(name.as_bytes()).finalize_xof().fill(&mut bytes);
        fs::write(tree.path().join(name), bytes).unwrap();
    }
    let image = place.host.at("vol.img");
    sh(&format!("mke2fs -q -F -t ext4 -d {} {} 100M", quoted(tree.path()), quoted(&image)));
    let image = image.to_str().unwrap();
    debugfs(image, "sif a ctime @1700000000\nsif huge ctime @1700000000\nsif z ctime @1700000000\n");
    place.good(&["snapshot", image]);
    change(&place, image, "a", 1000);
    change(&place, image, "z", 1000);
    server.take_bytes();
    place.good(&["snapshot", image]);
    let (sent, copied) = server.take_bytes();
    assert!(copied >= 80 * MIB, "{copied} bytes copied");
    assert!((5 * MIB..12 * MIB).contains(&sent), "{sent} bytes sent, padding among them");
    assert_restores(&place, image, "padded");
}

#[test]
fn a_table_of_segments_that_was_changed_is_not_carried_from() {
    let (server, place, _) = encrypting();
    let image = old_disk(&place, 20);
    place.good(&["snapshot", &image]);
    let key = place.client.address().key(&format!("vol/{}.segments", newest(&place)));
    let mut table = place.client.get(&key, ALL).unwrap().unwrap();
    let digit = table.iter().rposition(u8::is_ascii_digit).unwrap();
    table[digit] = if table[digit] == b'0' { b'1' } else { b'0' };
    server.put(&key, &table);
    let did = place.verb(&["snapshot", &image]);
    assert!(did.status == 0 && did.stderr.contains("its table of segments was changed"), "{did:?}");
    assert_restores(&place, &image, "all");
}

#[test]
#[ignore = "needs a store of scripts/objects"]
fn a_later_encrypted_night_is_copied_in_a_real_store() {
    let place = Place::real("encrypted", "");
    encrypt(&place, &make_keys(&place));
    let image = old_disk(&place, 60);
    place.good(&["snapshot", &image]);
    for name in ["f31", "f3"] {
        change(&place, &image, name, MIB);
        place.good(&["snapshot", &image]);
        let facts = manifest(&place, &newest(&place));
        let bytes = |pointer: &str| facts.pointer(pointer).unwrap().as_u64().unwrap();
        let sent = bytes("/sizes/archive_bytes") - bytes("/carried/on_server/copied_bytes");
        assert!(sent < 14 << 20, "{sent} sent: {facts:#}");
        assert_restores(&place, &image, name);
    }
}

/// An encrypted directory, and a store without copies of it.
fn copied_from_a_directory(place: Place) {
    let recipients = make_keys(&place);
    let pair = Pair::new(place, "");
    let (place, second) = (&pair.place, &pair.second);
    encrypt(place, &recipients);
    let (from, text) = directory(place);
    let failed = |says: &str| {
        let did = pair.try_to_copy(&text);
        let report: Value = serde_json::from_str(&did.stdout).unwrap();
        assert_eq!((did.status, Pair::outcomes(&report)), (1, vec!["failed", "failed"]), "{did:?}");
        assert!(did.stderr.contains(says), "{did:?}");
        assert_eq!(second.whole_backups("vol").len(), 0);
        assert!(second.names("vol").is_empty(), "{:?}", second.names("vol"));
    };
    // A host that signs nothing, and one whose key is gone.
    place.configure("");
    failed("Set `signing_key` and `recipients` in [encryption]");
    encrypt(place, &recipients);
    let key = place.host.at("signing");
    fs::rename(&key, place.host.at("away")).unwrap();
    failed("the signing key of this host cannot be used");
    // A key that did not sign them.
    sh(&format!("ssh-keygen -q -t ed25519 -N '' -f {}", quoted(&key)));
    failed("which is not a trusted signer");
    let signer = fs::read_to_string(place.host.at("signing.pub")).unwrap();
    fs::rename(place.host.at("away"), &key).unwrap();
    fs::rename(place.host.at("signing.pub"), place.host.at("other.pub")).unwrap();

    assert_eq!(Pair::outcomes(&pair.copy(&text)), ["copied", "copied"]);
    assert_eq!(Pair::outcomes(&pair.copy(&text)), ["present", "present"]);
    let names = second.names("vol");
    for suffix in [".tar.gz.age", ".index.age", ".segments", ".checksum", ".manifest.sig", ".manifest.json"] {
        assert_eq!(names.iter().filter(|name| name.ends_with(suffix)).count(), 2, "{names:?}");
    }
    encrypt(second, &recipients);
    for name in ["signing", "two"] {
        fs::copy(place.host.at(name), second.host.at(name)).unwrap();
    }
    let identity = second.host.at("two");
    let with_key = |arguments: &[&str]| second.good(&[arguments, &["--identity", identity.to_str().unwrap()]].concat());
    second.good(&["verify", "--all"]);
    with_key(&["verify", "--all", "--level", "restore-test"]);
    assert_eq!(with_key(&["cat", "vol:hostname"]), "vol\n");
    // Other hosts see who signed the copy, and do not trust the key that did not.
    fs::write(second.host.at("other.pub"), signer).unwrap();
    fs::remove_file(second.host.at("signing")).unwrap();
    let other = second.host.at("other.pub");
    let did = second.verb(&["verify", "--all", "--no-record", "--signer", other.to_str().unwrap()]);
    assert!(did.status == 1 && did.stderr.contains("is not a trusted signer"), "{did:?}");

    // Back to a directory, signature and all: the first one has them, a new one gets what the store has.
    let outcomes = |to: &Path| {
        let said = second.good(&["copy", "--all", "--to", to.to_str().unwrap(), "--json"]);
        let report: Value = serde_json::from_str(&said).unwrap();
        Pair::outcomes(&report).join(" ")
    };
    assert_eq!(outcomes(&from), "present present");
    let back = place.host.at("back");
    fs::create_dir(&back).unwrap();
    assert_eq!(outcomes(&back), "copied copied");
    place.good(&["verify", "--all", "--destination", back.to_str().unwrap()]);
}

#[test]
fn an_encrypted_directory_is_copied_to_a_store_once() {
    let server = Storing::start();
    copied_from_a_directory(Place::in_process(&server, ""));
}

#[test]
#[ignore = "needs a store of scripts/objects"]
fn an_encrypted_directory_is_copied_to_a_real_store_once() {
    copied_from_a_directory(Place::real("sealed-copies", ""));
}

#[test]
fn an_archive_whose_sha1_is_not_known_is_copied_without_a_key() {
    let (server, place, _) = encrypting();
    let image = old_disk(&place, 20);
    place.good(&["snapshot", &image]);
    change(&place, &image, "f3", MIB);
    place.good(&["snapshot", &image]);
    let stem = newest(&place);
    assert_eq!(manifest(&place, &stem)["digests"]["archive_sha1"], "");
    let copied = |name: &str| {
        let to = place.host.at(name);
        fs::create_dir(&to).unwrap();
        let did = place.verb(&["copy", "--all", "--to", to.to_str().unwrap()]);
        (did, to)
    };
    let (did, to) = copied("whole");
    assert_eq!(did.status, 0, "{did:?}");
    place.good(&["verify", "--all", "--destination", to.to_str().unwrap()]);
    // A segment that is not the one in the table.
    let key = place.client.address().key(&format!("vol/{stem}.tar.gz.age"));
    let mut bytes = server.get(&key);
    bytes[9 * MIB] ^= 1;
    server.put(&key, &bytes);
    let (did, to) = copied("damaged");
    assert!(did.status == 1 && did.stderr.contains("its table of segments is different"), "{did:?}");
    assert!(!to.join("vol").join(format!("{stem}.manifest.json")).exists());
}
