//! Temporary names of images, and those that earlier runs left.

use std::fs;
use std::path::{Path, PathBuf};

/// The prefix of an incomplete image's name. The image's own name, a mark if it has one, and the process follow.
const TEMPORARY_PREFIX: &str = ".volbak-tmp.";

/// An image under a temporary name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::run) struct LeftImage {
    pub(in crate::run) path: PathBuf,
    /// The mark that its run gave it.
    pub(in crate::run) mark: Option<String>,
    process: u32,
}

impl LeftImage {
    /// Whether its process is gone, as far as this host knows: processes of other hosts are not seen.
    pub(in crate::run) fn is_left_here(&self) -> bool {
        !Path::new("/proc").join(self.process.to_string()).exists()
    }
}

/// The name under which this process writes the image `name`. A mark has no dot.
pub(in crate::run) fn temporary_name(name: &str, mark: Option<&str>) -> String {
    let process = std::process::id();
    match mark {
        Some(mark) => format!("{TEMPORARY_PREFIX}{name}.{mark}.{process}"),
        None => format!("{TEMPORARY_PREFIX}{name}.{process}"),
    }
}

/// The temporary files of the image `path`, whether their processes live or not.
pub(in crate::run) fn temporaries_of(path: &Path) -> Vec<LeftImage> {
    let (Some(name), Ok(entries)) = (path.file_name(), fs::read_dir(directory_of(path))) else { return Vec::new() };
    let prefix = format!("{TEMPORARY_PREFIX}{}.", name.to_string_lossy());
    let of = |entry: fs::DirEntry| {
        let name = entry.file_name();
        let rest = name.to_str()?.strip_prefix(&prefix)?;
        let (mark, process) = rest.split_once('.').map_or((None, rest), |(mark, process)| (Some(mark), process));
        let is_mark = |mark: &str| mark.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
        if !mark.is_none_or(is_mark) {
            return None;
        }
        Some(LeftImage { path: entry.path(), mark: mark.map(str::to_owned), process: process.parse().ok()? })
    };
    entries.filter_map(Result::ok).filter_map(of).collect()
}

pub(in crate::run) fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{temporaries_of, temporary_name};

    #[test]
    fn temporary_names_are_known_with_and_without_a_mark() {
        let directory = tempfile::tempdir().unwrap();
        let marked = temporary_name("a.qcow2", Some("00ff-12"));
        for name in [&marked, &temporary_name("a.qcow2", None), "a.qcow2", ".volbak-tmp.a.qcow2.x", ".volbak-tmp.a.7"] {
            fs::write(directory.path().join(name), "").unwrap();
        }
        fs::write(directory.path().join(".volbak-tmp.a.qcow2.other.file.7"), "").unwrap();
        let mut found = temporaries_of(&directory.path().join("a.qcow2"));
        found.sort_by(|one, other| one.mark.cmp(&other.mark));
        let marks: Vec<_> = found.iter().map(|left| left.mark.as_deref()).collect();
        assert_eq!(marks, [None, Some("00ff-12")]);
        assert!(found.iter().all(|left| !left.is_left_here()), "this process lives");
    }
}
