//! The host itself: its user, its kernel, its programs.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use super::finding::{Add, Answer};
use crate::config::Config;
use crate::outside::RunCommand;
use crate::outside::programs::is_installed;
use crate::run::boot::{EMULATOR, UefiFiles};

pub(super) fn privileges(add: &mut Add<'_>) {
    if rustix::process::geteuid().is_root() {
        add("user", Answer::Good, "root".to_owned());
    } else {
        add("user", Answer::Bad, "not root: LVM, and filesystems read through the kernel, cannot be used".to_owned());
    }
}

/// Whether other users can change the config or files named in it.
pub(super) fn trust(config: &Config, add: &mut Add<'_>) {
    if let Some(found) = &config.changeable {
        add("config", Answer::Doubtful, found.to_string());
    }
    let distrusted = config.distrusted_files();
    if config.changeable.is_none() && distrusted.is_empty() {
        add("config", Answer::Good, "only root can change it and the files that it names".to_owned());
    }
    for what in distrusted {
        add("config", Answer::Bad, what);
    }
    let mut readable = config.readable_credentials();
    if config.openstack.enabled {
        readable.extend(crate::run::cloud::readable_credentials(&config.openstack));
    }
    readable.sort();
    readable.dedup();
    for what in readable {
        add("config", Answer::Doubtful, what);
    }
}

pub(super) fn modules(add: &mut Add<'_>) {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let version: Vec<u32> = release.split(['.', '-']).take(2).filter_map(|part| part.parse().ok()).collect();
    if version.as_slice() < [5, 8].as_slice() {
        add("kernel", Answer::Bad, format!("{release}: 5.8 or later is needed to read filesystems"));
    } else {
        add("kernel", Answer::Good, release.clone());
    }
    let devices = fs::read_to_string("/proc/devices").unwrap_or_default();
    for (device, module) in [("device-mapper", "dm-mod"), ("loop", "loop")] {
        let is_loaded = devices.lines().any(|line| line.split_whitespace().nth(1) == Some(device));
        let (answer, what) = module_state(is_loaded, module, &release);
        add("kernel", answer, what);
    }
    let filesystems = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let missing: Vec<&str> = ["ext4", "xfs", "btrfs", "vfat"]
        .into_iter()
        .filter(|fs| {
            let is_loaded = filesystems.lines().any(|line| line.split_whitespace().last() == Some(fs));
            !is_loaded && !has_module(fs, &release)
        })
        .collect();
    if missing.is_empty() {
        add("kernel", Answer::Good, "reads ext4, xfs, btrfs and vfat".to_owned());
    } else {
        // volbak reads nearly all ext4 filesystems without the driver.
        let shown = |fs| if fs == "ext4" { "ext4 with uncommon features" } else { fs };
        let missing: Vec<&str> = missing.into_iter().map(shown).collect();
        let what = format!("cannot read {}: volumes with those are kept as raw images", missing.join(", "));
        add("kernel", Answer::Doubtful, what);
    }
}

pub(super) fn programs(config: &Config, commands: &dyn RunCommand, add: &mut Add<'_>) {
    let mut wanted: Vec<(&str, &str, &str)> = Vec::new();
    if config.enable_lvmsnapshots {
        wanted.extend([("lvs", "--version", "lvm2"), ("dmsetup", "--version", "dmsetup")]);
    }
    if config.ionice.is_some() {
        wanted.push(("ionice", "--version", "util-linux"));
    }
    if config.enable_mysql_dump {
        wanted.push(("ssh", "-V", "openssh-client"));
    }
    for (program, argument, package) in wanted {
        match commands.run(program, &[OsString::from(argument)]) {
            Ok(_) => add("programs", Answer::Good, format!("{program} is there")),
            Err(error) => {
                let what = format!("{program} cannot be run ({error}); on Debian: apt-get install {package}");
                add("programs", Answer::Bad, what);
            }
        }
    }
    if config.rehearse.enabled && config.rehearse.boot {
        let (answer, what) = if is_installed(EMULATOR) {
            (Answer::Good, format!("{EMULATOR} is there"))
        } else {
            let what =
                format!("{EMULATOR} is missing: rehearsals boot nothing; on Debian: apt-get install qemu-system-x86");
            (Answer::Doubtful, what)
        };
        add("programs", answer, what);
        let (answer, what) = if UefiFiles::find().is_some() {
            (Answer::Good, "the firmware of UEFI is there".to_owned())
        } else {
            let what = "the firmware of UEFI is missing: rehearsals do not boot systems that need it; on Debian: apt-get \
                        install ovmf";
            (Answer::Doubtful, what.to_owned())
        };
        add("programs", answer, what);
    }
    let hooks = config.hooks.before_snapshot.iter().chain(&config.hooks.after_snapshot);
    let of_volumes =
        config.volumes.iter().flat_map(|volume| volume.before_snapshot.iter().chain(&volume.after_snapshot).flatten());
    for program in hooks.chain(of_volumes).filter_map(|argv| argv.first()) {
        if !Path::new(program).is_file() {
            add("hooks", Answer::Bad, format!("{program} is not there"));
        }
    }
}

fn module_state(is_loaded: bool, module: &str, release: &str) -> (Answer, String) {
    if is_loaded {
        (Answer::Good, format!("{module} is there"))
    } else if has_module(module, release) {
        (Answer::Doubtful, format!("{module} is not loaded; it is loaded when it is needed, or by modprobe {module}"))
    } else {
        (Answer::Bad, format!("{module} is not there, neither built in nor as a module"))
    }
}

fn has_module(module: &str, release: &str) -> bool {
    let directory = Path::new("/lib/modules").join(release);
    ["modules.dep", "modules.builtin"].into_iter().any(|list| {
        let text = fs::read_to_string(directory.join(list)).unwrap_or_default();
        text.lines().any(|line| {
            let path = line.split(':').next().unwrap_or_default();
            path.rsplit('/').next().is_some_and(|file| file.split(".ko").next() == Some(module))
        })
    })
}
