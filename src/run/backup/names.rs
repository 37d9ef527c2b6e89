//! Names at the top of an archive: directories of filesystems, and raw images. They contain names that a tenant
//! chose, so every two of them must differ on any filesystem, including case-insensitive ones, and an image `a.img`
//! must not collide with a directory `a.img/`.

use std::collections::HashSet;

use crate::layout::{Handling, Region};
use crate::reader::filesystem::Filesystem;

/// The names in use.
pub(super) struct TopNames {
    /// In folded form, see [`folded`].
    taken: HashSet<Vec<u8>>,
    /// Whether each filesystem has a directory of its own.
    has_directories: bool,
}

impl TopNames {
    /// Reserves the directories of all filesystems, readable or not, so that no earlier image takes such a name.
    pub(super) fn new(regions: &[Region]) -> Self {
        let filesystems = || regions.iter().filter(|region| region.handling == Handling::Files);
        let has_directories = filesystems().nth(1).is_some();
        let directories = filesystems().filter(|_| has_directories);
        let taken = directories.map(|region| folded(region.name.as_bytes())).collect();
        Self { taken, has_directories }
    }

    /// The directory of a region's files; `None` for the archive's root.
    pub(super) fn directory<'r>(&self, region: &'r Region) -> Option<&'r str> {
        self.has_directories.then_some(region.name.as_str())
    }

    /// Reserves a name for a region's image: `NAME.img`, or `NAME.img.1`, … if that is in use. Entries in the root
    /// of `top`, the filesystem at the archive's top, also count as in use.
    pub(super) fn image(&mut self, region: &Region, top: Option<&dyn Filesystem>) -> String {
        let plain = format!("{}.img", region.name);
        let beginning = folded(plain.as_bytes());
        // Read once: a tenant may have any number of entries there.
        let mut in_root: HashSet<Vec<u8>> = HashSet::new();
        if let Some(top) = top {
            top.for_each_root_name(&mut |name| {
                let name = folded(name);
                if name.starts_with(&beginning) {
                    in_root.insert(name);
                }
            });
        }
        let mut name = plain.clone();
        let mut number = 0_u64;
        // Terminates: each further round needs another name in use.
        loop {
            let key = folded(name.as_bytes());
            if !in_root.contains(&key) && self.taken.insert(key) {
                return name;
            }
            number += 1;
            name = format!("{plain}.{number}");
        }
    }
}

/// The folded form of a name: names that any filesystem treats as equal have the same. It ignores case, the
/// characters that Unicode ignores (UAX #44, Default_Ignorable_Code_Point), and trailing spaces and dots as in FAT
/// and NTFS. Bytes that are not UTF-8 are kept.
fn folded(name: &[u8]) -> Vec<u8> {
    let mut folded = String::with_capacity(name.len());
    let mut rest = Vec::new();
    for chunk in name.utf8_chunks() {
        for letter in chunk.valid().chars().filter(|letter| !is_ignored(*letter)) {
            // To upper case and back: `ſ` and the Kelvin sign fold to ASCII letters.
            folded.extend(letter.to_uppercase().flat_map(char::to_lowercase));
        }
        rest.extend_from_slice(folded.as_bytes());
        folded.clear();
        rest.extend_from_slice(chunk.invalid());
    }
    let end = rest.iter().rposition(|byte| !matches!(byte, b'.' | b' ')).map_or(0, |last| last + 1);
    rest.truncate(end);
    rest
}

fn is_ignored(letter: char) -> bool {
    matches!(letter,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fff8}' | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::{TopNames, folded};
    use crate::layout::{Handling, Region};

    fn region(name: &str, handling: Handling) -> Region {
        Region { name: name.to_owned(), handling, ..Region::default() }
    }

    #[test]
    fn an_image_never_has_the_name_of_a_directory_or_another_image() {
        use Handling::{Files, RawImage};
        let names = ["p1.g-a.img", "p1.g-A.img.1", "p1.g-b"];
        let mut regions: Vec<Region> = names.map(|name| region(name, Files)).into();
        regions.push(region("p1.g-a", RawImage));
        let mut top = TopNames::new(&regions);
        assert_eq!(top.directory(&regions[2]), Some("p1.g-b"));
        assert_eq!(top.image(&regions[3], None), "p1.g-a.img.2");
        assert_eq!(top.image(&region("P1.g-a", RawImage), None), "P1.g-a.img.3");
        // An unreadable filesystem becomes an image, and another region may have the image's name.
        assert_eq!(top.image(&regions[2], None), "p1.g-b.img");
        assert_eq!(TopNames::new(&regions[..1]).directory(&regions[0]), None);
    }

    #[test]
    fn spellings_of_one_name_are_one() {
        let plain = folded(b"disk.img");
        for same in ["DISK.img", "di\u{17f}k.img", "dis\u{212a}.img", "disk\u{200d}.img", "disk.img. ", "disk.IM\u{47}"]
        {
            assert_eq!(folded(same.as_bytes()), plain, "{same}");
        }
        for other in [&b"disk.img1"[..], b"disk.im\xff", b"disk\xff.img"] {
            assert_ne!(folded(other), plain);
        }
    }
}
