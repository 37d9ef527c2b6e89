//! Checks before erasing that this kernel can mount the planned filesystems: a small filesystem with the same
//! features is made in a temporary file, and mounted.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;

use rustix::fs::{MemfdFlags, Mode, OFlags};

use super::ext_settings::OFF_WHILE_MOUNTED;
use super::makefs::call::ToolCall;
use super::plan::{DiskPlan, MakeStep, Step};
use crate::error::with_causes;
use crate::outside::RunCommand;
use crate::reader::kernel::loop_device::LoopDevice;
use crate::reader::kernel::mounted::{MountError, mount_writable};
use crate::shown;
use crate::units::ByteRange;

/// Large enough for the defaults of each mkfs.
const SIZE_BYTES: u64 = 320 << 20;

/// Options that concern only this filesystem and no features: names, UUIDs and geometry.
fn passed_by(program: &str) -> &'static [&'static str] {
    match program {
        "mkfs.xfs" => &["-L", "-d", "-r"],
        "mkfs.btrfs" => &["-L", "-U", "-b"],
        _ => &["-L", "-U", "-N", "-G", "-g", "-J", "-M", "-o", "-e", "-m", "-C", "-i"],
    }
}

/// One line for each step whose filesystem this kernel cannot mount. Empty if that cannot be tested, as without
/// loop devices, which is refused elsewhere.
pub(super) fn refusals(plan: &DiskPlan, commands: &dyn RunCommand) -> Vec<String> {
    let steps = plan.steps.iter().filter_map(|step| match step {
        Step::Make(step) => Some(step),
        _ => None,
    });
    let mut tried: Vec<(Vec<OsString>, Option<String>)> = Vec::new();
    let mut refusals = Vec::new();
    for step in steps.filter(|step| step.files.is_some() && is_tried(step)) {
        let args = small(&step.make);
        let known = tried.iter().position(|(known, _)| *known == args);
        let at = known.unwrap_or_else(|| {
            let refused = cannot_mount(&step.make, &args, &step.fs, commands);
            tried.push((args, refused));
            tried.len() - 1
        });
        let region = shown::path(step.region.as_bytes());
        refusals.extend(tried.get(at).and_then(|(_, refused)| refused.as_ref()).map(|why| {
            format!(
                "{region}: the kernel of this machine cannot mount {} with the features that this one had ({why}), so its \
                 files could not be put into it{}; nothing was written. Restore it on a machine whose kernel can, or the files \
                 alone into a directory (`volbak restore BACKUP --to DIR`)",
                step.fs,
                needed(step)
            )
        }));
    }
    refusals
}

fn is_tried(step: &MakeStep) -> bool {
    matches!(step.make.program, "mkfs.xfs" | "mkfs.btrfs" | "mkfs.ext2" | "mkfs.ext3" | "mkfs.ext4" | "mke2fs")
}

/// The kernel option that is missing, if it is clear.
fn needed(step: &MakeStep) -> &'static str {
    let has = |what: &str| step.make.args.iter().any(|arg| arg.to_string_lossy().contains(what));
    match step.fs.as_str() {
        "xfs" if has("crc=0") => " (XFS without checksums, V4, needs CONFIG_XFS_SUPPORT_V4)",
        "xfs" if has("version=ci") => " (XFS with names without case needs CONFIG_XFS_SUPPORT_ASCII_CI)",
        fs if fs.starts_with("ext") && has("casefold") => " (casefold needs CONFIG_UNICODE)",
        _ => "",
    }
}

/// The arguments for a filesystem of [`SIZE_BYTES`].
fn small(call: &ToolCall) -> Vec<OsString> {
    let passed_by = passed_by(call.program);
    let mut args = Vec::new();
    let mut given = call.args.iter().peekable();
    while let Some(arg) = given.next() {
        if passed_by.iter().any(|option| arg == *option) {
            given.next();
            continue;
        }
        args.push(arg.clone());
        let of = |option: &str, keeps: &dyn Fn(&str) -> bool, value: &OsStr| {
            let text = value.to_str().filter(|_| arg == option)?;
            let kept: Vec<&str> = text.split(',').filter(|part| keeps(part)).collect();
            Some(kept.join(","))
        };
        let Some(value) = given.peek() else { continue };
        let kept = match call.program {
            "mkfs.xfs" => of("-m", &|part| !part.starts_with("uuid="), value)
                .or_else(|| of("-l", &|part| part.starts_with("version=") || part.starts_with("lazy-count="), value)),
            "mkfs.btrfs" => None,
            // The encoding is a feature; the rest of -E is geometry.
            _ => of("-E", &|part| part.starts_with("encoding"), value)
                .or_else(|| of("-O", &|part| !OFF_WHILE_MOUNTED.contains(&part), value)),
        };
        match kept {
            Some(kept) if kept.is_empty() => {
                args.pop();
                given.next();
            }
            Some(kept) => {
                args.push(kept.into());
                given.next();
            }
            None => {}
        }
    }
    if call.program == "mkfs.xfs" && !args.iter().any(|arg| arg == "-q") {
        args.insert(0, "-q".into());
    }
    args
}

/// Why the kernel cannot mount it; `None` if it can, or if the small filesystem cannot be made.
fn cannot_mount(call: &ToolCall, args: &[OsString], fs: &str, commands: &dyn RunCommand) -> Option<String> {
    let file = temporary(fs).ok()?;
    file.set_len(SIZE_BYTES).ok()?;
    let path = OsString::from(format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd()));
    let made = commands.run(call.program, &[args, &[path]].concat()).ok()?;
    if !made.status.success() {
        return None;
    }
    let device = LoopDevice::attach(&file, ByteRange::new(0, SIZE_BYTES), true).ok()?;
    match mount_writable(Path::new(device.path()), fs, false) {
        Err(error @ MountError::Mount { .. }) => Some(with_causes(&error)),
        Ok(_) | Err(_) => None,
    }
}

/// An unnamed file. For ext in memory if that is supported, since mke2fs syncs what it makes several times, and writes
/// little; otherwise on a disk if that is supported.
fn temporary(fs: &str) -> rustix::io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let in_memory = || rustix::fs::memfd_create("volbak-mkfs", MemfdFlags::CLOEXEC);
    let on_disk = || rustix::fs::open(std::env::temp_dir(), flags, Mode::RUSR | Mode::WUSR);
    let file =
        if fs.starts_with("ext") { in_memory().or_else(|_| on_disk()) } else { on_disk().or_else(|_| in_memory()) };
    file.map(File::from)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::{cannot_mount, small};
    use crate::outside::SystemCommands;
    use crate::run::rebuild::makefs::call::ToolCall;

    fn call(program: &'static str, args: &[&str]) -> ToolCall {
        ToolCall { program, args: args.iter().map(OsString::from).collect() }
    }

    #[test]
    fn the_trial_filesystem_has_only_the_features() {
        let xfs = call(
            "mkfs.xfs",
            &[
                "-q",
                "-f",
                "-L",
                "a",
                "-m",
                "uuid=x,crc=0,finobt=0",
                "-d",
                "agcount=4",
                "-n",
                "version=ci",
                "-l",
                "size=9b,version=1",
            ],
        );
        assert_eq!(small(&xfs), ["-q", "-f", "-m", "crc=0,finobt=0", "-n", "version=ci", "-l", "version=1"]);
        let ext = call(
            "mkfs.ext4",
            &["-F", "-U", "x", "-O", "none,casefold", "-E", "encoding=utf8,stride=4", "-N", "9", "-b", "1024"],
        );
        assert_eq!(small(&ext), ["-F", "-O", "none,casefold", "-E", "encoding=utf8", "-b", "1024"]);
        let plain = call("mkfs.ext4", &["-F", "-E", "stride=4,lazy_itable_init=0", "-O", "none,extent"]);
        assert_eq!(small(&plain), ["-F", "-O", "none,extent"]);
        let with_projects = call("mkfs.ext4", &["-F", "-O", "none,project,extent"]);
        assert_eq!(small(&with_projects), ["-F", "-O", "none,extent"]);
    }

    #[test]
    fn the_kernel_is_asked() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let try_it = |program, args: &[&str]| {
            let call = call(program, args);
            cannot_mount(&call, &small(&call), if program == "mkfs.xfs" { "xfs" } else { "ext4" }, &SystemCommands)
        };
        assert_eq!(try_it("mkfs.ext4", &["-q", "-F", "-U", "clear"]), None);
        assert_eq!(try_it("mkfs.xfs", &["-q", "-f", "-m", "crc=1"]), None);
        // A refusal by mkfs says nothing about the kernel.
        assert_eq!(try_it("mkfs.xfs", &["-q", "-f", "-m", "time_travel=1"]), None);
        // It cannot mount with features that it was built without, and can mount the others.
        let config = std::process::Command::new("zcat").arg("/proc/config.gz").output();
        let config = config.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        for (args, option) in [
            (&["-q", "-f", "-m", "crc=0,finobt=0"][..], "CONFIG_XFS_SUPPORT_V4"),
            (&["-q", "-f", "-n", "version=ci"], "CONFIG_XFS_SUPPORT_ASCII_CI"),
        ] {
            if config.contains(&format!("# {option} is not set")) {
                assert!(try_it("mkfs.xfs", args).is_some_and(|why| why.contains("mount")), "{option}");
            } else if config.contains(&format!("{option}=y")) {
                assert_eq!(try_it("mkfs.xfs", args), None, "{option}");
            }
        }
        // No kernel can mount with a missing external journal.
        assert_eq!(
            try_it("mkfs.ext4", &["-q", "-F", "-O", "journal_dev"]).map(|why| why.contains("mount")),
            Some(true)
        );
    }
}
