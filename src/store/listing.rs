//! What a folder of a destination has.

/// The content of a folder, each list sorted. Names that are not UTF-8, or have a control character, are left out: volbak
/// does not make such names, and a line feed in one could forge a line of output.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// The published files, and all other entries that are neither staged nor a folder.
    pub files: Vec<String>,
    /// The staged files.
    pub staged: Vec<String>,
    /// The subfolders.
    pub folders: Vec<String>,
}

impl Listing {
    /// Sorts the names, and leaves out what has none of volbak's.
    pub(super) fn settled(mut self) -> Self {
        for names in [&mut self.files, &mut self.staged, &mut self.folders] {
            names.retain(|name| !name.contains(char::is_control));
            names.sort_unstable();
            names.dedup();
        }
        self
    }

    /// Whether the file `name` is published.
    pub fn has(&self, name: &str) -> bool {
        self.files.binary_search_by(|other| other.as_str().cmp(name)).is_ok()
    }

    /// Whether the file `name` is staged.
    pub fn has_staged(&self, name: &str) -> bool {
        self.staged.binary_search_by(|other| other.as_str().cmp(name)).is_ok()
    }
}
