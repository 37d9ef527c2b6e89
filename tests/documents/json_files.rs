//! As `json_schemas`, for verbs on images, backups and their files.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::testkit::guest::{quoted, sh};
use crate::testkit::schema::compare;
use crate::testkit::stand_in::{Did, Host};
use crate::testkit::tree::noise;

/// What a verb printed, after it was compared with its schema.
fn described(did: &Did, schema: &str) -> Value {
    let value: Value = serde_json::from_str(&did.stdout).unwrap_or_else(|error| panic!("{error}: {did:?}"));
    compare(&value, schema);
    value
}

/// As [`described`], of a verb that ended with this status.
fn ended(did: &Did, status: i32, schema: &str) -> Value {
    assert_eq!(did.status, status, "{did:?}");
    described(did, schema)
}

/// The lines of `browse`, which ended well.
fn described_lines(did: &Did) -> Vec<Value> {
    assert_eq!(did.status, 0, "{did:?}");
    let lines: Vec<Value> = did.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for line in &lines {
        compare(line, "browse-line");
    }
    lines
}

/// A disk with a table, an ext4 and something unknown, in a file.
fn disk(host: &Host) -> String {
    let (image, files) = (host.at("disk.img"), host.at("files"));
    fs::create_dir(&files).unwrap();
    fs::write(files.join("kept"), noise(1, 300_000)).unwrap();
    fs::write(files.join("changed"), "before\n").unwrap();
    fs::write(files.join("removed"), "removed\n").unwrap();
    sh(&format!(
        "truncate -s 24M {0} && printf 'label: gpt\\nsize=12M\\nsize=8M\\n' | sfdisk --quiet {0} \
         && mke2fs -q -F -t ext4 -d {1} -E offset=1048576 {0} 12M && head -c 100000 /dev/urandom | \
         dd of={0} bs=1M seek=14 conv=notrunc status=none",
        quoted(&image),
        quoted(&files)
    ));
    image.to_str().unwrap().to_owned()
}

/// Changes files in the ext4 of the disk.
fn change(host: &Host, disk: &str) {
    let changed = host.at("changed");
    fs::write(&changed, "after\n").unwrap();
    sh(&format!(
        "cd {} && for command in 'rm changed' 'rm removed' 'write changed changed' 'write changed added'; do \
         debugfs -w -R \"$command\" '{disk}?offset=1048576' 2>/dev/null; done",
        quoted(host.at("changed").parent().unwrap())
    ));
}

#[test]
fn what_verbs_of_backups_and_their_files_print_is_what_the_schemas_say() {
    let host = Host::new("");
    let (disk, to) = (disk(&host), host.at("backups").to_str().unwrap().to_owned());
    let layout = ended(&host.volbak(&["inspect", &disk, "--json"]), 0, "inspect");
    assert!(layout["regions"].as_array().unwrap().len() >= 2, "{layout}");

    let missing = host.at("missing.img").to_str().unwrap().to_owned();
    let made = ended(&host.volbak(&["snapshot", &disk, &missing, "--to", &to, "--json"]), 1, "snapshot");
    let archive = made["backups"][0]["archive"].as_str().unwrap().to_owned();
    assert_eq!((&made["backups"][0]["error"], &made["backups"][1]["status"]), (&Value::Null, &json!("failed")));
    change(&host, &disk);
    let made = ended(&host.volbak(&["snapshot", &disk, "--to", &to, "--json", "--full"]), 3, "snapshot");
    let second = made["backups"][0]["archive"].as_str().unwrap().to_owned();

    let difference = ended(&host.volbak(&["diff", &archive, &second, "--json"]), 0, "diff");
    let changes: Vec<&str> =
        difference["differences"].as_array().unwrap().iter().map(|one| one["change"].as_str().unwrap()).collect();
    for change in ["added", "removed", "content"] {
        assert!(changes.contains(&change), "{difference}");
    }
    let from = ["--destination", &to];
    let found = ended(&host.volbak(&[&["find", "**/removed", "--json"][..], &from].concat()), 0, "find");
    assert!(found["volumes"][0]["paths"][0]["gone"]["backup"].is_string(), "{found}");
    let logged = ended(&host.volbak(&[&["log", "changed", "--json"][..], &from].concat()), 0, "find");
    assert_eq!(logged["volumes"][0]["paths"][0]["versions"].as_array().unwrap().len(), 2, "{logged}");
    let browsed = host.volbak(&["browse", &archive, "--recursive", "--json"]);
    let lines = described_lines(&browsed);
    assert!(lines.len() > 3 && lines.iter().any(|line| line["sha256"].is_string()), "{browsed:?}");

    let verify = ["verify", &archive, "--second-opinion", "--json"];
    let verified = ended(&host.volbak(&verify), 0, "verify");
    assert!(verified["backups"][0]["second_opinion"]["asked"].as_u64() > Some(3), "{verified}");
    ended(&host.volbak(&["verify", &second, "--quick", "--json"]), 0, "verify");

    // With a file that is damaged, and one that no manifest knows.
    let bytes = fs::read(&second).unwrap();
    let mut damaged = bytes.clone();
    damaged[bytes.len() / 2] ^= 1;
    fs::write(&second, damaged).unwrap();
    let verified = ended(&host.volbak(&["verify", &second, "--json"]), 1, "verify");
    assert!(verified["backups"][0]["findings_total"].as_u64() > Some(0), "{verified}");
    fs::write(Path::new(&second).with_file_name("disk_01_01_2020.tar.gz"), "x").unwrap();
    let listed = ended(&host.volbak(&["list", &to, "--json"]), 0, "list");
    let worth: Vec<&str> =
        listed["backups"].as_array().unwrap().iter().map(|one| one["worth"].as_str().unwrap()).collect();
    assert!(worth.contains(&"bad") && worth.contains(&"unknown"), "{worth:?}");
    fs::write(&second, bytes).unwrap();

    let restored = host.at("restored");
    let restore = ["restore", &archive, "--to", restored.to_str().unwrap(), "--json"];
    let done = ended(&host.volbak(&restore), 0, "restore");
    assert!(done["restored"].as_u64() > Some(3), "{done}");
    let image = host.at("restored.img");
    let done = host.volbak(&["restore", &archive, "--to-image", image.to_str().unwrap(), "--json"]);
    let done = described(&done, "restore-disk");
    assert!(done["report"]["files"]["p1"]["restored"].as_u64() > Some(3), "{done}");

    let copies = host.at("copies");
    fs::create_dir(&copies).unwrap();
    let copy = [&["copy", "--all", "--to", copies.to_str().unwrap(), "--json"][..], &from].concat();
    let planned = described(&host.volbak(&[&copy[..], &["--dry-run"]].concat()), "copy");
    assert!(planned["available_bytes"].as_u64() > Some(0), "{planned}");
    let copied = described(&host.volbak(&copy), "copy");
    let outcomes: Vec<&Value> = copied["backups"].as_array().unwrap().iter().map(|one| &one["outcome"]).collect();
    assert!(outcomes.contains(&&json!("copied")) && outcomes.contains(&&json!("passed_over")), "{copied}");
}

#[test]
fn what_verbs_of_images_print_is_what_the_schemas_say() {
    let host = Host::new("");
    let (disk, to) = (disk(&host), host.at("backups").to_str().unwrap().to_owned());
    let at = |name: &str| host.at(name).to_str().unwrap().to_owned();
    let (image, imported) = (at("a.qcow2"), at("b.img"));
    let exported = ended(&host.volbak(&["export", &disk, "--to", &image, "--verify", "--json"]), 0, "export");
    assert!(exported["read_bytes"].as_u64() > Some(300_000), "{exported}");
    assert_eq!(exported["image_format"], "qcow2");
    let planned = host.volbak(&["import", &image, "--to-image", &imported, "--dry-run", "--json"]);
    assert_eq!(ended(&planned, 0, "import-dry-run")["needs"], Value::Null);
    let done = ended(&host.volbak(&["import", &image, "--to-image", &imported, "--json"]), 0, "import");
    assert_eq!(done["content_digest"], exported["content_digest"], "{done}");
    assert_eq!(done["disk_bytes"], 24 << 20);
    // Another disk has another digest; one that is not compared has none.
    change(&host, &disk);
    let other = ended(&host.volbak(&["export", &disk, "--to", &at("c.raw"), "--verify", "--json"]), 0, "export");
    assert_ne!(other["content_digest"], exported["content_digest"], "{other}");
    let other = ended(&host.volbak(&["export", &disk, "--to", &at("d.raw"), "--json"]), 0, "export");
    assert_eq!(other["content_digest"], Value::Null, "{other}");

    // What is not read as it should be is among the problems.
    sh(&format!("printf '\\001' | dd of={} bs=1 seek=79 conv=notrunc status=none", quoted(Path::new(&image))));
    let dirty = ended(&host.volbak(&["export", &image, "--to", &at("e.raw"), "--json"]), 3, "export");
    assert_eq!(dirty["problems"][0]["severity"], dirty["worst_problem"], "{dirty}");

    let made = host.volbak(&["snapshot", &disk, "--image", "--to", &to, "--json"]);
    let archive = described(&made, "snapshot")["backups"][0]["archive"].as_str().unwrap().to_owned();
    let done = host.volbak(&["restore", &archive, "--to-image", &at("f.img"), "--json"]);
    let done = ended(&done, 0, "restore-disk");
    assert_eq!(done["report"]["content_digest"], other_digest(&host, &disk), "{done}");
}

/// The digest of a disk's used blocks, as an export with `--verify` prints it.
fn other_digest(host: &Host, disk: &str) -> Value {
    let to = host.at("g.raw").to_str().unwrap().to_owned();
    described(&host.volbak(&["export", disk, "--to", &to, "--verify", "--json"]), "export")["content_digest"].clone()
}

#[test]
fn what_prune_and_list_print_of_groups_is_what_the_schemas_say() {
    let host = Host::new("");
    host.write_config("volbak.toml", "backups_retention_days = 30\n[group.db]\nvolumes = ['volume-1', 'volume-2']\n");
    for volume in ["volume-1", "volume-2"] {
        host.add_ext4(volume);
    }
    assert_eq!(host.verb(&["run"]).status, 0);
    let listed = ended(&host.verb(&["list", "db", "--json"]), 0, "list");
    assert_eq!(listed["sets"][0]["archives"].as_array().map(Vec::len), Some(2), "{listed}");
    let browsed = host.verb(&["browse", "db", "--json"]);
    let lines = described_lines(&browsed);
    assert!(lines.iter().any(|line| line["backup"].is_string()), "{browsed:?}");
    let pruned = ended(&host.verb(&["prune", "--apply", "--json"]), 0, "prune-apply");
    assert_eq!(pruned["removed"], json!([]));
}

/// A map of the cloud that was saved with a night.
#[test]
fn a_map_of_the_cloud_is_what_the_schema_says() {
    let host = Host::new("");
    let id = "0a1b2c3d-0000-4000-8000-000000000001";
    let attachment = "0a1b2c3d-0000-4000-8000-000000000002";
    let map = json!({
        "format": 1, "taken_at": "2026-11-20T01:00:00Z", "cloud": "admin", "region": "one", "knows_attachment_ids": true,
        "volumes": [{
            "id": id, "lv": format!("volume-{id}"), "name": "data", "status": "in-use", "size_gib": 1, "volume_type": "lvm",
            "zone": "nova", "host": "storage-1@lvm#lvm", "project": "p", "project_name": "demo", "bootable": true,
            "multiattach": false, "encrypted": false, "created_at": "2026-11-01T00:00:00.000000",
            "metadata": { "tier": "gold" }, "image_metadata": { "os": "debian" },
            "attachments": [{
                "instance": id, "instance_name": "web-1",
                "cinder": { "attachment": attachment, "status": "attached", "device": "/dev/vdb", "host": "compute-1",
                            "iqn": "iqn.2010-10.org.openstack:volume", "portal": "10.0.0.1:3260" },
                "nova": { "attachment": attachment, "device": "/dev/vdb", "bdm": "7" },
            }],
            "differences": [
                { "kind": "only_nova", "instance": id }, { "kind": "only_cinder", "attachment": attachment },
                { "kind": "other_attachment", "instance": id, "cinder": attachment, "nova": id },
                { "kind": "no_such_instance", "instance": id }, { "kind": "status", "status": "detaching" },
            ],
        }],
        "instances": [{
            "id": id, "name": "web-1", "status": "ACTIVE", "project": "p", "host": "compute-1", "zone": "nova",
            "power_state": 1, "task_state": "powering-off", "addresses": { "net": ["10.0.0.2"] },
            "root_device": "/dev/vda", "local_disks": ["root"],
        }],
        "doubts": ["the projects' names cannot be asked for"],
    });
    let maps = host.at("backups/.volbak/cloud");
    fs::create_dir_all(&maps).unwrap();
    fs::write(maps.join("2026-11-20.json"), map.to_string()).unwrap();
    let printed = ended(&host.verb(&["cloud", "map", "--saved", "--json"]), 0, "cloud-map");
    // All of it is printed again: nothing of the map is left out of the schema.
    assert_eq!(printed, map);
}

#[test]
fn each_schema_is_listed() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let listed = fs::read_to_string(docs.join("json.md")).unwrap();
    let mut schemas: Vec<String> = fs::read_dir(docs.join("schemas"))
        .unwrap()
        .map(|entry| format!("`docs/schemas/{}`", entry.unwrap().file_name().into_string().unwrap()))
        .collect();
    assert!(schemas.len() > 30);
    schemas.retain(|schema| !listed.contains(schema.as_str()));
    assert!(schemas.is_empty(), "docs/json.md lacks {schemas:?}");
}
