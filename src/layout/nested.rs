//! Opens regions: finds what each holds and how it is handled, and the regions inside (logical volumes, the array
//! of a mirror's member), level by level up to a bound.

mod content;
mod groups;
mod look;
mod mirrors;

pub(super) use look::{Looked, Means};

use crate::events::Severity;
use crate::layout::Region;
use crate::layout::probe::Content;
use look::{Draft, Look};

/// The maximum depth of nested volumes and mirrors. Deeper content is kept as an image.
const DEPTH_MAX: u32 = 4;

/// Opens `regions`, whose extents are inside the source. Extended partitions are not changed.
pub(super) fn look_into(means: Means<'_>, regions: Vec<Region>) -> Looked {
    let Means { blocks, scanner, problems, texts, budget } = means;
    let names = regions.iter().map(|region| region.name.to_ascii_lowercase()).collect();
    let drafts: Vec<Draft> = regions
        .into_iter()
        .map(|region| Draft { region, parent: None, content: None, keep_raw: false, is_tail: false })
        .collect();
    let (preserved, not_looked_at) = (Vec::new(), Vec::new());
    let mut look = Look { blocks, scanner, problems, texts, budget, drafts, names, preserved, not_looked_at };
    let mut level: Vec<usize> = (0..look.drafts.len()).collect();
    for depth in 0..DEPTH_MAX {
        for index in &level {
            look.examine(*index);
        }
        if depth + 1 == DEPTH_MAX {
            stop_here(&mut look, &level);
            break;
        }
        let before = look.drafts.len();
        look.open_mirrors(&level);
        look.open_groups(&level);
        level = (before..look.drafts.len()).collect();
        if level.is_empty() {
            break;
        }
    }
    look.finish()
}

/// At the maximum depth: containers are kept as images.
fn stop_here(look: &mut Look<'_>, level: &[usize]) {
    for index in level {
        if matches!(look.drafts[*index].content, Some(Content::PhysicalVolume(_) | Content::Mirror(_))) {
            let what = format!("volumes are nested more than {DEPTH_MAX} deep; it is kept as a raw image");
            look.say(Severity::Warning, *index, what);
        }
    }
}
