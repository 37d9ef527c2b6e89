//! Who uses the disks behind a session.

use std::fs;
use std::os::unix::fs::MetadataExt;

use serde::Serialize;

use super::kernel::{Disk, Session, SessionsError, sessions};
use crate::cloud::{CloudMap, VOLUME_PREFIX, shown_names};
use crate::run::in_use::opened_by_now;
use crate::source;

/// A session with the users of its disks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ListedSession {
    /// The session.
    #[serde(flatten)]
    pub session: Session,
    /// The id of its Cinder volume, if its target has such a name.
    pub volume: Option<String>,
    /// The volume's display name and its instances, by the map of the cloud: `data-1 (web-1)`.
    pub cloud: Option<String>,
    /// Who uses its disks, one line each; empty if no use is known.
    pub uses: Vec<String>,
}

/// The sessions with their users, by number. A map of the cloud names their volumes and instances.
pub fn list(map: Option<&CloudMap>) -> Result<Vec<ListedSession>, SessionsError> {
    let listed = |session: Session| ListedSession {
        cloud: session.volume().zip(map).and_then(|(volume, map)| in_the_cloud(volume, map)),
        volume: session.volume().map(str::to_owned),
        uses: session.disks.iter().filter_map(use_of).collect(),
        session,
    };
    Ok(sessions()?.into_iter().map(listed).collect())
}

fn in_the_cloud(volume: &str, map: &CloudMap) -> Option<String> {
    let lv = format!("{VOLUME_PREFIX}{volume}");
    let found = map.volumes.iter().find(|one| one.lv.eq_ignore_ascii_case(&lv))?;
    Some(shown_names(found)).filter(|names| !names.is_empty())
}

/// A use of the disk, in words. The disk itself is not opened: while its session reconnects, that would wait.
pub(super) fn use_of(disk: &Disk) -> Option<String> {
    let metadata = fs::metadata(disk.path()).ok()?;
    if let Some(what) = source::user_of_device(metadata.rdev()) {
        return Some(format!("{} is {what}", disk.name));
    }
    let process = opened_by_now(&metadata)?;
    Some(format!("{} is open in {}", disk.name, shown_process(process)))
}

/// A process by its name, and the instance if it is an emulator that libvirt started.
fn shown_process(process: u32) -> String {
    let read = |what: &str| fs::read(format!("/proc/{process}/{what}")).unwrap_or_default();
    let name = crate::shown::bytes(read("comm").trim_ascii_end());
    let arguments = read("cmdline");
    let instance = arguments.split(|byte| *byte == 0).find_map(instance_of);
    let instance = instance.map_or_else(String::new, |instance| format!(", instance {instance}"));
    format!("process {process} ({name}{instance})")
}

/// The instance in an argument of qemu: `-name guest=instance-0000001a,debug-threads=on`.
fn instance_of(argument: &[u8]) -> Option<String> {
    let name = argument.strip_prefix(b"guest=")?.split(|byte| *byte == b',').next()?;
    Some(crate::shown::bytes(name))
}

#[cfg(test)]
mod tests {
    use super::instance_of;

    #[test]
    fn an_instance_is_known_by_the_arguments_of_its_emulator() {
        assert_eq!(instance_of(b"guest=instance-0000001a,debug-threads=on").as_deref(), Some("instance-0000001a"));
        assert_eq!(instance_of(b"-name"), None);
    }
}
