//! Identifies the process that made a resource which outlives a crash: a snapshot or a device-mapper table. The
//! identity is stored with the resource, so that a later run can find out whether that process still exists.
//!
//! Process ids are reused, especially after a reboot. The identity therefore also contains the process's start
//! time, the kernel's boot id, the host name and the pid namespace.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;
use std::str::FromStr;

/// A process, unique among all processes of all hosts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Owner {
    host: String,
    boot_id: String,
    pid_namespace: u64,
    pid: u32,
    start_ticks: u64,
}

/// Whether an [`Owner`] still exists, as far as this process can determine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnerState {
    /// The current process.
    Myself,
    /// It is running.
    Running,
    /// It has ended: another boot of this host, or its process id is free or reused.
    Gone,
    /// Unknown: another host, or another pid namespace of this boot.
    Unknown,
}

impl Owner {
    /// The current process. Fails if `/proc` cannot be read.
    pub fn this_process() -> io::Result<Self> {
        let pid = std::process::id();
        let (start_ticks, _) = process_stat(pid)?.ok_or(io::ErrorKind::NotFound)?;
        let uname = rustix::system::uname();
        Ok(Self {
            host: plain(&uname.nodename().to_string_lossy()),
            boot_id: plain(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim()),
            pid_namespace: pid_namespace()?,
            pid,
            start_ticks,
        })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The name of its host.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Whether it ran on the same kernel as `other` since the same start.
    pub fn is_of_the_same_boot(&self, other: &Self) -> bool {
        self.boot_id == other.boot_id
    }

    /// Whether it is still running, seen from `me`. Reads `/proc`; a read error counts as unknown.
    pub fn state(&self, me: &Self) -> OwnerState {
        self.state_with(me, |pid| process_stat(pid).map_err(drop))
    }

    /// The pure decision. `stat` returns a process's start time and whether it is a zombie.
    fn state_with(&self, me: &Self, stat: impl Fn(u32) -> Result<Option<(u64, bool)>, ()>) -> OwnerState {
        if self == me {
            return OwnerState::Myself;
        }
        if self.host != me.host {
            return OwnerState::Unknown;
        }
        if self.boot_id != me.boot_id {
            return OwnerState::Gone;
        }
        if self.pid_namespace != me.pid_namespace {
            return OwnerState::Unknown;
        }
        match stat(self.pid) {
            Ok(Some((start_ticks, dead))) if start_ticks == self.start_ticks && !dead => OwnerState::Running,
            Ok(_) => OwnerState::Gone,
            Err(()) => OwnerState::Unknown,
        }
    }
}

/// `HOST:BOOT_ID:PID_NAMESPACE:PID:START_TICKS`, only characters that LVM allows in a tag.
impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}:{}:{}", self.host, self.boot_id, self.pid_namespace, self.pid, self.start_ticks)
    }
}

/// The text is no [`Owner`] in its displayed form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not of the form HOST:BOOT_ID:PID_NAMESPACE:PID:START_TICKS")]
pub struct NotAnOwner;

impl FromStr for Owner {
    type Err = NotAnOwner;

    fn from_str(text: &str) -> Result<Self, NotAnOwner> {
        let parts: Vec<&str> = text.split(':').collect();
        let [host, boot_id, pid_namespace, pid, start_ticks] = parts[..] else { return Err(NotAnOwner) };
        if host.is_empty() || boot_id.is_empty() {
            return Err(NotAnOwner);
        }
        Ok(Self {
            host: host.to_owned(),
            boot_id: boot_id.to_owned(),
            pid_namespace: pid_namespace.parse().map_err(|_| NotAnOwner)?,
            pid: pid.parse().map_err(|_| NotAnOwner)?,
            start_ticks: start_ticks.parse().map_err(|_| NotAnOwner)?,
        })
    }
}

/// A host name limited to the characters that LVM allows in a tag, without the colon that separates the parts.
fn plain(text: &str) -> String {
    let allowed = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') { c } else { '_' };
    let plain: String = text.chars().take(64).map(allowed).collect();
    if plain.is_empty() { "_".to_owned() } else { plain }
}

/// The start time of a process in clock ticks since boot, and whether it is a zombie. `None` if there is no such
/// process.
fn process_stat(pid: u32) -> io::Result<Option<(u64, bool)>> {
    let text = match fs::read(format!("/proc/{pid}/stat")) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        // ESRCH: the process ended between open and read.
        Err(error) if error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(3) => return Ok(None),
        Err(error) => return Err(error),
    };
    parse_stat(&text).map(Some).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "unexpected /proc/PID/stat"))
}

/// proc(5), /proc/PID/stat: field 3 is the state, field 22 the start time. Field 2, the program's name in
/// parentheses, may contain anything, so fields are counted from the last parenthesis.
fn parse_stat(text: &str) -> Option<(u64, bool)> {
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    let start_ticks = fields.nth(18)?.parse().ok()?;
    Some((start_ticks, matches!(state, "Z" | "X" | "x")))
}

fn pid_namespace() -> io::Result<u64> {
    let link = fs::read_link(Path::new("/proc/self/ns/pid"))?;
    let text = link.to_string_lossy();
    let number = text.strip_prefix("pid:[").and_then(|text| text.strip_suffix(']')).and_then(|text| text.parse().ok());
    number.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("unexpected link {text}")))
}

#[cfg(test)]
mod tests {
    use super::{Owner, OwnerState, parse_stat, plain};

    fn owner(text: &str) -> Owner {
        text.parse().unwrap()
    }

    #[test]
    fn this_process_is_read_back_as_itself() {
        let me = Owner::this_process().unwrap();
        assert_eq!(me.to_string().parse::<Owner>().unwrap(), me);
        assert_eq!(me.state(&me), OwnerState::Myself);
        assert!(me.to_string().chars().all(|c| c.is_ascii_alphanumeric() || ".-_:".contains(c)));
    }

    #[test]
    fn a_process_is_gone_only_when_that_is_sure() {
        let me = owner("host:boot-2:7:100:5000");
        let stat = |pid| match pid {
            200 => Ok(Some((6000, false))),
            201 => Ok(Some((6000, true))),
            202 => Err(()),
            _ => Ok(None),
        };
        let state = |text| owner(text).state_with(&me, stat);
        assert_eq!(state("host:boot-2:7:200:6000"), OwnerState::Running);
        assert_eq!(state("host:boot-2:7:200:5999"), OwnerState::Gone, "the process id is another's now");
        assert_eq!(state("host:boot-2:7:201:6000"), OwnerState::Gone, "killed, and not yet waited for");
        assert_eq!(state("host:boot-2:7:202:6000"), OwnerState::Unknown, "/proc cannot be read");
        assert_eq!(state("host:boot-2:7:300:6000"), OwnerState::Gone);
        assert_eq!(state("host:boot-1:7:200:6000"), OwnerState::Gone, "the host was started again");
        assert_eq!(state("host:boot-2:8:300:6000"), OwnerState::Unknown, "in a container");
        assert_eq!(state("other:boot-1:7:300:6000"), OwnerState::Unknown);
    }

    #[test]
    fn invalid_owners_are_rejected() {
        for text in ["", "host", "host:boot:1:2", "host:boot:1:2:3:4", "host:boot:x:2:3", ":boot:1:2:3", "h:b:1:-2:3"] {
            assert!(text.parse::<Owner>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_program_may_call_itself_anything() {
        let line = "12 (a) Z (b)) S 1 12 12 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 98765 1 1";
        assert_eq!(parse_stat(line), Some((98765, false)));
        assert_eq!(parse_stat("12 (a) Z 1 2"), None);
    }

    #[test]
    fn odd_host_names_become_tags() {
        assert_eq!(plain("node-1.example"), "node-1.example");
        assert_eq!(plain("n\u{f6}de:1"), "n_de_1");
        assert_eq!(plain(""), "_");
    }
}
