//! Members of a Linux software RAID: superblocks of version 1.0, 1.1 and 1.2 (the kernel's
//! include/uapi/linux/raid/md_p.h, `struct mdp_superblock_1`) and 0.90 (`mdp_super_t`).

use super::signature::{Content, Signature};
use crate::field::{array, le16, le32, le64, uuid, uuid_text};
use crate::layout::HoldsKind;
use crate::layout::text::label;
use crate::layout::window::Window;
use crate::layout::{MadeWith, MdMade};
use crate::units::ByteRange;

const MD_SB_MAGIC: u32 = 0xa92b_4efc;
const SECTOR_BYTES: u64 = 512;
/// Values of `dev_roles` from here on mean spare, faulty and journal.
const MD_DISK_ROLE_MAX: u16 = 0xff00;
const FEATURE_RECOVERY_OFFSET: u32 = 0x2;
const FEATURE_RESHAPE_ACTIVE: u32 = 0x4;
const RESERVED_BYTES_0_90: u64 = 64 << 10;

pub(super) fn probe_1(window: &Window<'_>) -> Option<Signature> {
    let sectors = window.len() / SECTOR_BYTES;
    let at_end = sectors.checked_sub(16).map(|sector| sector & !7);
    [(Some(0), "1.1"), (Some(8), "1.2"), (at_end, "1.0")]
        .into_iter()
        .find_map(|(sector, version)| version_1(window, sector?, version))
}

fn version_1(window: &Window<'_>, sector: u64, version: &str) -> Option<Signature> {
    let at = sector * SECTOR_BYTES;
    let sb = window.read(at, 256)?;
    // super_offset identifies which of the three places it was made for, and that it belongs to this device.
    if le32(&sb, 0)? != MD_SB_MAGIC || le32(&sb, 4)? != 1 || le64(&sb, 144)? != sector {
        return None;
    }
    let feature_map = le32(&sb, 8)?;
    let level = le32(&sb, 72)?.cast_signed();
    let size_sectors = le64(&sb, 80)?;
    let raid_disks = le32(&sb, 92)?;
    let data_offset = le64(&sb, 128)?;
    let data_size = le64(&sb, 136)?;
    let dev_number = le32(&sb, 160)?;
    let max_dev = le32(&sb, 220)?;
    // A superblock is at most a page.
    let roles_bytes = usize::try_from(max_dev).ok()?.checked_mul(2)?;
    if roles_bytes > 4096 - 256 {
        return None;
    }
    let whole = window.read(at, 256 + roles_bytes)?;
    let role = usize::try_from(dev_number).ok().and_then(|number| le16(&whole, 256 + number.checked_mul(2)?));
    let found = Signature::opaque(HoldsKind::Mdraid, "linux_raid_member", at)
        .with_uuid(uuid(&sb, 16))
        .with_label(label(sb.get(32..64)?))
        .with_version(version)
        .with_parameters(member(level, raid_disks, role.map(u32::from).filter(|role| *role < 0xff00), at))
        .doubt_if(checksum_1(&whole)? != le32(&sb, 216)?, "its superblock's checksum is wrong");
    if level != 1 {
        return Some(found);
    }
    let steady = feature_map & (FEATURE_RECOVERY_OFFSET | FEATURE_RESHAPE_ACTIVE) == 0;
    let in_sync = role.is_some_and(|role| role < MD_DISK_ROLE_MAX) && raid_disks > 0;
    let data = ByteRange::new(data_offset.checked_mul(SECTOR_BYTES)?, size_sectors.checked_mul(SECTOR_BYTES)?);
    let fits = data.len > 0 && size_sectors <= data_size && data.end().is_some_and(|end| end <= window.len());
    Some(if steady && in_sync { mirror(found, data, fits) } else { found })
}

fn member(level: i32, devices: u32, role: Option<u32>, superblock_at: u64) -> MadeWith {
    MadeWith { md: Some(Box::new(MdMade { level, devices, role, superblock_at })), ..MadeWith::default() }
}

fn mirror(mut found: Signature, data: ByteRange, fits: bool) -> Signature {
    found.holds.size_bytes = data.end();
    if fits {
        found.content = Content::Mirror(data);
        found
    } else {
        found.doubt("its data reach past the region's end")
    }
}

/// `calc_sb_1_csum`: the 64-bit sum of 32-bit words, with `sb_csum` as zero, folded to 32 bits. A final half word
/// is included.
pub(crate) fn checksum_1(sb: &[u8]) -> Option<u32> {
    let mut sum = 0_u64;
    for (index, word) in sb.chunks(4).enumerate() {
        sum += match word.len() {
            _ if index == 216 / 4 => 0,
            4 => u64::from(le32(word, 0)?),
            _ => u64::from(le16(word, 0)?),
        };
    }
    // Both halves are below 2^32.
    u32::try_from(((sum & 0xffff_ffff) + (sum >> 32)) & 0xffff_ffff).ok()
}

/// `calc_sb_csum`: the sum of all words in 4 KiB except `sb_csum`.
pub(crate) fn checksum_0_90(sb: &[u8]) -> Option<u32> {
    let sum = sb
        .chunks_exact(4)
        .enumerate()
        .filter(|(index, _)| *index != 38)
        .try_fold(0_u64, |sum, (_, bytes)| Some(sum + u64::from(u32::from_le_bytes(array(bytes, 0)?))))?;
    u32::try_from(((sum & 0xffff_ffff) + (sum >> 32)) & 0xffff_ffff).ok()
}

pub(super) fn probe_0_90(window: &Window<'_>) -> Option<Signature> {
    let at = (window.len() & !(RESERVED_BYTES_0_90 - 1)).checked_sub(RESERVED_BYTES_0_90)?;
    let sb = window.read(at, 4096)?;
    let word = |index: usize| le32(&sb, index * 4);
    if word(0)? != MD_SB_MAGIC || word(1)? != 0 || word(2)? != 90 {
        return None;
    }
    let level = word(7)?.cast_signed();
    let size_bytes = u64::from(word(8)?) * 1024;
    let this_disk_state = word(992 + 4)?;
    let mut set_uuid = [0_u8; 16];
    for (index, from) in [5, 13, 14, 15].into_iter().enumerate() {
        // blkid prints each of the four words most significant byte first.
        set_uuid[index * 4..index * 4 + 4].copy_from_slice(&word(from)?.to_be_bytes());
    }
    let folded = checksum_0_90(&sb)?;
    let found = Signature::opaque(HoldsKind::Mdraid, "linux_raid_member", at)
        .with_uuid((set_uuid != [0; 16]).then(|| uuid_text(set_uuid)))
        .with_version("0.90.".to_owned() + &word(3)?.to_string())
        .with_parameters(member(level, word(10)?, Some(word(992 + 3)?), at))
        .doubt_if(folded != word(38)?, "its superblock's checksum is wrong");
    // MD_DISK_ACTIVE and MD_DISK_SYNC, and not MD_DISK_FAULTY.
    if level != 1 || this_disk_state & 0b111 != 0b110 {
        return Some(found);
    }
    let fits = size_bytes > 0 && size_bytes <= at;
    Some(mirror(found, ByteRange::new(0, size_bytes), fits))
}

#[cfg(test)]
mod tests {
    use super::{Content, MD_SB_MAGIC, Window, checksum_1, probe_0_90, probe_1};
    use crate::units::ByteRange;

    const AT: usize = 4096;

    fn disk() -> Vec<u8> {
        let mut disk = vec![0; 256 << 10];
        let sb = &mut disk[AT..AT + 512];
        sb[0..4].copy_from_slice(&MD_SB_MAGIC.to_le_bytes());
        sb[4] = 1;
        sb[16] = 1;
        sb[32..36].copy_from_slice(b"h:md");
        sb[72] = 1;
        sb[80] = 200;
        sb[92] = 2;
        sb[128] = 64;
        sb[136] = 200;
        sb[144] = 8;
        sb[220] = 4;
        seal(&mut disk);
        disk
    }

    fn seal(disk: &mut [u8]) {
        let sum = checksum_1(&disk[AT..AT + 256 + 8]).expect("long enough");
        disk[AT + 216..AT + 220].copy_from_slice(&sum.to_le_bytes());
    }

    fn changed(at: usize, byte: u8) -> Vec<u8> {
        let mut disk = disk();
        disk[AT + at] = byte;
        seal(&mut disk);
        disk
    }

    #[test]
    fn a_mirror_locates_its_data() {
        let found = probe_1(&Window::new(&disk())).expect("found");
        assert_eq!(found.content, Content::Mirror(ByteRange::new(64 * 512, 200 * 512)));
        assert_eq!(found.holds.version.as_deref(), Some("1.2"));
        assert!(found.doubts.is_empty(), "{:?}", found.doubts);
    }

    #[test]
    fn one_wrong_field_each() {
        for (at, byte) in [(0, 0), (4, 0), (144, 0), (221, 0x40)] {
            assert_eq!(probe_1(&Window::new(&changed(at, byte))), None, "{at}");
        }
        // Another level, a recovery in progress, a spare: members without a readable array.
        for (at, byte) in [(72, 5), (8, 2), (8, 4), (257, 0xff)] {
            let found = probe_1(&Window::new(&changed(at, byte))).expect("found");
            assert_eq!((found.content, found.doubts.len()), (Content::Opaque, 0), "{at}");
        }
        for (at, byte) in [(82, 1), (129, 9)] {
            assert_eq!(probe_1(&Window::new(&changed(at, byte))).expect("found").doubts.len(), 1, "{at}");
        }
        let mut flipped = disk();
        flipped[AT + 200] ^= 1;
        assert_eq!(probe_1(&Window::new(&flipped)).expect("found").doubts.len(), 1);
    }

    #[test]
    fn the_old_superblock_is_at_the_end() {
        let mut disk = vec![0; 256 << 10];
        let words = [(0, MD_SB_MAGIC), (2, 90), (7, 1), (8, 192), (996, 6)];
        let mut sum = 0_u32;
        for (index, word) in words {
            let at = (192 << 10) + index * 4;
            disk[at..at + 4].copy_from_slice(&u32::to_le_bytes(word));
            sum = sum.wrapping_add(word);
        }
        disk[(192 << 10) + 152..(192 << 10) + 156].copy_from_slice(&sum.to_le_bytes());
        let found = probe_0_90(&Window::new(&disk)).expect("found");
        assert_eq!(found.content, Content::Mirror(ByteRange::new(0, 192 << 10)));
        assert!(found.doubts.is_empty());
    }
}
