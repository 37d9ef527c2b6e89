//! The promise: `volbak doctor` names what would make a night fail, and accepts a host that is well.

use std::fs;

use crate::testkit::stand_in::Host;

/// The lines of `volbak doctor` about volume groups without volumes.
fn of_groups(host: &Host) -> String {
    let said = host.verb(&["doctor"]).stdout;
    said.lines().filter(|line| line.contains("the group ")).collect()
}

#[test]
fn one_of_the_two_default_groups_is_enough() {
    let host = Host::new("");
    host.add_ext4("volume-1");
    let by_default = format!("backup_destination = '{}'\nrequire_mount = false\n", host.at("backups").display());
    fs::write(host.at("volbak.toml"), &by_default).unwrap();
    let group = |name: &str| fs::write(host.at("state/group"), name).unwrap();
    group("cinder-volumes");
    let said = of_groups(&host);
    assert!(said.starts_with("ok ") && said.contains("the group nova-volumes is not there"), "{said}");
    group("nova-volumes");
    let said = of_groups(&host);
    assert!(said.starts_with("ok ") && said.contains("the group cinder-volumes is not there"), "{said}");
    // A group whose volumes have backups should be there.
    assert_eq!(host.verb(&["run"]).status, 0);
    group("cinder-volumes");
    let said = of_groups(&host);
    assert!(said.starts_with("? ") && said.contains("backups of 1 of its volumes"), "{said}");
    // So should a group that the config names.
    fs::write(host.at("volbak.toml"), format!("{by_default}volume_groups = ['cinder-volumes', 'other']\n")).unwrap();
    let said = of_groups(&host);
    assert!(said.starts_with("? ") && said.contains("the group other is not there"), "{said}");
    // Neither default group is there: the volumes of another group are taken.
    group("vg0");
    fs::write(host.at("volbak.toml"), by_default).unwrap();
    let said = host.verb(&["doctor"]).stdout;
    assert!(said.contains("1 to back up: vg0/volume-1"), "{said}");
}
