//! A recovery from a cloud whose answers are damaged: 500 seeded mutations of recorded answers end in a report or an error by the
//! deadline, and no request is sent but those of the documented table, with IDs that the cloud named, and each once.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chrono::Utc;
use serde_json::{Value, json};
use volbak::outside::Cancel;
use volbak::run::cloud::recover::{RecoverOptions, apply};
use volbak::run::cloud::take;
use volbak::store::Destination;

use crate::map::{Answers, Random, clouds_yaml, mutate, options, recorded};
use crate::server::{Asked, Reply, Server, token};
use crate::testkit::cases;

const MADE: &str = "0aaaaaaa-0000-4000-8000-000000000000";

/// The recorded answers, and those that a recovery needs besides.
fn all() -> Answers {
    let mut answers = recorded();
    let service =
        |binary: &str, host: &str| json!({ "binary": binary, "host": host, "state": "up", "status": "enabled" });
    let cinder = [service("cinder-volume", "storage-1@lvm"), service("cinder-scheduler", "storage-1")];
    let nova =
        [service("nova-compute", "compute-1"), service("nova-compute", "compute-2"), service("nova-conductor", "c")];
    answers.push(("services-volume".to_owned(), json!({ "services": cinder }).to_string()));
    answers.push(("services-compute".to_owned(), json!({ "services": nova }).to_string()));
    let actions = json!({ "instanceActions": [
        { "action": "create", "request_id": "req-1", "start_time": "2026-11-01T10:00:00.000000", "message": null }] });
    answers.push(("actions".to_owned(), actions.to_string()));
    answers
}

/// The rows of the documented table: a stale status, an attachment that Nova does not map, one that Cinder does not have.
fn damaged_by_an_outage(answers: &mut Answers) {
    let volumes: Value = serde_json::from_str(&answers.iter().find(|(key, _)| key == "volumes").unwrap().1).unwrap();
    let id = |name: &str| {
        volumes["volumes"].as_array().unwrap().iter().find(|one| one["name"] == name).unwrap()["id"].clone()
    };
    for (key, answer) in answers {
        let mut value: Value = serde_json::from_str(answer).unwrap();
        if key.starts_with("of-") {
            value["volumeAttachments"].as_array_mut().unwrap().retain(|one| one["volumeId"] != id("data-3"));
        }
        if key == "attachments" {
            value["attachments"].as_array_mut().unwrap().retain(|one| one["volume_id"] != id("data-4"));
        }
        for volume in value.get_mut("volumes").and_then(Value::as_array_mut).into_iter().flatten() {
            if volume["id"] == id("data-4") {
                volume["status"] = "available".into();
                volume["attachments"] = json!([]);
            }
            if volume["id"] == id("data-1") {
                volume["status"] = "detaching".into();
            }
        }
        *answer = value.to_string();
    }
}

/// The answer to a read. One about a single thing is taken from the list, as damaged as that is.
fn answer(asked: &Asked, answers: &Answers) -> Reply {
    let path = asked.path.split('?').next().unwrap();
    let text = |key: &str| answers.iter().find(|(other, _)| other == key).map(|(_, text)| text.clone());
    let one = |key: &str, id: &str, name: &str| {
        let whole = text(key)?;
        let Ok(list) = serde_json::from_str::<Value>(&whole) else { return Some(whole) };
        let found = list[key].as_array()?.iter().find(|one| one["id"] == id)?;
        Some(json!({ name: found }).to_string())
    };
    let (service, rest) = match (path.strip_prefix("/volume/v3/p1/"), path.strip_prefix("/compute/v2.1/")) {
        (Some(rest), _) => ("volume", rest),
        (_, Some(rest)) => ("compute", rest),
        _ => ("identity", path),
    };
    let found = match (service, rest.split('/').collect::<Vec<_>>().as_slice()) {
        ("volume", ["volumes" | "attachments", "detail"]) | ("compute", ["servers", "detail"]) => {
            text(rest.split('/').next().unwrap())
        }
        (service, ["os-services"]) => text(&format!("services-{service}")),
        ("volume", ["volumes", id]) => one("volumes", id, "volume"),
        ("compute", ["servers", id]) => one("servers", id, "server"),
        ("compute", ["servers", id, "os-volume_attachments"]) => text(&format!("of-{id}")),
        ("compute", ["servers", _, "os-instance-actions"]) => text("actions"),
        ("identity", _) => text("projects"),
        _ => None,
    };
    found.map_or_else(|| Reply::Json(404, "{}".to_owned()), |body| Reply::Json(200, body))
}

/// Whether a write is one of the documented table.
fn is_documented(asked: &Asked, known: &BTreeSet<String>) -> bool {
    let body = || serde_json::from_str::<Value>(&asked.body).unwrap();
    let is_id = |id: &&str| {
        known.contains(*id)
            || (id.len() <= 64 && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)))
    };
    let parts: Vec<&str> = asked.path.trim_start_matches('/').split('/').collect();
    match (asked.method.as_str(), parts.as_slice()) {
        ("POST", ["volume", "v3", "p1", "volumes", id, "action"]) => {
            is_id(id) && body() == json!({ "os-reset_status": { "status": "in-use", "attach_status": "attached" } })
        }
        ("DELETE", ["volume", "v3", "p1", "attachments", id]) => is_id(id),
        ("POST", ["volume", "v3", "p1", "attachments"]) => {
            ["volume_uuid", "instance_uuid"].iter().all(|key| is_id(&body()["attachment"][key].as_str().unwrap()))
        }
        ("POST", ["volume", "v3", "p1", "attachments", id, "action"]) => {
            is_id(id) && body() == json!({ "os-complete": {} })
        }
        ("DELETE", ["compute", "v2.1", "servers", server, "os-volume_attachments", volume]) => {
            is_id(server) && is_id(volume)
        }
        ("POST", ["compute", "v2.1", "servers", server, "os-volume_attachments"]) => {
            is_id(server) && is_id(&body()["volumeAttachment"]["volumeId"].as_str().unwrap())
        }
        ("POST", ["compute", "v2.1", "servers", server, "action"]) => {
            is_id(server) && body() == json!({ "reboot": { "type": "HARD" } })
        }
        _ => false,
    }
}

/// The attachments that Nova names, by the answers as they are.
fn named_by_nova(answers: &Answers) -> BTreeSet<String> {
    let of = answers.iter().filter(|(key, _)| key.starts_with("of-"));
    let lists = of.filter_map(|(_, text)| serde_json::from_str::<Value>(text).ok());
    let rows = lists.flat_map(|list| list["volumeAttachments"].as_array().cloned().unwrap_or_default());
    rows.filter_map(|row| row["attachment_id"].as_str().map(str::to_owned)).collect()
}

fn recover_options(folder: &Path, clouds: &str, deadline: Duration, seed: u64) -> RecoverOptions {
    RecoverOptions {
        openstack: options(clouds, deadline),
        destination: Some(Destination::open(folder).unwrap()),
        instance: None,
        outage: Some("2026-11-28T23:00:00Z".parse().unwrap()),
        from_map: Some("2026-11-28".parse().unwrap()),
        journal: Some(folder.join(format!("journal-{seed}"))),
        seen_plan: None,
        inside: None,
        pause: Duration::ZERO,
        patience: Duration::ZERO,
        settle: Duration::ZERO,
        cancel: Cancel::default(),
    }
}

#[test]
fn of_five_hundred_damaged_clouds_none_makes_a_recovery_panic_hang_or_send_a_wrong_request() {
    let answers = Arc::new(Mutex::new(all()));
    let served = Arc::clone(&answers);
    let server = Server::start(move |asked, base| match (asked.method.as_str(), asked.path.as_str()) {
        (_, "/v3/auth/tokens") => token(base, "gAAAA-token"),
        ("GET", _) => answer(asked, &served.lock().unwrap()),
        // A server that says yes, and does nothing.
        ("POST", "/volume/v3/p1/attachments") => Reply::Json(200, json!({ "attachment": { "id": MADE } }).to_string()),
        _ => Reply::Json(202, "{}".to_owned()),
    });
    let folder = tempfile::tempdir().unwrap();
    let clouds = clouds_yaml(folder.path(), &server.url);
    let deadline = Duration::from_secs(5);
    // The map of the day before, of the cloud as it was.
    let mut map = take(&options(&clouds, deadline), Utc::now()).unwrap().map;
    map.taken_at = "2026-11-28T12:00:00Z".parse().unwrap();
    fs::create_dir_all(folder.path().join(".volbak/cloud")).unwrap();
    fs::write(folder.path().join(".volbak/cloud/2026-11-28.json"), map.to_bytes().unwrap()).unwrap();

    let (mut reports, mut errors, mut writes) = (0, 0, BTreeMap::<String, usize>::new());
    for seed in cases::numbers(501).map(|seed| seed as u64) {
        let mut random = Random((seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut damaged = all();
        damaged_by_an_outage(&mut damaged);
        // Seed 0 has no damage but that of the outage.
        for _ in 0..if seed == 0 { 0 } else { 1 + random.below(3) } {
            if damaged.iter().all(|(_, answer)| serde_json::from_str::<Value>(answer).is_ok()) {
                mutate(&mut damaged, &mut random);
            }
        }
        let named = named_by_nova(&damaged);
        let known: BTreeSet<String> = map.volumes.iter().map(|one| one.id.clone()).chain([MADE.to_owned()]).collect();
        *answers.lock().unwrap() = damaged;
        server.asked.lock().unwrap().clear();
        let began = Instant::now();
        let options = recover_options(folder.path(), &clouds, deadline, seed);
        let said = match apply(&options, Utc::now, |_, _| Ok(()), &|_| {}) {
            Ok(report) => {
                reports += 1;
                report.text()
            }
            Err(error) => {
                errors += 1;
                volbak::error::with_causes(&error)
            }
        };
        assert!(began.elapsed() < deadline + Duration::from_secs(60), "seed {seed}: {:?}: {said}", began.elapsed());
        let journal = fs::read_to_string(options.journal.unwrap()).unwrap_or_default();
        for text in [&said, &journal] {
            assert!(!text.contains("geheim") && !text.contains("gAAAA"), "seed {seed}: {text}");
        }
        assert!(!said.contains('\u{1b}') && !said.contains('\u{202e}'), "seed {seed}: {said}");
        let mut sent = BTreeSet::new();
        for asked in
            server.asked.lock().unwrap().iter().filter(|asked| asked.method != "GET" && asked.path != "/v3/auth/tokens")
        {
            assert!(is_documented(asked, &known), "seed {seed}: {asked:?}\n{said}");
            assert!(
                sent.insert((asked.method.clone(), asked.path.clone(), asked.body.clone())),
                "seed {seed}: twice: {asked:?}"
            );
            if asked.method == "DELETE"
                && let Some(attachment) = asked.path.strip_prefix("/volume/v3/p1/attachments/")
            {
                assert!(!named.contains(attachment), "seed {seed}: Nova maps {attachment}: {said}");
            }
            let kind = asked.path.split('/').filter(|part| part.len() < 30).collect::<Vec<_>>().join("/");
            *writes.entry(format!("{} {kind}", asked.method)).or_default() += 1;
        }
        if seed == 0 {
            assert_eq!(sent.len(), 6, "{sent:?}: {said}");
        }
    }
    println!("{reports} reports, {errors} errors, {writes:#?}");
    assert!(reports > 12 && errors > 12, "{reports} reports, {errors} errors");
    assert!(writes.len() >= 4, "{writes:?}");
}
