//! The promise: no bytes on a volume make volbak panic, hang, or use memory without bound, and whatever it says of them
//! stays inside the volume. Small disks made by real tools are changed at random, thousands of times, always the same
//! way for the same seed; checksums are made right again now and then, so that what lies behind them is reached.
//!
//! `VOLBAK_MUTATIONS=N` runs N cases a disk, `VOLBAK_SEED=S` starts elsewhere.

use std::io;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::testkit::layouts::{LIMIT, invariants};
use volbak::layout::{Handling, detect};
use volbak::outside::BlockRead;

const MEMORY_LIMIT_KIB: u64 = 256 << 10;
const REGIONS_LIMIT: usize = 1200;
const PAGE: usize = 4096;

/// Disks of at most a few MiB; each line is a name and a script that makes `$IMG`.
const DISKS: &[(&str, &str)] = &[
    ("gpt", r"truncate -s 2M $IMG; printf 'label: gpt\nsize=256K\nsize=512K\n' | sfdisk -q $IMG; ext2 1024 $IMG"),
    (
        "mbr",
        r"truncate -s 3M $IMG; printf 'label: dos\nstart=64,size=256K\nstart=1024,size=2M,type=5\nx5: size=64K\nx6: size=64K\nx7: size=64K\n' | sfdisk -q $IMG || true",
    ),
    ("fat12", "truncate -s 1M $IMG; mkfs.vfat -F 12 -n A $IMG"),
    ("fat32", "truncate -s 34M $IMG; mkfs.vfat -F 32 -s 1 -n A $IMG; truncate -s 2M $IMG"),
    ("exfat", "truncate -s 4M $IMG; mkfs.exfat -L a $IMG"),
    ("ntfs", "truncate -s 2M $IMG; mkfs.ntfs -F -q -L a $IMG"),
    ("ext4", "truncate -s 1M $IMG; mkfs.ext4 -q $IMG"),
    ("xfs", "truncate -s 300M $IMG; mkfs.xfs -q $IMG; truncate -s 1M $IMG"),
    ("btrfs", "truncate -s 120M $IMG; mkfs.btrfs -q $IMG; truncate -s 1M $IMG"),
    ("swap", "truncate -s 1M $IMG; mkswap -L a $IMG"),
    (
        "luks2",
        "truncate -s 32M $IMG; echo x | cryptsetup -q luksFormat --pbkdf pbkdf2 --pbkdf-force-iterations 1000 $IMG -; truncate -s 1M $IMG",
    ),
];

/// Disks that a kernel with LVM and md made; see `tests/fixtures/make`.
const FIXTURES: &[&str] = &["pv", "thin", "md-0.90", "md-1.0", "md-1.1", "md-1.2"];

/// A disk in memory that knows which of its pages are zero, as a sparse file does.
struct Disk {
    bytes: Vec<u8>,
    has_data: Vec<bool>,
}

impl Disk {
    fn new(bytes: Vec<u8>) -> Self {
        let zeros = [0; PAGE];
        let has_data = bytes.chunks(PAGE).map(|page| *page != zeros[..page.len()]).collect();
        Self { bytes, has_data }
    }

    /// Changes bytes; those past the end are dropped.
    fn put(&mut self, at: usize, bytes: &[u8]) {
        let at = at.min(self.bytes.len());
        let len = bytes.len().min(self.bytes.len() - at);
        self.bytes[at..at + len].copy_from_slice(&bytes[..len]);
        if len > 0 {
            self.has_data[at / PAGE..=(at + len - 1) / PAGE].fill(true);
        }
    }

    fn get(&self, at: usize, len: usize) -> Option<Vec<u8>> {
        self.bytes.get(at..at.checked_add(len)?).map(<[u8]>::to_vec)
    }
}

impl BlockRead for Disk {
    fn len_bytes(&self) -> u64 {
        self.bytes.len_bytes()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.bytes.read_at(offset, buf)
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<u64>> {
        let at = usize::try_from(offset).unwrap_or(usize::MAX);
        let page = (at / PAGE..self.has_data.len()).find(|page| self.has_data[*page]);
        Ok(page.map(|page| (page * PAGE).max(at) as u64).filter(|at| *at < self.len_bytes()))
    }
}

/// Numbers that look random and are the same for the same seed (xorshift64*).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() >> 33).expect("31 bits") % bound.max(1)
    }
}

/// A place with data on it, mostly near the start of a page or the middle of a line of text.
fn place(random: &mut Random, disk: &Disk) -> usize {
    let pages: Vec<usize> = (0..disk.has_data.len()).filter(|page| disk.has_data[*page]).collect();
    // Tables and superblocks are at the start and the end; the rest is less worth changing.
    let page = match random.below(4) {
        0 | 1 => pages.get(random.below(pages.len().min(4))),
        2 => pages.iter().rev().nth(random.below(pages.len().min(9))),
        _ => pages.get(random.below(pages.len())),
    };
    let inside = if random.below(2) == 0 { random.below(600) } else { random.below(PAGE) };
    (page.copied().unwrap_or(0) * PAGE + inside).min(disk.bytes.len() - 1)
}

fn mutate(random: &mut Random, disk: &mut Disk, others: &[Disk]) {
    for _ in 0..=random.below(4) {
        let at = place(random, disk);
        let extreme =
            [0, 1, 2, 0x7f, 0x80, 0xff, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, u64::MAX / 2, u64::MAX - 1, u64::MAX]
                [random.below(12)];
        match random.below(9) {
            0 => disk.put(at, &[disk.bytes[at] ^ (1 << random.below(8))]),
            1 => disk.put(at, &[extreme.to_le_bytes()[0]]),
            2 => disk.put(at & !1, &extreme.to_le_bytes()[..2]),
            3 => disk.put(at & !3, &extreme.to_le_bytes()[..4]),
            4 => disk.put(at & !7, &extreme.to_le_bytes()),
            5 => disk.put(at & !3, &extreme.to_be_bytes()[4..]),
            6 => {
                // A number a little beside what it was.
                let value = disk.get(at & !3, 4).map_or(0, |now| u32::from_le_bytes(now.try_into().expect("four")));
                let beside = value.wrapping_add(u32::try_from(random.below(5)).expect("small")).wrapping_sub(2);
                disk.put(at & !3, &beside.to_le_bytes());
            }
            7 => {
                // What lies at the same or another place of another disk.
                let other = &others[random.below(others.len())];
                let from = if random.below(2) == 0 { at } else { place(random, other) };
                let len = 1 << random.below(13);
                if let Some(bytes) = other.get(from & !511, len) {
                    disk.put(at & !511, &bytes);
                }
            }
            _ => {
                let len = random.below(disk.bytes.len());
                *disk = Disk::new(disk.bytes[..len.max(1)].to_vec());
            }
        }
    }
    if random.below(3) > 0 {
        seal_gpt(disk);
        seal_lvm(disk);
    }
}

fn number(bytes: &[u8], at: usize, len: usize) -> usize {
    let value = bytes[at..at + len].iter().rev().fold(0_u64, |value, byte| (value << 8) | u64::from(*byte));
    usize::try_from(value).unwrap_or(usize::MAX)
}

/// Makes the checksums of the primary GPT right.
fn seal_gpt(disk: &mut Disk) {
    let Some(mut header) = disk.get(512, 512).filter(|header| header.starts_with(b"EFI PART")) else { return };
    let array_at = number(&header, 72, 8).saturating_mul(512);
    let array_len = number(&header, 80, 4).saturating_mul(number(&header, 84, 4));
    if let Some(array) = disk.get(array_at, array_len.min(1 << 20)) {
        header[88..92].copy_from_slice(&crc32fast::hash(&array).to_le_bytes());
    }
    header[16..20].fill(0);
    let len = number(&header, 12, 4).min(512);
    let sum = crc32fast::hash(&header[..len]);
    header[16..20].copy_from_slice(&sum.to_le_bytes());
    disk.put(512, &header);
}

/// Makes the checksums of an LVM label and of the metadata area at 4096 right.
fn seal_lvm(disk: &mut Disk) {
    let crc = |bytes: &[u8]| {
        let mut hasher = crc32fast::Hasher::new_with_initial(!0xf597_a6cf);
        hasher.update(bytes);
        !hasher.finalize()
    };
    if let Some(label) = disk.get(512, 512).filter(|label| label.starts_with(b"LABELONE")) {
        disk.put(512 + 16, &crc(&label[20..]).to_le_bytes());
    }
    if let Some(header) = disk.get(4096, 512).filter(|header| header[4..].starts_with(b" LVM2 x")) {
        let (at, len) = (number(&header, 40, 8), number(&header, 48, 8));
        if let Some(text) = disk.get(at.saturating_add(4096), len.min(1 << 20)) {
            disk.put(4096 + 56, &crc(&text).to_le_bytes());
        }
        let header = disk.get(4096, 512).expect("just read");
        disk.put(4096, &crc(&header[4..]).to_le_bytes());
    }
}

fn seeds() -> Vec<(&'static str, Disk)> {
    let directory = tempfile::tempdir().expect("a directory");
    let mut seeds: Vec<(&str, Disk)> = DISKS
        .iter()
        .map(|(name, script)| {
            let image = directory.path().join(name);
            let helper = "ext2() { mke2fs -q -F -E offset=$(($1 * 512)) $2 256; }";
            let output = Command::new("bash")
                .args(["-c", &format!("set -e; {helper}\n{script}")])
                .env("IMG", &image)
                .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
                .output()
                .expect("bash runs");
            assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
            (*name, Disk::new(std::fs::read(&image).expect("just made")))
        })
        .collect();
    for name in FIXTURES {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/{name}.img.gz"));
        let packed = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let len = number(&packed, packed.len() - 4, 4);
        let mut bytes = vec![0; len];
        libdeflater::Decompressor::new().gzip_decompress(&packed, &mut bytes).expect("gzip");
        seeds.push((name, Disk::new(bytes)));
    }
    seeds
}

fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

#[test]
fn no_change_of_a_disk_makes_it_panic_hang_or_lie() {
    let seeds = seeds();
    let disks: Vec<Disk> = seeds.iter().map(|(_, disk)| Disk::new(disk.bytes.clone())).collect();
    let cases = from_environment("VOLBAK_MUTATIONS", 200);
    let first = from_environment("VOLBAK_SEED", 1);
    let slowest = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..2_u64)
            .map(|worker| {
                let (seeds, disks) = (&seeds, &disks);
                scope.spawn(move || {
                    let mut slowest = (Duration::ZERO, String::new());
                    for case in (first..first + cases).filter(|case| case % 2 == worker) {
                        for (index, (name, disk)) in seeds.iter().enumerate() {
                            let name = format!("{name}, VOLBAK_SEED={case} VOLBAK_MUTATIONS=1");
                            let mut random = Random((case << 8 | index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
                            let mut changed = Disk { bytes: disk.bytes.clone(), has_data: disk.has_data.clone() };
                            mutate(&mut random, &mut changed, disks);
                            slowest = slowest.max(check(&name, &changed));
                        }
                    }
                    slowest
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().expect("no case panicked")).max().expect("two workers")
    });
    let peak = invariants::peak_memory_kib();
    println!("{} cases; the slowest took {:?} ({}); peak {peak} KiB", cases * seeds.len() as u64, slowest.0, slowest.1);
    assert!(peak < MEMORY_LIMIT_KIB, "{peak} KiB");
}

fn check(name: &str, disk: &Disk) -> (Duration, String) {
    let started = invariants::processor_time();
    let layout = std::panic::catch_unwind(|| detect(disk, "mutated", None));
    let Ok(layout) = layout else { panic!("panic: {name}") };
    let layout = layout.expect("memory can be read");
    let took = invariants::processor_time().saturating_sub(started);
    assert!(took < LIMIT, "{name}: {took:?}");
    assert!(layout.regions.len() <= REGIONS_LIMIT, "{name}: {} regions", layout.regions.len());
    assert!(layout.problems.len() <= 500, "{name}: {} problems", layout.problems.len());
    invariants::check(name, &layout, disk.len_bytes());
    (took, name.to_owned())
}

/// Disks that ask for as much work as a table can: each must be over in time, and say what it left out.
#[test]
fn tables_made_to_take_long_do_not() {
    // 8192 entries, each over the whole disk.
    let mut gpt = vec![0; 4 << 20];
    gpt[0x1be + 4] = 0xee;
    gpt[0x1be + 8] = 1;
    gpt[0x1be + 12..0x1be + 16].fill(0xff);
    gpt[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
    gpt[512..520].copy_from_slice(b"EFI PART");
    for (at, value) in [(8, 0x1_0000_u64), (12, 92), (24, 1), (32, 8191), (72, 2), (80, 8192), (84, 128)] {
        gpt[512 + at..512 + at + 4].copy_from_slice(&value.to_le_bytes()[..4]);
    }
    for index in 0..8192 {
        let entry = &mut gpt[1024 + index * 128..][..128];
        entry[0] = 1;
        entry[16..24].copy_from_slice(&(index as u64).to_le_bytes());
        entry[32] = 1;
        entry[40..42].copy_from_slice(&8190_u16.to_le_bytes());
    }
    let mut gpt = Disk::new(gpt);
    seal_gpt(&mut gpt);

    // A chain of 4000 boot records, each with a logical partition.
    let mut mbr = vec![0; 8 << 20];
    let mut record = |lba: usize, slot: usize, os_type: u8, start: u32, sectors: u32| {
        let sector = &mut mbr[lba * 512..(lba + 1) * 512];
        sector[0x1be + slot * 16 + 4] = os_type;
        sector[0x1c6 + slot * 16..0x1ca + slot * 16].copy_from_slice(&start.to_le_bytes());
        sector[0x1ca + slot * 16..0x1ce + slot * 16].copy_from_slice(&sectors.to_le_bytes());
        sector[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
    };
    record(0, 0, 0x05, 1, 16000);
    for index in 0..4000_u32 {
        record(1 + 3 * index as usize, 0, 0x83, 1, 2);
        record(1 + 3 * index as usize, 1, 0x05, 3 * (index + 1), 3);
    }
    let mbr = Disk::new(mbr);

    // As many volumes as the metadata area holds, each over all of the group, all of one name.
    let (_, pv) = seeds().into_iter().find(|(name, _)| *name == "pv").expect("a fixture");
    let mut lvm = Disk::new(pv.bytes);
    let header = lvm.get(4096, 512).expect("an area");
    let (at, len) = (number(&header, 40, 8), number(&header, 48, 8));
    let text = String::from_utf8(lvm.get(4096 + at, len).expect("a text")).expect("ASCII");
    let volumes_at = text.find("logical_volumes").expect("volumes");
    let mut text = format!("{}logical_volumes {{\n", &text[..volumes_at]);
    while text.len() < 56_000 - at {
        text +=
            "a{status=[\"VISIBLE\"]segment1{start_extent=0 extent_count=16 type=\"striped\" stripes=[\"pv0\",0]}}\n";
    }
    text += "}\n}\n";
    lvm.put(4096 + at, text.as_bytes());
    lvm.put(4096 + 48, &(text.len() as u64).to_le_bytes());
    seal_lvm(&mut lvm);

    for (name, disk, least) in [("gpt", gpt, 1024), ("mbr", mbr, 1000), ("lvm", lvm, 300)] {
        let (took, _) = check(name, &disk);
        let layout = detect(&disk, name, None).expect("memory can be read");
        println!("{name}: {} regions, {} problems, {took:?}", layout.regions.len(), layout.problems.len());
        assert!(
            layout.regions.len() >= least,
            "{name}: {} regions, {:?}",
            layout.regions.len(),
            layout.problems.first()
        );
        assert!(name == "lvm" || !layout.problems.is_empty(), "{name}");
    }
    assert!(invariants::peak_memory_kib() < MEMORY_LIMIT_KIB);
}

const MIB: usize = 1 << 20;

/// A physical volume with one metadata area of `area_len` at 4096 that holds `text`.
fn physical_volume(len: usize, area_len: usize, text: &str) -> Vec<u8> {
    let mut disk = Disk::new(vec![0; len]);
    let numbers =
        |numbers: &[usize]| numbers.iter().flat_map(|number| (*number as u64).to_le_bytes()).collect::<Vec<_>>();
    disk.put(512, b"LABELONE\x01\0\0\0\0\0\0\0\0\0\0\0\x20\0\0\0LVM2 001abcdefghijklmnopqrstuvwxyz012345");
    disk.put(512 + 64, &numbers(&[len, 4096 + area_len, 0, 0, 0, 4096, area_len]));
    disk.put(4096 + 4, b" LVM2 x[5A%r0N*>\x01\0\0\0");
    disk.put(4096 + 24, &numbers(&[4096, area_len, 512, text.len() + 1]));
    disk.put(4096 + 512, text.as_bytes());
    seal_lvm(&mut disk);
    disk.bytes
}

fn group_text(pe_start: usize, volumes: &str) -> String {
    let id = "abcdef-ghij-klmn-opqr-stuv-wxyz-012345";
    let head = format!("vg0 {{\nid=\"{id}\"\nseqno=1\nextent_size=8192\nphysical_volumes {{\npv0 {{\nid=\"{id}\"\n");
    format!("{head}pe_start={pe_start}\npe_count=8\n}}\n}}\nlogical_volumes {{\n{volumes}}}\n}}\n")
}

/// A thousand volumes, each cut into tens of thousands of pieces.
fn finely_striped_volumes() -> Vec<u8> {
    let segment = "start_extent=0\nextent_count=8\ntype=\"striped\"\nstripe_size=1\nstripes=[\"pv0\",0,\"pv0\",4]";
    let mut volumes = String::new();
    for index in 0..1000 {
        volumes += &format!("l{index} {{\nstatus=[\"VISIBLE\"]\nsegment1 {{\n{segment}\n}}\n}}\n");
    }
    physical_volume(4096 + MIB + 33 * MIB, MIB, &group_text((4096 + MIB) / 512, &volumes))
}

/// A thousand partitions over one physical volume, whose metadata have `parts` parts.
fn partitions_over_one_volume(parts: usize) -> Vec<u8> {
    let names = "\"name\",".repeat(parts);
    let segment = format!("start_extent=0\nextent_count=1\ntype=\"raid1\"\nraids=[{names}]");
    let volume = format!("a {{\nstatus=[]\nsegment1 {{\n{segment}\n}}\n}}\n");
    let inside = physical_volume(4096 + 3 * MIB, 2 * MIB, &group_text(100, &volume));
    let sectors = inside.len() / 512;
    let mut disk = vec![0; MIB];
    disk.extend(inside);
    disk.resize(disk.len() + MIB, 0);
    let last = (disk.len() / 512 - 1) as u64;
    disk[0x1be + 4] = 0xee;
    disk[0x1be + 8] = 1;
    disk[0x1be + 12..0x1be + 16].fill(0xff);
    disk[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
    disk[512..520].copy_from_slice(b"EFI PART");
    for (at, value) in [(8, 0x1_0000), (12, 92), (24, 1), (32, last), (40, 300), (48, last - 300), (72, 2)] {
        disk[512 + at..512 + at + 4].copy_from_slice(&value.to_le_bytes()[..4]);
    }
    for (at, value) in [(80, 1000_u32), (84, 128)] {
        disk[512 + at..512 + at + 4].copy_from_slice(&value.to_le_bytes());
    }
    for index in 0..1000_u64 {
        let entry = &mut disk[1024 + usize::try_from(index).expect("small") * 128..][..128];
        entry[0] = 1;
        for (at, value) in [(16, index + 1), (32, 2048), (40, 2047 + sectors as u64)] {
            entry[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
    }
    let mut disk = Disk::new(disk);
    seal_gpt(&mut disk);
    disk.bytes
}

/// Each bound on one structure holds on these disks, and there are a thousand of the structure: one detection has a
/// budget for all of them together.
#[test]
fn many_small_things_do_not_add_up_without_bound() {
    let cases = [
        ("stripes", finely_striped_volumes(), "too many pieces"),
        ("pvs", partitions_over_one_volume(90_000), "problems are not listed"),
        ("long pvs", partitions_over_one_volume(150_000), "problems are not listed"),
    ];
    for (name, bytes, told) in cases {
        let disk = Disk::new(bytes);
        let started = invariants::processor_time();
        let layout = detect(&disk, name, None).expect("memory can be read");
        let took = invariants::processor_time().saturating_sub(started);
        let extents: usize = layout.regions.iter().map(|region| region.extents.len()).sum();
        let kept: u64 = layout.outside.iter().map(|kept| kept.size_bytes).sum();
        let json = serde_json::to_string(&layout).expect("serialises").len();
        let peak = invariants::peak_memory_kib();
        println!("{name}: {took:?}, {extents} extents, {kept} bytes kept, JSON of {json}, peak {peak} KiB");
        assert!(took < Duration::from_secs(20), "{name}: {took:?}");
        assert!(extents <= 131_072 + 2048, "{name}: {extents} extents");
        assert!(kept <= 32 << 20 && json < 64 << 20, "{name}: {kept} bytes kept, JSON of {json}");
        assert!(peak < MEMORY_LIMIT_KIB, "{name}: {peak} KiB");
        assert!(layout.problems.iter().any(|problem| problem.what.contains(told)), "{name}");
        // Nothing is dropped: what was not taken apart is still kept as it is.
        assert!(layout.regions.iter().any(|region| region.handling == Handling::RawImage), "{name}");
        invariants::check(name, &layout, disk.len_bytes());
    }
}

/// A physical volume whose label says that it ends before its region does.
#[test]
fn what_lies_behind_a_physical_volume_is_kept() {
    let segment = "start_extent=0\nextent_count=8\ntype=\"striped\"\nstripes=[\"pv0\",0]";
    let volume = format!("a {{\nstatus=[\"VISIBLE\"]\nsegment1 {{\n{segment}\n}}\n}}\n");
    let volume = physical_volume(4096 + MIB + 33 * MIB, MIB, &group_text((4096 + MIB) / 512, &volume));
    let end = volume.len();
    for (byte, regions) in [(0, 2), (1, 3)] {
        let mut disk = volume.clone();
        disk.resize(end + 2 * MIB, 0);
        disk[end + 4096] = byte;
        let disk = Disk::new(disk);
        let layout = detect(&disk, "behind", None).expect("memory can be read");
        assert_eq!(layout.regions[0].handling, Handling::Container, "{:?}", layout.problems);
        assert_eq!(layout.regions.len(), regions, "{:?}", layout.problems);
        if let Some(tail) = layout.regions.get(2) {
            assert_eq!((tail.name.as_str(), tail.handling), ("disk.tail", Handling::RawImage));
            assert_eq!((tail.start_bytes, tail.size_bytes), (end as u64, 2 * MIB as u64));
        }
        invariants::check("behind", &layout, disk.len_bytes());
    }
}
