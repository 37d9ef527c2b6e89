//! The firmware that starts a disk.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::layout::{Layout, TableKind};

/// The boot code of an MBR (UEFI 2.10, table 5.1), and its signature.
const BOOT_CODE_BYTES: usize = 440;
const SIGNATURE: [u8; 2] = [0x55, 0xaa];
const SIGNATURE_AT: usize = 510;
/// The types of an EFI system partition in a GPT and in an MBR (UEFI 2.10, sections 5.3.3 and 5.2.2).
const SYSTEM_PARTITION: [&str; 2] = ["c12a7328-f81f-11d2-ba4b-00a0c93ec93b", "0xef"];
/// The partition in which GRUB keeps what the boot code of a GPT disk loads (GRUB manual, "BIOS installation").
const BIOS_BOOT_PARTITION: &str = "21686148-6449-6e6f-744e-656564454649";
/// Where Debian (12 and later, 11) and Fedora keep UEFI's code and the template of its variables.
const UEFI_FILES: [(&str, &str); 3] = [
    ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
    ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
    ("/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"),
];

/// What starts a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Firmware {
    /// The boot code in its first sector.
    Bios,
    /// A program in its EFI system partition.
    Uefi,
}

impl Firmware {
    /// What starts the disk of this layout; `None` if nothing does, as far as is known here.
    pub(super) fn of(layout: &Layout, first_sector: &[u8]) -> Option<Self> {
        let code = first_sector.get(..BOOT_CODE_BYTES).unwrap_or_default();
        let is_signed = first_sector.get(SIGNATURE_AT..SIGNATURE_AT + 2) == Some(&SIGNATURE);
        let has_code = is_signed && code.iter().any(|byte| *byte != 0);
        let has_type = |types: &[&str]| layout.regions.iter().any(|region| types.contains(&region.type_id.as_str()));
        match (has_code, has_type(&SYSTEM_PARTITION)) {
            (false, false) => None,
            (false, true) => Some(Self::Uefi),
            (true, false) => Some(Self::Bios),
            // Where nobody asked for UEFI, a disk with both was started by BIOS. In a GPT the code needs a partition of its own, or
            // a mark; without either it was left by an earlier table, or only says that it starts nothing.
            (true, true) => {
                let is_for_bios = layout.table.kind != TableKind::Gpt
                    || has_type(&[BIOS_BOOT_PARTITION])
                    || layout.regions.iter().any(|region| region.bootable);
                Some(if is_for_bios { Self::Bios } else { Self::Uefi })
            }
        }
    }
}

/// The files of UEFI's firmware (Debian's package ovmf): its code, and the variables of a new machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UefiFiles {
    pub(super) code: &'static str,
    variables: &'static str,
}

impl UefiFiles {
    /// The first that are installed.
    pub(crate) fn find() -> Option<Self> {
        let is_there = |(code, variables): &&(&str, &str)| Path::new(code).is_file() && Path::new(variables).is_file();
        UEFI_FILES.iter().find(is_there).map(|(code, variables)| Self { code, variables })
    }

    /// Makes the variables of a machine in `directory`, which the machine may change.
    pub(super) fn new_variables(self, directory: &Path) -> io::Result<PathBuf> {
        let path = directory.join("variables");
        fs::copy(self.variables, &path)?;
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use super::{BIOS_BOOT_PARTITION, BOOT_CODE_BYTES, Firmware, SYSTEM_PARTITION};
    use crate::layout::{Layout, Region, TableKind};

    #[test]
    fn boot_code_or_a_system_partition_makes_a_disk_that_starts() {
        let mut layout = Layout::empty();
        let mut sector = vec![0; 512];
        layout.table.kind = TableKind::Gpt;
        sector[510..].copy_from_slice(&[0x55, 0xaa]);
        assert_eq!(Firmware::of(&layout, &sector), None, "a protective MBR has no code");
        assert_eq!(Firmware::of(&layout, &[]), None);
        let add = |layout: &mut Layout, type_id: &str| {
            layout.regions.push(Region { type_id: type_id.to_owned(), ..Region::default() });
        };
        add(&mut layout, SYSTEM_PARTITION[0]);
        assert_eq!(Firmware::of(&layout, &sector), Some(Firmware::Uefi));
        sector[BOOT_CODE_BYTES - 1] = 1;
        assert_eq!(Firmware::of(&layout, &sector), Some(Firmware::Uefi), "code that has no place to load from");
        let mut marked = layout.clone();
        marked.regions[0].bootable = true;
        assert_eq!(Firmware::of(&marked, &sector), Some(Firmware::Bios));
        add(&mut layout, BIOS_BOOT_PARTITION);
        assert_eq!(Firmware::of(&layout, &sector), Some(Firmware::Bios), "GRUB for both");
        sector[511] = 0;
        assert_eq!(Firmware::of(&layout, &sector), Some(Firmware::Uefi), "without a signature BIOS runs nothing");
        sector[511] = 0xaa;
        let mut mbr = Layout::empty();
        mbr.table.kind = TableKind::Mbr;
        assert_eq!(Firmware::of(&mbr, &sector), Some(Firmware::Bios));
        add(&mut mbr, SYSTEM_PARTITION[1]);
        assert_eq!(Firmware::of(&mbr, &sector), Some(Firmware::Bios));
    }
}
