//! Looks into regions: decides what each holds and what is done with it, and finds the regions inside (logical volumes,
//! the array behind a mirror's member), level by level down to a bound.

mod content;
mod groups;
mod look;
mod mirrors;

pub(super) use look::{Looked, Means};

use crate::events::Severity;
use crate::layout::Region;
use crate::layout::probe::Content;
use look::{Draft, Look};

/// How many layers of logical volumes and mirrors are looked into; the rest is kept as it is.
const DEPTH_MAX: u32 = 4;

/// Looks into `regions`, whose extents are inside the source. Extended partitions are left as they are.
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

/// What would be opened at the next level is kept as it is.
fn stop_here(look: &mut Look<'_>, level: &[usize]) {
    for index in level {
        if matches!(look.drafts[*index].content, Some(Content::PhysicalVolume(_) | Content::Mirror(_))) {
            let what = format!("volumes are nested more than {DEPTH_MAX} deep; it is kept as a raw image");
            look.say(Severity::Warning, *index, what);
        }
    }
}
