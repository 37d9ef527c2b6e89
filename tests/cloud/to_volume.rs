//! `volbak restore --to-volume` against a real Cinder and Nova: scripts/test-cloud brings them up.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::PoisonError;

use serde_json::Value;

use crate::real::{CLOUD, create_server, json, openstack, remove_all, wait};

struct Place {
    folder: tempfile::TempDir,
    volumes: PathBuf,
    config: PathBuf,
}

impl Place {
    fn new(host: &str) -> Self {
        let dir = PathBuf::from(std::env::var("CLOUD_DIR").expect("scripts/test-cloud sets it"));
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("volbak.toml");
        let volumes = dir.join("volumes");
        let backups = folder.path().join("backups");
        fs::create_dir(&backups).unwrap();
        let table = format!(
            "backup_destination = '{}'\nrequire_mount = false\n[openstack]\ncloud = 'admin'\nclouds_file = '{}'\n\
             host = '{host}'\nvolumes_dir = '{}'\n",
            backups.display(),
            dir.join("clouds.yaml").display(),
            volumes.display()
        );
        fs::write(&config, table).unwrap();
        Self { folder, volumes, config }
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_volbak")).args(arguments).arg("--config").arg(&self.config).output().unwrap()
    }

    fn well(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }
}

/// A disk of which all is known, and its image backup.
fn backup(place: &Place) -> Vec<u8> {
    let image = place.folder.path().join("disk-1.img");
    let made = Command::new("mkfs.ext4").args(["-q", "-L", "root"]).arg(&image).arg("64M").output().unwrap();
    assert!(made.status.success(), "{made:?}");
    place.well(&["snapshot", "--image", image.to_str().unwrap()]);
    fs::read(&image).unwrap()
}

fn show(volume: &str) -> Value {
    json(&["volume", "show", volume])
}

/// Cinder's host, before the `@`.
fn host_of_cinder() -> String {
    let services = json(&["volume", "service", "list", "--service", "cinder-volume"]);
    services[0]["Host"].as_str().unwrap().split('@').next().unwrap().to_owned()
}

fn starts_with(file: &Path, disk: &[u8]) -> bool {
    fs::read(file).unwrap().starts_with(disk)
}

#[test]
#[ignore = "needs scripts/test-cloud"]
fn a_backup_becomes_a_new_volume_and_a_failure_leaves_it_in_maintenance() {
    let _cloud = CLOUD.lock().unwrap_or_else(PoisonError::into_inner);
    let place = Place::new(&host_of_cinder());
    let disk = backup(&place);
    create_server("to-volume", &["--image", "cirros"]);
    wait("the instance runs", || json(&["server", "show", "to-volume"])["status"] == "ACTIVE");

    // A member may make volumes, and is refused before one is made.
    let count = || json(&["volume", "list", "--all-projects"]).as_array().unwrap().len();
    let before = count();
    let config = place.folder.path().join("member.toml");
    fs::write(&config, fs::read_to_string(&place.config).unwrap().replace("cloud = 'admin'", "cloud = 'demo'"))
        .unwrap();
    let member = Place { config, volumes: place.volumes.clone(), folder: tempfile::tempdir().unwrap() };
    let refused = member.run(&["restore", "disk-1", "--to-volume", "new-0"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    let right = "nothing was changed: the user lacks the right volume_extension:volume_admin_actions:reset_status";
    assert!(refused.status.code() == Some(1) && said.contains(right), "{said}");
    assert_eq!(count(), before);

    // The plan changes nothing.
    let plan = place.well(&["restore", "disk-1", "--to-volume", "new-1", "--attach", "to-volume", "--dry-run"]);
    assert!(plan.contains("a new volume new-1, 1 GiB") && plan.contains("attached to to-volume"), "{plan}");
    assert_eq!(count(), before);

    // A new volume, attached.
    place.well(&["restore", "disk-1", "--to-volume", "new-1", "--attach", "to-volume"]);
    let new = show("new-1");
    assert_eq!(new["status"], "in-use", "{new}");
    assert!(!new["properties"].to_string().contains("volbak"), "{new}");
    let id = new["id"].as_str().unwrap();
    assert!(starts_with(&place.volumes.join(format!("volume-{id}")), &disk));
    // It is in use now: refused.
    let again = place.run(&["restore", "disk-1", "--to-volume", id]);
    assert!(String::from_utf8_lossy(&again.stderr).contains("is in-use"), "{again:?}");

    // A volume that exists needs --yes-erase, and nothing happens to it before.
    openstack(&["volume", "create", "--size", "1", "given"]);
    wait("the volume is there", || show("given")["status"] == "available");
    let given = show("given")["id"].as_str().unwrap().to_owned();
    let refused = place.run(&["restore", "disk-1", "--to-volume", "given"]);
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--yes-erase=volume-"), "{refused:?}");
    assert_eq!(show("given")["status"], "available");
    assert_eq!(show("given")["properties"], serde_json::json!({}));
    place.well(&["restore", "disk-1", "--to-volume", "given", &format!("--yes-erase=volume-{given}")]);
    assert_eq!(show("given")["status"], "available");
    assert!(starts_with(&place.volumes.join(format!("volume-{given}")), &disk));

    // On another host: told, and the new volume is out of use until that host has written it.
    let other = Place::new("storage-9");
    backup(&other);
    let told = other.run(&["restore", "disk-1", "--to-volume", "far", "--attach", "to-volume"]);
    let said = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(!told.status.success() && said.contains("run there: volbak restore"), "{said}");
    let far = show("far");
    assert_eq!(far["status"], "maintenance");
    // The next run names it, and writes it.
    let far = far["id"].as_str().unwrap();
    let output = place.run(&["restore", "disk-1", "--to-volume", far]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.contains("that was not completed"), "{said}");
    assert_eq!(show(far)["status"], "available");

    // One that Cinder cannot make is of no use.
    let told = place.run(&["restore", "disk-1", "--to-volume", "huge", "--volume-size", "9000000"]);
    let said = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(!told.status.success() && said.contains("of no use: `openstack volume delete"), "{said}");

    // Deleted, if that was asked for.
    let told = other.run(&["restore", "disk-1", "--to-volume", "gone", "--on-failure", "delete"]);
    assert!(String::from_utf8_lossy(&told.stderr).contains("is deleted"), "{told:?}");
    let has = |name: &str| json(&["volume", "list", "--all-projects"]).to_string().contains(&format!("\"{name}\""));
    wait("the volume is gone", || !has("gone"));
    remove_all();
}
