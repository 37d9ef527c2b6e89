//! docs/schemas says what verbs print with `--json`: each field of real output is described there, each required one is there.

use std::fs;

use serde_json::Value;

use crate::testkit::guest::{program, quoted, sh};
use crate::testkit::schema::compare;
use crate::testkit::stand_in::{Did, Host};
use crate::testkit::tree::noise;

/// The output as JSON, after it was compared with its schema.
fn described(did: &Did, schema: &str) -> Value {
    let value: Value = serde_json::from_str(&did.stdout).unwrap_or_else(|error| panic!("{error}: {did:?}"));
    compare(&value, schema);
    value
}

#[test]
fn what_verbs_of_a_night_print_is_what_the_schemas_say() {
    let host = Host::new("");
    host.add_ext4("volume-1");
    host.add_ext4("volume-2");
    host.set_broken("volume-2", true);
    let tell = host.at("tell");
    program(&tell, &format!("cat >{}", host.at("told.json").display()));
    host.write_config("volbak.toml", &format!("[[notify]]\nkind = 'command'\ncommand = ['{}']\n", tell.display()));
    let did = host.verb(&["run", "--json"]);
    assert_eq!(did.status, 1, "{did:?}");
    let ran = described(&did, "report");
    assert_eq!((&ran["verdict"], &ran["format"]), (&"failed".into(), &1.into()));
    assert_eq!(described(&host.verb(&["report", "--json"]), "report")["report"]["volumes"], ran["report"]["volumes"]);
    compare(&serde_json::from_slice(&fs::read(host.at("told.json")).unwrap()).unwrap(), "notice");

    let tested = described(&host.verb(&["notify", "test", "--json"]), "notify-test");
    assert_eq!(tested["notifications"][0]["sent"], true, "{tested}");

    let planned = described(&host.verb(&["run", "--dry-run", "--json"]), "dry-run");
    let named = |name: &str| planned["back_up"].as_array().unwrap().iter().find(|one| one["volume"] == name).unwrap();
    assert!(named("vg0/volume-1")["last_archive_bytes"].as_u64() > Some(0), "{planned}");
    assert_eq!(planned["volumes"][0]["volume"], "volume-1", "{planned}");

    let protected = described(&host.verb(&["protect", "volume-1@last", "--json"]), "protect");
    assert_eq!(protected["protected"], true);
    let planned = described(&host.verb(&["prune", "--dry-run", "--json"]), "prune");
    let backup = &planned["volumes"][0]["backups"][0];
    assert_eq!((&backup["backup"], &backup["remove"]), (&protected["backups"][0], &false.into()), "{planned}");
    assert_eq!(described(&host.verb(&["unprotect", "volume-1@last", "--json"]), "protect")["protected"], false);
    let path = host.at("backups/volume-1").join(format!("{}.tar.gz", protected["backups"][0].as_str().unwrap()));
    let removed = host.verb(&["remove", path.to_str().unwrap(), "--force", "--dry-run", "--json"]);
    assert_eq!(described(&removed, "remove")["removed"][0]["backup"], protected["backups"][0]);

    assert_eq!(described(&host.verb(&["config", "check", "--json"]), "config-check")["valid"], true);
    host.write_config("volbak.toml", "backups_retention_days = 0\nno_such_key = 1\n");
    let did = host.verb(&["config", "check", "--json"]);
    let checked = described(&did, "config-check");
    assert_eq!(
        (did.status, checked["valid"].as_bool(), checked["mistakes"].as_array().map(Vec::len)),
        (2, Some(false), Some(2))
    );
}

#[test]
fn what_verbs_of_an_operator_print_is_what_the_schemas_say() {
    let host = Host::new("");
    host.add_ext4("volume-1");
    host.add_ext4("volume-2");
    host.set_broken("volume-2", true);
    assert_eq!(host.verb(&["run"]).status, 1);
    let did = host.verb(&["status", "--json"]);
    let status = described(&did, "status");
    assert_eq!((did.status, &status["level"], &status["format"]), (2, &"CRITICAL".into(), &1.into()));
    assert_eq!(status["volumes"].as_array().unwrap().len(), 2, "{status}");
    let archive = format!("{}.tar.gz", status_stem(&host));
    let archive = host.at("backups/volume-1").join(archive);
    let verified = host.volbak(&["verify", archive.to_str().unwrap()]);
    assert_eq!(verified.status, 0, "{verified:?}");
    let status = described(&host.verb(&["status", "--json"]), "status");
    assert_eq!(status["volumes"][0]["last_verification"]["level"], "full", "{status}");
    let doctor = described(&host.verb(&["doctor", "--json"]), "doctor");
    assert!(doctor["findings"].as_array().unwrap().len() > 5, "{doctor}");

    let to = host.at("to");
    let files = ["restore", archive.to_str().unwrap(), "--to", to.to_str().unwrap(), "--dry-run"];
    let planned = described(&host.volbak(&[&files[..], &["--json"]].concat()), "restore-dry-run");
    assert!(planned["entries"].as_u64() > Some(20) && !to.exists(), "{planned}");
    // Twenty files of some kilobytes: the room that they take is counted in blocks.
    let (data, needed) = (planned["data_bytes"].as_u64().unwrap(), planned["needed_bytes"].as_u64().unwrap());
    assert!(needed >= data && needed.is_multiple_of(4096), "{planned}");
    let image = host.at("restored.img");
    let disk = ["restore", archive.to_str().unwrap(), "--to-image", image.to_str().unwrap(), "--dry-run", "--json"];
    let planned = described(&host.volbak(&disk), "restore-disk-dry-run");
    assert_eq!((planned["plan"]["source_bytes"].as_u64(), image.exists()), (Some(8 << 20), false), "{planned}");
    let planned = described(&host.volbak(&[&disk[..], &["--map-uid=0:7"]].concat()), "restore-disk-dry-run");
    assert_eq!((&planned["owners"]["uids"][0]["old"], &planned["owners"]["uids"][0]["new"]), (&0.into(), &7.into()));

    // The same onto a filesystem that is too small.
    let small = host.at("small");
    fs::create_dir(&small).unwrap();
    sh(&format!("mount -t tmpfs -o size=8k tmpfs {}", quoted(&small)));
    let below = small.join("new/below");
    let did = host.volbak(&["restore", archive.to_str().unwrap(), "--to", below.to_str().unwrap(), "--dry-run"]);
    let json =
        host.volbak(&["restore", archive.to_str().unwrap(), "--to", below.to_str().unwrap(), "--dry-run", "--json"]);
    sh(&format!("umount {}", quoted(&small)));
    assert!(
        did.status == 3 && did.stdout.contains("NO ROOM: about ") && did.stdout.contains(" too little\n"),
        "{did:?}"
    );
    let planned = described(&json, "restore-dry-run");
    assert!(planned["available_bytes"].as_u64() <= Some(8192), "{planned}");

    // A destination that is away is UNKNOWN, and described as well.
    fs::rename(host.at("backups"), host.at("away")).unwrap();
    let did = host.verb(&["status", "--json"]);
    assert_eq!((did.status, &described(&did, "status")["level"]), (3, &"UNKNOWN".into()));
}

/// The stem of the only backup of volume-1.
fn status_stem(host: &Host) -> String {
    let entries = fs::read_dir(host.at("backups/volume-1")).unwrap();
    let mut names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.find_map(|name| name.strip_suffix(".manifest.json").map(str::to_owned)).unwrap()
}

#[test]
fn log_lines_and_progress_are_what_the_schema_says() {
    let host = Host::new("");
    let files = tempfile::tempdir().unwrap();
    fs::write(files.path().join("noise"), noise(1, 4_000_000)).unwrap();
    host.zeros("volume-1");
    sh(&format!("mke2fs -q -F -t ext4 -d {} {}", quoted(files.path()), quoted(&host.at("volume-1.img"))));
    host.add("volume-1");
    host.add_ext4("volume-2");
    let mut night = host.program(&["--progress", "json", "--quiet", "run", "--config"]);
    // Four seconds for the first volume.
    let did = night.arg(host.at("volbak.toml")).env("VOLBAK_READ_RATE_LIMIT", "1M").output().unwrap();
    let said = String::from_utf8(did.stderr).unwrap();
    let lines: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for line in &lines {
        compare(line, "log-line");
    }
    let progress: Vec<&Value> = lines.iter().filter(|line| line["event"] == "progress").collect();
    assert!(!progress.is_empty(), "{said}");
    for line in progress {
        assert!(line["read_bytes"].as_u64() > Some(0) && line["of"] == 2 && line["step"].is_string(), "{line}");
    }
    assert!(lines.iter().all(|line| line["event"] == "progress"), "--quiet leaves nothing else: {said}");

    let did = host.program(&["--progress", "json", "--log", "text", "list"]).output().unwrap();
    assert_eq!(did.status.code(), Some(2));
    assert!(String::from_utf8(did.stderr).unwrap().starts_with("error: --progress json writes JSON lines"));
}
