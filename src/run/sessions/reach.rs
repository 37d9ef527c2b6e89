//! Why a session does not work: the storage host's name, the way to it, or the target on it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use serde::Serialize;

use super::kernel::{Portal, Session, SessionsError, sessions};
use crate::outside::{CommandOutput, RunCommand};

/// How long a storage host may take to accept a connection.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);
/// How long iscsiadm may take.
const ISCSIADM_SECONDS: &str = "30";
/// timeout(1): the time was over, or the program had to be killed then.
const STATUS_TIMED_OUT: i32 = 124;
const STATUS_KILLED: i32 = 137;

/// What is wrong on the way to a target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "fault", rename_all = "snake_case")]
pub enum Fault {
    /// The storage host's name has no address.
    NameUnknown {
        /// The resolver's message.
        why: String,
    },
    /// Nothing answers at the address: no route, or no host.
    NoRoute {
        /// The kernel's message.
        why: String,
    },
    /// The host answers, but nothing listens on the port.
    PortClosed,
    /// The portal answers, and does not offer the target.
    TargetGone,
    /// The portal offers the target, and the session is not logged in.
    NotLoggedIn {
        /// Its state.
        state: String,
    },
}

impl Fault {
    /// The fault, in words.
    pub fn what(&self, portal: &Portal) -> String {
        match self {
            Self::NameUnknown { why } => {
                format!("the name of the storage host, {}, does not resolve: {why}", portal.host)
            }
            Self::NoRoute { why } => format!("{portal} does not answer: {why}"),
            Self::PortClosed => format!("{} answers, but its port {} is closed", portal.host, portal.port),
            Self::TargetGone => format!("{portal} answers, and has no such target"),
            Self::NotLoggedIn { state } => format!("{portal} has the target, but the session is {state}"),
        }
    }

    /// What to do next.
    pub fn next(&self, portal: &Portal) -> String {
        match self {
            Self::NameUnknown { .. } => {
                format!("add {} to DNS or /etc/hosts of this host (`getent hosts {}` asks)", portal.host, portal.host)
            }
            Self::NoRoute { .. } => {
                "look at the storage network of this host (`ip route get ADDRESS`), the switch, and whether the storage host runs"
                    .to_owned()
            }
            Self::PortClosed => {
                "on the storage host, start the target service (`systemctl status tgt` or `target`), and look at its firewall"
                    .to_owned()
            }
            Self::TargetGone => "on the storage host, look for the export (`tgtadm --lld iscsi --mode target --op show`, `targetcli ls`); \
                 cinder-volume makes it again when it starts. If the volume is no longer attached here, close the session"
                .to_owned(),
            Self::NotLoggedIn { .. } => {
                "wait for iscsid to log in again; if it does not, look at its log (`journalctl -u iscsid`)".to_owned()
            }
        }
    }
}

/// What was found about one target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reached {
    /// The target.
    pub target: String,
    /// Where it is to be reached.
    pub portal: Portal,
    /// The number of its session, if it has one.
    pub session: Option<u32>,
    /// What is wrong; `None` if nothing is.
    pub fault: Option<Fault>,
    /// Why the portal's targets are not known.
    pub not_asked: Option<String>,
}

/// Tries the portal of each session, and of each target that this host has recorded (`iscsiadm -m node`). Nothing is changed.
pub fn check(commands: &dyn RunCommand) -> Result<Vec<Reached>, SessionsError> {
    let sessions = sessions()?;
    let mut wanted: Vec<(String, Portal, Option<Session>)> = Vec::new();
    for session in sessions {
        if let Some(portal) = session.portal.clone() {
            wanted.push((session.target.clone(), portal, Some(session)));
        }
    }
    for (portal, target) in recorded(commands) {
        if !wanted.iter().any(|(known, at, _)| *known == target && *at == portal) {
            wanted.push((target, portal, None));
        }
    }
    let mut portals: BTreeMap<String, Answer> = BTreeMap::new();
    let reached = wanted.into_iter().map(|(target, portal, session)| {
        let answer = portals.entry(portal.to_string()).or_insert_with(|| ask(&portal, commands));
        let (fault, not_asked) = match answer {
            Answer::Fault(fault) => (Some(fault.clone()), None),
            Answer::Targets(targets) if !targets.contains(&target) => (Some(Fault::TargetGone), None),
            Answer::Targets(_) => (not_logged_in(session.as_ref()), None),
            Answer::Refused(why) => (not_logged_in(session.as_ref()), Some(why.clone())),
        };
        Reached { target, portal, session: session.map(|session| session.number), fault, not_asked }
    });
    Ok(reached.collect())
}

fn not_logged_in(session: Option<&Session>) -> Option<Fault> {
    let session = session.filter(|session| !session.is_logged_in())?;
    Some(Fault::NotLoggedIn { state: session.state.clone() })
}

/// What a portal says.
enum Answer {
    Fault(Fault),
    Targets(Vec<String>),
    /// It answers, but does not say which targets it has.
    Refused(String),
}

fn ask(portal: &Portal, commands: &dyn RunCommand) -> Answer {
    let addresses: Vec<SocketAddr> = match (portal.host.as_str(), portal.port).to_socket_addrs() {
        Ok(addresses) => addresses.collect(),
        Err(error) => return Answer::Fault(Fault::NameUnknown { why: error.to_string() }),
    };
    let mut last = None;
    for address in &addresses {
        match TcpStream::connect_timeout(address, ANSWERS_WITHIN) {
            Ok(_) => return targets(portal, commands),
            Err(error) => last = Some(error),
        }
    }
    Answer::Fault(match last {
        None => Fault::NameUnknown { why: "it has no address".to_owned() },
        Some(error) if error.kind() == io::ErrorKind::ConnectionRefused => Fault::PortClosed,
        Some(error) => Fault::NoRoute { why: error.to_string() },
    })
}

/// The targets of a portal (SendTargets, RFC 7143, section 6 and appendix C). Its answer is not recorded.
fn targets(portal: &Portal, commands: &dyn RunCommand) -> Answer {
    let at = portal.to_string();
    match iscsiadm(&["-m", "discovery", "-t", "sendtargets", "-p", &at, "-o", "nonpersistent"], commands) {
        Err(error) => Answer::Refused(format!("iscsiadm cannot be started: {error}")),
        Ok(output) if matches!(output.status.code(), Some(STATUS_TIMED_OUT | STATUS_KILLED)) => Answer::Refused(
            format!("iscsiadm did not end within {ISCSIADM_SECONDS} s: look at iscsid, and at the target service"),
        ),
        // iscsiadm(8): status 21 is an answer without any target.
        Ok(output) if output.status.success() || output.status.code() == Some(21) => {
            Answer::Targets(lines(&output.stdout).map(|(_, target)| target).collect())
        }
        Ok(output) => Answer::Refused(crate::shown::bytes(output.stderr.trim_ascii())),
    }
}

/// The targets that this host has recorded. Without iscsiadm, none.
fn recorded(commands: &dyn RunCommand) -> Vec<(Portal, String)> {
    let output = iscsiadm(&["-m", "node"], commands);
    let lines = |stdout: &[u8]| lines(stdout).collect();
    output.map(|output| lines(&output.stdout)).unwrap_or_default()
}

/// Runs iscsiadm, which waits for minutes where something answers that is no target, and for ever where iscsid hangs.
fn iscsiadm(arguments: &[&str], commands: &dyn RunCommand) -> io::Result<CommandOutput> {
    let limited = ["--kill-after=5", ISCSIADM_SECONDS, "iscsiadm"];
    let all: Vec<OsString> = limited.iter().chain(arguments).map(OsString::from).collect();
    commands.run("timeout", &all)
}

/// Lines of iscsiadm: `10.0.0.1:3260,1 iqn.2010-10.org.openstack:volume-…`.
fn lines(output: &[u8]) -> impl Iterator<Item = (Portal, String)> {
    output.split(|byte| *byte == b'\n').filter_map(|line| {
        let (portal, target) = std::str::from_utf8(line).ok()?.trim().split_once(' ')?;
        Some((Portal::parse(portal)?, target.trim().to_owned()))
    })
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::io;
    use std::net::TcpListener;
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    use super::{Answer, ask};
    use crate::outside::{CommandOutput, RunCommand};
    use crate::run::sessions::Portal;

    /// iscsiadm that never ends, as timeout(1) reports it.
    struct Hangs;

    impl RunCommand for Hangs {
        fn run(&self, program: &str, args: &[OsString]) -> io::Result<CommandOutput> {
            assert!(program == "timeout" && args.iter().any(|argument| argument == "iscsiadm"), "{program} {args:?}");
            Ok(CommandOutput { status: ExitStatus::from_raw(124 << 8), stdout: Vec::new(), stderr: Vec::new() })
        }
    }

    #[test]
    fn a_portal_where_no_target_answers_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let portal = Portal { host: "127.0.0.1".to_owned(), port: listener.local_addr().unwrap().port() };
        let Answer::Refused(why) = ask(&portal, &Hangs) else { panic!("no answer is no list of targets") };
        assert!(why.contains("did not end within 30 s"), "{why}");
    }
}
