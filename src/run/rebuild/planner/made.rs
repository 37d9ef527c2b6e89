//! Plans filesystems and swap space that are made again.

use super::state::{Planner, shown};
use crate::layout::Region;
use crate::layout::lvm2::compose;
use crate::manifest::QuotaRecord;
use crate::run::rebuild::fat_format::FatFormat;
use crate::run::rebuild::kept::Kept;
use crate::run::rebuild::makefs::{BUILT_IN, Maker, checker, maker, package_of};
use crate::run::rebuild::plan::{MakeStep, Step};
use crate::run::rebuild::stored::Room;
use crate::run::rebuild::subvolumes::Subvolumes;
use crate::run::restore::select::Part;
use crate::shown::counted;
use crate::units::{ByteLen, ByteRange, Extent};

/// The length at a filesystem's start and end in which older content could be recognised.
const SIGNATURES_BYTES: u64 = 1 << 20;

/// What to say of quota limits, which nothing sets. Of many, the manifest has the first.
fn quotas_differ(quotas: &QuotaRecord) -> String {
    let kept = quotas.setquota.len() as u64;
    let place = if kept < quotas.count {
        format!(
            "the manifest has the first {kept} of them under quota_limits, each as the arguments of setquota; the others are not in the backup"
        )
    } else {
        "the manifest has them under quota_limits, each as the arguments of setquota".to_owned()
    };
    let grace = if quotas.grace.is_empty() { "" } else { "; nor are their grace times, which it has there too" };
    format!("its {} not set: {place}{grace}", counted(quotas.count, "quota limit is", "quota limits are"))
}

impl Planner<'_> {
    /// Plans a filesystem or swap space.
    pub(super) fn make(&mut self, region: &Region, place: &[Extent], files: Option<Part>) {
        let name = shown(&region.name);
        let whole: u64 = place.iter().map(|extent| extent.length).fold(0, u64::saturating_add);
        let shrunk = whole < region.size_bytes;
        let said = region.holds.size_bytes.filter(|size| *size > 0 && *size <= whole && !shrunk);
        let size_bytes = said.unwrap_or(whole) / 512 * 512;
        let Some(content) = compose(place, ByteRange::new(0, size_bytes)).filter(|content| !content.is_empty()) else {
            return self.refuse(format!("{name}: it has no room for anything"));
        };
        if content.len() > 1 && !(self.wish.has_program)("dmsetup") {
            self.refuse(format!("{name}: it lies in pieces, which dmsetup puts together; install the package dmsetup"));
        }
        let entries = self.manifest.sizes.entries;
        let mut made = match maker(&region.holds, size_bytes, entries, shrunk) {
            Ok(made) => made,
            Err(why) => return self.refuse(format!("{name}: {why}")),
        };
        if let Some(quotas) = self.records.get(region.name.as_str()).and_then(|record| record.quota_limits.as_deref()) {
            made.differs.push(quotas_differ(quotas));
        }
        let mut boot_block = self.boot_block(region);
        let subvolumes = self.subvolumes(region, &mut made);
        let has_attributes = self.records.get(region.name.as_str()).is_some_and(|record| record.has_fat_attributes);
        let fat = Self::fat_format(region, has_attributes, place, &mut boot_block, &mut made);
        self.remarks.extend(made.remarks.iter().map(|remark| format!("{name}: {remark}")));
        let makes_it = Some(made.call.program).filter(|_| fat.is_none());
        for program in makes_it.into_iter().chain(made.after.iter().chain(&made.finish).map(|call| call.program)) {
            if (self.wish.has_program)(program) {
                continue;
            }
            let package = package_of(program);
            self.refuse(format!("{name}: {program} is not installed; on Debian it comes with the package {package}"));
        }
        let fs = region.holds.fs.clone().unwrap_or_default();
        if files.is_some() && !(self.wish.can_mount)(&fs) {
            self.refuse(format!("{name}: this machine's kernel does not know {}", fs.escape_debug()));
        }
        let mut check = checker(&region.holds);
        if let Some(call) = check.take_if(|call| !(self.wish.has_program)(call.program)) {
            self.remarks.push(format!("{name}: {} is not installed, so it is not checked afterwards", call.program));
        }
        if shrunk {
            let (was, is) = (ByteLen(region.size_bytes), ByteLen(whole));
            self.remarks.push(format!("{name}: is made smaller, from {was} to {is}"));
        }
        let compress = files.is_some() && self.is_compressed(region, &fs, size_bytes);
        self.claim_made(&content, &region.name);
        self.steps.push(Step::Make(Box::new(MakeStep {
            region: region.name.clone(),
            fs,
            uuid: region.holds.uuid.clone(),
            label: region.holds.label.clone(),
            size_bytes,
            was_bytes: region.holds.size_bytes,
            extents: content,
            make: made.call,
            otherwise: made.otherwise,
            after: made.after,
            finish: made.finish,
            check,
            files,
            differs: made.differs,
            made_with: region.holds.made_with.clone().unwrap_or_default(),
            compress,
            boot_block,
            subvolumes,
            fat,
        })));
    }

    /// Refuses a filesystem that is too small for its files; returns whether they must be compressed.
    fn is_compressed(&mut self, region: &Region, fs: &str, size_bytes: u64) -> bool {
        let used = self.records.get(region.name.as_str()).and_then(|record| record.used_bytes);
        let (Some(stored), Some(used)) = (self.wish.stored.get(&region.name), used) else { return false };
        let name = shown(&region.name);
        match stored.room_on(fs, used, size_bytes) {
            Room::Enough => false,
            Room::Compressed => {
                let (used, data) = (ByteLen(used), ByteLen(stored.data_bytes));
                self.remarks.push(format!(
                    "{name}: its files have {data} and took {used}, compressed or shared: they are written with \
                     compress=zstd"
                ));
                true
            }
            Room::TooLittle(needed, has) => {
                let (used, data) = (ByteLen(used), ByteLen(stored.data_bytes));
                self.refuse(format!(
                    "{name}: too small: its files have {data}, which took {used} there, compressed or shared; here they \
                     need about {}, and there is room for {}",
                    ByteLen(needed),
                    ByteLen(has)
                ));
                false
            }
        }
    }

    /// A new filesystem covers its place, but does not write every byte: places where older content could be
    /// recognised are zeroed first.
    fn claim_made(&mut self, content: &[Extent], name: &str) {
        for extent in content {
            self.claims.add(ByteRange::new(extent.source_offset, extent.length), name, false);
            let inner = extent.length.saturating_sub(2 * SIGNATURES_BYTES);
            if inner > 0 {
                self.keep_zero.push(ByteRange::new(extent.source_offset + SIGNATURES_BYTES, inner));
            }
        }
    }

    /// The subvolumes of a btrfs.
    fn subvolumes(&mut self, region: &Region, made: &mut Maker) -> Subvolumes {
        let record = self.records.get(region.name.as_str()).and_then(|record| record.btrfs.as_deref());
        let Some(record) = record.filter(|_| region.holds.fs.as_deref() == Some("btrfs")) else {
            return Subvolumes::default();
        };
        if record.quotas {
            made.differs.push(
                "its quotas are off: their limits are not in a backup and have to be set again (btrfs quota enable)"
                    .into(),
            );
        }
        let subvolumes = match Subvolumes::new(record) {
            Ok(subvolumes) => subvolumes,
            Err(why) => {
                made.differs.push(format!("its subvolumes come back as directories: {why}"));
                return Subvolumes::default();
            }
        };
        if !subvolumes.keeps_ids() {
            made.differs.push("its subvolumes get other ids: fstab may name one (subvolid=)".to_owned());
        }
        if record.subvolumes.iter().any(|one| one.received_uuid.is_some()) {
            made.remarks.push(
                "its subvolumes get UUIDs of their own: what was received has to be sent whole again (btrfs send)"
                    .into(),
            );
        }
        subvolumes
    }

    /// A FAT is made from the reserved sectors in the manifest; for backups that have only the first one, by
    /// mkfs.fat.
    fn fat_format(
        region: &Region,
        has_attributes: bool,
        place: &[Extent],
        boot_block: &mut Option<Vec<u8>>,
        made: &mut Maker,
    ) -> Option<Box<FatFormat>> {
        region.holds.made_with.as_ref()?.fat.as_ref()?;
        if region.holds.fs.as_deref() != Some("vfat") {
            return None;
        }
        let is_at = place.first().map_or(0, |extent| extent.source_offset);
        let kept = boot_block.take().unwrap_or_default();
        match FatFormat::new(&region.holds, &kept, (region.start_bytes, is_at)) {
            Ok(format) => {
                made.call = BUILT_IN;
                made.differs.clear();
                made.remarks.clear();
                if !has_attributes {
                    made.remarks.push(
                        "the attributes hidden, system and archive are not in this backup: its files get those of new files"
                            .into(),
                    );
                }
                if format.knows_blocks {
                    made.differs.push(
                        "its boot code is SYSLINUX', which knows the blocks of ldlinux.sys, and those are others now: \
                         install it anew (syslinux --install)"
                            .to_owned(),
                    );
                }
                Some(Box::new(format))
            }
            Err(why) => {
                made.differs.push(format!("its reserved sectors do not come back: {why}"));
                *boot_block = kept.get(..512).map(<[u8]>::to_vec);
                None
            }
        }
    }

    /// Boot code at the start of a filesystem that does not use these bytes.
    fn boot_block(&mut self, region: &Region) -> Option<Vec<u8>> {
        let what = format!("boot block of {}", region.name);
        let longest = match region.holds.fs.as_deref()? {
            "ext2" | "ext3" | "ext4" | "swap" => 1024,
            "btrfs" => 64 << 10,
            // FAT: its reserved sectors.
            "vfat" => usize::MAX,
            _ => return None,
        };
        let fits =
            |bytes: &&Kept| bytes.what == what && bytes.start == region.start_bytes && bytes.bytes.len() <= longest;
        self.kept.iter().find(fits).map(|bytes| bytes.bytes.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::quotas_differ;
    use crate::manifest::QuotaRecord;

    #[test]
    fn limits_that_the_manifest_lacks_are_said() {
        let kept = |count| QuotaRecord { count, setquota: vec!["-u 1 0 1 0 0".to_owned()], grace: Vec::new() };
        assert!(quotas_differ(&kept(1)).ends_with("arguments of setquota"));
        let more = quotas_differ(&kept(5));
        assert!(more.contains("its 5 quota limits are not set") && more.contains("the first 1 of them"), "{more}");
    }
}
