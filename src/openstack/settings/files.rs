//! The files and variables that settings are read from.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::http::files::{self, FileError};
use crate::openstack::error::CloudError;
use crate::openstack::yaml::{self, Node};

/// Where settings are looked for.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The name of a cloud in clouds.yaml; `OS_CLOUD` if `None`.
    pub cloud: Option<String>,
    /// The clouds.yaml; the usual places if `None`.
    pub clouds_file: Option<PathBuf>,
    /// A file with the authorities that sign the servers' certificates; that of clouds.yaml, or the system's, if `None`.
    pub ca_file: Option<PathBuf>,
    /// Variables of the environment: those that begin with `OS_`, `HOME` and `XDG_CONFIG_HOME`.
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
    let wrong = |what: String| CloudError::from(FileError::wrong(path, what));
    let text = files::read(path)?;
    text.map(|text| yaml::parse(&text)).transpose().map_err(wrong)
}
