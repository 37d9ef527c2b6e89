//! NTFS, XFS, FAT, exFAT and swap as their own tools make them; ntfsinfo, ntfsclone, xfs_db, xfs_repair and fsck.fat are the
//! judges.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;

use volbak::events::Severity;
use volbak::used::UsedMap;

use crate::support::{Work, map_of, noise, not_whole, run, text, tree, write_used};

/// A number behind `label` in what a tool prints.
fn number_behind(printed: &str, label: &str) -> u64 {
    let rest = printed.split_once(label).unwrap_or_else(|| panic!("no {label} in {printed}")).1;
    let digits: String = rest.trim_start().chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap()
}

/// Mounts an image, lets `with` write to it, and unmounts it.
fn mounted(mount: &[&str], work: &Work, with: impl FnOnce(&Path)) {
    let at = work.path("mounted");
    fs::create_dir_all(&at).unwrap();
    run(mount[0], &[&mount[1..], &[text(&at)]].concat());
    with(&at);
    run("umount", &[text(&at)]);
}

/// Copies a tree, and deletes its largest file again.
fn fill(tree: &Path, at: &Path) {
    run("cp", &["-r", text(tree), text(&at.join("copy"))]);
    fs::remove_file(at.join("copy/large")).unwrap();
    for number in 0..40 {
        fs::write(at.join(format!("more-{number}")), noise(number + 7, 30_000)).unwrap();
    }
    (0..40).step_by(2).for_each(|number| fs::remove_file(at.join(format!("more-{number}"))).unwrap());
}

fn ntfs(work: &Work, options: &[&str]) -> std::path::PathBuf {
    let image = work.stale_image("ntfs", 120 << 20);
    run("mkfs.ntfs", &[&["-F", "-Q", "-q"], options, &[text(&image)]].concat());
    let tree = tree(work);
    mounted(&["ntfs-3g", text(&image)], work, |at| fill(&tree, at));
    image
}

#[test]
fn ntfs_is_what_ntfsinfo_counts() {
    let work = Work::new();
    for options in [&[][..], &["-c", "512"], &["-c", "65536"], &["-s", "4096"]] {
        let image = ntfs(&work, options);
        let map = not_whole(map_of(&image));
        let info = run("ntfsinfo", &["-fm", text(&image)]);
        let cluster = number_behind(&info, "Cluster Size:");
        let clusters = number_behind(&info, "Volume Size in Clusters:");
        let free = number_behind(&info, "Free Clusters:");
        // What lies behind the last cluster is used, and so is the boot code in clusters of 512 bytes.
        assert_eq!(
            map.used_bytes(),
            (clusters - free) * cluster + (map.len_bytes() - clusters * cluster),
            "{options:?}"
        );
        let used = work.path("used");
        write_used(&image, &map, &used);
        run("ntfsfix", &["-n", text(&used)]);
        run("ntfsclone", &["-f", "-q", "-O", text(&work.path("clone")), text(&used)]);
        for number in (1..40).step_by(2) {
            let of = |image: &Path| {
                Command::new("ntfscat").args(["-f", text(image), &format!("more-{number}")]).output().unwrap().stdout
            };
            assert_eq!(of(&used), noise(number + 7, 30_000), "{options:?}");
        }
        fs::remove_file(work.path("clone")).unwrap();
        fs::remove_dir_all(work.path("tree")).unwrap();
    }
}

#[test]
fn ntfs_that_is_marked_dirty_has_all_that_its_files_map() {
    let work = Work::new();
    let image = ntfs(&work, &[]);
    let clean = not_whole(map_of(&image));
    // Bit 0 of the flags in $VOLUME_INFORMATION, and a bitmap that lost the bits of a file.
    let mut bytes = fs::read(&image).unwrap();
    set_ntfs_dirty(&mut bytes);
    let dirty_image = work.path("dirty");
    fs::write(&dirty_image, &bytes).unwrap();
    let dirty = not_whole(map_of(&dirty_image));
    assert_eq!(dirty.used_bytes(), clean.used_bytes());
    clear_bitmap(&mut bytes, &clean);
    fs::write(&dirty_image, &bytes).unwrap();
    let without_bits = not_whole(map_of(&dirty_image));
    assert_eq!(without_bits.used_bytes(), clean.used_bytes());
    // The same in a volume that says that it is clean is a contradiction.
    let mut bytes = fs::read(&image).unwrap();
    clear_bitmap(&mut bytes, &clean);
    fs::write(&dirty_image, &bytes).unwrap();
    assert_whole(&map_of(&dirty_image), Severity::Warning, "is free in $Bitmap");
}

/// The first cluster of the data of a file record, which does not lie in the record.
pub(crate) fn first_cluster_of_ntfs(image: &Path, record: &str) -> u64 {
    let said = run("ntfsinfo", &["-f", "-v", "-i", record, text(image)]);
    let data = said.split("Dumping attribute $DATA").nth(1).unwrap();
    // A line with the names of the columns, and one a run: VCN, LCN, length.
    let run = data.split("Runlist:").nth(1).unwrap().lines().nth(1).unwrap();
    let cluster = run.split_whitespace().nth(1).unwrap().trim_start_matches("0x");
    u64::from_str_radix(cluster, 16).unwrap()
}

/// Windows that is hibernated has in its memory what the volume lacks, and goes on with it.
#[test]
fn ntfs_on_which_windows_is_hibernated_is_whole() {
    let work = Work::new();
    for (content, name, is_whole) in [
        (&b"hibr"[..], "/hiberfil.sys", true),
        (b"HIBR", "/HIBERFIL.SYS", true),
        (b"hibr", "/below/hiberfil.sys", false),
        (b"hibr", "/hiberfil.sys2", false),
        // What Windows makes of it when it has started.
        (b"wake", "/hiberfil.sys", false),
        (b"\0\0\0\0", "/hiberfil.sys", false),
    ] {
        let image = work.stale_image("ntfs", 24 << 20);
        run("mkfs.ntfs", &["-F", "-Q", "-q", text(&image)]);
        let file = work.path("file");
        fs::write(&file, [content, &noise(1, 1 << 20)].concat()).unwrap();
        mounted(&["ntfs-3g", text(&image)], &work, |at| fs::create_dir(at.join("below")).unwrap());
        run("ntfscp", &["-q", "-f", text(&image), text(&file), name]);
        for is_dirty in [false, true] {
            if is_dirty {
                let mut bytes = fs::read(&image).unwrap();
                set_ntfs_dirty(&mut bytes);
                fs::write(&image, bytes).unwrap();
            }
            if is_whole {
                assert_whole(&map_of(&image), Severity::Notice, "Windows is hibernated");
            } else {
                not_whole(map_of(&image));
            }
        }
    }
}

/// The copy of the boot sector at the end is another volume's, or is missing.
/// Windows reads what a shadow copy has not copied from the volume, also where a file was deleted since.
#[test]
fn ntfs_with_shadow_copies_is_whole() {
    let work = Work::new();
    let image = ntfs(&work, &[]);
    let id = [0x6b, 0x87, 0x08, 0x38, 0x76, 0xc1, 0x48, 0x4e, 0xb7, 0xae, 0x04, 0x04, 0x6e, 0x6c, 0xc7, 0x52];
    let catalog: u64 = 4 << 20;
    let write = |at: u64, bytes: &[u8]| {
        let file = std::fs::File::options().write(true).open(&image).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, bytes, at).unwrap();
    };
    let whole = || map_of(&image).whole_because().map(|whole| whole.because.clone());
    // A header without a catalog, and a catalog of which nothing is used: the last shadow copy was deleted.
    write(0x1e00, &[&id[..], &[0; 496]].concat());
    assert_eq!(whole(), None);
    write(0x1e00 + 48, &catalog.to_le_bytes());
    assert!(whole().unwrap().contains("makes no sense"));
    write(catalog, &[&id[..], &[0; 16384 - 16]].concat());
    write(catalog + 128, &[1]);
    assert_eq!(whole(), None);
    for kind in [2, 3] {
        write(catalog + 5 * 128, &[kind]);
        assert!(whole().unwrap().contains("shadow copies"), "{kind}");
    }
    // A catalog that leads to itself, behind the end, and nowhere.
    write(catalog + 5 * 128, &[0]);
    for next in [catalog, u64::MAX, 1 << 40] {
        write(catalog + 40, &next.to_le_bytes());
        assert!(whole().unwrap().contains("makes no sense"), "{next}");
    }
}

#[test]
fn ntfs_whose_boot_sectors_contradict_each_other_is_whole() {
    let work = Work::new();
    let image = work.stale_image("ntfs", 24 << 20);
    run("mkfs.ntfs", &["-F", "-Q", "-q", text(&image)]);
    let clean = not_whole(map_of(&image));
    let bytes = fs::read(&image).unwrap();
    let copy = bytes.len() - 512;
    assert!(bytes[copy..] == bytes[..512]);
    // Sectors in a cluster, the volume's length, where the table and its mirror are, the size of a record.
    for at in [13, 40, 48, 56, 64] {
        let mut other = bytes.clone();
        other[copy + at] ^= 0x10;
        fs::write(&image, other).unwrap();
        assert_whole(&map_of(&image), Severity::Warning, "boot sectors contradict");
    }
    let mut without = bytes;
    without[copy..].fill(0);
    fs::write(&image, without).unwrap();
    assert_eq!(not_whole(map_of(&image)).used_bytes(), clean.used_bytes());
}

/// A log that Windows has not emptied: what it allocates is used, whatever `$Bitmap` says.
#[test]
fn ntfs_whose_log_is_not_empty_has_what_the_log_allocates() {
    let work = Work::new();
    let image = work.stale_image("ntfs", 24 << 20);
    run("mkfs.ntfs", &["-F", "-Q", "-q", text(&image)]);
    let clean = not_whole(map_of(&image));
    let bytes = fs::read(&image).unwrap();
    let log = usize::try_from(first_cluster_of_ntfs(&image, "2") * 4096).unwrap();
    assert!(bytes[log..log + (64 << 10)].iter().all(|byte| *byte == 0xFF));
    let free = (0..bytes.len() as u64 / 4096)
        .rev()
        .find(|cluster| !clean.covers(volbak::units::ByteRange::new(cluster * 4096, 4096)))
        .unwrap();
    let range = volbak::units::ByteRange::new(free * 4096, 4096);
    let with_log = |flags: u16, cut: bool| {
        let mut bytes = bytes.clone();
        for at in [0, 4096] {
            let page = &mut bytes[log + at..log + at + 4096];
            page.fill(0);
            put(page, 0, b"RSTR");
            put(page, 0x10, &4096_u32.to_le_bytes());
            put(page, 0x14, &4096_u32.to_le_bytes());
            put(page, 0x18, &0x30_u16.to_le_bytes());
            // current_lsn, client_in_use_list, flags, client_array_offset, log_page_data_offset.
            put(page, 0x30, &100_u64.to_le_bytes());
            put(page, 0x3C, &0_u16.to_le_bytes());
            put(page, 0x3E, &flags.to_le_bytes());
            put(page, 0x46, &0x40_u16.to_le_bytes());
            put(page, 0x56, &0x40_u16.to_le_bytes());
            put(page, 0x70, &50_u64.to_le_bytes());
            put(page, 0x78, &50_u64.to_le_bytes());
            protect(page);
        }
        let page = &mut bytes[log + 8192..log + 12_288];
        page.fill(0);
        put(page, 0, b"RCRD");
        // SetBitsInNonresidentBitMap of one bit.
        let at = if cut { 4096 - 0x30 - 8 } else { 0x40 };
        put(page, at, &60_u64.to_le_bytes());
        put(page, at + 0x18, &0x30_u32.to_le_bytes());
        put(page, at + 0x20, &1_u32.to_le_bytes());
        put(page, at + 0x30, &[0x15, 0, 0x16, 0]);
        if !cut {
            put(page, at + 0x34, &[0x28, 0, 8, 0, 0x28, 0, 8, 0]);
            put(page, at + 0x58, &u32::try_from(free).unwrap().to_le_bytes());
            put(page, at + 0x5C, &1_u32.to_le_bytes());
        }
        protect(page);
        fs::write(&image, bytes).unwrap();
        map_of(&image)
    };
    let map = not_whole(with_log(0, false));
    assert!(map.covers(range) && map.used_bytes() == clean.used_bytes() + 4096);
    // A log that says that it is clean.
    assert!(!not_whole(with_log(2, false)).covers(range));
    assert_whole(&with_log(0, true), Severity::Warning, "cut off");
    // Restart pages that were not written wholly.
    let mut bytes = fs::read(&image).unwrap();
    for at in [510, 4096 + 510] {
        bytes[log + at] ^= 1;
    }
    fs::write(&image, bytes).unwrap();
    assert_whole(&map_of(&image), Severity::Warning, "$LogFile is damaged");
}

fn put(page: &mut [u8], at: usize, bytes: &[u8]) {
    page[at..at + bytes.len()].copy_from_slice(bytes);
}

/// The update sequence of a page: its number at the end of each sector, and what was there beside its header.
fn protect(page: &mut [u8]) {
    let array = if page.starts_with(b"RSTR") { 0x1E_usize } else { 0x28 };
    put(page, 4, &u16::try_from(array).unwrap().to_le_bytes());
    put(page, 6, &9_u16.to_le_bytes());
    put(page, array, &[7, 0]);
    for sector in 1..=8 {
        let end = sector * 512 - 2;
        let was = [page[end], page[end + 1]];
        put(page, array + 2 * sector, &was);
        put(page, end, &[7, 0]);
    }
}

/// Finds the record of `$Volume` and sets its dirty flag.
fn set_ntfs_dirty(image: &mut [u8]) {
    let table = u64::from_le_bytes(image[48..56].try_into().unwrap()) * 4096;
    let at = usize::try_from(table).unwrap() + 3 * 1024;
    let mut attribute = at + usize::from(u16::from_le_bytes(image[at + 0x14..at + 0x16].try_into().unwrap()));
    while image[attribute] != 0x70 {
        attribute += usize::from(u16::from_le_bytes(image[attribute + 4..attribute + 6].try_into().unwrap()));
    }
    let value = attribute + usize::from(image[attribute + 0x14]);
    image[value + 10] |= 1;
}

/// Clears a byte of `$Bitmap` that has eight used clusters of a file.
fn clear_bitmap(image: &mut [u8], map: &UsedMap) {
    let info_at = {
        // The bitmap's bytes are found by what they must be: those of the map.
        let mut wanted = vec![0_u8; image.len() / 4096 / 8];
        for cluster in 0..wanted.len() * 8 {
            if map.covers(volbak::units::ByteRange::new(cluster as u64 * 4096, 4096)) {
                wanted[cluster / 8] |= 1 << (cluster % 8);
            }
        }
        let head = &wanted[..wanted.len() - 1];
        (0..image.len() / 4096).map(|block| block * 4096).find(|at| image[*at..].starts_with(head)).unwrap()
    };
    // Not those of the metadata at the start: of the last used run.
    let last =
        map.runs().iter().rev().find(|run| run.len >= 16 * 4096 && run.start + run.len < image.len() as u64 - 8192);
    let cluster = usize::try_from(last.unwrap().start / 4096).unwrap();
    image[info_at + cluster / 8 + 1] = 0;
}

pub(crate) fn assert_whole(map: &UsedMap, severity: Severity, because: &str) {
    let why = map.whole_because().unwrap();
    assert!(why.because.contains(because) && why.severity == severity, "{why:?}");
    assert_eq!(map.used_bytes(), map.len_bytes());
}

#[test]
fn xfs_is_what_xfs_db_counts() {
    let work = Work::new();
    let tree = tree(&work);
    for options in
        [&[][..], &["-m", "crc=0"], &["-b", "size=1024"], &["-m", "rmapbt=1,reflink=1"], &["-d", "agcount=3"]]
    {
        let image = work.stale_image("xfs", 400 << 20);
        // Not each kernel mounts each kind: these have a file that mkfs copies in.
        let can_mount = options.is_empty() || options[0] == "-d";
        fs::write(work.path("file"), noise(8, 3_000_000)).unwrap();
        let file = text(&work.path("file")).to_owned();
        fs::write(work.path("proto"), format!("/\n0 0\nd--755 0 0\nfile ---644 0 0 {file}\n$\n")).unwrap();
        run("mkfs.xfs", &[&["-q", "-f", "-K", "-p", text(&work.path("proto"))], options, &[text(&image)]].concat());
        if can_mount {
            mounted(&["mount", "-o", "loop", text(&image)], &work, |at| fill(&tree, at));
        }
        let map = map_of(&image);
        assert_eq!(map.whole_because(), None, "{options:?}");
        assert!(image.metadata().unwrap().blocks() * 512 >= map.len_bytes(), "{options:?}: the stale data are gone");
        let print = |place: &str, what: &str| {
            let printed = run("xfs_db", &["-r", "-c", place, "-c", &format!("print {what}"), text(&image)]);
            number_behind(&printed, "=")
        };
        // What freesp lists has the blocks of the free lists besides, which are kept for the trees.
        let free: u64 = (0..print("sb 0", "agcount")).map(|group| print(&format!("agf {group}"), "freeblks")).sum();
        let block = print("sb 0", "blocksize");
        assert_eq!(map.used_bytes(), map.len_bytes() - free * block, "{options:?}");
        let used = work.path("used");
        write_used(&image, &map, &used);
        run("xfs_repair", &["-n", "-f", text(&used)]);
        if can_mount {
            mounted(&["mount", "-o", "loop,ro,norecovery", text(&used)], &work, |at| {
                assert_eq!(fs::read(at.join("more-1")).unwrap(), noise(8, 30_000));
            });
        }
    }
}

#[test]
fn fat_is_what_fsck_counts() {
    let work = Work::new();
    let tree = tree(&work);
    for (bits, len) in [("12", 15 << 20), ("16", 60 << 20), ("32", 90 << 20)] {
        let image = work.stale_image("fat", len);
        run("mkfs.fat", &["-F", bits, text(&image)]);
        run("mcopy", &["-s", "-i", text(&image), text(&tree), "::/copy"]);
        run("mdel", &["-i", text(&image), "::/copy/small/9"]);
        let map = not_whole(map_of(&image));
        let checked = run("fsck.fat", &["-nv", text(&image)]);
        let (before, after) = checked.rsplit_once(" clusters").unwrap();
        let (used, all) = before.rsplit_once(' ').unwrap().1.split_once('/').unwrap();
        assert!(after.trim().is_empty());
        let (used, all): (u64, u64) = (used.parse().unwrap(), all.parse().unwrap());
        let cluster = checked.lines().find_map(|line| line.trim().strip_suffix(" bytes per cluster")).unwrap();
        let cluster: u64 = cluster.trim().parse().unwrap();
        assert_eq!(map.used_bytes(), map.len_bytes() - (all - used) * cluster, "FAT{bits}");
        let copy = work.path("used");
        write_used(&image, &map, &copy);
        run("fsck.fat", &["-n", text(&copy)]);
    }
}

#[test]
fn exfat_and_swap_have_their_metadata() {
    let work = Work::new();
    let image = work.stale_image("exfat", 64 << 20);
    run("mkfs.exfat", &[text(&image)]);
    let map = not_whole(map_of(&image));
    assert!(map.used_bytes() < 8 << 20, "{}", map.used_bytes());
    let used = work.path("used");
    write_used(&image, &map, &used);
    run("fsck.exfat", &["-n", text(&used)]);

    let image = work.stale_image("swap", 64 << 20);
    run("mkswap", &["-q", text(&image)]);
    assert_eq!(not_whole(map_of(&image)).used_bytes(), 4096);
    let mut bytes = fs::read(&image).unwrap();
    bytes[4086..4096].copy_from_slice(b"S1SUSPEND\0");
    fs::write(&image, bytes).unwrap();
    assert_whole(&map_of(&image), Severity::Notice, "swsuspend");
}

#[test]
fn btrfs_is_whole_without_a_warning() {
    let work = Work::new();
    let image = work.image("btrfs", 128 << 20);
    run("mkfs.btrfs", &["-q", text(&image)]);
    assert_whole(&map_of(&image), Severity::Notice, "btrfs");
}

/// A file of one cluster is read by its directory entry alone. Where all allocation tables have that cluster as free, they are in
/// doubt, however deep the directory is.
#[test]
fn fat_that_has_the_start_of_a_file_as_free_is_whole() {
    let work = Work::new();
    fs::create_dir_all(work.path("a/b")).unwrap();
    fs::write(work.path("a/b/small"), noise(3, 300)).unwrap();
    fs::write(work.path("top"), noise(4, 300)).unwrap();
    for (bits, len) in [(12, 15 << 20), (16, 60 << 20), (32, 90 << 20)] {
        let image = work.stale_image("fat", len);
        run("mkfs.fat", &["-F", &bits.to_string(), text(&image)]);
        run("mcopy", &["-s", "-i", text(&image), text(&work.path("a")), "::/a"]);
        run("mcopy", &["-i", text(&image), text(&work.path("top")), "::/top"]);
        not_whole(map_of(&image));
        let whole = fs::read(&image).unwrap();
        let half = |at: usize| usize::from(u16::from_le_bytes(whole[at..at + 2].try_into().unwrap()));
        let (sector, reserved, tables) = (half(11), half(14), usize::from(whole[16]));
        let sectors = if bits == 32 { half(36) | half(38) << 16 } else { half(22) };
        for name in ["::/top", "::/a", "::/a/b", "::/a/b/small"] {
            let shown = run("mshowfat", &["-i", text(&image), name]);
            let (_, cluster) = shown.rsplit_once('<').unwrap();
            let cluster: usize = cluster.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap();
            let mut bytes = whole.clone();
            for table in 0..tables {
                let at = (reserved + table * sectors) * sector + cluster * bits / 8;
                match (bits, cluster % 2) {
                    (12, 0) => (bytes[at], bytes[at + 1]) = (0, bytes[at + 1] & 0xF0),
                    (12, _) => (bytes[at], bytes[at + 1]) = (bytes[at] & 0x0F, 0),
                    _ => bytes[at..at + bits / 8].fill(0),
                }
            }
            fs::write(&image, &bytes).unwrap();
            assert_whole(&map_of(&image), Severity::Warning, "is free in its allocation table");
            // Only the second table lost it: what either has as used is used.
            let at = reserved * sector;
            bytes[at..at + sectors * sector].copy_from_slice(&whole[at..at + sectors * sector]);
            fs::write(&image, &bytes).unwrap();
            not_whole(map_of(&image));
            fs::write(&image, &whole).unwrap();
        }
    }
}

/// The bitmap of an exFAT has no checksum: each cluster that a directory leads to must be used in it.
#[test]
fn exfat_that_has_a_cluster_of_a_file_as_free_is_whole() {
    let work = Work::new();
    let image = work.stale_image("exfat", 64 << 20);
    run("mkfs.exfat", &["-c", "4096", text(&image)]);
    let mut bytes = fs::read(&image).unwrap();
    let word = |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let (table_at, heap, root) = (word(&bytes, 80) * 512, word(&bytes, 88) * 512, word(&bytes, 96));
    let place = |cluster: usize| heap + (cluster - 2) * 4096;
    let entries = || (place(root)..place(root) + 4096).step_by(32);
    let bitmap_at = place(word(&bytes, entries().find(|at| bytes[*at] == 0x81).unwrap() + 20));
    let end = entries().find(|at| bytes[*at] == 0).unwrap();
    // A directory of two clusters that follow each other; in its second one a file of three that do, and one of two in a chain.
    let entry = |kind: u8, with: &[(usize, u64, usize)]| {
        let mut entry = [0_u8; 32];
        entry[0] = kind;
        for (at, value, len) in with {
            entry[*at..at + len].copy_from_slice(&value.to_le_bytes()[..*len]);
        }
        entry
    };
    let of = |attributes: u64, flags: u64, first: u64, len: u64| {
        [
            entry(0x85, &[(1, 2, 1), (4, attributes, 2)]),
            entry(0xC0, &[(1, flags, 1), (3, 1, 1), (8, len, 8), (20, first, 4), (24, len, 8)]),
            entry(0xC1, &[(2, u64::from(b'n'), 2)]),
        ]
        .concat()
    };
    let (folder, run_of, chain) = (1000, 2000, 3000);
    bytes[end..end + 96].copy_from_slice(&of(0x10, 3, folder, 8192));
    let second = place(1001);
    bytes[second - 4096..second + 4096].fill(0);
    // Entries that were deleted fill the first one.
    (second - 4096..second).step_by(32).for_each(|at| bytes[at] = 0x05);
    bytes[second..second + 96].copy_from_slice(&of(0x20, 3, run_of, 10_000));
    bytes[second + 96..second + 192].copy_from_slice(&of(0x20, 1, chain, 5000));
    let links = [(3000, 3500_u32), (3500, u32::MAX)];
    for (cluster, next) in links {
        bytes[table_at + cluster * 4..table_at + cluster * 4 + 4].copy_from_slice(&next.to_le_bytes());
    }
    let used = [1000, 1001, 2000, 2001, 2002, 3000, 3500];
    for cluster in used {
        bytes[bitmap_at + (cluster - 2) / 8] |= 1 << ((cluster - 2) % 8);
    }
    fs::write(&image, &bytes).unwrap();
    let map = not_whole(map_of(&image));
    for cluster in used {
        assert!(map.covers(volbak::units::ByteRange::new(place(cluster) as u64, 4096)), "{cluster}");
        let mut lost = bytes.clone();
        lost[bitmap_at + (cluster - 2) / 8] &= !(1 << ((cluster - 2) % 8));
        fs::write(&image, &lost).unwrap();
        assert_whole(&map_of(&image), Severity::Warning, "is in use and free in its allocation bitmap");
    }
    // A directory that holds itself, and a chain that is a ring, have an end.
    bytes[second..second + 96].copy_from_slice(&of(0x10, 3, folder, 8192));
    bytes[table_at + 3500 * 4..table_at + 3500 * 4 + 4].copy_from_slice(&3000_u32.to_le_bytes());
    bytes[second + 96..second + 192].copy_from_slice(&of(0x10, 1, chain, u64::MAX / 2));
    fs::write(&image, &bytes).unwrap();
    assert_whole(&map_of(&image), Severity::Warning, "more clusters than it has");
}
