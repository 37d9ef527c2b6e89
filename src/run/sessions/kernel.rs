//! What the kernel says of its iSCSI sessions. Linux: `drivers/scsi/scsi_transport_iscsi.c`, the attributes of the classes
//! `iscsi_session` and `iscsi_connection`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::cloud::VOLUME_PREFIX;
use crate::field::is_uuid;

const SESSIONS: &str = "/sys/class/iscsi_session";
const CONNECTIONS: &str = "/sys/class/iscsi_connection";

/// The sessions cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{} cannot be read", path.display())]
pub struct SessionsError {
    path: PathBuf,
    source: io::Error,
}

/// Where a target is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Portal {
    /// An address or a name.
    pub host: String,
    /// The TCP port.
    pub port: u16,
}

impl Portal {
    /// Parses `HOST:PORT`, with an IPv6 address in brackets, and with what iscsiadm appends (`,1`).
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text = text.split(',').next()?;
        let (host, port) = text.rsplit_once(':')?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        (!host.is_empty()).then_some(Self { host: host.to_owned(), port: port.parse().ok()? })
    }
}

impl std::fmt::Display for Portal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// A disk behind a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Disk {
    /// The name of the device in `/dev`.
    pub name: String,
    /// Its size in bytes.
    pub size_bytes: u64,
}

impl Disk {
    pub(super) fn path(&self) -> PathBuf {
        Path::new("/dev").join(&self.name)
    }
}

/// A session, as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Session {
    /// Its number: `iscsiadm -m session -r NUMBER`.
    pub number: u32,
    /// The name of its target (an IQN).
    pub target: String,
    /// `LOGGED_IN`, `FAILED` while it reconnects, `FREE` when it gave up for now.
    pub state: String,
    /// Where it connects to; `None` if it has no connection.
    pub portal: Option<Portal>,
    /// Its disks.
    pub disks: Vec<Disk>,
}

impl Session {
    /// Whether its disks answer.
    pub fn is_logged_in(&self) -> bool {
        self.state == "LOGGED_IN"
    }

    /// The id of the Cinder volume that its target serves: the UUID behind `volume-`.
    pub fn volume(&self) -> Option<&str> {
        let (_, id) = self.target.rsplit_once(VOLUME_PREFIX)?;
        is_uuid(id).then_some(id)
    }

    /// Whether `wanted` names it: the volume's id, `volume-ID`, or the target.
    pub(super) fn is_of(&self, wanted: &str) -> bool {
        let id = wanted.strip_prefix(VOLUME_PREFIX).unwrap_or(wanted);
        self.target == wanted || self.volume().is_some_and(|volume| volume.eq_ignore_ascii_case(id))
    }
}

/// All sessions, by number. None if the kernel has no iSCSI.
pub(super) fn sessions() -> Result<Vec<Session>, SessionsError> {
    let failed = |source| SessionsError { path: SESSIONS.into(), source };
    let entries = match fs::read_dir(SESSIONS) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let name = entry.map_err(failed)?.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix("session")?.parse().ok());
        if let Some(session) = number.map(read).transpose()?.flatten() {
            found.push(session);
        }
    }
    found.sort_by_key(|session: &Session| session.number);
    Ok(found)
}

/// The session of this number now; `None` if it is gone.
pub(super) fn read(number: u32) -> Result<Option<Session>, SessionsError> {
    let directory = Path::new(SESSIONS).join(format!("session{number}"));
    let attribute = |name: &str| {
        let path = directory.join(name);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text.trim().to_owned())),
            Err(error) if is_gone(&error) => Ok(None),
            Err(source) => Err(SessionsError { path, source }),
        }
    };
    let (Some(target), Some(state)) = (attribute("targetname")?, attribute("state")?) else { return Ok(None) };
    let mut disks = Vec::new();
    // sessionN/device/target0:0:0/0:0:0:1/block/sda
    for target in children(&directory.join("device"), "target") {
        for unit in children(&target, "") {
            for block in children(&unit.join("block"), "") {
                let Some(name) = block.file_name().and_then(|name| name.to_str()) else { continue };
                let sectors = fs::read_to_string(block.join("size")).ok().and_then(|text| text.trim().parse().ok());
                // In units of 512 bytes, whatever the device's own sectors are.
                disks.push(Disk { name: name.to_owned(), size_bytes: sectors.unwrap_or(0_u64).saturating_mul(512) });
            }
        }
    }
    disks.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Some(Session { number, target, state, portal: portal(number), disks }))
}

/// A session that goes while it is read.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error())
}

fn portal(number: u32) -> Option<Portal> {
    let directory = Path::new(CONNECTIONS).join(format!("connection{number}:0"));
    let attribute = |name: &str| Some(fs::read_to_string(directory.join(name)).ok()?.trim().to_owned());
    let host = attribute("persistent_address").filter(|host| !host.is_empty())?;
    Some(Portal { host, port: attribute("persistent_port")?.parse().ok()? })
}

/// The entries of a directory whose names start so.
fn children(directory: &Path, prefix: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok);
    let named = entries.filter(|entry| entry.file_name().to_str().is_some_and(|name| name.starts_with(prefix)));
    named.map(|entry| entry.path()).collect()
}

#[cfg(test)]
mod tests {
    use super::{Portal, Session};

    fn session(target: &str) -> Session {
        Session { number: 1, target: target.into(), state: "LOGGED_IN".into(), portal: None, disks: Vec::new() }
    }

    #[test]
    fn a_volume_is_known_by_its_id() {
        let id = "11111111-aaaa-4aaa-8aaa-111111111111";
        let target = format!("iqn.2010-10.org.openstack:volume-{id}");
        let cinder = session(&target);
        assert_eq!(cinder.volume(), Some(id));
        for wanted in [id, &format!("volume-{id}"), &target, &id.to_uppercase()] {
            assert!(cinder.is_of(wanted), "{wanted}");
        }
        for wanted in ["", "volume-", "11111111", "volume-11111111-aaaa-4aaa-8aaa-11111111111", "openstack"] {
            assert!(!cinder.is_of(wanted), "{wanted}");
        }
        for other in ["iqn.2001-04.com.example:disk1", "iqn.x:volume-", "iqn.x:volume-1-2-3-4-5", ""] {
            assert_eq!(session(other).volume(), None, "{other}");
        }
        assert!(!session("iqn.x:volume-").is_of("volume-") && !session("").is_of(id));
    }

    #[test]
    fn portals_are_parsed_as_iscsiadm_prints_them() {
        let portal = |text| Portal::parse(text).map(|portal| (portal.host.clone(), portal.port, portal.to_string()));
        assert_eq!(portal("10.0.0.1:3260,1"), Some(("10.0.0.1".into(), 3260, "10.0.0.1:3260".into())));
        assert_eq!(portal("[fd00::1]:3260,-1"), Some(("fd00::1".into(), 3260, "[fd00::1]:3260".into())));
        assert_eq!(portal("storage-1:3260"), Some(("storage-1".into(), 3260, "storage-1:3260".into())));
        for wrong in ["", ":3260", "host", "host:", "host:99999"] {
            assert_eq!(portal(wrong), None, "{wrong}");
        }
    }
}
