//! The files and variables that settings are read from.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::openstack::error::CloudError;
use crate::openstack::yaml::{self, Node};
use crate::outside::trust::changeable;

/// A longer file is no clouds.yaml.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Where settings are looked for.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The name of a cloud in clouds.yaml; `OS_CLOUD` if `None`.
    pub cloud: Option<String>,
    /// The clouds.yaml; the usual places if `None`.
    pub clouds_file: Option<PathBuf>,
    /// A file with the authorities that sign the servers' certificates; that of clouds.yaml, or the system's, if `None`.
    pub ca_file: Option<PathBuf>,
    /// Variables of the environment; those without `OS_` are not used, but `HOME` and `XDG_CONFIG_HOME`.
    pub environment: BTreeMap<String, String>,
}

impl Sources {
    /// With the environment of this process.
    pub fn from_environment() -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        let is_used = |name: &str| name.starts_with("OS_") || matches!(name, "HOME" | "XDG_CONFIG_HOME");
        let environment = std::env::vars_os().filter_map(text).filter(|(name, _)| is_used(name)).collect();
        Self { environment, ..Self::default() }
    }

    pub(super) fn variable(&self, name: &str) -> Option<&str> {
        self.environment.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

/// The folders in which clouds.yaml is looked for, as other clients do.
fn folders(sources: &Sources) -> Vec<PathBuf> {
    let home = sources.variable("HOME").map(PathBuf::from);
    let config = sources.variable("XDG_CONFIG_HOME").map(PathBuf::from).or_else(|| Some(home?.join(".config")));
    let mut folders = vec![PathBuf::from(".")];
    folders.extend(config.map(|config| config.join("openstack")));
    folders.push(PathBuf::from("/etc/openstack"));
    folders
}

fn candidates(sources: &Sources) -> Vec<PathBuf> {
    match sources.clouds_file.clone().or_else(|| sources.variable("OS_CLIENT_CONFIG_FILE").map(PathBuf::from)) {
        Some(file) => vec![file],
        None => {
            folders(sources).iter().flat_map(|folder| [folder.join("clouds.yaml"), folder.join("clouds.yml")]).collect()
        }
    }
}

pub(super) fn clouds_file(sources: &Sources) -> Result<Option<(PathBuf, Node)>, CloudError> {
    for path in candidates(sources) {
        if let Some(node) = read(&path)? {
            return Ok(Some((path, node)));
        }
    }
    Ok(None)
}

/// The secure.yaml: the one named, the one beside clouds.yaml, or one of the usual places.
pub(super) fn secure_file(sources: &Sources, beside: &Path) -> Result<Option<(PathBuf, Node)>, CloudError> {
    let paths = if let Some(file) = sources.variable("OS_CLIENT_SECURE_FILE") {
        vec![PathBuf::from(file)]
    } else {
        let near = beside.parent().map(|folder| folder.join("secure.yaml"));
        near.into_iter().chain(folders(sources).iter().map(|folder| folder.join("secure.yaml"))).collect()
    };
    for path in paths {
        if let Some(node) = read(&path)? {
            return Ok(Some((path, node)));
        }
    }
    Ok(None)
}

pub(super) fn no_cloud(sources: &Sources) -> CloudError {
    let looked: Vec<String> = candidates(sources).iter().map(|path| path.display().to_string()).collect();
    CloudError::NoCloud { looked: looked.join(", ") }
}

/// Reads a file of settings; `None` if it does not exist.
fn read(path: &Path) -> Result<Option<Node>, CloudError> {
    let unreadable = |source| CloudError::Unreadable { path: path.to_owned(), source };
    let wrong = |what: String| CloudError::File { path: path.to_owned(), what };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    if !file.metadata().map_err(unreadable)?.is_file() {
        return Err(wrong("it is not a regular file".to_owned()));
    }
    // Who changes the address in it gets the password.
    if let Some(found) = changeable(path).map_err(unreadable)? {
        return Err(wrong(format!("it is not used: {found}")));
    }
    let mut text = String::new();
    file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(wrong(format!("it has more than {MAX_FILE_BYTES} bytes")));
    }
    yaml::parse(&text).map(Some).map_err(wrong)
}

pub(super) fn doubt(path: &Path) -> Option<String> {
    let mode = path.metadata().ok()?.mode();
    (mode & 0o004 != 0).then(|| {
        format!("every user of this host can read {}, which may hold a password; run chmod o= on it", path.display())
    })
}
