//! Decides between the signatures found on one region.

use super::signature::{Content, Signature};
use crate::layout::HoldsKind;

/// The decision.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// The signature to use; `None` if there is none.
    pub found: Option<Signature>,
    /// Why the region is kept as an image despite a signature, or which signatures were ignored; one line each.
    pub remarks: Vec<String>,
    /// Whether the region's bytes must be kept, whatever was found.
    pub keep_raw: bool,
}

/// Decides between the signatures: a single sound one is used, whatever damaged ones are beside it. If several are
/// sound, none is trusted, and the region is kept as an image.
pub fn judge(found: Vec<Signature>) -> Judged {
    let mut found = hide_inner_signatures(found);
    let names = |found: &[Signature]| {
        found.iter().map(|one| one.holds.fs.clone().unwrap_or_default()).collect::<Vec<_>>().join(", ")
    };
    let sound: Vec<usize> = (0..found.len()).filter(|index| found[*index].doubts.is_empty()).collect();
    match (sound.as_slice(), found.len()) {
        (_, 0) => Judged { found: None, remarks: Vec::new(), keep_raw: false },
        ([only], 1) => Judged { found: Some(found.swap_remove(*only)), remarks: Vec::new(), keep_raw: false },
        ([only], _) => {
            let chosen = found.remove(*only);
            let mut remarks = vec![format!(
                "signatures of {} and {} lie on it; the damaged {} is passed over",
                chosen.holds.fs.as_deref().unwrap_or_default(),
                names(&found),
                names(&found),
            )];
            remarks.extend(found.iter().flat_map(|one| one.doubts.iter().map(|doubt| shown_doubt(one, doubt))));
            // Content that is dropped or split must be beyond doubt.
            let keep_raw = !matches!(chosen.content, Content::Files);
            Judged { found: Some(chosen), remarks, keep_raw }
        }
        ([], _) => {
            let remarks = found.iter().flat_map(|one| one.doubts.iter().map(|doubt| shown_doubt(one, doubt))).collect();
            Judged { found: Some(found.swap_remove(0)), remarks, keep_raw: true }
        }
        ([first, ..], _) => {
            let remarks = vec![format!("it may hold any of {}: it is unclear which one is in use", names(&found))];
            Judged { found: Some(found.swap_remove(*first)), remarks, keep_raw: true }
        }
    }
}

fn shown_doubt(found: &Signature, doubt: &str) -> String {
    format!("{}: {doubt}", found.holds.fs.as_deref().unwrap_or_default())
}

/// A container whose data starts at its own first byte shows the inner content at the same offsets: a mirror with
/// its superblock at the end, DRBD with internal metadata, a UDF bridge beside ISO 9660. That is no conflict.
fn hide_inner_signatures(mut found: Vec<Signature>) -> Vec<Signature> {
    let is = |one: &Signature, name: &str| one.holds.fs.as_deref() == Some(name);
    let transparent = found.iter().any(|one| {
        one.doubts.is_empty() && (is(one, "drbd") || matches!(&one.content, Content::Mirror(data) if data.start == 0))
    });
    if transparent {
        found.retain(|one| is(one, "drbd") || one.holds.kind == HoldsKind::Mdraid);
    }
    if found.iter().any(|one| is(one, "udf")) {
        found.retain(|one| !is(one, "iso9660"));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{Content, Signature, judge};
    use crate::layout::HoldsKind;

    #[test]
    fn one_sound_signature_wins_over_damaged_ones_and_two_sound_ones_over_none() {
        let ext4 = || Signature::filesystem("ext4", 1080);
        let xfs = || Signature::filesystem("xfs", 0);
        let judged = judge(vec![ext4().doubt("old"), xfs()]);
        assert_eq!(judged.found.and_then(|found| found.holds.fs).as_deref(), Some("xfs"));
        assert!(!judged.keep_raw);
        assert_eq!(judged.remarks.len(), 2);
        let judged = judge(vec![ext4(), xfs()]);
        assert!(judged.keep_raw);
        let judged = judge(vec![ext4().doubt("old")]);
        assert!(judged.keep_raw);
        let swap = Signature::new(HoldsKind::Swap, "swap", 4086, Content::FactsOnly);
        assert!(judge(vec![xfs().doubt("old"), swap]).keep_raw);
    }
}
