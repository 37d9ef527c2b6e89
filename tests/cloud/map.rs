//! The map, from answers that a real cloud gave (`recorded/`): as they were, a thousand times as many, and damaged.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chrono::Utc;
use serde_json::{Value, json};
use volbak::cloud::{Attached, CloudMap, Difference};
use volbak::config::OpenStackOptions;
use volbak::run::cloud::{MapError, take};

use crate::server::{Asked, Reply, Server, token};
use crate::testkit::cases;

/// The answers of a cloud, by the last part of their path.
pub(crate) type Answers = Vec<(String, String)>;

pub(crate) fn recorded() -> Answers {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cloud/recorded");
    let mut answers: Answers = fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            (path.file_stem().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(&path).unwrap())
        })
        .collect();
    answers.sort();
    answers
}

/// The key of the answer to a request.
fn key(asked: &Asked) -> Option<String> {
    let path = asked.path.split('?').next().unwrap();
    if let Some(server) =
        path.strip_prefix("/compute/v2.1/servers/").and_then(|rest| rest.strip_suffix("/os-volume_attachments"))
    {
        return Some(format!("of-{server}"));
    }
    let known = [
        ("/volume/v3/p1/volumes/detail", "volumes"),
        ("/volume/v3/p1/attachments/detail", "attachments"),
        ("/compute/v2.1/servers/detail", "servers"),
        ("/v3/projects", "projects"),
    ];
    known.iter().find(|(known, _)| *known == path).map(|(_, key)| (*key).to_owned())
}

/// A cloud with these answers, which a test can replace.
pub(crate) fn cloud(answers: &Arc<Mutex<Answers>>) -> Server {
    let answers = Arc::clone(answers);
    Server::start(move |asked, base| {
        if asked.path == "/v3/auth/tokens" {
            return token(base, "gAAAA-token");
        }
        let found = key(asked).and_then(|key| {
            answers.lock().unwrap().iter().find(|(other, _)| *other == key).map(|(_, answer)| answer.clone())
        });
        found.map_or_else(|| Reply::Json(404, "{}".to_owned()), |answer| Reply::Json(200, answer))
    })
}

pub(crate) fn clouds_yaml(folder: &Path, url: &str) -> String {
    let path = folder.join("clouds.yaml");
    let text = format!(
        "clouds:\n  test:\n    auth: {{auth_url: '{url}', username: admin, password: geheim-4711, project_name: admin}}\n"
    );
    fs::write(&path, text).unwrap();
    path.display().to_string()
}

pub(crate) fn options(clouds_file: &str, deadline: Duration) -> OpenStackOptions {
    OpenStackOptions {
        enabled: true,
        cloud: Some("test".to_owned()),
        clouds_file: Some(clouds_file.into()),
        deadline,
        ..OpenStackOptions::default()
    }
}

#[test]
fn the_map_has_both_sides_of_each_attachment_and_names_where_they_differ() {
    let answers = Arc::new(Mutex::new(recorded()));
    let server = cloud(&answers);
    let folder = tempfile::tempdir().unwrap();
    let options = options(&clouds_yaml(folder.path(), &server.url), Duration::from_secs(20));
    let map = take(&options, Utc::now()).unwrap().map;
    assert_eq!((map.volumes.len(), map.instances.len()), (9, 3));
    let named = |name: &str| map.volumes.iter().find(|volume| volume.name == name).unwrap();
    assert_eq!(named("shared").attachments.len(), 2);
    assert_eq!(named("free volume").metadata["volbak"], "no");
    assert!(named("data-5").bootable);
    let one = &named("data-1").attachments[0];
    assert_eq!(one.instance_name.as_deref(), Some("web-1"));
    let (cinder, nova) = (one.cinder.as_ref().unwrap(), one.nova.as_ref().unwrap());
    assert_eq!(cinder.attachment, nova.attachment);
    assert!(cinder.iqn.as_ref().unwrap().ends_with(&named("data-1").lv));
    assert!(map.volumes.iter().all(|volume| volume.differences.is_empty()), "{:?}", map.volumes);
    assert_eq!(CloudMap::from_bytes(&map.to_bytes().unwrap()).unwrap(), map);

    let own = named("data-2").attachments[0].instance.clone().unwrap();
    let other = map.instances.iter().find(|one| one.id != own).unwrap().id.clone();

    // The rows of the recovery table: an attachment that Nova does not map, one that Cinder does not have, a status.
    for (key, answer) in answers.lock().unwrap().iter_mut() {
        let mut value: Value = serde_json::from_str(answer).unwrap();
        let id = |name: &str| named(name).id.clone();
        if key.starts_with("of-") {
            value["volumeAttachments"].as_array_mut().unwrap().retain(|one| one["volumeId"] != id("data-3"));
        }
        if key == "attachments" {
            let all = value["attachments"].as_array_mut().unwrap();
            all.retain(|one| one["volume_id"] != id("data-4"));
            // What is a secret stays in the answer.
            for one in all {
                one["connection_info"]["auth_password"] = "chap-geheim".into();
                // The same attachment, at another instance.
                if one["volume_id"] == id("data-2") {
                    one["instance"] = other.clone().into();
                }
            }
        }
        if key == "volumes" {
            for volume in value["volumes"].as_array_mut().unwrap() {
                if volume["id"] == id("data-4") {
                    volume["status"] = "available".into();
                    volume["attachments"] = json!([]);
                }
                if volume["id"] == id("data-1") {
                    volume["status"] = "detaching".into();
                }
            }
        }
        *answer = value.to_string();
    }
    let map = take(&options, Utc::now()).unwrap().map;
    let differences = |name: &str| map.volumes.iter().find(|volume| volume.name == name).unwrap().differences.clone();
    assert!(matches!(differences("data-3")[..], [Difference::OnlyCinder { .. }]), "{:?}", differences("data-3"));
    assert!(matches!(differences("data-4")[..], [Difference::OnlyNova { .. }]), "{:?}", differences("data-4"));
    assert!(matches!(differences("data-1")[..], [Difference::Status { .. }]), "{:?}", differences("data-1"));
    let two = differences("data-2");
    assert!(
        matches!(&two[..], [Difference::OnlyCinder { instance: Some(named), .. }, Difference::OnlyNova { instance }]
            | [Difference::OnlyNova { instance }, Difference::OnlyCinder { instance: Some(named), .. }]
            if *named == other && *instance == own),
        "{two:?}"
    );
    let written = String::from_utf8(map.to_bytes().unwrap()).unwrap();
    assert!(!written.contains("geheim") && !written.contains("gAAAA"), "{written}");
}

/// A thousand volumes in pages of a hundred, on two hundred instances.
fn thousand() -> Server {
    let volumes: Vec<Value> = (0..1000)
        .map(|n| {
            json!({
                "id": format!("{n:08}-0000-4000-8000-000000000000"), "name": format!("data-{n}"), "status": "in-use", "size": 10,
                "bootable": "false", "metadata": { "key": "x".repeat(200) }, "os-vol-tenant-attr:tenant_id": "p",
                "links": [{ "rel": "self", "href": "x".repeat(200) }],
                "attachments": [{ "attachment_id": format!("a{n}"), "server_id": format!("s{}", n / 5), "device": "/dev/vdb" }],
            })
        })
        .collect();
    let attachments: Vec<Value> = (0..1000)
        .map(|n| json!({
            "id": format!("a{n}"), "volume_id": volumes[n]["id"], "instance": format!("s{}", n / 5), "status": "attached",
            "connection_info": { "target_iqn": "iqn", "target_portal": "p", "auth_password": "geheim" },
        }))
        .collect();
    let servers: Vec<Value> = (0..200)
        .map(|n| json!({
            "id": format!("s{n}"), "name": format!("web-{n}"), "status": "ACTIVE", "OS-EXT-SRV-ATTR:host": "c1",
            "os-extended-volumes:volumes_attached": (0..5).map(|m| json!({ "id": volumes[n * 5 + m]["id"] })).collect::<Vec<_>>(),
        }))
        .collect();
    Server::start(move |asked, base| {
        if asked.path == "/v3/auth/tokens" {
            return token(base, "t");
        }
        let (list, rows) = match key(asked).as_deref() {
            Some("volumes") => ("volumes", &volumes),
            Some("attachments") => ("attachments", &attachments),
            Some("servers") => ("servers", &servers),
            Some(of) if of.starts_with("of-s") => {
                let n: usize = of[4..].parse().unwrap();
                let all: Vec<Value> = (n * 5..n * 5 + 5)
                    .map(|m| json!({ "volumeId": volumes[m]["id"], "attachment_id": format!("a{m}"), "device": "/dev/vdb" }))
                    .collect();
                return Reply::Json(200, json!({ "volumeAttachments": all }).to_string());
            }
            _ => return Reply::Json(404, "{}".to_owned()),
        };
        // Of an attachment the marker is the last one's id: Cinder cuts that list off without a link.
        let after = |marker: &str| match marker.strip_prefix('a') {
            Some(last) => last.parse::<usize>().unwrap() + 1,
            None => marker.parse().unwrap(),
        };
        let from = asked.path.split("marker=").nth(1).map_or(0, after);
        let page = &rows[from..(from + 100).min(rows.len())];
        let mut answer = json!({ list: page });
        if from + 100 < rows.len() && list != "attachments" {
            answer[format!("{list}_links")] =
                json!([{ "rel": "next", "href": format!("{base}/x?marker={}", from + 100) }]);
        }
        Reply::Json(200, answer.to_string())
    })
}

#[test]
fn a_thousand_volumes_take_seconds_and_little_memory() {
    let server = thousand();
    let folder = tempfile::tempdir().unwrap();
    let clouds = clouds_yaml(folder.path(), &server.url);
    let config = folder.path().join("volbak.toml");
    fs::write(
        &config,
        format!(
            "backup_destination = '{}'\nrequire_mount = false\n[openstack]\ncloud = 'test'\nclouds_file = '{clouds}'\n",
            folder.path().display()
        ),
    )
    .unwrap();
    let measure = "import resource, subprocess, sys\nstatus = subprocess.run(sys.argv[1:]).returncode\n\
                   used = resource.getrusage(resource.RUSAGE_CHILDREN)\n\
                   print(used.ru_utime + used.ru_stime, used.ru_maxrss, file=sys.stderr)\nsys.exit(status)";
    let output = Command::new("python3")
        .args(["-c", measure, env!("CARGO_BIN_EXE_volbak"), "cloud", "map", "--json", "--config"])
        .arg(&config)
        .env("HOME", "/nonexistent")
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    let map = CloudMap::from_bytes(&output.stdout).unwrap();
    assert_eq!((map.volumes.len(), map.instances.len()), (1000, 200));
    assert!(map.volumes.iter().all(|volume| volume.differences.is_empty() && volume.attachments.len() == 1));
    // From the list of attachments, all pages of it.
    let is_known = |one: &Attached| one.cinder.as_ref().is_some_and(|side| side.iqn.is_some() && side.status.is_some());
    assert!(map.volumes.iter().all(|volume| volume.attachments.iter().all(is_known)));
    let (seconds, kib) = said.lines().last().unwrap().split_once(' ').unwrap();
    assert!(seconds.parse::<f64>().unwrap() < 10.0, "{seconds} s of processor time");
    let kib: u64 = kib.parse().unwrap();
    assert!(kib < 64 << 10, "{kib} KiB");
}

/// xorshift64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(end.max(1)).unwrap()).unwrap()
    }
}

/// One damage to one answer.
pub(crate) fn mutate(answers: &mut Answers, random: &mut Random) {
    let at = random.below(answers.len());
    let answer = &mut answers[at].1;
    if random.below(2) == 0 {
        let mut bytes = std::mem::take(answer).into_bytes();
        let place = random.below(bytes.len());
        match random.below(5) {
            0 => bytes[place] = u8::try_from(random.below(127)).unwrap(),
            1 => bytes.truncate(place),
            2 => drop(bytes.remove(place)),
            3 => {
                let end = (place + random.below(400)).min(bytes.len());
                let part = bytes[place..end].to_vec();
                bytes.splice(place..place, part);
            }
            _ => bytes.splice(place..place, *b"9999999999999999999999").for_each(drop),
        }
        *answer = String::from_utf8(bytes).unwrap();
        return;
    }
    // A value of another type somewhere in the tree, or a link to the next page.
    let mut value: Value = serde_json::from_str(answer).unwrap();
    let others = [
        Value::Null,
        json!(-1),
        json!(1e300),
        json!(""),
        json!("../../x"),
        json!([]),
        json!({}),
        json!([[[]]]),
        json!(true),
        json!("\u{202e}\u{1b}[2J\n"),
        json!("x".repeat(5000)),
    ];
    let mut place = &mut value;
    for _ in 0..random.below(7) {
        let len = match &*place {
            Value::Object(map) => map.len(),
            Value::Array(list) => list.len(),
            _ => 0,
        };
        if len == 0 {
            break;
        }
        let n = random.below(len);
        place = match place {
            Value::Object(map) => map.values_mut().nth(n).unwrap(),
            Value::Array(list) => &mut list[n],
            _ => unreachable!("it has members"),
        };
    }
    *place = others[random.below(others.len())].clone();
    if random.below(6) == 0 && value.is_object() {
        value["volumes_links"] = json!([{ "rel": "next", "href": "http://h/x?marker=1" }]);
        value["servers_links"] = json!([{ "rel": "next", "href": "?marker=1" }]);
    }
    *answer = value.to_string();
}

#[test]
fn five_hundred_damaged_answers_end_in_a_map_or_in_an_error_by_the_deadline() {
    let answers = Arc::new(Mutex::new(recorded()));
    let server = cloud(&answers);
    let folder = tempfile::tempdir().unwrap();
    let deadline = Duration::from_secs(5);
    let options = options(&clouds_yaml(folder.path(), &server.url), deadline);
    let (mut maps, mut errors) = (0, 0);
    for seed in cases::numbers(500).map(|seed| seed as u64 + 1) {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut damaged = recorded();
        for _ in 0..=random.below(3) {
            // A second damage needs an answer that can still be read.
            if damaged.iter().all(|(_, answer)| serde_json::from_str::<Value>(answer).is_ok()) {
                mutate(&mut damaged, &mut random);
            }
        }
        *answers.lock().unwrap() = damaged;
        let began = Instant::now();
        match take(&options, Utc::now()) {
            Ok(taken) => {
                maps += 1;
                let bytes = taken.map.to_bytes().unwrap();
                assert_eq!(CloudMap::from_bytes(&bytes).unwrap(), taken.map, "seed {seed}");
                let text = taken.map.text();
                assert!(!text.contains('\u{1b}') && !text.contains('\u{202e}'), "seed {seed}: {text}");
            }
            Err(MapError::Cloud(error)) => {
                errors += 1;
                assert!(!error.to_string().contains("geheim"), "seed {seed}: {error}");
            }
            Err(other) => panic!("seed {seed}: {other}"),
        }
        assert!(began.elapsed() < deadline + Duration::from_secs(60), "seed {seed}: {:?}", began.elapsed());
    }
    assert!(maps > 12 && errors > 12, "{maps} maps, {errors} errors");
    // No call but those of the map, whatever the answers said.
    for call in server.calls() {
        let is_right = call == "POST /v3/auth/tokens"
            || call.starts_with("GET /volume/v3/p1/volumes/detail?")
            || call.starts_with("GET /volume/v3/p1/attachments/detail?")
            || call.starts_with("GET /compute/v2.1/servers/detail?")
            || call == "GET /v3/projects"
            || call.strip_prefix("GET /compute/v2.1/servers/").is_some_and(|rest| {
                let (id, rest) = rest.split_once('/').unwrap();
                id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
                    && rest.starts_with("os-volume_attachments?offset=")
            });
        assert!(is_right, "{call}");
    }
}
