//! A host for whole nights in seconds: volumes, destination and config in a directory of their own, LVM's tools replaced
//! by `lvm.py`. Needs root for its loop devices.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Of Debian's package libfaketime.
const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";

const TOOLS: [&str; 8] = ["lvs", "vgs", "lvcreate", "lvremove", "lvchange", "lvextend", "add", "del"];

pub(crate) struct Host {
    directory: tempfile::TempDir,
}

/// What a verb did.
#[derive(Debug)]
pub(crate) struct Did {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<Output> for Did {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self { status: output.status.code().unwrap_or(-1), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

impl Host {
    /// A host with the group `vg0`, no volumes, and `more` in its config.
    pub(crate) fn new(more: &str) -> Self {
        let host = Self { directory: tempfile::tempdir().unwrap() };
        for directory in ["backups", "state", "tools"] {
            fs::create_dir(host.at(directory)).unwrap();
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/testkit/stand_in/lvm.py");
        for tool in TOOLS {
            symlink(&script, host.at("tools").join(tool)).unwrap();
        }
        host.write_config("volbak.toml", more);
        host
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A config of this host's group and destination, and `more`.
    pub(crate) fn write_config(&self, name: &str, more: &str) {
        let head = format!(
            "backup_destination = '{}'\nrequire_mount = false\nvolume_groups = ['vg0']\n",
            self.at("backups").display()
        );
        fs::write(self.at(name), format!("{head}{more}")).unwrap();
    }

    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        let path = format!("{}:{}", self.at("tools").display(), std::env::var("PATH").unwrap());
        command.env("PATH", path).env("FAKELVM", self.at("state")).env("TZ", "UTC");
        command
    }

    /// The program with these arguments, for whoever wants more than its end.
    pub(crate) fn program(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(env!("CARGO_BIN_EXE_volbak"));
        command.args(arguments);
        command
    }

    pub(crate) fn volbak(&self, arguments: &[&str]) -> Did {
        self.program(arguments).output().unwrap().into()
    }

    /// A verb that takes `--config`.
    pub(crate) fn verb(&self, arguments: &[&str]) -> Did {
        self.program(arguments).arg("--config").arg(self.at("volbak.toml")).output().unwrap().into()
    }

    /// As [`Self::verb`], at this time: `2026-11-20 02:00:00`.
    pub(crate) fn verb_at(&self, time: &str, arguments: &[&str]) -> Did {
        assert!(Path::new(FAKETIME).exists(), "scripts/packages test installs it");
        let mut program = self.program(arguments);
        program.arg("--config").arg(self.at("volbak.toml")).env("LD_PRELOAD", FAKETIME);
        program.env("FAKETIME", format!("@{time}")).env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        program.output().unwrap().into()
    }

    fn tool(&self, name: &str, arguments: &[&str]) {
        let output = self.command(self.at("tools").join(name)).args(arguments).output().unwrap();
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// A volume over the image `NAME.img`, which the test has made or [`Self::ext4`] makes.
    pub(crate) fn add(&self, name: &str) {
        self.tool("add", &[name, self.at(&format!("{name}.img")).to_str().unwrap()]);
    }

    /// As [`Self::add`], and the volume is not active.
    pub(crate) fn add_inactive(&self, name: &str) {
        self.tool("add", &[name, self.at(&format!("{name}.img")).to_str().unwrap(), "-wi-------"]);
    }

    pub(crate) fn remove(&self, name: &str) {
        self.tool("del", &[name]);
    }

    /// An image of 8 MiB of zeros.
    pub(crate) fn zeros(&self, name: &str) {
        fs::File::create(self.at(&format!("{name}.img"))).unwrap().set_len(8 << 20).unwrap();
    }

    /// An image with an ext4 that holds a few files.
    pub(crate) fn ext4(&self, name: &str) {
        let files = tempfile::tempdir().unwrap();
        for number in 0..20 {
            fs::write(files.path().join(format!("file{number}")), format!("{name} {number}\n").repeat(100)).unwrap();
        }
        self.zeros(name);
        let image = self.at(&format!("{name}.img"));
        run(Command::new("mke2fs").args(["-q", "-F", "-t", "ext4", "-d"]).arg(files.path()).arg(image));
    }

    /// A volume with an ext4.
    pub(crate) fn add_ext4(&self, name: &str) {
        self.ext4(name);
        self.add(name);
    }

    /// Whether taking a snapshot of this volume fails.
    pub(crate) fn set_broken(&self, name: &str, is_broken: bool) {
        let path = self.at("state").join(format!("broken-{name}"));
        if is_broken {
            fs::write(path, "lvcreate: insufficient free space").unwrap();
        } else {
            fs::remove_file(path).unwrap();
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        for entry in fs::read_dir(self.at("state")).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if let Some(volume) = name.strip_suffix(".json") {
                let _ = self.command(self.at("tools/del")).arg(volume).output();
            }
        }
    }
}

pub(crate) fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
