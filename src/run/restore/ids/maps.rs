//! The mappings of users and of groups, also inside attributes.

use std::fmt;

use super::acl::{ACL_GROUP, ACL_USER, acl_entries, put_acl};
use super::mapping::IdMap;
use crate::entry::Xattr;

/// `VFS_CAP_REVISION_3` of the kernel's capability.h, in the first bytes of `security.capability`.
const CAPABILITIES_WITH_ROOT: u32 = 0x0300_0000;

/// The mappings of users and groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdMaps {
    /// Of users.
    pub uids: IdMap,
    /// Of groups.
    pub gids: IdMap,
}

impl fmt::Display for IdMaps {
    /// The mappings in their order, as arguments; empty without any.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |option: &str, map: &IdMap| {
            map.mappings.iter().map(|mapping| format!("{option} {mapping}")).collect::<Vec<_>>()
        };
        let mut all = of("--uid", &self.uids);
        all.extend(of("--gid", &self.gids));
        f.write_str(&all.join(" "))
    }
}

impl IdMaps {
    /// Whether all ids are kept.
    pub fn is_empty(&self) -> bool {
        self.uids.is_empty() && self.gids.is_empty()
    }

    /// Maps ids inside attributes: named users and groups in ACLs, and the root id of capabilities in a user
    /// namespace.
    pub fn map_xattrs(&self, xattrs: &mut [Xattr]) {
        for xattr in xattrs {
            match xattr.name.as_slice() {
                b"system.posix_acl_access" | b"system.posix_acl_default" => self.map_acl(&mut xattr.value),
                b"security.capability" => {
                    if let Some(root) = root_of_capabilities(&xattr.value) {
                        xattr.value[20..24].copy_from_slice(&self.uids.get(root).to_le_bytes());
                    }
                }
                _ => {}
            }
        }
    }

    fn map_acl(&self, value: &mut Vec<u8>) {
        let Some(entries) = acl_entries(value) else { return };
        let mapped = entries.into_iter().map(|(tag, permissions, id)| match tag {
            ACL_USER => (tag, permissions, self.uids.get(id)),
            ACL_GROUP => (tag, permissions, self.gids.get(id)),
            _ => (tag, permissions, id),
        });
        put_acl(value, mapped);
    }
}

fn root_of_capabilities(value: &[u8]) -> Option<u32> {
    let magic = u32::from_le_bytes(*value.first_chunk()?);
    let root: [u8; 4] = value.get(20..24)?.try_into().ok()?;
    (value.len() == 24 && magic & 0xff00_0000 == CAPABILITIES_WITH_ROOT).then(|| u32::from_le_bytes(root))
}

#[cfg(test)]
mod tests {
    use super::super::mapping::Mapping;
    use super::{IdMap, IdMaps};
    use crate::archive::acl;
    use crate::entry::Xattr;

    fn map(text: &str) -> IdMap {
        IdMap::new(&[text.parse::<Mapping>().unwrap()]).unwrap()
    }

    #[test]
    fn acls_and_capabilities_are_mapped() {
        let maps = IdMaps { uids: map("108:112"), gids: map("108:7") };
        let xattr = |name: &str, value: Vec<u8>| Xattr { name: name.into(), value };
        let before = "user::rw-,user:108:r--,user:110:rw-,group::r--,group:9:r--,group:108:rwx,mask::rw-,other::---";
        let after = "user::rw-,user:110:rw-,user:112:r--,group::r--,group:7:rwx,group:9:r--,mask::rw-,other::---";
        let mut capabilities = vec![0, 0, 0, 3];
        capabilities.extend([0; 16]);
        let with_root = |root: u32| [capabilities.as_slice(), &root.to_le_bytes()].concat();
        let mut xattrs = [
            xattr("system.posix_acl_access", acl::from_text(before.as_bytes()).unwrap()),
            xattr("system.posix_acl_default", acl::from_text(before.as_bytes()).unwrap()),
            xattr("security.capability", with_root(108)),
            xattr("system.posix_acl_access", b"no ACL".to_vec()),
        ];
        maps.map_xattrs(&mut xattrs);
        assert_eq!(acl::to_text(&xattrs[0].value).as_deref(), Some(after));
        assert_eq!(acl::to_text(&xattrs[1].value).as_deref(), Some(after));
        assert_eq!(xattrs[2].value, with_root(112));
        assert_eq!(xattrs[3].value, b"no ACL");
        // Two ids mapped to the same one.
        let mut xattrs =
            [xattr("system.posix_acl_access", acl::from_text(b"u::r,u:108:rw,u:112:rx,g::r,m::rwx,o::r").unwrap())];
        maps.map_xattrs(&mut xattrs);
        let merged = acl::to_text(&xattrs[0].value).unwrap();
        assert_eq!(merged, "user::r--,user:112:r--,group::r--,mask::rwx,other::r--");
    }
}
