//! Power cuts of a cloud with two compute hosts, six instances and fourteen volumes. Each cut has a seed: it decides which volume
//! gets into which row of the documented table, which compute hosts are killed and when, and when the recovery is killed.
//!
//! `VOLBAK_CLOUD_CUTS` (2) and `VOLBAK_CLOUD_KILLS` (4) say how many. The whole: 20 cuts and 30 kills, about 40 minutes.

mod checks;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::PoisonError;
use std::thread::sleep;
use std::time::{Duration, Instant};

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::Value;
use volbak::cloud::CloudMap;
use volbak::openstack::{CloudError, Connector};

use crate::lab::{Lab, dir, pairs, service};
use crate::map::Random;
use crate::real::{CLOUD, clients, json, nova_manage, openstack, remove_all, wait};
use crate::testkit::schema::compare;

const INSTANCES: usize = 6;
/// Kept by one instance of each host.
const SHARED: &str = "cut-shared";
/// In no map: an attachment that the cut interrupts.
const FREE: &str = "cut-free";

/// A row of the documented table, or a way into one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Row {
    Right,
    /// Cinder says `detaching`, and its attachment is there.
    Detaching,
    /// Cinder says `available`, and its attachment is there.
    Status,
    /// Cinder says `available` and has no attachment, and Nova maps it.
    Wedge,
    /// Cinder has an attachment that is reserved, and that Nova does not map.
    Reserved,
    /// Cinder has a whole attachment that Nova does not map.
    Complete,
    /// Neither side has the attachment.
    Lost,
    /// The host is killed during the detachment.
    Dying,
}

const ROWS: [Row; 8] =
    [Row::Wedge, Row::Detaching, Row::Complete, Row::Lost, Row::Dying, Row::Reserved, Row::Status, Row::Right];

fn figure(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}

fn host(n: usize) -> &'static str {
    if n <= INSTANCES / 2 { "compute-1" } else { "compute-2" }
}

struct Cloud {
    lab: Lab,
    /// IDs by name.
    ids: BTreeMap<String, String>,
}

/// Nova refuses what is asked of an instance while it is at a task, such as the reboot after the cut before.
fn when_idle(what: &str, mut ask: impl FnMut() -> Result<(), CloudError>) {
    wait(what, || match ask() {
        Err(error) if error.status() == Some(409) => false,
        other => other.map(|()| true).unwrap(),
    });
}

impl Cloud {
    /// Makes the cloud: each instance has a root volume and a data volume.
    fn new() -> Self {
        let lab = Lab::new();
        let numbers = || 1..=INSTANCES;
        let mut volumes: Vec<String> =
            numbers().flat_map(|n| [format!("cut-root-{n}"), format!("cut-data-{n}")]).collect();
        volumes.extend([SHARED, FREE].map(str::to_owned));
        openstack(&["volume", "type", "create", "cut-multi", "--property", "multiattach=<is> True"]);
        let mut commands = Vec::new();
        for name in &volumes {
            let kind = if name == SHARED { " --type cut-multi" } else { "" };
            commands.push(format!("volume create --size 1{kind} {name}"));
        }
        clients(&commands);
        let named = |map: &CloudMap| -> BTreeMap<String, String> {
            let volumes = map.volumes.iter().map(|one| (one.name.clone(), one.id.clone()));
            volumes.chain(map.instances.iter().map(|one| (one.name.clone(), one.id.clone()))).collect()
        };
        let is_made = |map: &CloudMap, name: &str| {
            map.volumes.iter().any(|one| one.name == name && one.status == "available")
                || map.instances.iter().any(|one| one.name == name && one.status == "ACTIVE")
        };
        wait("the volumes are there", || {
            let map = lab.map();
            volumes.iter().all(|name| is_made(&map, name))
        });
        let roots = numbers().map(|n| format!("volume set --bootable cut-root-{n}"));
        let instances = numbers().map(|n| {
            format!(
                "server create --flavor tiny --network net --volume cut-root-{n} --availability-zone nova:{} cut-{n}",
                host(n)
            )
        });
        clients(&roots.chain(instances).collect::<Vec<_>>());
        wait("the instances run", || {
            let map = lab.map();
            numbers().all(|n| is_made(&map, &format!("cut-{n}")))
        });
        let cloud = Self { ids: named(&lab.map()), lab };
        for n in numbers() {
            cloud.attach(&format!("cut-{n}"), &format!("cut-data-{n}"));
        }
        // Cinder takes the second one when it is done with the first.
        for server in ["cut-2", "cut-5"] {
            cloud.attach(server, SHARED);
            wait("the shared volume is attached", || cloud.lab.status(cloud.id(SHARED)) == "in-use");
        }
        wait("the volumes are attached", || {
            let ours: BTreeSet<&String> = cloud.ids.values().collect();
            pairs(&cloud.lab.map()).iter().filter(|(volume, _)| ours.contains(volume)).count() == 2 * INSTANCES + 2
        });
        cloud
    }

    fn id(&self, name: &str) -> &str {
        self.ids.get(name).unwrap_or_else(|| panic!("{name}"))
    }

    fn attach(&self, server: &str, volume: &str) {
        when_idle(&format!("{volume} is attached to {server}"), || {
            self.lab.session.attach(self.id(server), self.id(volume))
        });
    }

    fn detach(&self, server: &str, volume: &str) {
        when_idle(&format!("{volume} is detached from {server}"), || {
            self.lab.session.detach(self.id(server), self.id(volume))
        });
    }

    fn free(&self, volume: &str) {
        wait(&format!("{volume} is available"), || self.lab.status(self.id(volume)) == "available");
    }

    /// One cut, and the way back, with this many kills. Returns how often it was killed.
    fn cut(&self, cut: usize, kills: usize) -> usize {
        let random = &mut Random(0x9e37_79b9_7f4a_7c15 ^ (cut as u64 + 1).wrapping_mul(0x2545_f491_4f6c_dd1d));
        let lab = &self.lab;
        let before = lab.map();
        let folder = lab.at(".volbak/cloud");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("2026-01-01.json"), before.to_bytes().unwrap()).unwrap();
        // Every fifth cut has the row that this program only names.
        let lost_root = (cut % 5 == 1).then(|| 1 + random.below(INSTANCES));
        let rows = rows(cut, random, lost_root);
        let (outage, hosts) = self.power_off(&rows, lost_root, random);
        power_on(&hosts);
        let dying = rows.iter().position(|row| *row == Row::Dying).map(|at| format!("cut-data-{}", at + 1));
        self.come_to_rest(dying.as_deref());
        println!("cut {cut}: {rows:?}, root {lost_root:?}, killed {hosts:?}");

        let journal = lab.at(&format!("journal-{cut}"));
        let named = journal.display().to_string();
        let outage = outage.to_rfc3339_opts(SecondsFormat::Secs, true);
        let common = ["recover", "--journal", &named, "--from-map", "2026-01-01", "--outage", &outage];
        let rest = ["--pause", "0.05", "--settle", "2", "--patience", "120"];
        let all: Vec<&str> = common.into_iter().chain(rest).collect();
        let (actions, seen) = (self.actions(), lab.map());
        let plan: Value = serde_json::from_slice(&lab.verb("admin", &[&all[..], &["--json"]].concat()).stdout).unwrap();
        compare(&plan, "cloud-recover-plan");
        self.check_plan(&plan, &rows, lost_root);
        assert_eq!(seen.volumes, lab.map().volumes, "a plan changes nothing");

        let apply = [&all[..], &["--apply"]].concat();
        let lines = 4 + 2 * plan["steps"].as_array().unwrap().len();
        let mut killed = 0;
        let mut moments: Vec<usize> = (0..kills).map(|_| 1 + random.below(lines)).collect();
        moments.sort_unstable();
        for moment in moments {
            let later = Duration::from_millis(random.below(1500) as u64);
            let has = fs::read_to_string(&journal).map_or(0, |text| text.lines().count());
            if !lab.killed(&apply, &journal, moment.max(has + 1), later) {
                break;
            }
            killed += 1;
        }
        let last = lab.verb("admin", &apply);
        let said = String::from_utf8_lossy(&last.stdout).into_owned();
        let mut said = format!("cut {cut}: {said}{}", String::from_utf8_lossy(&last.stderr));
        let mut last = last;
        if let Some((_, from)) = said.split_once("killed as it began: `") {
            // The compute service died between taking the order to reboot and beginning it: nothing ends this task any more.
            let command = from.split('`').next().unwrap().strip_prefix("openstack ").unwrap().to_owned();
            openstack(&command.split(' ').collect::<Vec<_>>());
            last = lab.verb("admin", &apply);
            said += &String::from_utf8_lossy(&last.stdout);
        }
        if let Some(n) = lost_root {
            assert_eq!(last.status.code(), Some(3), "{said}");
            self.on_the_controller(n);
            let last = lab.verb("admin", &apply);
            assert_eq!(last.status.code(), Some(0), "{}", String::from_utf8_lossy(&last.stdout));
        } else {
            assert_eq!(last.status.code(), Some(0), "{said}");
        }
        self.check_end(&before, &actions, &rows, &said);
        // Again: nothing.
        let again = lab.verb("admin", &apply);
        let told = String::from_utf8_lossy(&again.stdout).into_owned();
        assert!(again.status.code() == Some(0) && told.contains("Total steps - 0"), "cut {cut}: {told}");
        self.check_end(&before, &actions, &rows, &told);
        // What the cut interrupted belongs to no map.
        if lab.status(self.id(FREE)) == "in-use" {
            self.detach("cut-1", FREE);
            self.free(FREE);
        }
        killed
    }

    /// The power goes. Returns when it was gone, and the hosts.
    fn power_off(
        &self,
        rows: &[Row],
        lost_root: Option<usize>,
        random: &mut Random,
    ) -> (DateTime<Utc>, Vec<&'static str>) {
        let session = &self.lab.session;
        let of = |wanted: &[Row]| -> Vec<usize> { (1..=INSTANCES).filter(|n| wanted.contains(&rows[n - 1])).collect() };
        let pair = |n: usize| (self.id(&format!("cut-{n}")), self.id(&format!("cut-data-{n}")));
        let gone = of(&[Row::Lost, Row::Reserved, Row::Complete]);
        for n in &gone {
            self.detach(&format!("cut-{n}"), &format!("cut-data-{n}"));
        }
        for n in gone {
            self.free(&format!("cut-data-{n}"));
        }
        let mut commands = Vec::new();
        for n in of(&[Row::Reserved]) {
            commands.push(format!("volume attachment create {} {}", pair(n).1, pair(n).0));
        }
        for n in of(&[Row::Complete]) {
            let connector =
                Connector { host: host(n).to_owned(), initiator: "iqn.x:y".to_owned(), ip: "127.0.0.1".to_owned() };
            let made = session.make_attachment(pair(n).1, pair(n).0, &connector).unwrap();
            session.complete_attachment(&made).unwrap();
        }
        // What is under way: an attachment, a detachment, and a reboot.
        let mut hosts = vec!["compute-1"];
        let rebooted = 1 + random.below(INSTANCES);
        if random.below(2) == 0 || rebooted > INSTANCES / 2 || of(&[Row::Dying]).iter().any(|n| *n > INSTANCES / 2) {
            hosts.push("compute-2");
        }
        when_idle("the reboot is asked for", || session.reboot_hard(self.id(&format!("cut-{rebooted}"))));
        self.attach("cut-1", FREE);
        for n in of(&[Row::Dying]) {
            self.detach(&format!("cut-{n}"), &format!("cut-data-{n}"));
        }
        sleep(Duration::from_millis(random.below(1200) as u64));
        for host in &hosts {
            service("kill", &format!("nova-{host}"));
        }
        // Nova's times have no fractions of a second.
        let outage = Utc::now() + Duration::from_secs(1);
        for n in of(&[Row::Detaching]) {
            commands.push(format!("volume set --state detaching {}", pair(n).1));
        }
        for n in of(&[Row::Status]) {
            commands.push(format!("volume set --state available {}", pair(n).1));
        }
        for n in of(&[Row::Wedge]) {
            commands.push(format!("volume set --state available --detached {}", pair(n).1));
        }
        if let Some(n) = lost_root {
            commands.push(format!("volume set --state available --detached {}", self.id(&format!("cut-root-{n}"))));
        }
        if random.below(2) == 0 {
            commands.push(format!("volume set --state detaching {}", self.id(SHARED)));
        }
        clients(&commands);
        wait("the second of the cut is over", || Utc::now() > outage);
        (outage, hosts)
    }

    /// What Nova still does by itself after the start ends, or hangs.
    fn come_to_rest(&self, dying: Option<&str>) {
        let moves = || {
            let volumes = [Some(FREE), dying].into_iter().flatten();
            volumes
                .map(|name| self.lab.status(self.id(name)))
                .any(|status| !["available", "in-use"].contains(&status.as_str()))
                || self
                    .lab
                    .session
                    .servers()
                    .unwrap()
                    .iter()
                    .any(|one| one.task_state.as_ref().is_some_and(|task| !task.is_empty()))
        };
        let until = Instant::now() + Duration::from_secs(15);
        while moves() && Instant::now() < until {
            sleep(Duration::from_millis(300));
        }
    }

    /// What the plan tells the operator to do on a controller.
    fn on_the_controller(&self, n: usize) {
        let (server, volume) = (self.id(&format!("cut-{n}")), self.id(&format!("cut-root-{n}")));
        self.stop(server);
        let file = self.lab.at("connector.json");
        let connector = format!(
            r#"{{"host": "{}", "initiator": "iqn.x:y", "ip": "127.0.0.1", "platform": "x86_64", "os_type": "linux", "multipath": false}}"#,
            host(n)
        );
        fs::write(&file, connector).unwrap();
        nova_manage(&["volume_attachment", "refresh", server, volume, file.to_str().unwrap()]);
    }

    /// `openstack server stop`. The fake hypervisor forgets its instances when its host is killed, and Nova then cannot stop one: it
    /// becomes what libvirt would report of it.
    fn stop(&self, server: &str) {
        let socket = fs::read_to_string(dir().join("sock")).unwrap();
        let update = format!(
            "update instances set vm_state = 'stopped', power_state = 4, task_state = null where uuid = '{server}'"
        );
        let mut sql = Command::new("mariadb");
        sql.args(["--no-defaults", "-u", "root", "-S", &format!("{}/sql", socket.trim()), "nova", "-e", &update]);
        assert!(sql.status().unwrap().success());
        assert_eq!(self.lab.session.server(server).unwrap().status, "SHUTOFF");
    }
}

/// The row of each data volume: two cuts have all rows.
fn rows(cut: usize, random: &mut Random, lost_root: Option<usize>) -> Vec<Row> {
    let from = if cut.is_multiple_of(2) { 0 } else { ROWS.len() - INSTANCES };
    let mut rows = ROWS[from..from + INSTANCES].to_vec();
    for at in (1..rows.len()).rev() {
        rows.swap(at, random.below(at + 1));
    }
    // An instance without its root volume is restarted later, and its data volume attached then: one thing at a time.
    if let Some(n) = lost_root {
        rows[n - 1] = Row::Right;
    }
    rows
}

/// The computes start again; each has reported since.
fn power_on(hosts: &[&str]) {
    let since = Utc::now().format("%Y-%m-%dT%H:%M:%S").to_string();
    for host in hosts {
        service("run", &format!("nova-{host}"));
    }
    wait("the compute services have reported", || {
        let services = json(&["compute", "service", "list", "--service", "nova-compute"]);
        let services = services.as_array().unwrap();
        services
            .iter()
            .all(|one| one["State"] == "up" && one["Updated At"].as_str().is_some_and(|at| at > since.as_str()))
    });
}

#[test]
#[ignore = "needs scripts/test-cloud"]
fn after_each_cut_the_cloud_is_as_in_the_map_and_each_instance_was_restarted_once() {
    let _cloud = CLOUD.lock().unwrap_or_else(PoisonError::into_inner);
    let (cuts, kills) = (figure("VOLBAK_CLOUD_CUTS", 2), figure("VOLBAK_CLOUD_KILLS", 4));
    let cloud = Cloud::new();
    let mut killed = 0;
    for cut in 0..cuts {
        let began = Instant::now();
        let due = (kills - killed).div_ceil(cuts - cut);
        let did = cloud.cut(cut, due);
        killed += did;
        println!("cut {cut}: killed {did} times, {} s", began.elapsed().as_secs());
    }
    println!("{cuts} cuts, killed {killed} times");
    assert!(killed >= kills / 2, "{killed} of {kills}");
    assert!(Path::new(&cloud.lab.at("journal-0")).exists());
    remove_all();
}
