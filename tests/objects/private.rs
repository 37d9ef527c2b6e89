//! Promise: a store whose certificate a private authority signed is used where `ca_file` names that authority, and else gets no
//! request.

use std::fs;
use std::path::Path;

use volbak::objects::{Limits, ObjectAddress, ObjectClient, ObjectSettings};

use crate::client::{SECRET, sources};
#[cfg(feature = "swift")]
use crate::keystone::Keystone;
use crate::storing::Storing;
use crate::testkit::tls::authority;
use crate::verbs::{Place, disk};

/// Adds lines to `[store]`, the last table of the config.
fn add(place: &Place, lines: &str) {
    let path = place.host.at("volbak.toml");
    let config = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{config}{lines}")).unwrap();
}

fn named(ca_file: &Path) -> String {
    format!("ca_file = '{}'\n", ca_file.display())
}

#[test]
fn an_s3_api_with_a_private_authority_is_used_where_that_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let ours = authority(folder.path(), "ours", "DNS:localhost");
    let other = authority(folder.path(), "other", "DNS:localhost");
    let server = Storing::start_tls(&ours);
    let place_at = |url: &str| {
        let settings = ObjectSettings::find(&sources(url)).unwrap();
        let address = ObjectAddress::parse("s3://backups/host-1").unwrap();
        let place = Place::new(ObjectClient::new(address, settings, Limits::default()).unwrap());
        let keys = format!("[default]\naws_access_key_id = KEY\naws_secret_access_key = {SECRET}\n");
        fs::write(place.host.at("keys"), keys).unwrap();
        place.configure("");
        place
    };
    for (url, ca_file, says) in [
        (server.url.clone(), None, "certificate"),
        (server.url.clone(), Some(&other), "certificate"),
        (server.url.replace("localhost", "127.0.0.1"), Some(&ours), "not valid for"),
        (server.url.clone(), Some(&folder.path().join("missing.pem")), "missing.pem"),
    ] {
        let place = place_at(&url);
        add(&place, &ca_file.map(|path| named(path)).unwrap_or_default());
        let did = place.verb(&["snapshot", &disk(&place.host, "vol", 9)]);
        assert!(did.status == 1 && did.stderr.contains(says), "{url} {ca_file:?}: {did:?}");
        assert!(!did.stderr.contains(SECRET), "{did:?}");
        assert_eq!(server.count(), 0, "{url} {ca_file:?}");
    }
    let place = place_at(&server.url);
    add(&place, &named(&ours));
    let image = disk(&place.host, "vol", 24);
    for _ in 0..2 {
        place.good(&["snapshot", &image]);
    }
    place.good(&["verify", "--all", "--level", "full"]);
    assert_eq!(place.good(&["cat", "vol:hostname"]), "vol\n");
    assert_eq!(server.uploads(), 0);
}

#[cfg(feature = "swift")]
#[test]
fn keystone_and_swift_with_a_private_authority_are_used_where_that_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let ours = authority(folder.path(), "ours", "DNS:localhost");
    let other = authority(folder.path(), "other", "DNS:localhost");
    let keystone = Keystone::start(Some(&ours));
    for cacert in [None, Some(&*other)] {
        let place = keystone.place(cacert);
        let did = place.verb(&["snapshot", &disk(&place.host, "vol", 9)]);
        // Another attempt would fail, too: it is an error of the log-in, and none of the network that may pass.
        let says = ["certificate", "the log-in to the object store failed"];
        assert!(did.status == 1 && says.iter().all(|says| did.stderr.contains(says)), "{cacert:?}: {did:?}");
    }
    assert_eq!(keystone.server.calls(), Vec::<String>::new());
    // As `cacert` of the cloud, and as `ca_file`, which precedes it.
    for (cacert, ca_file) in [(&ours, None), (&other, Some(&ours))] {
        let keystone = Keystone::start(Some(&ours));
        let place = keystone.place(Some(cacert));
        add(&place, &ca_file.map(|path| named(path)).unwrap_or_default());
        place.good(&["snapshot", &disk(&place.host, "vol", 24)]);
        place.good(&["verify", "--all", "--level", "full"]);
        assert_eq!(place.good(&["cat", "vol:hostname"]), "vol\n");
    }
}
