//! Members of software RAIDs: the array behind a mirror's member becomes a region.

use crate::events::Severity;
use crate::layout::Handling;
use crate::layout::lvm2::compose;
use crate::layout::nested::look::Look;
use crate::layout::probe::Content;
use crate::shown;
use crate::units::ByteRange;

/// The maximum length of a superblock: a page, in every version.
const MD_SUPERBLOCK_BYTES: u64 = 4096;

impl Look<'_> {
    /// Makes a region of the array behind each mirror's member.
    pub(super) fn open_mirrors(&mut self, level: &[usize]) {
        for index in level {
            let draft = &self.drafts[*index];
            let Some(Content::Mirror(data)) = draft.content else { continue };
            if draft.keep_raw {
                continue;
            }
            let Some(extents) = compose(&draft.region.extents, data) else { continue };
            let name = format!("{}.md", draft.region.name);
            if self.add_child(*index, &name, None, extents) {
                self.drafts[*index].region.handling = Handling::Container;
                let made = self.drafts[*index].region.holds.made_with.as_ref();
                if let Some(at) = made.and_then(|made| made.md.as_ref()).map(|md| md.superblock_at) {
                    let what = format!("md superblock of {}", self.drafts[*index].region.name);
                    self.preserve(*index, &what, ByteRange::new(at, MD_SUPERBLOCK_BYTES));
                }
            }
        }
    }

    /// Reports the array of a member, and what a backup of the member is good for.
    pub(super) fn say_array(&mut self, index: usize, is_mirror: bool) {
        let holds = &self.drafts[index].region.holds;
        let Some(md) = holds.made_with.as_ref().and_then(|made| made.md.as_ref()) else { return };
        let role = md.role.map_or_else(|| "a spare or failed member".to_owned(), |role| format!("member {role}"));
        let level = if md.level < 0 { "no level".to_owned() } else { format!("RAID{}", md.level) };
        let named = |what: &str, value: &Option<String>| {
            value.as_ref().map_or_else(String::new, |value| format!(", {what} {}", shown::text(value)))
        };
        let then = match (is_mirror && !self.drafts[index].keep_raw, md.level) {
            (true, _) => "its files are read from this member alone",
            (false, 1) => "it is not in sync, and kept as a raw image",
            (false, _) => {
                "one member is not the array: it is kept as a raw image, and a restore needs those of all members, of one \
                 moment"
            }
        };
        let what = format!(
            "{role} of an array of {} devices, {level}{}{}, metadata {}: {then}",
            md.devices,
            named("name", &holds.label),
            named("UUID", &holds.uuid),
            holds.version.as_deref().unwrap_or("unknown"),
        );
        self.say(Severity::Notice, index, what);
    }
}
