//! Maps ids of users and groups by name, using the passwd(5) and group(5) files of two machines.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::ids::{BadMapping, IdMap, IdMaps, Mapping};
use crate::archive::acl::Kind;
use crate::archive::index::escape_path;
use crate::archive::read::entries::{EntryReader, Item};
use crate::archive::read::head::HeadKind;
use crate::archive::read::stream::MemberStream;
use crate::run::restore::select::{Part, plain};

/// Far above the length of such a file.
const MAX_FILE_BYTES: usize = 4 << 20;
/// The maximum number of filesystems in an archive to search for these files.
const MAX_CANDIDATES: usize = 64;

/// A passwd(5) and a group(5) file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameFiles {
    passwd: PathBuf,
    group: PathBuf,
}

impl NameFiles {
    /// The files of this host.
    pub(crate) fn of_this_host() -> Self {
        Self { passwd: PathBuf::from("/etc/passwd"), group: PathBuf::from("/etc/group") }
    }
}

/// A text that does not name two files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write PASSWD:GROUP, two files, as /etc/passwd:/etc/group")]
pub struct BadNameFiles;

impl FromStr for NameFiles {
    type Err = BadNameFiles;

    fn from_str(text: &str) -> Result<Self, BadNameFiles> {
        match text.split_once(':') {
            Some((passwd, group)) if !passwd.is_empty() && !group.is_empty() => {
                Ok(Self { passwd: passwd.into(), group: group.into() })
            }
            _ => Err(BadNameFiles),
        }
    }
}

impl std::fmt::Display for NameFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} and {}", self.passwd.display(), self.group.display())
    }
}

/// The requested mapping of ids.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct IdWish {
    /// Numbers of users.
    pub uids: Vec<Mapping>,
    /// Numbers of groups.
    pub gids: Vec<Mapping>,
    /// The source machine's files, if the backup does not have them, or if `to` is given. Otherwise the host's
    /// files, with which those in the backup are compared.
    pub from: Option<NameFiles>,
    /// Files with the new ids.
    pub to: Option<NameFiles>,
}

/// Why ids cannot be mapped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdError {
    /// The request is contradictory.
    #[error("--map-{which}: {source}")]
    Mapping {
        /// `uid` or `gid`.
        which: &'static str,
        /// The cause.
        source: BadMapping,
    },
    /// A file with names is unusable.
    #[error("{}, which has names for --map-from and --map-to, cannot be read", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The archive has several such files.
    #[error(
        "the backup has several passwd files ({}): save the right ones, and give them as --map-from PASSWD:GROUP, with --map-to",
        .0.join(", ")
    )]
    Several(Vec<String>),
    /// The archive has no such file.
    #[error("the backup has no etc/passwd and etc/group: give those of the machine that was backed up as --map-from")]
    NoneInside,
    /// For a disk, the names of one side only were given.
    #[error(
        "which filesystem of a disk has the names is not known: give the files of both sides, --map-from and --map-to"
    )]
    OneSide,
    /// The archive's file is unusable.
    #[error("{path} in the backup cannot be used: {what}")]
    Inside {
        /// Its path.
        path: String,
        /// The reason.
        what: String,
    },
}

/// The mappings, and a description of how names were compared.
#[derive(Debug, Default)]
pub(super) struct Resolved {
    pub(super) maps: IdMaps,
    /// The names that have the new numbers, where files of them were given.
    pub(super) new: Option<Names>,
    pub(super) said: Option<String>,
}

impl IdWish {
    /// Whether nothing is to be mapped.
    #[doc(hidden)]
    pub fn is_empty(&self) -> bool {
        self.uids.is_empty() && self.gids.is_empty() && !self.by_name()
    }

    pub(super) fn by_name(&self) -> bool {
        self.from.is_some() || self.to.is_some()
    }

    /// Whether names from the backup itself are needed.
    pub(super) fn needs_inside(&self) -> bool {
        self.by_name() && !(self.from.is_some() && self.to.is_some())
    }

    /// The numeric mappings only; an error is a usage error.
    #[doc(hidden)]
    pub fn numbers(&self) -> Result<IdMaps, IdError> {
        let map =
            |mappings: &[Mapping], which| IdMap::new(mappings).map_err(|source| IdError::Mapping { which, source });
        Ok(IdMaps { uids: map(&self.uids, "uid")?, gids: map(&self.gids, "gid")? })
    }

    /// Whether it can be applied to a disk, of which no filesystem needs to have the names of another: numbers, or files of names
    /// for both sides.
    pub(in crate::run) fn check_for_disk(&self) -> Result<(), IdError> {
        if self.needs_inside() { Err(IdError::OneSide) } else { self.resolve(None).map(drop) }
    }

    /// The complete mappings. `inside` are the backup's own files, if needed and present.
    pub(super) fn resolve(&self, inside: Option<Inside>) -> Result<Resolved, IdError> {
        let mut maps = self.numbers()?;
        let (old, old_from, new_from) = match (inside, &self.from, &self.to) {
            (_, None, None) => return Ok(Resolved { maps, ..Resolved::default() }),
            (_, Some(from), Some(to)) => (Names::of_files(from)?, from.to_string(), to.clone()),
            (Some(inside), Some(new), None) | (Some(inside), None, Some(new)) => {
                (inside.names, format!("{} of the backup", inside.place), new.clone())
            }
            (None, Some(from), None) => (Names::of_files(from)?, from.to_string(), NameFiles::of_this_host()),
            (None, None, Some(_)) => return Err(IdError::NoneInside),
        };
        let new = Names::of_files(&new_from)?;
        let (users, groups) = (old.users.others_in(&new.users), old.groups.others_in(&new.groups));
        let said = format!(
            "by name, from {old_from} to {new_from}, {} users and {} groups have another number",
            users.len(),
            groups.len()
        );
        maps.uids.add_others(users);
        maps.gids.add_others(groups);
        let new = self.to.is_some().then_some(new);
        Ok(Resolved { maps, new, said: Some(said) })
    }
}

/// Names and ids in the order of their lines.
#[derive(Debug, Default)]
struct Table(Vec<(Vec<u8>, u32)>);

impl Table {
    /// Parses `name:password:number:…`, see passwd(5) and group(5). Invalid lines are skipped, as in getpwent(3).
    fn parse(bytes: &[u8]) -> Self {
        let line = |line: &[u8]| {
            let mut fields = line.split(|byte| *byte == b':');
            let (name, _, number) = (fields.next()?, fields.next()?, fields.next()?);
            let number: u32 = std::str::from_utf8(number).ok()?.parse().ok()?;
            // A name with `+` or `-` before it refers to another table.
            let is_name = !name.is_empty() && !matches!(name[0], b'+' | b'-' | b'#');
            (is_name && number != u32::MAX).then(|| (name.to_vec(), number))
        };
        Self(bytes.split(|byte| *byte == b'\n').filter_map(line).collect())
    }

    /// As getpwnam(3): the first line of a name counts.
    fn number(&self, name: &[u8]) -> Option<u32> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, number)| *number)
    }

    /// Ids of this table and the ids of the same names in `other`, if they differ. As in getpwnam(3), the first
    /// line of a name is used; of several names of one id, the first that `other` has.
    fn others_in(&self, other: &Self) -> Vec<(u32, u32)> {
        let mut numbers = BTreeMap::new();
        for (name, number) in &other.0 {
            numbers.entry(name.as_slice()).or_insert(*number);
        }
        let mut names = BTreeMap::new();
        let mut found = BTreeMap::new();
        for (name, old) in &self.0 {
            if *names.entry(name.as_slice()).or_insert(*old) != *old {
                continue;
            }
            if let Some(new) = numbers.get(name.as_slice()) {
                found.entry(*old).or_insert(*new);
            }
        }
        found.into_iter().filter(|(old, new)| old != new).collect()
    }
}

#[derive(Debug, Default)]
pub(super) struct Names {
    users: Table,
    groups: Table,
}

impl Names {
    /// Those of this host's own files.
    pub(super) fn of_this_host() -> Result<Self, IdError> {
        Self::of_files(&NameFiles::of_this_host())
    }

    /// The number of a user or a group.
    pub(super) fn number(&self, kind: Kind, name: &[u8]) -> Option<u32> {
        match kind {
            Kind::User => self.users.number(name),
            Kind::Group => self.groups.number(name),
        }
    }

    /// The number of `name` in lines of passwd(5) or group(5).
    pub(super) fn number_in(lines: &[u8], name: &[u8]) -> Option<u32> {
        Table::parse(lines).number(name)
    }

    fn of_files(files: &NameFiles) -> Result<Self, IdError> {
        let table = |path: &Path| {
            let failed = |source| IdError::File { path: path.to_owned(), source };
            let mut bytes = Vec::new();
            let file = File::open(path).map_err(failed)?;
            file.take(MAX_FILE_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
            if bytes.len() > MAX_FILE_BYTES {
                return Err(failed(io::Error::other("it is longer than 4 MiB")));
            }
            Ok(Table::parse(&bytes))
        };
        Ok(Self { users: table(&files.passwd)?, groups: table(&files.group)? })
    }
}

/// Names from the backup itself.
#[derive(Debug)]
pub(super) struct Inside {
    names: Names,
    /// The two files, for messages.
    place: String,
}

/// Whether an entry of this path may be such a file: in the archive's root, or in the root of one of its
/// filesystems.
pub(super) fn is_name_file(path: &[u8]) -> bool {
    parts(path).is_some()
}

/// The directory that contains `etc`, and whether it is the passwd file.
fn parts(path: &[u8]) -> Option<(&[u8], bool)> {
    let path = plain(path);
    let (before, is_passwd) = match (path.strip_suffix(b"etc/passwd"), path.strip_suffix(b"etc/group")) {
        (Some(before), _) => (before, true),
        (None, before) => (before?, false),
    };
    let region = match before {
        b"" => before,
        [region @ .., b'/'] if !region.contains(&b'/') => region,
        _ => return None,
    };
    Some((region, is_passwd))
}

/// Reads the names from the backup itself; `None` if it has none.
pub(super) fn read_inside(mut reader: EntryReader<MemberStream>, part: &Part) -> Result<Option<Inside>, IdError> {
    let mut found: BTreeMap<Vec<u8>, (Option<Table>, Option<Table>)> = BTreeMap::new();
    while let Some(item) = reader.next_item() {
        let head = match item {
            Item::Entry(head, _) => head,
            // It may be one of them: taken for missing, the given files would be those of the other side.
            Item::Lost { line: None, what, .. } => {
                return Err(IdError::Inside { path: "etc/passwd".to_owned(), what });
            }
            Item::Lost { line: Some(line), what, .. } if is_name_file(&line.path) => {
                return Err(IdError::Inside { path: escape_path(&line.path), what });
            }
            Item::Lost { .. } => continue,
        };
        if !part.has(plain(&head.path), false) {
            continue;
        }
        let Some((region, is_passwd)) = parts(&head.path) else { continue };
        let region = region.to_vec();
        let bad = |what: &str| IdError::Inside { path: escape_path(&head.path), what: what.to_owned() };
        if head.kind != HeadKind::File {
            return Err(bad("it is not a file"));
        }
        if head.size > MAX_FILE_BYTES as u64 || head.runs.is_some() {
            return Err(bad("it is longer than 4 MiB, or has holes"));
        }
        let mut bytes = Vec::new();
        loop {
            match reader.next_data() {
                Ok(Some(data)) => bytes.extend_from_slice(data),
                Ok(None) => break,
                Err(lost) => return Err(bad(&lost.what)),
            }
        }
        if found.len() >= MAX_CANDIDATES && !found.contains_key(&region) {
            continue;
        }
        let entry = found.entry(region).or_default();
        *(if is_passwd { &mut entry.0 } else { &mut entry.1 }) = Some(Table::parse(&bytes));
    }
    let outcome = reader.into_source().0.finish();
    if let Some(finding) = outcome.findings.into_iter().next() {
        return Err(IdError::Inside { path: "etc/passwd".to_owned(), what: finding.what });
    }
    found.retain(|_, tables| tables.0.is_some());
    // A file in the root is used; one below a directory is then only part of the single filesystem.
    let region = match found.len() {
        0 => return Ok(None),
        1 => found.keys().next().cloned(),
        _ => Some(Vec::new()).filter(|root| found.contains_key(root)),
    };
    let Some((region, (users, groups))) = region.and_then(|region| found.remove_entry(&region)) else {
        let paths = found.keys().map(|region| format!("{}/etc/passwd", escape_path(region))).collect();
        return Err(IdError::Several(paths));
    };
    let before = if region.is_empty() { String::new() } else { format!("{}/", escape_path(&region)) };
    let names = Names { users: users.unwrap_or_default(), groups: groups.unwrap_or_default() };
    Ok(Some(Inside { names, place: format!("{before}etc/passwd and {before}etc/group") }))
}

#[cfg(test)]
mod tests {
    use super::{Table, parts};

    #[test]
    fn names_of_two_tables_are_compared() {
        let old = Table::parse(
            b"root:x:0:0::/:/bin/sh\nnova:x:108:1::\nlibvirt:x:112::\nsame:x:7\n\nbad\nneg:x:-1\n+::\nnova:x:999:\n",
        );
        let new = Table::parse(b"nova:x:112:1::\nroot:x:0:0\nsame:x:7\nlibvirt:x:64055\nnova:x:5\nother:x:9");
        assert_eq!(old.others_in(&new), [(108, 112), (112, 64_055)]);
        assert_eq!(new.others_in(&new), []);
    }

    #[test]
    fn name_files_are_known_by_their_place() {
        assert_eq!(parts(b"./etc/passwd"), Some((b"".as_slice(), true)));
        assert_eq!(parts(b"./p2/etc/group"), Some((b"p2".as_slice(), false)));
        for other in [b"./a/b/etc/passwd".as_slice(), b"./etc/passwd-", b"./xetc/passwd", b"passwd"] {
            assert_eq!(parts(other), None, "{}", other.escape_ascii());
        }
    }
}
