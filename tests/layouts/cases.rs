//! The table of layouts.

// Scripts may hold quotes tomorrow that they do not hold today.
#![allow(clippy::needless_raw_string_hashes)]

mod contents;
mod gpt;
mod mbr;

use crate::Case;

pub(crate) fn case(name: &'static str, script: &'static str) -> Case {
    Case { name, script, patch: None, regions: &[], problems: &[], disagree: &[], blkid_differs: &[] }
}

impl Case {
    pub(crate) fn patched(self, patch: fn(&std::fs::File)) -> Self {
        Self { patch: Some(patch), ..self }
    }

    pub(crate) fn finds(self, regions: &'static [&'static str]) -> Self {
        Self { regions, ..self }
    }

    pub(crate) fn says(self, problems: &'static [&'static str]) -> Self {
        Self { problems, ..self }
    }

    /// These tools see another table; `docs/layout-choices.md` has a line for each such case.
    pub(crate) fn unlike(self, disagree: &'static [&'static str]) -> Self {
        Self { disagree, ..self }
    }

    pub(crate) fn blkid_differs(self, blkid_differs: &'static [&'static str]) -> Self {
        Self { blkid_differs, ..self }
    }
}

pub(crate) fn all() -> Vec<Case> {
    let mut all = gpt::all();
    all.extend(mbr::all());
    all.extend(contents::all());
    all
}

const LUKS: &str = r#"
luks1() { echo secret | cryptsetup -q luksFormat --type luks1 --pbkdf-force-iterations 1000 "$1" -; }
luks2() { echo secret | cryptsetup -q luksFormat --type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --label safe "$1" -; }
"#;

/// cryptsetup wants its passphrase on standard input, and little time for its key.
pub(crate) fn with_luks(case: Case) -> Case {
    if !case.script.contains("luks") {
        return case;
    }
    Case { script: Box::leak(format!("{LUKS}{}", case.script).into_boxed_str()), ..case }
}
