//! `cloud recover` against a real control plane: damage of each kind that the documented table has, and
//! `kill -9` after each line of the journal.

use std::fs;
use std::time::Duration;

use serde_json::Value;

use crate::lab::{Lab, pairs, service};
use crate::real::{CLOUD, create_server, openstack, remove_all, wait};

const COMPUTE: &str = "compute-1";

#[test]
#[ignore = "needs scripts/test-cloud"]
fn after_a_loss_of_power_everything_is_as_in_the_map_and_each_instance_was_restarted_once() {
    let _cloud = CLOUD.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let lab = Lab::new();
    let volumes = ["rec-right", "rec-detaching", "rec-wedge", "rec-lost", "rec-free", "rec-dying", "rec-root"];
    for name in volumes {
        openstack(&["volume", "create", "--size", "1", name]);
    }
    let place = |host: &str| format!("nova:{host}");
    for n in [1, 2] {
        let name = format!("rec-{n}");
        let zone = place(COMPUTE);
        create_server(&name, &["--image", "cirros", "--availability-zone", &zone]);
    }
    let is_there = |list: &str, name: &str, state: &str| {
        if list == "volume" {
            lab.session.volumes().unwrap().iter().any(|one| one.name == name && one.status == state)
        } else {
            lab.session.servers().unwrap().iter().any(|one| one.name == name && one.status == state)
        }
    };
    wait("volumes are there", || volumes.iter().all(|name| is_there("volume", name, "available")));
    openstack(&["volume", "set", "--bootable", "rec-root"]);
    let zone = place("compute-2");
    create_server("rec-boot", &["--volume", "rec-root", "--availability-zone", &zone]);
    wait("instances run", || ["rec-1", "rec-2", "rec-boot"].iter().all(|name| is_there("server", name, "ACTIVE")));
    let known = lab.map();
    let id = |name: &str| {
        let volume = known.volumes.iter().find(|one| one.name == name).map(|one| one.id.clone());
        volume.unwrap_or_else(|| known.instances.iter().find(|one| one.name == name).unwrap().id.clone())
    };
    for (server, volume) in [
        ("rec-1", "rec-right"),
        ("rec-1", "rec-detaching"),
        ("rec-1", "rec-wedge"),
        ("rec-2", "rec-lost"),
        ("rec-2", "rec-dying"),
    ] {
        lab.session.attach(&id(server), &id(volume)).unwrap();
    }
    wait("volumes are attached", || {
        volumes.iter().all(|name| *name == "rec-free" || lab.status(&id(name)) == "in-use")
    });
    let before = lab.map();
    fs::create_dir_all(lab.at(".volbak/cloud")).unwrap();
    fs::write(lab.at(".volbak/cloud/2026-01-01.json"), before.to_bytes().unwrap()).unwrap();
    let (first, second) = (id("rec-1"), id("rec-2"));

    // The power goes: in the middle of an attachment and of a detachment, and with what the old SQL left.
    lab.session.attach(&first, &id("rec-free")).unwrap();
    service("kill", "nova-compute-1");
    let _ = lab.session.detach(&second, &id("rec-dying"));
    openstack(&["volume", "set", "--state", "available", "--detached", "rec-wedge"]);
    openstack(&["volume", "set", "--state", "available", "rec-detaching"]);
    service("run", "nova-compute-1");
    wait("the dying detachment ends", || lab.status(&id("rec-dying")) != "detaching");
    wait("the dying attachment ends", || {
        ["available", "in-use", "reserved", "attaching"].contains(&lab.status(&id("rec-free")).as_str())
    });

    // A member is refused before anything changes, and the right is named.
    let seen = pairs(&lab.map());
    let journal = lab.at("journal");
    let named = journal.display().to_string();
    let refused = lab.verb("demo", &["recover", "--apply", "--journal", &named]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        refused.status.code() == Some(1) && said.contains("lacks the right volume_extension:services:index"),
        "{said}"
    );
    assert!(pairs(&lab.map()) == seen && !journal.exists());

    // The plan names each, and changes nothing.
    let common =
        ["--journal", &named, "--from-map", "2026-01-01", "--pause", "0.05", "--settle", "3", "--patience", "120"];
    let recover = |more: &[&str]| -> Vec<String> {
        ["recover"].iter().chain(&common).chain(more).map(|one| (*one).to_owned()).collect()
    };
    let arguments = |more: &[&str]| recover(more);
    let run = |more: &[&str]| {
        let all = arguments(more);
        lab.verb("admin", &all.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let plan: Value = serde_json::from_slice(&run(&["--json"]).stdout).unwrap();
    let has = |action: &str, volume: &str| {
        plan["steps"]
            .as_array()
            .unwrap()
            .iter()
            .any(|step| step["action"] == action && step["volume"]["name"] == volume)
    };
    assert!(
        has("free_wedge", "rec-wedge") && has("attach", "rec-wedge") && has("keep_attached", "rec-detaching"),
        "{plan:#}"
    );
    assert!(has("attach", "rec-dying"), "{plan:#}");
    assert!(!has("keep_attached", "rec-right") && pairs(&lab.map()) == seen);
    let reboots: Vec<(String, usize)> =
        before.instances.iter().map(|one| (one.id.clone(), lab.reboots(&one.id))).collect();

    // Killed after each line of the journal, a little later each time.
    let apply = arguments(&["--apply"]);
    let apply: Vec<&str> = apply.iter().map(String::as_str).collect();
    let mut kills = 0;
    for n in 0..20_u64 {
        let lines = fs::read_to_string(&journal).map_or(0, |text| text.lines().count());
        if !lab.killed(&apply, &journal, lines + 1, Duration::from_millis(n * 370 % 1900)) {
            break;
        }
        kills += 1;
    }
    let last = lab.verb("admin", &apply);
    let said = String::from_utf8_lossy(&last.stdout).into_owned();
    let written = fs::read_to_string(&journal).unwrap();
    assert_eq!(last.status.code(), Some(0), "{said}\n{written}");
    println!("killed {kills} times; the journal has {} lines", written.lines().count());
    assert!(kills >= 5, "{kills}");
    let after = lab.map();
    let missing: Vec<_> = pairs(&before).difference(&pairs(&after)).cloned().collect();
    assert!(missing.is_empty(), "{missing:?}\n{}", after.text());
    assert!(after.volumes.iter().all(|volume| volume.differences.is_empty()), "{}", after.text());
    for (instance, count) in &reboots {
        assert_eq!(lab.reboots(instance), count + 1, "{instance}\n{written}");
    }
    // Again: nothing.
    let again = lab.verb("admin", &apply);
    let said = String::from_utf8_lossy(&again.stdout).into_owned();
    assert!(again.status.code() == Some(0) && said.contains("Total steps - 0"), "{said}");
    for (instance, count) in &reboots {
        assert_eq!(lab.reboots(instance), count + 1, "{instance}");
    }
    remove_all();
}
