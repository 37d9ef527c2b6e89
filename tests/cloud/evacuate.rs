//! `cloud evacuate` against a real control plane: the host of six instances is killed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;
use std::sync::PoisonError;
use std::time::Duration;

use serde_json::Value;
use volbak::cloud::CloudMap;

use crate::lab::{Lab, pairs, service};
use crate::real::{CLOUD, clients, remove_all, wait};
use crate::testkit::schema::compare;

const LOST: &str = "compute-2";
const OTHER: &str = "compute-1";
/// Boot from volumes, on the host that is lost.
const NAMES: [&str; 6] = ["evac-1", "evac-2", "evac-3", "evac-4", "evac-5", "evac-6"];
/// Its disk is on the host that is lost.
const LOCAL: &str = "evac-local";
/// On the other host.
const STAY: [&str; 2] = ["evac-stay-1", "evac-stay-2"];

fn make(lab: &Lab) {
    let mut volumes: Vec<String> = NAMES.map(|name| format!("volume create --size 1 {name}-root")).to_vec();
    volumes.push("volume create --size 1 evac-data".to_owned());
    clients(&volumes);
    let has = |lab: &Lab, state: &str| lab.session.volumes().unwrap().iter().filter(|one| one.status == state).count();
    wait("the volumes are there", || has(lab, "available") == volumes.len());
    let server = "server create --flavor tiny --network net";
    let mut commands: Vec<String> = NAMES.map(|name| format!("volume set --bootable {name}-root")).to_vec();
    commands.extend(NAMES.map(|name| format!("{server} --volume {name}-root --availability-zone nova:{LOST} {name}")));
    commands.push(format!("{server} --image cirros --availability-zone nova:{LOST} {LOCAL}"));
    commands.extend(STAY.map(|name| format!("{server} --image cirros --availability-zone nova:{OTHER} {name}")));
    clients(&commands);
    wait("the instances run", || {
        lab.session.servers().unwrap().iter().filter(|one| one.status == "ACTIVE").count()
            == NAMES.len() + 1 + STAY.len()
    });
    clients(&["server add volume evac-1 evac-data".to_owned()]);
    wait("the volumes are attached", || has(lab, "in-use") == volumes.len());
}

/// The requests of each instance, and how many of them were evacuations.
fn actions(lab: &Lab, map: &CloudMap) -> BTreeMap<String, (usize, BTreeSet<String>)> {
    let of = |id: &str| {
        let actions = lab.session.instance_actions(id).unwrap();
        let evacuations = actions.iter().filter(|one| one.action == "evacuate").count();
        (evacuations, actions.into_iter().map(|one| one.request_id).collect())
    };
    map.instances.iter().map(|one| (one.name.clone(), of(&one.id))).collect()
}

fn hosts(map: &CloudMap) -> BTreeMap<String, String> {
    map.instances.iter().map(|one| (one.name.clone(), one.host.clone().unwrap())).collect()
}

#[test]
#[ignore = "needs scripts/test-cloud"]
fn six_instances_of_a_lost_host_are_evacuated_once_each_and_the_others_are_not_touched() {
    let _cloud = CLOUD.lock().unwrap_or_else(PoisonError::into_inner);
    let lab = Lab::new();
    make(&lab);
    let before = lab.map();
    let journal = lab.at("evacuation");
    let named = journal.display().to_string();
    let plan = ["evacuate", LOST, "--journal", &named, "--pause", "0.1"];
    let apply = [&plan[..], &["--apply"]].concat();
    // A member is refused, and so is a host that is up.
    for (cloud, why) in
        [("demo", "lacks the right volume_extension:services:index"), ("admin", "nova-compute on compute-2 is up")]
    {
        let refused = lab.verb(cloud, &apply);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(refused.status.code() == Some(1) && said.contains(why) && !journal.exists(), "{said}");
    }
    service("kill", "nova-compute-2");
    let state = |lab: &Lab| -> Option<String> {
        let services = lab.session.compute_services().unwrap();
        services.into_iter().find(|one| one.host == LOST && one.binary == "nova-compute")?.state
    };
    wait("Nova says that it is down", || state(&lab).as_deref() == Some("down"));
    let asked = actions(&lab, &before);
    let planned: Value = serde_json::from_slice(&lab.verb("admin", &[&plan[..], &["--json"]].concat()).stdout).unwrap();
    compare(&planned, "cloud-evacuate-plan");
    let names = |rows: &Value, name: &dyn Fn(&Value) -> Value| -> BTreeSet<String> {
        rows.as_array().unwrap().iter().map(|row| name(row).as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(
        names(&planned["instances"], &|row| row["name"].clone()),
        NAMES.map(str::to_owned).into(),
        "{planned:#}"
    );
    assert_eq!(names(&planned["kept"], &|row| row["instance"]["name"].clone()), [LOCAL.to_owned()].into());
    assert_eq!((hosts(&lab.map()), actions(&lab, &before)), (hosts(&before), asked.clone()), "a plan changes nothing");

    // Killed in the middle, a line of the journal later each time.
    let mut kills = 0;
    for n in 0..7_u64 {
        let lines = fs::read_to_string(&journal).map_or(0, |text| text.lines().count());
        if !lab.killed(&apply, &journal, lines + 1, Duration::from_millis(n * 230 % 700)) {
            break;
        }
        kills += 1;
    }
    let done = lab.verb("admin", &apply);
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.code() == Some(3) && said.contains(LOCAL), "{said}");
    println!("killed {kills} times; the journal has {} lines", fs::read_to_string(&journal).unwrap().lines().count());
    assert!(kills >= 3, "{kills}");
    let check = || {
        let after = lab.map();
        for (name, (evacuations, requests)) in actions(&lab, &after) {
            let host = &hosts(&after)[&name];
            if NAMES.contains(&name.as_str()) {
                assert!(evacuations == 1 && host == OTHER, "{name}: {evacuations} times, on {host}: {said}");
            } else {
                assert!(requests == asked[&name].1 && *host == hosts(&before)[&name], "{name}: {said}");
            }
        }
    };
    check();
    wait("each has its volumes", || pairs(&lab.map()) == pairs(&before));
    // Again: nothing more.
    let again = lab.verb("admin", &apply);
    assert_eq!(again.status.code(), Some(3), "{}", String::from_utf8_lossy(&again.stdout));
    check();

    // Nova takes the host back when its service has removed what was evacuated.
    service("run", "nova-compute-2");
    let up = ["--os-compute-api-version", "2.79", "compute", "service", "set", "--up", LOST, "nova-compute"];
    wait("Nova takes the host back", || Command::new("openstack").args(up).output().unwrap().status.success());
    wait("the host is back", || state(&lab).as_deref() == Some("up"));
    check();
    remove_all();
}
