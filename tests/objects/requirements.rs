//! Promise: each requirement that users of other tools wrote complaints about is kept. Each has a test; those that are not in
//! this file stand in the file that is named. `real` tests need a store of scripts/objects.
//!
//! | requirement | test |
//! | --- | --- |
//! | a key is unique to its run | `verbs::two_runs_that_do_not_see_each_others_lease_do_not_mix` |
//! | one writer a prefix: hosts do not mix | `verbs::four_hosts_with_the_same_names_do_not_mix` |
//! | the manifest is last | `verbs::a_publication_that_is_cut_off_does_not_show_and_is_removed_when_no_run_can_go_on` |
//! | a lease is advice, and expires | `a_lease_that_expired_holds_nobody_up`; real: `store::a_lease_names_its_holder_and_expires` |
//! | no condition is relied on | `no_condition_is_relied_on`; `carried::a_previous_archive_that_changes_is_not_carried_from` |
//! | the endpoint is probed and the result recorded | real: `real::a_check_finds_what_the_store_can_do_and_leaves_its_record_alone` |
//! | a lock is read back; absent: the run fails | `locked::a_store_without_locks_takes_no_backup`; real: `locked::a_real_store_without_locks_takes_no_backup` |
//! | no object is rewritten | `few_requests::states_and_records_get_new_keys`, `few_requests::catalogues_are_never_rewritten_and_only_some_are_kept` |
//! | the key of a host needs no right to delete | `verbs::a_key_that_cannot_delete_is_enough_for_backups`; real: `real::a_writers_key_neither_deletes_nor_writes_elsewhere` |
//! | pruning is another job with other keys | `locked::a_key_that_cannot_delete_marks_and_another_one_prunes` |
//! | a bucket without versions is told | `locked::doctor_says_what_a_stolen_key_could_do` |
//! | "held by a lock until" is a state | `locked::what_is_locked_is_kept_until_its_lock_ends` |
//! | a removal removes versions, not only markers | `a_removal_leaves_no_version` |
//! | versions are recorded, and a second content is told | `overwritten::what_overwrites_a_backup_is_told_by_its_versions` |
//! | dead uploads are aborted until no part is left | `an_upload_of_a_killed_run_is_aborted_until_no_part_is_left`; real: `store::uploads_of_killed_runs_are_aborted_and_those_of_other_hosts_are_not` |
//! | a missing lifecycle rule is told | `a_missing_rule_for_dead_uploads_is_told` |
//! | indexes are kept on the host for its user alone | `what_is_kept_on_the_host_is_for_its_user_alone` |
//! | a lost cache of an encrypted host costs one full night | `tests/backup/encrypted.rs`: `later_nights_are_carried_without_a_key_until_the_recipients_change` |
//! | no list decides that parts of an upload are dead (Swift) | real: `swift::an_upload_whose_note_stayed_keeps_its_segments` |
//! | a removal takes the parts of an object, and of no other one (Swift) | `swift::a_large_object_goes_with_segments_of_its_own_alone`; real: `swift::a_removed_backup_goes_with_its_segments_alone` |
//! | a token that ends is renewed (Swift) | `swift::a_refused_token_is_renewed_once`; real: `swift::tokens_that_end_in_the_middle_of_a_night_are_renewed` |
//! | requests and bytes are printed | `requests_and_bytes_are_printed` |
//! | nothing is carried from a cold storage class | `nothing_is_carried_from_a_cold_archive` |

use std::fs;
use std::os::unix::fs::PermissionsExt;

use chrono::{TimeDelta, Utc};

use crate::storing::Storing;
use crate::verbs::{Place, disk, next_second, older};

fn snapshot(place: &Place) -> String {
    let image = disk(&place.host, "vol", 9);
    place.good(&["snapshot", &image]);
    image
}

#[test]
fn a_lease_that_expired_holds_nobody_up() {
    let server = Storing::start();
    let place = Place::in_process(&server, "");
    let image = snapshot(&place);
    let lease = |expires: TimeDelta| {
        let expires = (Utc::now() + expires).to_rfc3339();
        format!("{{\"holder\": \"process 1 on other\", \"nonce\": \"x\", \"expires_at\": \"{expires}\"}}")
    };
    let key = place.client.address().key(".volbak/lock");
    server.put(&key, lease(TimeDelta::minutes(5)).as_bytes());
    let did = place.verb(&["snapshot", &image]);
    assert!(did.status == 4 && did.stderr.contains("process 1 on other"), "{did:?}");
    server.put(&key, lease(TimeDelta::seconds(-1)).as_bytes());
    place.good(&["snapshot", &image]);
    assert!(server.keys(&key).is_empty(), "the lease of a run that ended is removed");
}

#[test]
fn no_condition_is_relied_on() {
    // Stores take `If-None-Match` and replace the object, so none is sent: the keys themselves are new.
    let server = Storing::start();
    let place = Place::in_process(&server, "");
    let image = snapshot(&place);
    let before = server.keys("host-1/vol/");
    place.good(&["snapshot", &image, "--full"]);
    assert_eq!(server.conditions(), 0);
    let after = server.keys("host-1/vol/");
    assert!(before.iter().all(|key| after.contains(key)) && after.len() > before.len(), "{before:?} {after:?}");
}

#[test]
fn a_removal_leaves_no_version() {
    let server = Storing::start();
    server.keeps_versions();
    let place = Place::in_process(&server, "backups_retention_days = 7\n");
    place.host.add_ext4("volume-1");
    for _ in 0..3 {
        place.good(&["run"]);
        next_second();
    }
    let stem = place.whole_backups("volume-1").pop_first().unwrap();
    let key = place.client.address().key(&format!("volume-1/{stem}.manifest.json"));
    let text = String::from_utf8(server.get(&key)).unwrap();
    // It has a second version by that, which has to go as well.
    place.client.put(&key, older(&text, 20).as_bytes(), false).unwrap();
    let removed = place.good(&["prune", "--apply"]);
    assert!(removed.contains(&format!("/volume-1/{stem}.tar.gz")), "{removed}");
    let left = place.client.object_versions(&place.client.address().key(&format!("volume-1/{stem}."))).unwrap();
    assert_eq!(left, []);
}

#[test]
fn an_upload_of_a_killed_run_is_aborted_until_no_part_is_left() {
    let server = Storing::start();
    let place = Place::in_process(&server, "");
    let image = snapshot(&place);
    let key = "host-1/vol/vol_01_01_2026_010203_0123456789ab.tar.gz";
    let id = place.client.begin_upload(key).unwrap();
    place.client.put_part(key, &id, 1, &[1; 100]).unwrap();
    // A part arrives after the upload was aborted.
    server.keeps_uploads_once();
    server.take_requests();
    place.good(&["snapshot", &image]);
    let ends = |requests: &[(String, usize)], method: &str| {
        requests
            .iter()
            .filter(|(what, _)| what.starts_with(method) && what.contains(key) && what.contains("uploadId"))
            .count()
    };
    let requests = server.take_requests();
    assert_eq!((ends(&requests, "DELETE"), ends(&requests, "GET")), (2, 2), "{requests:?}");
    assert_eq!(server.uploads(), 0);
}

#[test]
fn a_missing_rule_for_dead_uploads_is_told() {
    let server = Storing::start();
    let place = Place::in_process(&server, "");
    let checked = place.verb(&["store", "check"]);
    let line = checked.stdout.lines().find(|line| line.contains("lifecycle")).unwrap_or_default();
    assert!(checked.status == 3 && line.starts_with('?'), "{checked:?}");
    let facts: serde_json::Value = serde_json::from_str(&place.verb(&["store", "check", "--json"]).stdout).unwrap();
    crate::testkit::schema::compare(&facts, "store-check");
    assert_eq!(facts["ends_uploads"], false, "{facts}");
}

#[test]
fn what_is_kept_on_the_host_is_for_its_user_alone() {
    let server = Storing::start();
    let place = Place::in_process(&server, "");
    snapshot(&place);
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let cache = place.host.at("cache");
    assert_eq!(mode(&cache), 0o700);
    let files: Vec<_> = fs::read_dir(&cache).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(files.len() >= 3, "{files:?}");
    assert!(files.iter().all(|file| mode(file) == 0o600), "{files:?}");
}

#[test]
fn requests_and_bytes_are_printed() {
    let server = Storing::start();
    let place = Place::in_process(&server, "");
    let image = disk(&place.host, "vol", 9);
    let did = place.verb(&["snapshot", &image]);
    let line = did.stderr.lines().find(|line| line.contains("requests to the store")).unwrap_or_default();
    assert!(line.contains(" MiB sent") && line.contains(" received"), "{did:?}");
}

#[test]
fn nothing_is_carried_from_a_cold_archive() {
    let server = Storing::start();
    let place = Place::in_process(&server, "");
    let image = snapshot(&place);
    let stem = place.whole_backups("vol").pop_first().unwrap();
    server.make_cold(&format!("host-1/vol/{stem}.tar.gz"));
    server.take_bytes();
    let did = place.verb(&["snapshot", &image]);
    assert!(did.status == 0 && did.stderr.contains("nothing is carried forward"), "{did:?}");
    assert_eq!(server.take_bytes().1, 0, "copied bytes");
}
