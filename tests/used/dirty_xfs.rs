//! XFS whose log is to be replayed, as each snapshot of a running guest is. The kernel replays a copy, and what is used in that
//! must be used in the map.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use volbak::events::Severity;
use volbak::outside::BlockRead;
use volbak::used::UsedMap;

use crate::support::{Patched, Work, blocks, map_of, map_with, noise, region, run, text};

const LEN: u64 = 320 << 20;

/// One way to make a filesystem, and to mount it.
struct Kind {
    name: &'static str,
    make: &'static [&'static str],
    mount: &'static str,
}

const KINDS: [Kind; 5] = [
    Kind { name: "default", make: &[], mount: "loop" },
    Kind { name: "rmap", make: &["-m", "rmapbt=1,reflink=1"], mount: "loop" },
    // A log that is gone through several times, in records with several headers.
    Kind { name: "small log", make: &["-b", "size=1024", "-l", "size=5m"], mount: "loop,logbsize=256k" },
    Kind { name: "sunit", make: &["-d", "agcount=3", "-l", "su=65536", "-s", "size=4096"], mount: "loop" },
    Kind { name: "v4", make: &["-m", "crc=0", "-l", "size=6m"], mount: "loop" },
];

/// Mounts an image; false where this kernel cannot.
fn mount(image: &Path, options: &str, at: &Path) -> bool {
    fs::create_dir_all(at).unwrap();
    let said = Command::new("mount").args(["-t", "xfs", "-o", options, text(image), text(at)]).output().unwrap();
    said.status.success()
}

fn unmount(at: &Path) {
    // A process that another test starts holds an open file until its exec.
    let began = Instant::now();
    while !Command::new("umount").arg(at).status().unwrap().success() {
        assert!(began.elapsed() < Duration::from_secs(30), "{} is busy", at.display());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Makes files, and removes and shortens others, until `stop` or for these rounds.
fn churn(at: &Path, seed: u64, rounds: u64, stop: &AtomicBool) -> std::io::Result<()> {
    let own = at.join(format!("churn-{seed}"));
    fs::create_dir_all(&own)?;
    for round in 0..rounds {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let random = noise(seed * 1_000_003 + round + 1, 16);
        let (kind, number, size) = (random[0] % 8, random[1] % 40, usize::from(random[2]) * 400 + 1);
        let path = own.join(format!("file-{number}"));
        match kind {
            0..=3 => fs::write(&path, noise(round + 9, size))?,
            4 => drop(fs::remove_file(&path)),
            5 => {
                if let Ok(file) = OpenOptions::new().write(true).open(&path) {
                    file.set_len(u64::from(random[3]) * 16)?;
                }
            }
            6 => {
                let file = OpenOptions::new().create(true).append(true).open(&path)?;
                for piece in 0..8_u64 {
                    file.write_all_at(&noise(piece + 1, 5000), (u64::from(random[4]) + piece * 3) * 8192)?;
                }
                if random[5] < 64 {
                    file.sync_all()?;
                }
            }
            _ => {
                let folder = own.join(format!("folder-{}", number % 8));
                if random[6] < 128 {
                    let _ = fs::remove_dir_all(&folder);
                } else {
                    fs::create_dir_all(&folder)?;
                    (0..30_u64).try_for_each(|name| fs::write(folder.join(format!("{name}")), noise(name + 1, 900)))?;
                }
            }
        }
    }
    Ok(())
}

/// Files of which every other block is punched out, so that the trees of free space have levels.
fn fragment(at: &Path, block: u64, count: u64) {
    let file = File::create(at.join("fragments")).unwrap();
    file.write_all_at(&noise(77, usize::try_from(block * count).unwrap()), 0).unwrap();
    file.sync_all().unwrap();
    for number in (0..count).step_by(2) {
        let flags = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
        rustix::fs::fallocate(&file, flags, number * block, block).unwrap();
    }
}

/// An image whose log is to be replayed: its system ended at a moment, with or without what it had in memory of the log.
fn dirty(work: &Work, kind: &Kind, seed: u64, flush: bool) -> Option<PathBuf> {
    let image = work.image(&format!("{}-{seed}", kind.name.replace(' ', "-")), LEN);
    run("mkfs.xfs", &[&["--unsupported", "-q"], kind.make, &[text(&image)]].concat());
    let at = work.path("mounted");
    if !mount(&image, kind.mount, &at) {
        return None;
    }
    let stop = AtomicBool::new(false);
    // What is on disk, and not in the log any more.
    fragment(&at, 4096, 1500);
    churn(&at, seed, 150, &stop).unwrap();
    run("sync", &["-f", text(&at)]);
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let (at, stop) = (&at, &stop);
            scope.spawn(move || {
                // Ends with an error when the system does.
                let _ = churn(at, seed * 10 + thread + 100, 4000, stop);
            });
        }
        if seed % 3 == 1 {
            // Freed in many transactions, of which some are not done.
            let at = &at;
            scope.spawn(move || {
                let _ = fs::remove_file(at.join("fragments"));
            });
        }
        let began = Instant::now();
        let files = || fs::read_dir(at.join(format!("churn-{}", seed * 10 + 100))).map_or(0, Iterator::count);
        // Until there is something, and as long again as the seed says.
        while files() < 10 && began.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(Duration::from_millis(seed * 37 % 400));
        let how = if flush { "shutdown -f" } else { "shutdown" };
        run("xfs_io", &["-x", "-c", how, text(&at)]);
        stop.store(true, Ordering::Relaxed);
    });
    unmount(&at);
    Some(image)
}

/// The map of a copy that the kernel has replayed.
fn replayed(work: &Work, image: &Path) -> (PathBuf, UsedMap) {
    let copy = work.path("replayed");
    run("cp", &["--sparse=always", text(image), text(&copy)]);
    let at = work.path("mounted");
    assert!(mount(&copy, "loop", &at));
    unmount(&at);
    let map = map_of(&copy);
    assert_eq!(map.whole_because(), None);
    (copy, map)
}

/// How many blocks the disk itself has as free, whatever its log says.
fn free_on_disk(image: &Path) -> Vec<String> {
    let groups: u32 = print(image, "sb 0", "agcount").parse().unwrap();
    (0..groups).map(|group| print(image, &format!("agf {group}"), "freeblks")).collect()
}

fn print(image: &Path, place: &str, what: &str) -> String {
    let said = run("xfs_db", &["-r", "-c", place, "-c", &format!("print {what}"), text(image)]);
    said.rsplit_once("= ").unwrap().1.trim().to_owned()
}

/// A map of an image whose log is right is whole only where a record was under way.
fn is_whole(map: &UsedMap) -> bool {
    let Some(why) = map.whole_because() else { return false };
    assert_eq!(why.severity, Severity::Notice, "{why:?}");
    assert!(why.because.contains("at this moment") || why.because.contains("not complete"), "{why:?}");
    true
}

#[test]
fn what_is_used_after_the_log_is_replayed_is_in_the_map() {
    let seeds = std::env::var("VOLBAK_TEST_SEEDS").map_or(2, |seeds| seeds.parse().unwrap());
    let work = Work::new();
    for kind in &KINDS {
        let (mut wholes, mut changed, mut mounts) = (0, 0, 0);
        // Whether a record was under way at the end, or nothing but the log had changed, is chance: of few, one more may be needed.
        for seed in 0..seeds + 10 {
            if seed >= seeds && (mounts == 0 || changed > 0 && wholes * 2 <= mounts) {
                break;
            }
            let Some(image) = dirty(&work, kind, seed, seed % 2 == 0) else { continue };
            mounts += 1;
            let map = map_of(&image);
            let (copy, truth) = replayed(&work, &image);
            let case = format!("{} {seed}", kind.name);
            println!(
                "{case}: {:?}, {} used, {} after a replay",
                map.whole_because(),
                map.used_bytes(),
                truth.used_bytes()
            );
            for run in truth.runs() {
                assert!(map.covers(*run), "{case}: {run:?} is left out");
            }
            changed += u64::from(free_on_disk(&image) != free_on_disk(&copy));
            if is_whole(&map) {
                wholes += 1;
            } else {
                assert!(map.used_bytes() * 100 <= truth.used_bytes() * 105, "{case}");
            }
            fs::remove_file(&copy).unwrap();
            fs::remove_file(&image).unwrap();
        }
        assert!(mounts == 0 || changed > 0 && wholes * 2 <= mounts, "{}: {wholes} whole, {changed} changed", kind.name);
    }
}

/// The records of the log that are to be replayed: the first byte of each, and how many blocks it has.
fn records(image: &Path) -> Vec<(u64, u64)> {
    let number = |what: &str| -> u64 { print(image, "sb 0", what).parse().unwrap() };
    let (block, start, group_log) = (number("blocksize"), number("logstart"), number("agblklog"));
    let start = ((start >> group_log) * number("agblocks") + (start & ((1 << group_log) - 1))) * block;
    let file = File::open(image).unwrap();
    let mut log = vec![0; usize::try_from(number("logblocks") * block).unwrap()];
    file.read_exact_at(&mut log, start).unwrap();
    let long = |at: usize| u64::from_be_bytes(log[at..at + 8].try_into().unwrap());
    let headers = (0..log.len()).step_by(512).filter(|at| log[*at..].starts_with(&MAGIC));
    let headers: Vec<usize> = headers.collect();
    let newest = headers.iter().max_by_key(|at| long(**at + 16)).unwrap();
    let tail = long(newest + 24);
    headers
        .iter()
        .filter(|at| long(**at + 16) >= tail)
        .map(|at| {
            let word =
                |offset: usize| u64::from(u32::from_be_bytes(log[at + offset..at + offset + 4].try_into().unwrap()));
            (start + *at as u64, word(320).div_ceil(32 << 10).max(1) + word(12).div_ceil(512))
        })
        .collect()
}

const MAGIC: [u8; 4] = [0xFE, 0xED, 0xBA, 0xBE];

/// Changed bytes of the log: all that is used after a replay is in the map, or all is.
#[test]
fn a_log_that_is_damaged_leaves_nothing_out() {
    let work = Work::new();
    for kind in [&KINDS[0], &KINDS[2]] {
        let image = dirty(&work, kind, 3, true).unwrap();
        let (_, truth) = replayed(&work, &image);
        let original = blocks(&image);
        let found = region(original.as_ref());
        let headers: Vec<u64> = records(&image).iter().map(|(at, _)| *at).collect();
        let written: Vec<u64> =
            records(&image).iter().flat_map(|(at, count)| (0..*count).map(move |block| at + block * 512)).collect();
        let (mut maps, mut sealed_maps) = (0, 0);
        for case in 0..200_u64 {
            let random: Vec<u64> = noise(case * 77 + 5, 80)
                .chunks_exact(8)
                .map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap()))
                .collect();
            // Half of them in the headers of records, or in the first operations behind them.
            let places = if case % 2 == 0 { &headers } else { &written };
            let patches: Vec<(u64, u8)> = (0..=random[0] % 3)
                .filter_map(|index| {
                    let index = usize::try_from(index).unwrap();
                    let block = places[usize::try_from(random[1 + index] % places.len() as u64).unwrap()];
                    let at = block + random[4 + index] % if case % 4 == 0 { 48 } else { 512 } + case / 100 % 2 * 512;
                    let mut byte = [0];
                    original.read_at(at, &mut byte).unwrap();
                    let new = match random[7] % 4 {
                        0 => byte[0] ^ (1 << (random[8] % 8)),
                        1 => 0,
                        2 => 0xFF,
                        _ => random[9].to_le_bytes()[1],
                    };
                    (new != byte[0]).then_some((at, new))
                })
                .collect();
            let patched: Arc<dyn BlockRead> = Arc::new(Patched::new(&original, patches.clone()));
            let map = map_with(&found, &patched);
            if map.whole_because().is_none() {
                maps += u64::from(!patches.is_empty());
                for run in truth.runs() {
                    assert!(map.covers(*run), "{} {case}: {run:?} is left out; {patches:?}", kind.name);
                }
            }
            // With right checksums it is another log, and what is right is not known: it is read within bounds.
            let sealed: Arc<dyn BlockRead> = Arc::new(Patched::new(&original, sealed(&patched, &headers, patches)));
            sealed_maps += u64::from(map_with(&found, &sealed).whole_because().is_none());
        }
        println!("{}: {maps} and {sealed_maps} maps", kind.name);
        // Some lie behind the newest record.
        assert!(maps < 40 && sealed_maps < 200);
        fs::remove_file(&image).unwrap();
    }
}

/// The patches, and right checksums of all records that they change.
fn sealed(patched: &Arc<dyn BlockRead>, headers: &[u64], mut patches: Vec<(u64, u8)>) -> Vec<(u64, u8)> {
    for header_at in headers {
        let mut header = vec![0; 512 * 8];
        patched.read_at(*header_at, &mut header).unwrap();
        let word = |at: usize| u32::from_be_bytes(header[at..at + 4].try_into().unwrap());
        let (len, own_blocks) = (word(12), u64::from(word(320).div_ceil(32 << 10).clamp(1, 8)));
        let end = header_at + own_blocks * 512 + u64::from(len);
        let is_changed = patches.iter().any(|(at, _)| (*header_at..end).contains(at));
        if len > 256 << 10 || !is_changed {
            continue;
        }
        let mut data = vec![0; usize::try_from(len).unwrap()];
        patched.read_at(header_at + own_blocks * 512, &mut data).unwrap();
        header[32..36].fill(0);
        let mut crc = crc32c::crc32c(&header[..328]);
        for extended in 1..len.div_ceil(32 << 10).min(8) as usize {
            crc = crc32c::crc32c_append(crc, &header[extended * 512..extended * 512 + 260]);
        }
        crc = crc32c::crc32c_append(crc, &data);
        patches.extend((32..).zip(crc.to_le_bytes()).map(|(at, byte)| (header_at + at, byte)));
    }
    patches
}

/// The image of a running system's disk is small, and its own tools find nothing wrong with it.
#[test]
fn an_export_has_what_a_replay_leaves() {
    let work = Work::new();
    let image = dirty(&work, &KINDS[2], 4, true).unwrap();
    let (copy, _) = replayed(&work, &image);
    let (exported, peer, log) = (work.path("exported.raw"), work.path("peer"), work.path("log"));
    run(env!("CARGO_BIN_EXE_volbak"), &["-q", "export", text(&image), "--to", text(&exported)]);
    run("partclone.xfs", &["-c", "-s", text(&copy), "-O", text(&peer), "-L", text(&log), "-F"]);
    let (own, peer) = (fs::metadata(&exported).unwrap().blocks() * 512, fs::metadata(&peer).unwrap().len());
    assert!(own * 100 <= peer * 110, "{own} bytes, {peer} by partclone");
    // Its files are those of the copy that the kernel replayed.
    let (here, there) = (work.path("exported"), work.path("mounted"));
    assert!(mount(&exported, "loop", &here) && mount(&copy, "loop,nouuid", &there));
    run("diff", &["-r", text(&here), text(&there)]);
    unmount(&here);
    unmount(&there);
    run("xfs_repair", &["-n", "-f", text(&exported)]);
}
