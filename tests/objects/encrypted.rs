//! Promise: an encrypted backup in an object store is whole, has no name of a file in any object, and is read with a key alone.

use std::fs;
use std::path::Path;

use crate::storing::Storing;
use crate::testkit::guest::{quoted, sh};
use crate::verbs::{ALL, Place};

/// A new key of a recipient; returns its public half.
fn recipient(path: &Path) -> String {
    sh(&format!("umask 077; age-keygen -o {0} 2>/dev/null; age-keygen -y {0}", quoted(path))).trim().to_owned()
}

#[test]
fn nights_are_encrypted_in_a_store_and_come_back_with_a_key() {
    let server = Storing::start();
    let place = Place::in_process(&server, "");
    let at = |name: &str| place.host.at(name);
    let recipients = [recipient(&at("one")), recipient(&at("two"))];
    sh(&format!("ssh-keygen -q -t ed25519 -N '' -f {}", quoted(&at("signing"))));
    place.configure(&format!(
        "[encryption]\nrecipients = ['{}', '{}']\nsigning_key = '{}'\nindex_cache = '{}'\n",
        recipients[0],
        recipients[1],
        at("signing").display(),
        at("indexes").display()
    ));
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

    let identity = at("two");
    let key = ["--identity", identity.to_str().unwrap()];
    let with_key = |arguments: &[&str]| place.good(&[arguments, &key].concat());
    with_key(&["verify", "volume-1", "--restore-test"]);
    assert_eq!(with_key(&["cat", "volume-1:file7"]), "volume-1 7\n".repeat(100));
    let to = at("restored");
    with_key(&["restore", "volume-1", "--to", to.to_str().unwrap()]);
    assert_eq!(fs::read_to_string(to.join("file7")).unwrap(), "volume-1 7\n".repeat(100));

    // Without a key: all that can be checked is, nothing is read.
    place.good(&["verify", "volume-1"]);
    let refused = place.verb(&["cat", "volume-1:file7"]);
    assert_eq!(refused.status, 1, "{refused:?}");
    assert!(refused.stdout.is_empty() && refused.stderr.contains(&recipients[0]), "{refused:?}");
}
