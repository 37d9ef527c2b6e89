//! `cloud recover --ssh-reboot` against a real cloud and a real sshd, which listens on the address that Nova gives the instance.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::PoisonError;

use crate::lab::{Lab, pairs};
use crate::real::{CLOUD, clients, create_server, openstack, remove_all, wait};
use crate::testkit::guest::sh;
use crate::testkit::ssh::serve_ssh;

#[test]
#[ignore = "needs scripts/test-cloud"]
fn an_instance_whose_volume_came_late_is_rebooted_from_inside_if_its_key_is_known() {
    let _cloud = CLOUD.lock().unwrap_or_else(PoisonError::into_inner);
    let lab = Lab::new();
    clients(&["volume create --size 1 ssh-data".to_owned()]);
    create_server("ssh-1", &["--image", "cirros"]);
    let found = || lab.session.servers().unwrap().into_iter().find(|one| one.name == "ssh-1");
    wait("the instance runs", || found().is_some_and(|one| one.status == "ACTIVE"));
    let server = found().unwrap();
    let volumes = lab.session.volumes().unwrap();
    let volume = volumes.iter().find(|one| one.name == "ssh-data").unwrap().id.clone();
    wait("the volume is there", || lab.status(&volume) == "available");
    lab.session.attach(&server.id, &volume).unwrap();
    wait("the volume is attached", || pairs(&lab.map()).contains(&(volume.clone(), server.id.clone())));
    let map = lab.map();
    fs::create_dir_all(lab.at(".volbak/cloud")).unwrap();
    fs::write(lab.at(".volbak/cloud/2026-01-01.json"), map.to_bytes().unwrap()).unwrap();

    // The inside: an sshd, a cloud-init that has the instance's id, and a `shutdown` that writes down what it is asked for.
    let address = map.instances[0].addresses.values().flatten().next().unwrap().clone();
    let at = |name: &str| lab.at(name).display().to_string();
    sh(&format!(
        "mkdir -p /run/sshd; ssh-keygen -q -t ed25519 -N '' -f {host}; ssh-keygen -q -t ed25519 -N '' -f {key}; touch {known}",
        host = at("host_key"),
        key = at("key"),
        known = at("known_hosts")
    ));
    let config = format!(
        "HostKey {}\nAuthorizedKeysFile {}.pub\nStrictModes no\nUsePAM no\nPermitRootLogin prohibit-password\n\
         PasswordAuthentication no\nPidFile none\nForceCommand unshare -m {}\n",
        at("host_key"),
        at("key"),
        at("inside")
    );
    let inside = format!(
        "#!/bin/sh\nmount -t tmpfs inside /var/lib && mkdir -p /var/lib/cloud/data && cp {} /var/lib/cloud/data/instance-id || exit 7\n\
         export PATH={}:$PATH; exec sh -c \"$SSH_ORIGINAL_COMMAND\"\n",
        at("instance-id"),
        at("inside-tools")
    );
    fs::create_dir(lab.at("inside-tools")).unwrap();
    let shutdown = format!("#!/bin/sh\necho shutdown \"$@\" >>{}\n", at("asked"));
    for (path, script) in [("inside", inside), ("inside-tools/shutdown", shutdown)] {
        fs::write(lab.at(path), script).unwrap();
        fs::set_permissions(lab.at(path), fs::Permissions::from_mode(0o755)).unwrap();
    }
    fs::write(lab.at("instance-id"), "0f8fad5b-d9cb-469f-a165-70867728950e\n").unwrap();
    fs::write(lab.at("sshd_config"), config).unwrap();
    serve_ssh(&format!("{address}:22"), at("sshd_config"), lab.at("sshd.log"));
    // The real ssh, with the test's key and known hosts in place of those of this machine's root.
    fs::create_dir(lab.at("tools")).unwrap();
    let config = format!("IdentityFile {}\nIdentitiesOnly yes\nUserKnownHostsFile {}\n", at("key"), at("known_hosts"));
    fs::write(lab.at("ssh_config"), config).unwrap();
    fs::write(lab.at("tools/ssh"), format!("#!/bin/sh\nexec /usr/bin/ssh -F {} \"$@\"\n", at("ssh_config"))).unwrap();
    fs::set_permissions(lab.at("tools/ssh"), fs::Permissions::from_mode(0o755)).unwrap();

    let asked = || fs::read_to_string(lab.at("asked")).unwrap_or_default();
    let recover = |journal: &str| {
        lab.session.detach(&server.id, &volume).unwrap();
        wait("the volume is lost", || lab.status(&volume) == "available");
        let path = std::env::var("PATH").unwrap();
        let journal = at(journal);
        let arguments = ["recover", "--apply", "--from-map", "2026-01-01", "--journal", &journal, "--ssh-reboot"];
        let mut command = lab.command("admin", &arguments);
        command.args(["--pause", "0.05", "--settle", "1"]).env("PATH", format!("{}:{path}", at("tools")));
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    // A host whose key is not known is not asked, and the volume is attached all the same.
    let (status, said) = recover("first");
    assert!(status == Some(1) && said.contains("Host key verification failed"), "{said}");
    assert_eq!((asked(), lab.status(&volume).as_str()), (String::new(), "in-use"));
    let key = fs::read_to_string(lab.at("host_key.pub")).unwrap();
    fs::write(lab.at("known_hosts"), format!("{address} {key}")).unwrap();
    // Another machine at the address, whose key is known.
    let (status, said) = recover("other");
    assert!(status == Some(1) && said.contains("does not say that it is the instance"), "{said}");
    assert_eq!(asked(), "");
    fs::write(lab.at("instance-id"), format!("{}\n", server.id)).unwrap();
    let (status, said) = recover("second");
    assert_eq!(status, Some(0), "{said}\n{}", fs::read_to_string(lab.at("sshd.log")).unwrap_or_default());
    assert!(said.contains(&format!("instance ssh-1 ({}): reboot from inside", server.id)), "{said}");
    assert_eq!(asked(), "shutdown -r now\n", "once: {said}");
    openstack(&["server", "delete", "--wait", "ssh-1"]);
    remove_all();
}
