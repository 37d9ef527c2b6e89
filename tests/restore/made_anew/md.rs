//! Members of a RAID1.

use std::path::Path;

use super::{assert_same, there_and_back};
use crate::testkit::guest::sh;

fn image(version: &str) -> String {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    format!("zcat {}/md-{version}.img.gz >$1", fixtures.display())
}

/// What mdadm says of the array and of this member's place in it.
const ARRAY: &str = "mdadm --examine $1 2>&1 | grep -E 'Version|Array UUID|^ +UUID|Name|Raid Level|Raid Devices|Data Offset|Super Offset|Array Size' \\
    | grep -v 'Raid Devices : 1$' || true";

#[test]
fn a_member_is_made_again_and_has_its_array_alone() {
    for version in ["0.90", "1.0", "1.1", "1.2"] {
        let round = there_and_back(0, &image(version), &[]);
        assert_same(&round, ARRAY);
        assert!(round.said.contains("never attach an old member"), "{}", round.said);
        let said = sh(&format!("mdadm --examine {} 2>&1", round.restored.display()));
        assert!(said.contains("correct") && said.contains("State : clean"), "{said}");
        assert!(!said.contains("Bitmap") && !said.to_lowercase().contains("bad block log"), "{said}");
        assert!(said.contains("A.") || said.contains(".A") || said.contains("removed"), "{version}: {said}");
        // Far ahead of an old member.
        let events = |image: &Path| -> u64 {
            let said = sh(&format!("mdadm --examine {} 2>&1 | sed -n 's/.*Events : //p'", image.display()));
            said.trim().split('.').fold(0, |sum, part| (sum << 32) + part.parse::<u64>().unwrap())
        };
        assert!(events(&round.restored) > events(&round.source) + (1 << 20), "{said}");
    }
}

#[test]
fn a_member_becomes_a_plain_filesystem_when_asked() {
    for version in ["0.90", "1.0", "1.1", "1.2"] {
        let round = there_and_back(0, &image(version), &["--plain-md"]);
        let said = sh(&format!("blkid -p -o export {0}; mdadm --examine {0} 2>&1 || true", round.restored.display()));
        assert!(said.contains("TYPE=ext2") && said.contains("No md superblock"), "{version}: {said}");
    }
}
