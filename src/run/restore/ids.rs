//! Maps owner and group ids, for a target host with other ids than the source.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use crate::archive::read::head::{EntryHead, HeadKind};
use crate::entry::Xattr;

/// The maximum number of ids to count individually; an archive with more was crafted.
const MAX_COUNTED: usize = 1 << 16;
/// `VFS_CAP_REVISION_3` of the kernel's capability.h, in the first bytes of `security.capability`.
const CAPABILITIES_WITH_ROOT: u32 = 0x0300_0000;

/// `OLD:NEW`, or `FIRST-LAST:FIRST-LAST` for ranges of the same length; the second `-LAST` is optional.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    old: u32,
    new: u32,
    /// The number of further ids after the first.
    more: u32,
}

/// An invalid mapping of ids.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadMapping {
    /// It has another form.
    #[error("{0:?} is not OLD:NEW, as 108:112, or a range, as 1000-1999:101000-101999")]
    Form(String),
    /// An id is out of range.
    #[error("{0:?} has a number that Linux does not have: numbers go from 0 to 4294967294, and ranges ascend")]
    Bounds(String),
    /// The two ranges have different lengths.
    #[error("{0:?} has ranges of different lengths")]
    Lengths(String),
    /// Two mappings cover the same id.
    #[error("two mappings contradict each other: {0} has more than one new number")]
    TwoNew(u32),
    /// Two mappings lead to the same id.
    #[error("two mappings lead to {0}: the files of both could not be told apart")]
    TwoOld(u32),
}

impl Mapping {
    /// A mapping of one id.
    pub(crate) fn single(old: u32, new: u32) -> Self {
        Self { old, new, more: 0 }
    }

    /// Whether it maps this id.
    pub(crate) fn covers(&self, id: u32) -> bool {
        id.checked_sub(self.old).is_some_and(|offset| offset <= self.more)
    }
}

impl fmt::Display for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The sums were checked when it was parsed.
        match self.more {
            0 => write!(f, "{}:{}", self.old, self.new),
            more => write!(f, "{}-{}:{}-{}", self.old, self.old + more, self.new, self.new + more),
        }
    }
}

impl FromStr for Mapping {
    type Err = BadMapping;

    fn from_str(text: &str) -> Result<Self, BadMapping> {
        let form = || BadMapping::Form(text.to_owned());
        let number = |digits: &str| {
            if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(form());
            }
            let number = digits.parse::<u32>().ok().filter(|number| *number != u32::MAX);
            number.ok_or_else(|| BadMapping::Bounds(text.to_owned()))
        };
        let range = |side: &str| match side.split_once('-') {
            Some((first, last)) => {
                let (first, last) = (number(first)?, number(last)?);
                let more = last.checked_sub(first).ok_or_else(|| BadMapping::Bounds(text.to_owned()))?;
                Ok((first, Some(more)))
            }
            None => Ok((number(side)?, None)),
        };
        let (old, new) = text.split_once(':').ok_or_else(form)?;
        let ((old, old_more), (new, new_more)) = (range(old)?, range(new)?);
        let more = old_more.unwrap_or(0);
        if new_more.is_some_and(|new_more| new_more != more) {
            return Err(BadMapping::Lengths(text.to_owned()));
        }
        if new.checked_add(more).is_none_or(|last| last == u32::MAX) {
            return Err(BadMapping::Bounds(text.to_owned()));
        }
        Ok(Self { old, new, more })
    }
}

/// A mapping of ids; ids not mapped are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdMap {
    /// Sorted by old id.
    mappings: Vec<Mapping>,
}

impl IdMap {
    /// Fails if two mappings overlap on either side.
    pub fn new(mappings: &[Mapping]) -> Result<Self, BadMapping> {
        let mut sorted = mappings.to_vec();
        sorted.sort_unstable_by_key(|mapping| mapping.new);
        if let Some(pair) = sorted.windows(2).find(|pair| pair[1].new - pair[0].new <= pair[0].more) {
            return Err(BadMapping::TwoOld(pair[1].new));
        }
        sorted.sort_unstable_by_key(|mapping| mapping.old);
        match sorted.windows(2).find(|pair| pair[1].old - pair[0].old <= pair[0].more) {
            Some(pair) => Err(BadMapping::TwoNew(pair[1].old)),
            None => Ok(Self { mappings: sorted }),
        }
    }

    /// Adds single mappings for ids not covered yet; the first one for an id is used.
    pub fn add_others(&mut self, others: impl IntoIterator<Item = (u32, u32)>) {
        let mut singles = BTreeMap::new();
        for (old, new) in others {
            if !self.mappings.iter().any(|mapping| mapping.covers(old)) {
                singles.entry(old).or_insert(new);
            }
        }
        self.mappings.extend(singles.into_iter().map(|(old, new)| Mapping::single(old, new)));
        self.mappings.sort_unstable_by_key(|mapping| mapping.old);
    }

    /// The new id.
    pub fn get(&self, id: u32) -> u32 {
        let after = self.mappings.partition_point(|mapping| mapping.old <= id);
        match after.checked_sub(1).and_then(|at| self.mappings.get(at)) {
            // The sum was checked when it was parsed.
            Some(mapping) if mapping.covers(id) => mapping.new + (id - mapping.old),
            _ => id,
        }
    }

    fn is_empty(&self) -> bool {
        self.mappings.is_empty()
    }
}

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

/// An ACL in the kernel's form that has each user and group once.
pub(super) fn merged_acl(mut value: Vec<u8>) -> Vec<u8> {
    if let Some(entries) = acl_entries(&value) {
        put_acl(&mut value, entries);
    }
    value
}

/// Replaces the entries of an ACL: sorted, as the kernel wants them. Two that become one have the rights that both had.
fn put_acl(value: &mut Vec<u8>, entries: impl IntoIterator<Item = (u16, u16, u32)>) {
    let mut merged: BTreeMap<(u16, u32), u16> = BTreeMap::new();
    for (tag, permissions, id) in entries {
        merged.entry((tag, id)).and_modify(|other| *other &= permissions).or_insert(permissions);
    }
    value.truncate(4);
    for ((tag, id), permissions) in merged {
        value.extend_from_slice(&tag.to_le_bytes());
        value.extend_from_slice(&permissions.to_le_bytes());
        value.extend_from_slice(&id.to_le_bytes());
    }
}

const ACL_USER: u16 = 0x02;
const ACL_GROUP: u16 = 0x08;

/// Tag, permissions and id of each entry of an ACL in the kernel's form (`posix_acl_xattr.h`).
fn acl_entries(value: &[u8]) -> Option<Vec<(u16, u16, u32)>> {
    let (version, entries) = value.split_first_chunk::<4>()?;
    let (entries, rest) = entries.as_chunks::<8>();
    if u32::from_le_bytes(*version) != 2 || !rest.is_empty() {
        return None;
    }
    let entry = |bytes: &[u8; 8]| {
        let [a, b, c, d, id @ ..] = *bytes;
        (u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]), u32::from_le_bytes(id))
    };
    Some(entries.iter().map(entry).collect())
}

fn root_of_capabilities(value: &[u8]) -> Option<u32> {
    let magic = u32::from_le_bytes(*value.first_chunk()?);
    let root: [u8; 4] = value.get(20..24)?.try_into().ok()?;
    (value.len() == 24 && magic & 0xff00_0000 == CAPABILITIES_WITH_ROOT).then(|| u32::from_le_bytes(root))
}

/// The uses of an id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Use {
    /// Entries that it owns; further names of a file are not counted again.
    pub entries: u64,
    /// Entries of access and default ACLs that name it.
    pub acl_entries: u64,
}

/// The ids of entries.
#[derive(Clone, Debug, Default)]
pub struct Uses {
    uids: BTreeMap<u32, Use>,
    gids: BTreeMap<u32, Use>,
    /// Uses not counted individually.
    pub uncounted: u64,
}

/// An id, its mapping, and its uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct MappedUse {
    /// The id in the backup.
    pub old: u32,
    /// The id after the restore.
    pub new: u32,
    /// Its uses.
    #[serde(flatten)]
    pub used: Use,
}

impl Uses {
    /// Counts the ids of an entry.
    pub fn note(&mut self, head: &EntryHead) {
        if !matches!(head.kind, HeadKind::HardLink(_)) {
            self.count(head.uid, true, |used| used.entries += 1);
            self.count(head.gid, false, |used| used.entries += 1);
        }
        for xattr in head.xattrs.iter().filter(|xattr| xattr.name.starts_with(b"system.posix_acl_")) {
            for (tag, _, id) in acl_entries(&xattr.value).unwrap_or_default() {
                if matches!(tag, ACL_USER | ACL_GROUP) {
                    self.count(id.into(), tag == ACL_USER, |used| used.acl_entries += 1);
                }
            }
        }
    }

    fn count(&mut self, id: u64, is_user: bool, add: impl FnOnce(&mut Use)) {
        let uses = if is_user { &mut self.uids } else { &mut self.gids };
        match u32::try_from(id) {
            Ok(id) if uses.len() < MAX_COUNTED || uses.contains_key(&id) => add(uses.entry(id).or_default()),
            _ => self.uncounted += 1,
        }
    }

    /// Users and groups, by their old ids.
    pub fn mapped(&self, maps: &IdMaps) -> (Vec<MappedUse>, Vec<MappedUse>) {
        let of = |uses: &BTreeMap<u32, Use>, map: &IdMap| {
            uses.iter().map(|(old, used)| MappedUse { old: *old, new: map.get(*old), used: *used }).collect()
        };
        (of(&self.uids, &maps.uids), of(&self.gids, &maps.gids))
    }

    /// One sentence for each new id that several old ones are mapped to.
    pub fn merged(&self, maps: &IdMaps) -> Vec<String> {
        let (uids, gids) = self.mapped(maps);
        let mut sentences = Vec::new();
        for (uses, what) in [(uids, "uid"), (gids, "gid")] {
            let mut by_new: BTreeMap<u32, Vec<String>> = BTreeMap::new();
            for used in uses {
                by_new.entry(used.new).or_default().push(used.old.to_string());
            }
            for (new, old) in by_new.into_iter().filter(|(_, old)| old.len() > 1) {
                let old = old.join(" and ");
                sentences
                    .push(format!("{what} {old} of the backup are both {new} here: their files cannot be told apart"));
            }
        }
        sentences
    }
}

#[cfg(test)]
mod tests {
    use super::{BadMapping, IdMap, IdMaps, Mapping};
    use crate::archive::acl;
    use crate::entry::Xattr;

    fn map(texts: &[&str]) -> Result<IdMap, BadMapping> {
        let mappings: Result<Vec<Mapping>, _> = texts.iter().map(|text| text.parse()).collect();
        IdMap::new(&mappings?)
    }

    #[test]
    fn numbers_and_ranges_are_mapped_and_others_stay() {
        let ids = map(&["108:112", "112:108", "1000-1999:101000-101999", "5-7:50", "4294967294:3"]).unwrap();
        for (old, new) in [
            (108, 112),
            (112, 108),
            (999, 999),
            (1000, 101_000),
            (1999, 101_999),
            (2000, 2000),
            (5, 50),
            (7, 52),
            (8, 8),
            (4, 4),
            (u32::MAX - 1, 3),
            (0, 0),
        ] {
            assert_eq!(ids.get(old), new, "{old}");
        }
    }

    #[test]
    fn mappings_that_meet_are_refused() {
        assert_eq!(map(&["108:112", "108:113"]), Err(BadMapping::TwoNew(108)));
        assert_eq!(map(&["1-10:101-110", "10:500"]), Err(BadMapping::TwoNew(10)));
        assert_eq!(map(&["108:112", "109:112"]), Err(BadMapping::TwoOld(112)));
        assert_eq!(map(&["0-65535:100000", "70000-70001:165535"]), Err(BadMapping::TwoOld(165_535)));
        assert!(map(&["1-10:101-110", "11:111", "0:100"]).is_ok());
    }

    #[test]
    fn what_is_no_mapping_is_refused() {
        for form in ["", "1", "1:", ":1", "a:1", "1:b", "-1:1", "1:2:3", "1-:2", "1 :2", "+1:2", "1-2-3:4"] {
            assert_eq!(form.parse::<Mapping>(), Err(BadMapping::Form(form.to_owned())), "{form}");
        }
        for bounds in ["4294967295:1", "1:4294967295", "5-4:1", "0-10:4294967290", "99999999999:1"] {
            assert_eq!(bounds.parse::<Mapping>(), Err(BadMapping::Bounds(bounds.to_owned())), "{bounds}");
        }
        for lengths in ["1-2:1-3", "1:1-2"] {
            assert_eq!(lengths.parse::<Mapping>(), Err(BadMapping::Lengths(lengths.to_owned())), "{lengths}");
        }
    }

    #[test]
    fn acls_and_capabilities_are_mapped() {
        let maps = IdMaps { uids: map(&["108:112"]).unwrap(), gids: map(&["108:7"]).unwrap() };
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
