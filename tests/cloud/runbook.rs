//! The commands of docs/runbook.md with `<!-- tested in the cloud -->` before them, against a real cloud. Names, addresses and the
//! config stand for the test's own.

use std::fs;
use std::process::Command;
use std::sync::PoisonError;

use crate::lab::{Lab, dir};
use crate::real::{CLOUD, clients, create_server, openstack, remove_all, wait};
use crate::testkit::examples::{run, runbook};

#[test]
#[ignore = "needs scripts/test-cloud"]
fn an_instance_its_volumes_and_a_lost_host_come_back_as_the_runbook_says() {
    let _cloud = CLOUD.lock().unwrap_or_else(PoisonError::into_inner);
    let lab = Lab::new();
    let config = lab.at("volbak.toml");
    let text = format!(
        "backup_destination = '{0}'\nrequire_mount = false\n[openstack]\ncloud = 'admin'\nclouds_file = '{1}/clouds.yaml'\n\
         host = 'storage-1'\nvolumes_dir = '{1}/volumes'\n",
        lab.at("").display(),
        dir().display()
    );
    fs::write(&config, text).unwrap();
    clients(&["web-1-root", "web-1-data", "web-logs"].map(|name| format!("volume create --size 1 {name}")));
    let is = |name: &str, state: &str| {
        lab.session.volumes().unwrap().iter().any(|one| one.name == name && one.status == state)
            || lab.session.servers().unwrap().iter().any(|one| one.name == name && one.status == state)
    };
    wait("the volumes are there", || ["web-1-root", "web-1-data", "web-logs"].iter().all(|name| is(name, "available")));
    openstack(&["volume", "set", "--bootable", "web-1-root"]);
    create_server("web-1", &["--volume", "web-1-root"]);
    create_server("web-2", &["--image", "cirros"]);
    wait("the instances run", || ["web-1", "web-2"].iter().all(|name| is(name, "ACTIVE")));
    openstack(&["server", "add", "volume", "web-1", "web-1-data"]);
    wait("the volume is attached", || is("web-1-data", "in-use"));
    // The night before.
    let map = lab.map();
    fs::create_dir_all(lab.at(".volbak/cloud")).unwrap();
    fs::write(lab.at(".volbak/cloud/2026-01-01.json"), map.to_bytes().unwrap()).unwrap();
    let image = lab.at("web-db.img");
    let made = Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image).arg("64M").status().unwrap();
    assert!(made.success());
    let mut snapshot = Command::new(env!("CARGO_BIN_EXE_volbak"));
    assert!(
        snapshot.args(["snapshot", "--image"]).arg(&image).arg("--config").arg(&config).status().unwrap().success()
    );
    let of = map.instances.iter().find(|one| one.name == "web-1").unwrap();
    let address = of.addresses.values().flatten().next().unwrap().clone();
    // The instance is lost.
    openstack(&["server", "delete", "--wait", "web-1"]);
    wait("its volumes are free", || ["web-1-root", "web-1-data"].iter().all(|name| is(name, "available")));

    let [map, restore] = ["map", "restore"].map(|verb| format!("{verb} --config {}", config.display()));
    let places = [
        ("127.0.1.77", address.as_str()),
        ("volbak cloud map", &format!("volbak cloud {map}")),
        ("volbak restore", &format!("volbak {restore}")),
    ];
    let mut first = runbook("<!-- tested in the cloud -->", &places);
    let moved = first.iter().position(|example| example.command.contains("web-logs")).unwrap();
    let rest = first.split_off(moved);
    run(&first, &lab.at(""));
    assert!(fs::read_to_string(lab.at("attached")).unwrap().contains("/dev/"));
    openstack(&["server", "add", "volume", "web-1", "web-logs"]);
    wait("the volume is attached", || is("web-logs", "in-use"));
    run(&rest, &lab.at(""));
    remove_all();
}
