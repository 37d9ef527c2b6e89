//! Who can change a file. Files that root acts on (a config that names hooks, the hooks themselves, a key) must
//! belong to root, and so must all directories above: write permission for one of them is enough to replace the
//! file.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

/// path_resolution(7): more symbolic links are a loop.
const MOST_LINKS: usize = 40;
const GROUP_MAY_WRITE: u32 = 0o020;
const OTHERS_MAY_WRITE: u32 = 0o002;
const STICKY: u32 = 0o1000;
const ROOT: u32 = 0;

/// Other users can change the file at a path. Others means users other than root and the user of this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changeable {
    /// The file, or a directory or link on its path.
    path: PathBuf,
    by: By,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Owner(u32),
    Group(u32),
    AccessList,
    Others,
}

impl fmt::Display for Changeable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match self.by {
            By::Owner(uid) => write!(f, "{path} belongs to the user {uid}, who can write to it: `chown root {path}`"),
            By::Group(gid) => write!(f, "others in the group {gid} can write to {path}: `chmod g-w {path}`"),
            By::AccessList => write!(f, "others can write to {path} by its access control list: `setfacl -b {path}`"),
            By::Others => write!(f, "others can write to {path}: `chmod o-w {path}`"),
        }
    }
}

/// Who else can change the file at `path`. The path is followed from the root: each directory, each symbolic link
/// and the file must belong to root or to the user of this process, and must not be writable by others. A directory
/// with the sticky bit, like /tmp, is acceptable, since only owners can replace its entries.
///
/// Fails if a component is missing or cannot be examined.
pub fn changeable(path: &Path) -> io::Result<Option<Changeable>> {
    let mut left: VecDeque<OsString> = components(&std::path::absolute(path)?).collect();
    let mut links = 0;
    let mut at = PathBuf::from("/");
    if let Some(by) = changer(&at, &fs::symlink_metadata(&at)?) {
        return Ok(Some(Changeable { path: at, by }));
    }
    while let Some(name) = left.pop_front() {
        if name == ".." {
            at.pop();
            continue;
        }
        let next = at.join(&name);
        let metadata = fs::symlink_metadata(&next)?;
        if let Some(by) = changer(&next, &metadata) {
            return Ok(Some(Changeable { path: next, by }));
        }
        if !metadata.file_type().is_symlink() {
            at = next;
            continue;
        }
        links += 1;
        if links > MOST_LINKS {
            return Err(io::Error::from(rustix::io::Errno::LOOP));
        }
        let target = fs::read_link(&next)?;
        if target.is_absolute() {
            at = PathBuf::from("/");
        }
        for component in components(&target).collect::<Vec<_>>().into_iter().rev() {
            left.push_front(component);
        }
    }
    Ok(None)
}

/// The components of a path, including `..`.
fn components(path: &Path) -> impl Iterator<Item = OsString> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsStr::new("..").to_owned()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}

fn changer(path: &Path, metadata: &Metadata) -> Option<By> {
    let (me, my_group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let (mode, uid, gid) = (metadata.mode(), metadata.uid(), metadata.gid());
    if uid != ROOT && uid != me {
        return Some(By::Owner(uid));
    }
    // The mode of a symbolic link has no effect.
    if metadata.file_type().is_symlink() || metadata.is_dir() && mode & STICKY != 0 {
        return None;
    }
    if mode & OTHERS_MAY_WRITE != 0 {
        return Some(By::Others);
    }
    if mode & GROUP_MAY_WRITE == 0 {
        return None;
    }
    // Many systems give each user a private group, which owns the user's files.
    let is_own_group = gid == ROOT || me != ROOT && gid == my_group;
    if !is_own_group {
        return Some(By::Group(gid));
    }
    // acl(5): with an access list these bits are the mask, the maximum for named users and groups.
    has_access_list(path).then_some(By::AccessList)
}

fn has_access_list(path: &Path) -> bool {
    let mut list = [0_u8; 512];
    match rustix::fs::lgetxattr(path, "system.posix_acl_access", &mut list[..]) {
        Ok(length) => length > 0,
        Err(error) => error == rustix::io::Errno::RANGE,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, chown, symlink};
    use std::path::Path;

    use super::{By, changeable};

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn by(path: &Path) -> Option<By> {
        changeable(path).unwrap().map(|found| found.by)
    }

    #[test]
    fn a_file_that_others_can_write_to_is_found_by_any_way() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        for harmless in [0o644, 0o600, 0o755, 0o444, 0o664] {
            mode(&file, harmless);
            assert_eq!(by(&file), None, "{harmless:o}");
        }
        for harmful in [0o666, 0o602, 0o777, 0o646] {
            mode(&file, harmful);
            assert_eq!(by(&file), Some(By::Others), "{harmful:o}");
        }
        let said = changeable(&file).unwrap().unwrap().to_string();
        assert_eq!(said, format!("others can write to {0}: `chmod o-w {0}`", file.display()));

        let link = directory.path().join("link");
        symlink("file", &link).unwrap();
        assert_eq!(by(&link), Some(By::Others), "by a link");
        assert!(changeable(&directory.path().join("none")).is_err());
        symlink("loop", directory.path().join("loop")).unwrap();
        assert!(changeable(&directory.path().join("loop")).is_err());
    }

    #[test]
    fn a_directory_above_that_others_can_write_to_counts_unless_it_is_sticky() {
        let directory = tempfile::tempdir().unwrap();
        let (open, deep) = (directory.path().join("open"), directory.path().join("open/deep"));
        fs::create_dir_all(&deep).unwrap();
        let file = deep.join("file");
        fs::write(&file, "").unwrap();
        mode(&file, 0o600);
        mode(&open, 0o777);
        assert_eq!(by(&file), Some(By::Others));
        mode(&open, 0o1777);
        assert_eq!(by(&file), None);
        mode(&open, 0o755);
        // A link's target is checked as strictly as the link's own directory.
        let aside = directory.path().join("aside");
        fs::create_dir(&aside).unwrap();
        symlink("../open/deep/file", aside.join("link")).unwrap();
        assert_eq!(by(&aside.join("link")), None);
        mode(&aside, 0o777);
        assert_eq!(by(&aside.join("link")), Some(By::Others));
        mode(&aside, 0o755);
        mode(&deep, 0o777);
        assert_eq!(by(&aside.join("link")), Some(By::Others));
    }

    #[test]
    fn other_owners_and_groups_count() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        if !rustix::process::geteuid().is_root() {
            return;
        }
        chown(&file, Some(1000), None).unwrap();
        assert_eq!(by(&file), Some(By::Owner(1000)));
        chown(&file, Some(0), Some(4)).unwrap();
        assert_eq!(by(&file), None, "the group may read");
        mode(&file, 0o664);
        assert_eq!(by(&file), Some(By::Group(4)));
        chown(&file, None, Some(0)).unwrap();
        assert_eq!(by(&file), None);
        // user::rw-, user:1000:rw-, group::r--, mask::rw-, other::r-- (acl(5), version 2).
        let entries: [(u16, u16, u32); 5] = [(1, 6, !0), (2, 6, 1000), (4, 4, !0), (16, 6, !0), (32, 4, !0)];
        let mut list = 2_u32.to_le_bytes().to_vec();
        for (tag, permissions, id) in entries {
            list.extend([tag.to_le_bytes(), permissions.to_le_bytes()].concat());
            list.extend(id.to_le_bytes());
        }
        let flags = rustix::fs::XattrFlags::empty();
        match rustix::fs::setxattr(&file, "system.posix_acl_access", &list, flags) {
            Err(rustix::io::Errno::OPNOTSUPP) => {}
            set => {
                set.unwrap();
                assert_eq!(by(&file), Some(By::AccessList));
            }
        }
    }

    #[test]
    fn system_programs_are_trusted() {
        for path in ["/bin/sh", "/etc/passwd", "/usr/sbin/../bin/env"] {
            assert_eq!(by(Path::new(path)), None, "{path}");
        }
    }
}
