//! The emulator that a disk is started in.
//!
//! What runs in it is a tenant's. The emulator has a user of its own, which owns nothing but this disk, no capabilities, no
//! network and no device but the disk, a serial console and the guest agent's channel; QEMU's sandbox takes from it what it
//! does not need. It ends with this process.

use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use super::agent::Agent;
use super::console::Console;
use super::disk::DISK;
use super::firmware::UefiFiles;
use super::options::{BootOptions, EMULATOR};
use super::outcome::{BootOutcome, BootSign, Interrupted};
use crate::config::Accelerator;
use crate::error::with_causes;
use crate::outside::programs;
use crate::shown;

const KVM: &str = "/dev/kvm";
/// The first of the numbers of users that nobody has; systemd and shadow give none above 2^31 - 2^17.
const USERS: u32 = 0x7ffe_0000;
const POLL: Duration = Duration::from_millis(100);
/// What a console may say between two looks at everything else.
const READ_AT_ONCE: usize = 1 << 20;
/// A system that starts writes logs. One that writes more than this is stopped: it must not fill the host's disk.
const MAX_WRITTEN_BYTES: u64 = 2 << 30;
/// What QEMU says of its own errors.
const MAX_SAID_BYTES: usize = 2000;

/// Starts the disk in `directory`, and waits for its system.
pub(super) fn run(
    directory: &Path,
    uefi: Option<UefiFiles>,
    options: &BootOptions,
) -> Result<BootOutcome, Interrupted> {
    let has_kvm = fs::metadata(KVM).ok().map(|device| device.gid());
    let ways = match (options.accelerator, has_kvm) {
        (Accelerator::Kvm, None) => return Ok(BootOutcome::NotStarted { why: format!("this host has no {KVM}") }),
        (Accelerator::Kvm, group) => vec![group],
        // A host that is a virtual machine itself may have the device, and a processor that does not help.
        (Accelerator::Auto, Some(group)) => vec![Some(group), None],
        (Accelerator::Auto, None) | (Accelerator::Tcg, _) => vec![None],
    };
    let ours = match Own::take(directory, uefi) {
        Ok(ours) => ours,
        Err(error) => return Ok(BootOutcome::NotStarted { why: with_causes(&error) }),
    };
    let mut outcome = BootOutcome::NotStarted { why: String::new() };
    for kvm in ways {
        let mut machine = match Machine::start(&ours, kvm, options) {
            Ok(machine) => machine,
            Err(error) => {
                let why = format!("{EMULATOR} cannot be started: {}", with_causes(&error));
                return Ok(BootOutcome::NotStarted { why });
            }
        };
        let (found, has_run) = machine.wait(options)?;
        outcome = found;
        if has_run {
            break;
        }
    }
    Ok(outcome)
}

/// The directory and the disk of the emulator's user.
struct Own {
    directory: PathBuf,
    disk: PathBuf,
    /// The firmware's code, and the machine's own variables.
    uefi: Option<(&'static str, PathBuf)>,
    user: u32,
}

impl Own {
    /// Gives the disk in `above` to a user of its own, in a directory of its own: the one above has the lock of the run.
    fn take(above: &Path, uefi: Option<UefiFiles>) -> io::Result<Self> {
        let directory = above.join("machine");
        DirBuilder::new().mode(0o700).create(&directory)?;
        let disk = directory.join(DISK);
        fs::rename(above.join(DISK), &disk)?;
        let user = USERS | (std::process::id() & 0xffff);
        let uefi = uefi.map(|files| Ok::<_, io::Error>((files.code, files.new_variables(&directory)?))).transpose()?;
        for file in std::iter::once(&disk).chain(uefi.as_ref().map(|(_, variables)| variables)) {
            fs::set_permissions(file, Permissions::from_mode(0o600))?;
            chown(file, Some(user), Some(user))?;
        }
        chown(&directory, Some(user), Some(user))?;
        Ok(Self { directory, disk, uefi, user })
    }
}

struct Machine {
    child: Child,
    stdout: ChildStdout,
    stderr: ChildStderr,
    socket: PathBuf,
    disk: PathBuf,
    /// Bytes of the disk in use when it was started.
    disk_bytes: u64,
    began: Instant,
}

impl Machine {
    /// `kvm` is the group of the device, if the processor is to run it.
    fn start(ours: &Own, kvm: Option<u32>, options: &BootOptions) -> io::Result<Self> {
        let Own { directory, disk, uefi, user } = ours;
        let disk_bytes = allocated(disk)?;
        let user = user.to_string();
        let mut command = programs::command("setpriv".as_ref(), programs::Child::Tool)?;
        command.args(["--reuid", &user, "--regid", &user]);
        match kvm {
            Some(group) => command.args(["--groups", &group.to_string()]),
            None => command.arg("--clear-groups"),
        };
        command.args([
            "--no-new-privs",
            "--inh-caps=-all",
            "--bounding-set=-all",
            "--pdeathsig",
            "KILL",
            "--",
            EMULATOR,
        ]);
        command.args(["-nodefaults", "-no-user-config", "-name", "volbak"]);
        command.args(["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"]);
        let (accelerator, processor) = if kvm.is_some() { ("kvm", "host") } else { ("tcg", "max") };
        command.args(["-machine", &format!("q35,accel={accelerator}"), "-cpu", processor]);
        command.args(["-m", &format!("{}M", options.memory_bytes >> 20), "-nic", "none", "-no-reboot"]);
        command.args(["-display", "none", "-vga", "std", "-monitor", "none"]);
        command.args(["-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"]);
        command.args(["-device", "virtio-serial-pci", "-chardev", "socket,id=agent,path=agent,server=on,wait=off"]);
        command.args(["-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0"]);
        command.args(["-device", "virtio-rng-pci"]);
        command.args(["-drive", &format!("file={DISK},format=raw,if=virtio,cache=unsafe")]);
        if let Some((code, variables)) = uefi {
            command.args(["-drive", &format!("if=pflash,unit=0,format=raw,readonly=on,file={code}"), "-drive"]);
            let name = variables.file_name().unwrap_or_default().display();
            command.arg(format!("if=pflash,unit=1,format=raw,file={name}"));
        }
        let began = Instant::now();
        let mut child = command
            .current_dir(directory)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        let machine =
            Self { child, stdout, stderr, socket: directory.join("agent"), disk: disk.clone(), disk_bytes, began };
        for pipe in [machine.stdout.as_fd(), machine.stderr.as_fd()] {
            fcntl_setfl(pipe, fcntl_getfl(pipe)? | OFlags::NONBLOCK)?;
        }
        Ok(machine)
    }

    /// The outcome, and whether the machine ran at all.
    fn wait(&mut self, options: &BootOptions) -> Result<(BootOutcome, bool), Interrupted> {
        let mut console = Console::default();
        let mut agent = Agent::new(std::process::id());
        let mut said = Vec::new();
        loop {
            let has_ended = matches!(self.child.try_wait(), Ok(Some(_)) | Err(_));
            read_some(&mut self.stdout, &mut |bytes| console.take(bytes));
            read_some(&mut self.stderr, &mut |bytes| {
                said.extend_from_slice(&bytes[..bytes.len().min(MAX_SAID_BYTES - said.len().min(MAX_SAID_BYTES))]);
            });
            let up = |sign| Ok((BootOutcome::Up { sign, seconds: self.began.elapsed().as_secs() }, true));
            if console.asks_for_login() {
                return up(BootSign::LoginPrompt);
            }
            if agent.answers(&self.socket) {
                return up(BootSign::GuestAgent);
            }
            let not_up = |what: &str| {
                let what = format!("{what}; {}", console.last_lines());
                Ok((BootOutcome::NotUp { what }, !console.is_silent()))
            };
            if has_ended && !said.is_empty() && console.is_silent() {
                let last = said.trim_ascii().rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
                return Ok((BootOutcome::NotStarted { why: shown::bytes(last) }, false));
            }
            if has_ended {
                return not_up("it powered itself off or restarted");
            }
            if console.is_in_firmware() {
                return not_up(
                    "its firmware found no system to start: there is no EFI/BOOT/BOOTX64.EFI in its EFI system partition, \
                     or it cannot be started; boot entries in the firmware of an instance are not on its disk",
                );
            }
            if console.panicked() {
                return not_up("its kernel panicked");
            }
            if self.began.elapsed() >= options.limit {
                return not_up(&format!(
                    "no login prompt and no guest agent within {} s (boot_seconds)",
                    options.limit.as_secs()
                ));
            }
            if allocated(&self.disk).is_ok_and(|now| now.saturating_sub(self.disk_bytes) > MAX_WRITTEN_BYTES) {
                return not_up("it was stopped, having written 2 GiB to its disk");
            }
            if options.cancel.is_cancelled() {
                return Err(Interrupted);
            }
            thread::sleep(POLL);
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn allocated(file: &Path) -> io::Result<u64> {
    Ok(fs::metadata(file)?.blocks() * 512)
}

/// Reads what is there, and not for ever.
fn read_some(pipe: &mut impl Read, take: &mut dyn FnMut(&[u8])) {
    let mut buffer = [0; 16 << 10];
    let mut total = 0;
    while total < READ_AT_ONCE {
        match pipe.read(&mut buffer) {
            Ok(read @ 1..) => {
                take(&buffer[..read]);
                total += read;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(_) | Err(_) => return,
        }
    }
}
