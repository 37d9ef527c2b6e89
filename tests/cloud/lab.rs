//! What the tests of a recovery share: a folder with the configs of both users of the test cloud, a session of its
//! administrator, and services that a test ends and starts again.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use volbak::cloud::CloudMap;
use volbak::openstack::{CloudSettings, Limits, Session, Sources};

pub(crate) struct Lab {
    folder: tempfile::TempDir,
    pub(crate) session: Session,
}

impl Lab {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for cloud in ["admin", "demo"] {
            let table = format!(
                "backup_destination = '{}'\nrequire_mount = false\n[openstack]\ncloud = '{cloud}'\nclouds_file = '{}'\n",
                folder.path().display(),
                dir().join("clouds.yaml").display()
            );
            fs::write(folder.path().join(format!("{cloud}.toml")), table).unwrap();
        }
        let settings = CloudSettings::find(&Sources::from_environment()).unwrap();
        let limits = Limits { deadline: Duration::from_secs(6 * 3600), ..Limits::default() };
        Self { folder, session: Session::open(settings, limits).unwrap() }
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn command(&self, cloud: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_volbak"));
        command.arg("cloud").args(arguments).arg("--config").arg(self.at(&format!("{cloud}.toml")));
        command
    }

    pub(crate) fn verb(&self, cloud: &str, arguments: &[&str]) -> Output {
        let output = self.command(cloud, arguments).output().unwrap();
        for bytes in [&output.stdout, &output.stderr] {
            let text = String::from_utf8_lossy(bytes);
            assert!(!text.contains("gAAAA") && !text.contains("password"), "{text}");
        }
        output
    }

    pub(crate) fn map(&self) -> CloudMap {
        CloudMap::from_bytes(&self.verb("admin", &["map", "--json"]).stdout).unwrap()
    }

    pub(crate) fn status(&self, volume: &str) -> String {
        self.session.volume(volume).unwrap().status
    }

    pub(crate) fn reboots(&self, instance: &str) -> usize {
        self.session.instance_actions(instance).unwrap().iter().filter(|one| one.action == "reboot").count()
    }

    /// Runs the verb, and ends it with SIGKILL some milliseconds after its journal has that many lines.
    pub(crate) fn killed(&self, arguments: &[&str], journal: &Path, lines: usize, later: Duration) -> bool {
        let mut child = self.command("admin", arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                assert!([Some(0), Some(3)].contains(&status.code()), "{status:?}");
                return false;
            }
            if fs::read_to_string(journal).is_ok_and(|text| text.lines().count() >= lines) {
                std::thread::sleep(later);
                child.kill().unwrap();
                return child.wait().unwrap().code().is_none();
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

pub(crate) fn dir() -> PathBuf {
    PathBuf::from(std::env::var("CLOUD_DIR").expect("scripts/test-cloud sets it"))
}

pub(crate) fn service(verb: &str, name: &str) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/cloud");
    let status = Command::new(script).arg(verb).arg(dir()).arg(name).status().unwrap();
    assert!(status.success());
}

/// Each volume with the instance that has it, where both sides agree and Cinder says in-use.
pub(crate) fn pairs(map: &CloudMap) -> BTreeSet<(String, String)> {
    let whole = map.volumes.iter().filter(|volume| volume.status == "in-use" && volume.differences.is_empty());
    whole
        .flat_map(|volume| volume.attachments.iter().map(|one| (volume.id.clone(), one.instance.clone().unwrap())))
        .collect()
}
