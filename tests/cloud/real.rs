//! Against a real Keystone, Cinder and Nova: scripts/test-cloud brings them up and sets `CLOUD_DIR` and `OS_*`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use volbak::cloud::CloudMap;

/// Tests change the one cloud that they share: each has it to itself.
pub(crate) static CLOUD: Mutex<()> = Mutex::new(());

pub(crate) fn openstack(arguments: &[&str]) -> String {
    let output = Command::new("openstack").args(arguments).output().unwrap();
    assert!(output.status.success(), "openstack {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Carries out many commands in one process of the client, which takes seconds to start. It goes on after one that fails: the
/// caller waits for what they make.
pub(crate) fn clients(commands: &[String]) {
    let mut child = Command::new("openstack").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    child.stdin.take().unwrap().write_all((commands.join("\n") + "\n").as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "{commands:?}");
}

/// A command of nova-manage, as on a controller.
pub(crate) fn nova_manage(arguments: &[&str]) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/cloud");
    let dir = std::env::var("CLOUD_DIR").expect("scripts/test-cloud sets it");
    let output = Command::new(script).args(["nova-manage", &dir]).args(arguments).output().unwrap();
    assert!(output.status.success(), "nova-manage {arguments:?}: {output:?}");
}

/// Removes all instances, volumes and types: the tests share the cloud, and a recovery is about all that it has.
pub(crate) fn remove_all() {
    let rows = |list: &str| json(&[list, "list", "--all-projects"]).as_array().unwrap().clone();
    let delete = |list: &str, options: &str, rows: &[Value]| {
        let id = |row: &Value| row["ID"].as_str().unwrap().to_owned();
        clients(&rows.iter().map(|row| format!("{list} delete {options} {}", id(row))).collect::<Vec<_>>());
    };
    // A list of instances has a page at a time.
    wait("the instances are gone", || {
        let left = rows("server");
        delete("server", "--wait", &left);
        left.is_empty()
    });
    wait("the volumes are gone", || {
        let left = rows("volume");
        // Cinder lets go of those of an instance after it is gone. One that an interrupted restore left is in maintenance.
        let is_free = |row: &&Value| !["in-use", "detaching", "deleting"].contains(&row["Status"].as_str().unwrap());
        delete("volume", "--force", &left.iter().filter(is_free).cloned().collect::<Vec<_>>());
        left.is_empty()
    });
    let mut types = json(&["volume", "type", "list"]).as_array().unwrap().clone();
    types.retain(|row| row["Name"] != "__DEFAULT__");
    delete("volume type", "", &types);
}

/// Asks for an instance of the small flavor in the one network.
pub(crate) fn create_server(name: &str, options: &[&str]) {
    let mut all = vec!["server", "create", "--flavor", "tiny", "--network", "net"];
    all.extend(options);
    all.push(name);
    openstack(&all);
}

pub(crate) fn json(arguments: &[&str]) -> Value {
    let mut all = arguments.to_vec();
    all.extend(["-f", "json"]);
    serde_json::from_str(&openstack(&all)).unwrap()
}

pub(crate) fn wait(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(180);
    while !is_so() {
        assert!(Instant::now() < until, "not in three minutes: {what}");
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// A config in a folder of its own, whose `[openstack]` names this cloud of scripts/cloud's clouds.yaml.
fn volbak(folder: &tempfile::TempDir, cloud: &str, arguments: &[&str]) -> Output {
    let dir = PathBuf::from(std::env::var("CLOUD_DIR").expect("scripts/test-cloud sets it"));
    let config = folder.path().join("volbak.toml");
    let table = format!(
        "backup_destination = '{}'\nrequire_mount = false\n[openstack]\ncloud = '{cloud}'\nclouds_file = '{}'\n",
        folder.path().display(),
        dir.join("clouds.yaml").display()
    );
    fs::write(&config, table).unwrap();
    Command::new(env!("CARGO_BIN_EXE_volbak")).args(arguments).arg("--config").arg(&config).output().unwrap()
}

#[test]
#[ignore = "needs scripts/test-cloud"]
fn openstack_and_volbak_agree_on_every_volume_and_attachment() {
    let _cloud = CLOUD.lock().unwrap_or_else(PoisonError::into_inner);
    for n in 1..=3 {
        create_server(&format!("web-{n}"), &["--image", "cirros"]);
    }
    openstack(&["volume", "type", "create", "multi", "--property", "multiattach=<is> True"]);
    openstack(&["volume", "create", "--type", "multi", "--size", "1", "shared"]);
    for n in 1..=6 {
        openstack(&["volume", "create", "--size", "1", "--property", &format!("n={n}"), &format!("data {n}")]);
    }
    openstack(&["volume", "set", "--bootable", "data 6"]);
    let has = |list: &str, state: &str, count: usize| {
        let rows = json(&[list, "list", "--all-projects"]);
        rows.as_array().unwrap().iter().filter(|row| row["Status"] == state).count() == count
    };
    wait("all instances run", || has("server", "ACTIVE", 3));
    wait("all volumes are there", || has("volume", "available", 7));
    for (server, volume) in [
        ("web-1", "data 1"),
        ("web-1", "data 2"),
        ("web-2", "data 3"),
        ("web-3", "data 4"),
        ("web-1", "shared"),
        ("web-2", "shared"),
    ] {
        openstack(&["server", "add", "volume", server, volume]);
    }
    wait("all volumes are attached", || has("volume", "in-use", 5));

    let folder = tempfile::tempdir().unwrap();
    let output = volbak(&folder, "admin", &["cloud", "map", "--json"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let map = CloudMap::from_bytes(&output.stdout).unwrap();
    assert!(map.knows_attachment_ids && map.doubts.is_empty(), "{:?}", map.doubts);

    let volumes = json(&["volume", "list", "--all-projects", "--long"]);
    let volumes = volumes.as_array().unwrap();
    assert_eq!(map.volumes.len(), volumes.len());
    for theirs in volumes {
        let ours = map.volumes.iter().find(|ours| theirs["ID"] == ours.id.as_str()).unwrap();
        assert_eq!(theirs["Name"], ours.name.as_str());
        assert_eq!(theirs["Status"], ours.status.as_str());
        assert_eq!(theirs["Size"], ours.size_gib);
        assert_eq!(theirs["Type"], ours.volume_type.as_deref().unwrap());
        assert_eq!(theirs["Bootable"] == "true", ours.bootable);
        let metadata: BTreeMap<String, String> = serde_json::from_value(theirs["Properties"].clone()).unwrap();
        assert_eq!(metadata, ours.metadata);
        let attached =
            |row: &Value| (row["server_id"].as_str().unwrap().to_owned(), row["device"].as_str().unwrap().to_owned());
        let theirs: BTreeSet<_> = theirs["Attached to"].as_array().unwrap().iter().map(attached).collect();
        let ours: BTreeSet<_> = ours
            .attachments
            .iter()
            .map(|one| (one.instance.clone().unwrap(), one.cinder.as_ref().unwrap().device.clone().unwrap()))
            .collect();
        assert_eq!(theirs, ours);
    }
    // Nova's side, server by server.
    for server in json(&["server", "list", "--all-projects"]).as_array().unwrap() {
        let id = server["ID"].as_str().unwrap();
        assert_eq!(
            map.instances.iter().find(|instance| instance.id == id).unwrap().name,
            server["Name"].as_str().unwrap()
        );
        let theirs = json(&["--os-compute-api-version", "2.89", "server", "volume", "list", id]);
        let theirs: BTreeSet<(String, String)> = theirs
            .as_array()
            .unwrap()
            .iter()
            .map(|row| {
                (row["Volume ID"].as_str().unwrap().to_owned(), row["Attachment ID"].as_str().unwrap().to_owned())
            })
            .collect();
        let ours: BTreeSet<(String, String)> = map
            .volumes
            .iter()
            .flat_map(|volume| volume.attachments.iter().map(move |one| (volume, one)))
            .filter(|(_, one)| one.instance.as_deref() == Some(id))
            .map(|(volume, one)| (volume.id.clone(), one.nova.as_ref().unwrap().attachment.clone().unwrap()))
            .collect();
        assert_eq!(theirs, ours, "{id}");
    }
    assert!(map.volumes.iter().all(|volume| volume.differences.is_empty()), "{}", map.text());

    // A member sees its own project alone, and the map says so.
    let output = volbak(&folder, "demo", &["cloud", "map", "--json"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!said.contains("secret"), "{said}");
    if output.status.success() {
        assert!(CloudMap::from_bytes(&output.stdout).unwrap().volumes.is_empty());
    }

    // An application credential, through the environment.
    let made = json(&["application", "credential", "create", "volbak"]);
    let config = folder.path().join("volbak.toml");
    fs::write(
        &config,
        format!("backup_destination = '{}'\nrequire_mount = false\n[openstack]\n", folder.path().display()),
    )
    .unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_volbak"));
    for name in ["OS_USERNAME", "OS_PASSWORD", "OS_PROJECT_NAME", "OS_USER_DOMAIN_ID", "OS_PROJECT_DOMAIN_ID"] {
        command.env_remove(name);
    }
    let output = command
        .args(["cloud", "map", "--json", "--config"])
        .arg(&config)
        .env("OS_AUTH_TYPE", "v3applicationcredential")
        .env("OS_APPLICATION_CREDENTIAL_ID", made["id"].as_str().or(made["ID"].as_str()).unwrap())
        .env("OS_APPLICATION_CREDENTIAL_SECRET", made["secret"].as_str().or(made["Secret"].as_str()).unwrap())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(CloudMap::from_bytes(&output.stdout).unwrap().volumes, map.volumes);
    remove_all();
}
