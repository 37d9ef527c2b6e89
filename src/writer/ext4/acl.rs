//! POSIX ACLs: from the form of getxattr(2) (Linux, `include/uapi/linux/posix_acl_xattr.h`) to that on the disk
//! (`fs/ext4/acl.h`), with the checks of the kernel's `posix_acl_valid`.

use rustix::io::Errno;

use crate::field::{le16, le32};

const USER_OBJ: u16 = 0x1;
const USER: u16 = 0x2;
const GROUP_OBJ: u16 = 0x4;
const GROUP: u16 = 0x8;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;
/// Of the form of getxattr(2), and of that on the disk.
const VERSION: u32 = 2;
const VERSION_ON_DISK: u32 = 1;

/// An ACL that the kernel would take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Acl {
    /// Tag, permissions, and the id of a user or group.
    entries: Vec<(u16, u16, u32)>,
}

/// `None` if it has no entries, which removes the ACL.
pub(super) fn parse(value: &[u8]) -> Result<Option<Acl>, Errno> {
    if le32(value, 0).ok_or(Errno::INVAL)? != VERSION {
        return Err(Errno::OPNOTSUPP);
    }
    let (entries, rest) = value[4..].as_chunks::<8>();
    if !rest.is_empty() {
        return Err(Errno::INVAL);
    }
    let entry = |bytes: &[u8; 8]| Some((le16(bytes, 0)?, le16(bytes, 2)?, le32(bytes, 4)?));
    let entries: Vec<_> = entries.iter().filter_map(entry).collect();
    if entries.is_empty() {
        return Ok(None);
    }
    // The order of the tags; users and groups may repeat.
    let (mut state, mut needs_mask) = (USER_OBJ, false);
    for (tag, permissions, id) in &entries {
        if permissions & !7 != 0 {
            return Err(Errno::INVAL);
        }
        let is_right = match *tag {
            USER_OBJ => std::mem::replace(&mut state, USER) == USER_OBJ,
            USER | GROUP => {
                needs_mask = true;
                state == *tag && *id != u32::MAX
            }
            GROUP_OBJ => std::mem::replace(&mut state, GROUP) == USER,
            MASK => std::mem::replace(&mut state, OTHER) == GROUP,
            OTHER => {
                let before = std::mem::replace(&mut state, 0);
                before == OTHER || (before == GROUP && !needs_mask)
            }
            _ => false,
        };
        if !is_right {
            return Err(Errno::INVAL);
        }
    }
    if state == 0 { Ok(Some(Acl { entries })) } else { Err(Errno::INVAL) }
}

impl Acl {
    /// Whether a mode says the same.
    pub(super) fn is_mode(&self) -> bool {
        self.entries.iter().all(|(tag, ..)| matches!(*tag, USER_OBJ | GROUP_OBJ | OTHER))
    }

    /// The mode with the permissions of this ACL.
    pub(super) fn mode_of(&self, mode: u32) -> u32 {
        let of = |tag: u16| self.entries.iter().find(|(is, ..)| *is == tag).map(|(_, bits, _)| u32::from(*bits));
        let group = of(MASK).or_else(|| of(GROUP_OBJ)).unwrap_or(0);
        mode & !0o777 | of(USER_OBJ).unwrap_or(0) << 6 | group << 3 | of(OTHER).unwrap_or(0)
    }

    pub(super) fn on_disk(&self) -> Vec<u8> {
        let mut bytes = VERSION_ON_DISK.to_le_bytes().to_vec();
        for (tag, permissions, id) in &self.entries {
            bytes.extend(tag.to_le_bytes());
            bytes.extend(permissions.to_le_bytes());
            if matches!(*tag, USER | GROUP) {
                bytes.extend(id.to_le_bytes());
            }
        }
        bytes
    }
}
