//! ACLs whose text has names without numbers, as GNU tar writes them: the names get the numbers that they have where the
//! files are restored to.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::sync::{Mutex, PoisonError};

use super::ids::{IdMaps, merged_acl};
use super::names::Names;
use crate::archive::acl::{self, Kind, Qualifier};
use crate::archive::read::head::EntryHead;
use crate::entry::Xattr;
use crate::outside::{RunCommand, SystemCommands};

/// Names that are asked for; further ones of an archive that was made to have more count as unknown.
const MAX_NAMES: usize = 4096;
/// No user or group of Linux has a longer name.
const MAX_NAME_BYTES: usize = 256;
/// Names of one entry that a message lists.
const MAX_SHOWN: usize = 5;

/// Where names are looked up, and what was found.
#[derive(Default)]
pub struct AclNames {
    /// The files of `--map-to`; without them the host's name service is asked, as GNU tar does through getpwnam(3).
    files: Option<Names>,
    found: Mutex<BTreeMap<(Kind, String), Option<u32>>>,
}

impl fmt::Debug for AclNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AclNames").field("files", &self.files).finish_non_exhaustive()
    }
}

impl AclNames {
    /// Names are looked up in `files`, or on this host.
    pub(super) fn new(files: Option<Names>) -> Self {
        Self { files, ..Self::default() }
    }

    /// The ACLs of `head` that have names, in the kernel's form. Numbers in them are the backup's, and are mapped.
    pub fn attributes(&self, head: &EntryHead, maps: &IdMaps) -> Vec<Xattr> {
        let number_of = |kind, qualifier: Qualifier<'_>| match (qualifier, kind) {
            (Qualifier::Number(id), Kind::User) => Some(maps.uids.get(id)),
            (Qualifier::Number(id), Kind::Group) => Some(maps.gids.get(id)),
            (Qualifier::Name(name), kind) => self.number(kind, name),
        };
        let resolved = head.named_acls.iter().filter_map(|named| {
            let value = acl::resolve(&named.text, number_of)?;
            let value = if maps.is_empty() { value } else { merged_acl(value) };
            Some(Xattr { name: named.attribute.to_vec(), value })
        });
        resolved.collect()
    }

    /// What to say of names in the ACLs of `head` that have no number here.
    pub fn missing(&self, head: &EntryHead) -> Option<String> {
        let mut missing: Vec<String> = Vec::new();
        for named in &head.named_acls {
            acl::resolve(&named.text, |kind, qualifier| {
                if let Qualifier::Name(name) = qualifier
                    && self.number(kind, name).is_none()
                {
                    let shown = format!("{} {}", kind.word(), name.escape_debug());
                    if !missing.contains(&shown) && missing.len() <= MAX_SHOWN {
                        missing.push(shown);
                    }
                }
                None
            });
        }
        let more = if missing.len() > MAX_SHOWN { " and others" } else { "" };
        missing.truncate(MAX_SHOWN);
        let place = if self.files.is_some() { "in the files of --map-to" } else { "on this host" };
        (!missing.is_empty()).then(|| {
            format!(
                "its ACL names {}{more}, without a number, and there is no such name {place}: those entries of the ACL are left \
                 out, the rest is set",
                missing.join(", ")
            )
        })
    }

    fn number(&self, kind: Kind, name: &str) -> Option<u32> {
        if let Some(files) = &self.files {
            return files.number(kind, name.as_bytes());
        }
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (kind, name.to_owned());
        if let Some(number) = found.get(&key) {
            return *number;
        }
        if found.len() >= MAX_NAMES || name.len() > MAX_NAME_BYTES {
            return None;
        }
        let number = on_this_host(kind, name, &SystemCommands);
        found.insert(key, number);
        number
    }
}

/// What getent(1) says, so that names of LDAP and the like are found, too; without it /etc/passwd and /etc/group.
fn on_this_host(kind: Kind, name: &str, commands: &dyn RunCommand) -> Option<u32> {
    let database = match kind {
        Kind::User => "passwd",
        Kind::Group => "group",
    };
    let arguments: [OsString; 3] = ["--".into(), database.into(), OsStr::from_bytes(name.as_bytes()).into()];
    match commands.run("getent", &arguments) {
        Ok(output) if output.status.success() => Names::number_in(&output.stdout, name.as_bytes()),
        Ok(_) => None,
        Err(_) => Names::of_this_host().ok()?.number(kind, name.as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::on_this_host;
    use crate::archive::acl::Kind;
    use crate::outside::SystemCommands;

    #[test]
    fn names_of_this_host_have_its_numbers() {
        assert_eq!(on_this_host(Kind::User, "root", &SystemCommands), Some(0));
        assert_eq!(on_this_host(Kind::Group, "root", &SystemCommands), Some(0));
        // Neither options nor numbers are names.
        for other in ["nosuchuser-x", "--help", "-s", "", "root:x", "ROOT", "0 "] {
            assert_eq!(on_this_host(Kind::User, other, &SystemCommands), None, "{other}");
        }
    }
}
