//! Names at the top of an archive: the directories of several filesystems, and the raw images. What a tenant calls his
//! volumes and his files goes into them, so no two of them may be one name: not in any spelling that some filesystem
//! takes for the same, and never a directory `a.img/` beside an image `a.img`.

use std::collections::HashSet;

use crate::layout::{Handling, Region};
use crate::reader::filesystem::Filesystem;

/// The names that are taken.
pub(super) struct TopNames {
    /// Folded, see [`folded`].
    taken: HashSet<Vec<u8>>,
    /// Whether each filesystem has a directory of its own.
    has_directories: bool,
}

impl TopNames {
    /// Reserves the directories of all filesystems, read or not: an image that comes first must not take such a name.
    pub(super) fn new(regions: &[Region]) -> Self {
        let filesystems = || regions.iter().filter(|region| region.handling == Handling::Files);
        let has_directories = filesystems().nth(1).is_some();
        let directories = filesystems().filter(|_| has_directories);
        let taken = directories.map(|region| folded(region.name.as_bytes())).collect();
        Self { taken, has_directories }
    }

    /// The directory of a region's files; `None` for the archive's own root.
    pub(super) fn directory<'r>(&self, region: &'r Region) -> Option<&'r str> {
        self.has_directories.then_some(region.name.as_str())
    }

    /// Takes a name for a region's image: `NAME.img`, or `NAME.img.1`, … where that is taken, also by what lies in the
    /// root of `top`, the filesystem at the archive's top.
    pub(super) fn image(&mut self, region: &Region, top: Option<&dyn Filesystem>) -> String {
        let plain = format!("{}.img", region.name);
        let beginning = folded(plain.as_bytes());
        // One pass, whatever a tenant has there: no search for each number.
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
        // Ends: each round needs another name that is taken.
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

/// A name's form in which it is compared: two names that some filesystem takes for one have the same. It is coarser than
/// any of them: without case, without the characters that Unicode has ignored (UAX #44, Default_Ignorable_Code_Point),
/// without spaces and dots at the end, as FAT and NTFS have it. Bytes that are not UTF-8 stay.
fn folded(name: &[u8]) -> Vec<u8> {
    let mut folded = String::with_capacity(name.len());
    let mut rest = Vec::new();
    for chunk in name.utf8_chunks() {
        for letter in chunk.valid().chars().filter(|letter| !is_ignored(*letter)) {
            // There and back: `ſ` and the Kelvin sign have a capital letter or a small one of ASCII.
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
        // A filesystem that turns out to be unreadable becomes an image, and another one may be called like it.
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
