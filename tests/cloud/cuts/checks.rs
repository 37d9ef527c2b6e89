//! What the plan after a cut has to name, and what has to be so at the end.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use volbak::cloud::{CloudMap, CloudVolume};

use super::{Cloud, FREE, INSTANCES, Row, SHARED};
use crate::lab::pairs;

/// Actions of Nova itself, of nova-manage, and of the attachments, which are compared one by one.
const OWN: [&str; 6] = ["stop", "lock", "unlock", "refresh_volume_attachment", "attach_volume", "detach_volume"];

impl Cloud {
    /// The reboots of each instance, and the other actions but those of Nova itself and of nova-manage.
    pub(super) fn actions(&self) -> BTreeMap<String, (usize, BTreeSet<String>)> {
        let of = |n| {
            let name = format!("cut-{n}");
            let actions = self.lab.session.instance_actions(self.id(&name)).unwrap();
            let (reboots, others): (Vec<_>, Vec<_>) = actions.into_iter().partition(|one| one.action == "reboot");
            let others = others.into_iter().filter(|one| !OWN.contains(&one.action.as_str()));
            (name, (reboots.len(), others.map(|one| one.request_id).collect()))
        };
        (1..=INSTANCES).map(of).collect()
    }

    /// The plan names each volume with the steps of its row, and each instance.
    pub(super) fn check_plan(&self, plan: &Value, rows: &[Row], lost_root: Option<usize>) {
        let steps = plan["steps"].as_array().unwrap();
        let of = |name: &str| -> BTreeSet<&str> {
            let of = steps.iter().filter(|step| step["volume"]["id"] == self.id(name));
            of.map(|step| step["action"].as_str().unwrap()).collect()
        };
        for (at, row) in rows.iter().enumerate() {
            let name = format!("cut-data-{}", at + 1);
            let expected: &[&str] = match row {
                Row::Right => &[],
                Row::Detaching | Row::Status => &["keep_attached"],
                Row::Wedge => &["attach", "free_wedge"],
                Row::Reserved | Row::Complete => &["attach", "delete_attachment"],
                Row::Lost => &["attach"],
                // Whatever the killed host made of it.
                Row::Dying => continue,
            };
            assert_eq!(of(&name), expected.iter().copied().collect(), "{name}: {row:?}: {plan:#}");
        }
        for n in 1..=INSTANCES {
            assert_eq!(of(&format!("cut-root-{n}")), BTreeSet::new(), "{plan:#}");
            let restarts = steps
                .iter()
                .filter(|step| step["action"] == "restart" && step["instance"]["id"] == self.id(&format!("cut-{n}")))
                .count();
            assert_eq!(restarts, usize::from(lost_root != Some(n)), "cut-{n}: {plan:#}");
        }
        if let Some(n) = lost_root {
            let id = self.id(&format!("cut-root-{n}"));
            let found = plan["unclear"].as_array().unwrap().iter().find(|one| one["volume"]["id"] == id);
            assert!(
                found.unwrap()["what"].as_str().unwrap().contains("nova-manage volume_attachment refresh"),
                "{plan:#}"
            );
        }
    }

    /// Everything is as the map has it, each instance was restarted once, and nothing else was done.
    pub(super) fn check_end(
        &self,
        before: &CloudMap,
        actions: &BTreeMap<String, (usize, BTreeSet<String>)>,
        rows: &[Row],
        said: &str,
    ) {
        let after = self.lab.map();
        let of_map = |map: &CloudMap| -> BTreeSet<_> {
            pairs(map).into_iter().filter(|(volume, _)| volume != self.id(FREE)).collect()
        };
        assert_eq!(of_map(before), of_map(&after), "{said}\n{}", after.text());
        assert!(after.volumes.iter().all(|volume| volume.differences.is_empty()), "{said}\n{}", after.text());
        assert!(after.instances.iter().all(|one| one.status == "ACTIVE"), "{said}");
        for (name, (reboots, others)) in self.actions() {
            assert_eq!((reboots, &others), (actions[&name].0 + 1, &actions[&name].1), "{name}: {said}");
        }
        // What was right was not touched: its attachment is the same one.
        let attachment = |map: &CloudMap, name: &str| -> Vec<Option<String>> {
            let volume: &CloudVolume = map.volumes.iter().find(|one| one.id == self.id(name)).unwrap();
            let mut all: Vec<_> = volume
                .attachments
                .iter()
                .filter_map(|one| one.nova.as_ref())
                .map(|nova| nova.attachment.clone())
                .collect();
            all.sort();
            all
        };
        for (at, row) in rows.iter().enumerate() {
            if [Row::Right, Row::Detaching, Row::Status].contains(row) {
                let name = format!("cut-data-{}", at + 1);
                assert_eq!(attachment(before, &name), attachment(&after, &name), "{name}: {said}");
            }
        }
        assert_eq!(attachment(before, SHARED), attachment(&after, SHARED), "{said}");
    }
}
