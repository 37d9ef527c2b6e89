//! `volbak --version --verbose`: what this program was built with, and which formats it reads.

use std::ffi::OsString;

use volbak::archive::index::HEADER_LINE;
use volbak::manifest::NEWEST_FORMAT;

/// The versions with which it was built.
const LOCK: &str = include_str!("../../Cargo.lock");

/// Libraries whose versions matter to a report of a mistake: they make or check what is stored and sent.
const LIBRARIES: [&str; 14] = [
    "age",
    "blake3",
    "flate2",
    "fuser",
    "lettre",
    "libdeflater",
    "ruzstd",
    "rustls",
    "rusty-s3",
    "sha1",
    "sha2",
    "tar",
    "ureq",
    "zstd",
];

/// Cargo features, and whether this program has them.
const FEATURES: [(&str, bool); 8] = [
    ("cli", cfg!(feature = "cli")),
    ("encryption", cfg!(feature = "encryption")),
    ("mail", cfg!(feature = "mail")),
    ("mount", cfg!(feature = "mount")),
    ("notify", cfg!(feature = "notify")),
    ("openstack", cfg!(feature = "openstack")),
    ("s3", cfg!(feature = "s3")),
    ("swift", cfg!(feature = "swift")),
];

/// Whether these are the arguments: both options, in any order, and nothing else.
pub(crate) fn is_asked(arguments: impl Iterator<Item = OsString>) -> bool {
    let (mut version, mut verbose) = (false, false);
    for argument in arguments {
        match argument.to_str() {
            Some("--version" | "-V") => version = true,
            Some("--verbose" | "-v") => verbose = true,
            _ => return false,
        }
    }
    version && verbose
}

pub(crate) fn text() -> String {
    let named = |has: bool| {
        let names: Vec<&str> = FEATURES.iter().filter(|(_, is)| *is == has).map(|(name, _)| *name).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    };
    let libraries: Vec<String> =
        LIBRARIES.iter().filter_map(|name| Some(format!("{name} {}", locked(name)?))).collect();
    format!(
        "volbak {}\nfeatures: {}\nwithout: {}\nformats: manifest 1 to {NEWEST_FORMAT}, index 1 to {}\nlibraries: {}\n",
        env!("CARGO_PKG_VERSION"),
        named(true),
        named(false),
        HEADER_LINE.trim_start_matches(|c: char| !c.is_ascii_digit()).trim_end(),
        libraries.join(", ")
    )
}

/// The version of a library in Cargo.lock; the newest of several, which come in this order.
fn locked(name: &str) -> Option<&'static str> {
    let entry = format!("\nname = \"{name}\"\nversion = \"");
    let (_, behind) = LOCK.rsplit_once(&entry)?;
    behind.split('"').next()
}

#[cfg(test)]
mod tests {
    use super::{LIBRARIES, is_asked, locked};

    #[test]
    fn both_options_are_needed() {
        let asked = |line: &str| is_asked(line.split(' ').map(Into::into));
        assert!(asked("--version --verbose") && asked("-v -V"));
        assert!(!asked("--version") && !asked("--verbose") && !asked("list --version --verbose"));
    }

    #[test]
    fn each_library_is_locked() {
        for name in LIBRARIES {
            assert!(locked(name).is_some_and(|version| version.split('.').count() >= 3), "{name}");
        }
    }
}
