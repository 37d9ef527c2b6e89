//! The content of one region: which signature is used, where the content ends, and which of its bytes are also kept
//! in the manifest.

use crate::events::Severity;
use crate::layout::lvm2::compose;
use crate::layout::mbr::{BootRecord, PartitionRecord};
use crate::layout::nested::look::Look;
use crate::layout::probe::{Content, Judged, judge, probe_all};
use crate::layout::scan::Scanned;
use crate::layout::window::Window;
use crate::layout::{Handling, HoldsKind, Region, RegionBlocks};
use crate::units::{ByteLen, ByteRange};

/// The maximum number of a FAT's reserved bytes that go into the manifest. mkfs.fat makes 32 sectors, Windows some
/// thousands.
const RESERVED_BYTES_MAX: u64 = 4 << 20;
/// A filesystem may be shorter than its region by this much: its size is rounded, and older bytes remain after it.
const SLACK_BYTES: u64 = 1 << 20;

impl Look<'_> {
    /// Examines the content of one region.
    pub(super) fn examine(&mut self, index: usize) {
        let region = &self.drafts[index].region;
        if region.handling == Handling::Container || self.drafts[index].is_tail {
            return;
        }
        let blocks = RegionBlocks::new(self.blocks, &region.extents);
        let window = Window::within(&blocks, Some(&region.extents), self.texts);
        let Judged { found, remarks, keep_raw } = judge(probe_all(&window));
        let is_truncated = found.as_ref().is_some_and(|found| found.holds.size_bytes > Some(window.len()));
        let severity = if is_truncated { Severity::Error } else { Severity::Warning };
        let read_error = window.read_error();
        if let Some(why) = read_error {
            // An unreadable place may hold anything, so no signature can be relied on.
            self.say(Severity::Error, index, format!("{why}; it is kept as a raw image"));
            self.drafts[index].keep_raw = true;
        }
        let kept = if keep_raw { "; it is kept as a raw image" } else { "" };
        for remark in remarks {
            self.say(severity, index, format!("{remark}{kept}"));
        }
        let Some(found) = found else {
            self.nothing_found(index);
            return;
        };
        let draft = &mut self.drafts[index];
        draft.region.holds = found.holds;
        draft.keep_raw |= keep_raw;
        let slack = found_slack(&draft.region);
        match found.content {
            _ if draft.keep_raw => {}
            Content::Files => {
                if self.keep_tail(index, "the filesystem") {
                    self.drafts[index].region.handling = Handling::Files;
                    self.preserve_boot_block(index);
                }
            }
            Content::FactsOnly => self.leave_out_swap(index, slack),
            Content::Opaque | Content::PhysicalVolume(_) | Content::Mirror(_) => {}
        }
        self.say_array(index, matches!(found.content, Content::Mirror(_)));
        self.drafts[index].content = Some(found.content);
    }

    /// Distinguishes zeros, an unsupported partition table, and unknown content.
    fn nothing_found(&mut self, index: usize) {
        let region = &self.drafts[index].region;
        if self.drafts[index].keep_raw {
            return;
        }
        let blocks = RegionBlocks::new(self.blocks, &region.extents);
        match self.scanner.scan(&blocks, ByteRange::new(0, region.size_bytes)) {
            Scanned::Zero => {
                let region = &mut self.drafts[index].region;
                region.holds.kind = HoldsKind::Empty;
                region.handling = Handling::MetadataOnly;
            }
            Scanned::DataAt(_) => {
                // The table of the whole source was judged before.
                let is_whole = region.number == 0 && region.parent.is_none();
                if let Some(kind) = table_in(&Window::new(&blocks)).filter(|_| !is_whole) {
                    self.drafts[index].region.holds.fs = Some(kind.to_owned());
                    let what = format!("a partition table ({kind}) lies in it; it is kept as a raw image");
                    self.say(Severity::Warning, index, what);
                }
            }
            Scanned::NotLookedAt => {
                self.not_looked_at.push(region.name.clone());
                let what = "not searched for zeros to the end, which takes too long; it is kept as a raw image";
                self.say(Severity::Notice, index, what);
            }
            Scanned::Failed(error) => {
                self.say(Severity::Error, index, format!("cannot be read: {error}; it is kept as a raw image"));
            }
        }
    }

    /// Leaves out swap space as far as it extends; what follows it must be zero.
    fn leave_out_swap(&mut self, index: usize, slack: u64) {
        let region = &self.drafts[index].region;
        if region.holds.size_bytes > Some(region.size_bytes) {
            self.say(Severity::Warning, index, "the swap space says that it is longer than its region");
        }
        let region = &self.drafts[index].region;
        let blocks = RegionBlocks::new(self.blocks, &region.extents);
        let tail = ByteRange::new(region.size_bytes - slack.min(region.size_bytes), slack.min(region.size_bytes));
        if slack <= SLACK_BYTES {
            if self.keep_tail(index, "the swap space") {
                self.drafts[index].region.handling = Handling::MetadataOnly;
                self.preserve_boot_block(index);
            }
        } else if matches!(self.scanner.scan(&blocks, tail), Scanned::Zero) {
            self.drafts[index].region.handling = Handling::MetadataOnly;
            self.preserve_boot_block(index);
        } else {
            self.say(Severity::Warning, index, "data may follow the swap space; all of it is kept as a raw image");
        }
    }

    /// Before a container is split: bytes after its content that may be data become a region of their own. Returns
    /// false, after reporting, if that failed and the region must be kept as it is.
    pub(super) fn keep_tail(&mut self, index: usize, content: &str) -> bool {
        let region = &self.drafts[index].region;
        let slack = found_slack(region);
        if slack == 0 {
            return true;
        }
        // The slack is a part of the region.
        let tail = ByteRange::new(region.size_bytes - slack, slack);
        let blocks = RegionBlocks::new(self.blocks, &region.extents);
        let scanned = self.scanner.scan(&blocks, tail);
        let (severity, what) = match scanned {
            Scanned::Zero => {
                if slack > SLACK_BYTES {
                    let what = format!("{content} ends {} before its region does", ByteLen(slack));
                    self.say(Severity::Notice, index, what);
                }
                return true;
            }
            // Remains of earlier content after the rounded end are common.
            Scanned::DataAt(_) if slack <= SLACK_BYTES => (Severity::Notice, "is not zero".to_owned()),
            Scanned::DataAt(_) => (Severity::Warning, "holds data".to_owned()),
            Scanned::NotLookedAt => (Severity::Notice, "was not searched for data, which takes too long".to_owned()),
            Scanned::Failed(error) => (Severity::Error, format!("cannot be read: {error}")),
        };
        // The tail is inside the region, so it has extents.
        let Some(extents) = compose(&region.extents, tail) else { return false };
        let name = format!("{}.tail", region.name);
        if !self.add_child(index, &name, None, extents) {
            return false;
        }
        let tail = self.drafts.len() - 1;
        self.drafts[tail].is_tail = true;
        "behind the content".clone_into(&mut self.drafts[tail].region.type_name);
        let what = format!(
            "{content} ends {} before its region does, and what follows {what}; it is kept as a raw image",
            ByteLen(slack)
        );
        self.say(severity, tail, what);
        true
    }

    /// Keeps the first bytes of a filesystem that does not use them: a boot loader may be there.
    fn preserve_boot_block(&mut self, index: usize) {
        let len = match self.drafts[index].region.holds.fs.as_deref() {
            Some("ext2" | "ext3" | "ext4" | "swap") => 1024,
            Some("btrfs") => 64 << 10,
            Some("vfat") => self.reserved_bytes(index),
            _ => return,
        };
        let region = &self.drafts[index].region;
        let blocks = RegionBlocks::new(self.blocks, &region.extents);
        if matches!(self.scanner.scan(&blocks, ByteRange::new(0, len)), Scanned::DataAt(_)) {
            let what = format!("boot block of {}", region.name);
            self.preserve(index, &what, ByteRange::new(0, len));
        }
    }

    /// The length of a FAT's reserved sectors, up to the manifest's bound.
    fn reserved_bytes(&mut self, index: usize) -> u64 {
        let region = &self.drafts[index].region;
        let made = region.holds.made_with.as_ref();
        let own = made.and_then(|made| Some((made.sector_bytes?, made.fat.as_ref()?.reserved_sectors)));
        let Some((sector_bytes, sectors)) = own else { return 512 };
        let all = u64::from(sector_bytes) * u64::from(sectors);
        let rest = ByteRange::new(RESERVED_BYTES_MAX, all.saturating_sub(RESERVED_BYTES_MAX));
        let blocks = RegionBlocks::new(self.blocks, &region.extents);
        if rest.len > 0 && !matches!(self.scanner.scan(&blocks, rest), Scanned::Zero) {
            let what = format!("the reserved sectors after the first {} are not kept", ByteLen(RESERVED_BYTES_MAX));
            self.say(Severity::Warning, index, what);
        }
        all.min(RESERVED_BYTES_MAX)
    }
}

/// The distance from the end of the content to the end of the region.
fn found_slack(region: &Region) -> u64 {
    region.holds.size_bytes.map_or(0, |size| region.size_bytes.saturating_sub(size))
}

/// The type of a partition table at the region's start, in blkid's names.
fn table_in(window: &Window<'_>) -> Option<&'static str> {
    for sector_size in [512, 4096] {
        if window.read(sector_size, 8).as_deref() == Some(b"EFI PART") {
            return Some("gpt");
        }
    }
    let record = BootRecord::decode(&window.read(0, 512)?)?;
    let used = record.records.iter().any(PartitionRecord::is_used);
    (used && record.has_valid_boot_indicators()).then_some("dos")
}
