//! GPT partition entries (UEFI 2.10, section 5.3.3, table 5.6).

use crate::field::{array, guid_text, le64};
use crate::layout::text::utf16le;
use crate::units::Lba;

/// An entry that is in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its index in the array, counted from 1: the partition number.
    pub number: u32,
    /// `PartitionTypeGUID`, lower case.
    pub type_guid: String,
    /// `UniquePartitionGUID`, lower case.
    pub unique_guid: String,
    /// `StartingLBA`.
    pub starting_lba: Lba,
    /// `EndingLBA`, inclusive.
    pub ending_lba: Lba,
    /// `Attributes`.
    pub attributes: u64,
    /// `PartitionName`; lone surrogates are escaped.
    pub name: String,
}

impl Entry {
    /// Attribute bit 2: "legacy BIOS bootable".
    pub fn is_legacy_bios_bootable(&self) -> bool {
        self.attributes & (1 << 2) != 0
    }
}

/// Decodes the used entries of an array with entries of `size` bytes; a truncated last entry is skipped.
pub fn decode_array(bytes: &[u8], size: u32) -> Vec<Entry> {
    let Some(size) = usize::try_from(size).ok().filter(|size| *size >= 128) else { return Vec::new() };
    (1..).zip(bytes.chunks_exact(size)).filter_map(|(number, bytes)| decode(number, bytes)).collect()
}

fn decode(number: u32, bytes: &[u8]) -> Option<Entry> {
    let type_guid: [u8; 16] = array(bytes, 0x00)?;
    if type_guid == [0; 16] {
        return None;
    }
    Some(Entry {
        number,
        type_guid: guid_text(type_guid),
        unique_guid: guid_text(array(bytes, 0x10)?),
        starting_lba: Lba(le64(bytes, 0x20)?),
        ending_lba: Lba(le64(bytes, 0x28)?),
        attributes: le64(bytes, 0x30)?,
        name: utf16le(bytes.get(0x38..0x80)?),
    })
}

/// The name of a partition type as partitioning tools print it; empty if unknown. The GUIDs are from UEFI 2.10,
/// table 5.7, the Discoverable Partitions Specification, and the documentation of their systems.
pub fn type_name(guid: &str) -> &'static str {
    match guid {
        "c12a7328-f81f-11d2-ba4b-00a0c93ec93b" => "EFI System",
        "024dee41-33e7-11d3-9d69-0008c781f39f" => "MBR partition scheme",
        "21686148-6449-6e6f-744e-656564454649" => "BIOS boot",
        "0fc63daf-8483-4772-8e79-3d69d8477de4" => "Linux filesystem",
        "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f" => "Linux swap",
        "e6d6d379-f507-44c2-a23c-238f2a3df928" => "Linux LVM",
        "a19d880f-05fc-4d3b-a006-743f0f84911e" => "Linux RAID",
        "ca7d7ccb-63ed-4c53-861c-1742536059cc" => "Linux LUKS",
        "7ffec5c9-2d00-49b7-8941-3ea10a5586b7" => "Linux plain dm-crypt",
        "bc13c2ff-59e6-4262-a352-b275fd6f7172" => "Linux extended boot",
        "933ac7e1-2eb4-4f13-b844-0e14e2aef915" => "Linux home",
        "3b8f8425-20e0-4f3b-907f-1a25a76f98e8" => "Linux server data",
        "4d21b016-b534-45c2-a9fb-5c16e091fd2d" => "Linux variable data",
        "7ec6f557-3bc5-4aca-b293-16ef5df639d1" => "Linux temporary data",
        "44479540-f297-41b2-9af7-d131d5f0458a" => "Linux root (x86)",
        "4f68bce3-e8cd-4db1-96e7-fbcaf984b709" => "Linux root (x86-64)",
        "b921b045-1df0-41c3-af44-4c6f280d3fae" => "Linux root (ARM-64)",
        "69dad710-2ce4-4e3c-b16c-21a1d49abed3" => "Linux root (ARM)",
        "8484680c-9521-48c6-9c11-b0720656f69e" => "Linux /usr (x86-64)",
        "8da63339-0007-60c0-c436-083ac8230908" => "Linux reserved",
        "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7" => "Microsoft basic data",
        "e3c9e316-0b5c-4db8-817d-f92df00215ae" => "Microsoft reserved",
        "de94bba4-06d1-4d40-a16a-bfd50179d6ac" => "Windows recovery environment",
        "5808c8aa-7e8f-42e0-85d2-e1e90434cfb3" => "Microsoft LDM metadata",
        "af9b60a0-1431-4f62-bc68-3311714a69ad" => "Microsoft LDM data",
        "e75caf8f-f680-4cee-afa3-b001e56efc2d" => "Microsoft Storage Spaces",
        "516e7cb4-6ecf-11d6-8ff8-00022d09712b" => "FreeBSD data",
        "83bd6b9d-7f41-11dc-be0b-001560b84f0f" => "FreeBSD boot",
        "516e7cb5-6ecf-11d6-8ff8-00022d09712b" => "FreeBSD swap",
        "516e7cb6-6ecf-11d6-8ff8-00022d09712b" => "FreeBSD UFS",
        "516e7cba-6ecf-11d6-8ff8-00022d09712b" => "FreeBSD ZFS",
        "824cc7a0-36a8-11e3-890a-952519ad3f61" => "OpenBSD data",
        "48465300-0000-11aa-aa11-00306543ecac" => "Apple HFS/HFS+",
        "7c3457ef-0000-11aa-aa11-00306543ecac" => "Apple APFS",
        "426f6f74-0000-11aa-aa11-00306543ecac" => "Apple boot",
        "6a898cc3-1dd2-11b2-99a6-080020736631" => "Solaris /usr & Apple ZFS",
        "9e1a2d38-c612-4316-aa26-8b49521e5a8b" => "PowerPC PReP boot",
        "aa31e02a-400f-11db-9590-000c2911d1b8" => "VMware VMFS",
        "4fbd7e29-9d25-41b8-afd0-062c0ceff05d" => "Ceph OSD",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::{decode_array, type_name};
    use crate::units::Lba;

    fn array() -> Vec<u8> {
        let mut bytes = vec![0; 3 * 128];
        let entry = &mut bytes[128..256];
        entry[..16].copy_from_slice(&[
            0xaf, 0x3d, 0xc6, 0x0f, 0x83, 0x84, 0x72, 0x47, 0x8e, 0x79, 0x3d, 0x69, 0xd8, 0x47, 0x7d, 0xe4,
        ]);
        entry[0x20] = 34;
        entry[0x28] = 40;
        entry[0x30] = 4;
        entry[0x38] = b'a';
        bytes
    }

    #[test]
    fn unused_entries_are_passed_over_and_numbers_kept() {
        let entries = decode_array(&array(), 128);
        assert_eq!(entries.len(), 1);
        assert_eq!(entries[0].number, 2);
        assert_eq!((entries[0].starting_lba, entries[0].ending_lba), (Lba(34), Lba(40)));
        assert_eq!(type_name(&entries[0].type_guid), "Linux filesystem");
        assert!(entries[0].is_legacy_bios_bootable());
        assert_eq!(entries[0].name, "a");
    }

    #[test]
    fn a_truncated_or_short_entry_is_skipped() {
        assert!(decode_array(&array()[..255], 128).is_empty());
        assert!(decode_array(&array(), 64).is_empty());
        assert!(decode_array(&array(), 0).is_empty());
    }
}
