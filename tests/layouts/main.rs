//! The promise: whatever a tenant's tools put on a volume is found as those tools see it, and damage costs no region
//! without a word. Each case is a disk made by real tools (and damaged, for some); what `detect` says is compared with
//! what is expected, and with sfdisk, partx, kpartx and blkid. Where those disagree with us, the case says so, the test
//! checks that they still do, and `docs/layout-choices.md` says why.

// Reports of what is wrong are put together a line at a time; their speed does not matter.
#![allow(clippy::format_push_string)]

mod cases;
mod headers;
mod mutations;
mod oracles;
mod patch;
#[path = "../testkit/mod.rs"]
mod testkit;

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::testkit::layouts::{blocks_of, compare, detected, invariants};

/// A disk and what is to be found on it.
pub(crate) struct Case {
    /// Its name, which is also its file's.
    pub(crate) name: &'static str,
    /// A bash script that makes `$IMG`.
    pub(crate) script: &'static str,
    /// What is done to it afterwards, byte by byte.
    pub(crate) patch: Option<fn(&File)>,
    /// A line a region: name, handling, content.
    pub(crate) regions: &'static [&'static str],
    /// A line for each warning or error, and no other: `W` or `E`, the place, a part of the text.
    pub(crate) problems: &'static [&'static str],
    /// The tools that see another table, by name.
    pub(crate) disagree: &'static [&'static str],
    /// The places where blkid's low-level probe says something else.
    pub(crate) blkid_differs: &'static [&'static str],
}

const MEMORY_LIMIT_KIB: u64 = 256 << 10;

/// Helpers for the scripts: `put OFFSET SIZE COMMAND…` runs a command on a file of that size and copies it to an offset
/// of the image, both in MiB; `poke OFFSET BYTES` writes bytes as printf(1) spells them.
const PRELUDE: &str = r#"
set -euo pipefail
part=$IMG.part
put() {
    local offset=$1 size=$2; shift 2
    rm -f "$part"; truncate -s "${size}M" "$part"
    "$@" "$part" >/dev/null 2>&1 </dev/null
    dd if="$part" of="$IMG" bs=1M seek="$offset" conv=notrunc,sparse status=none
    rm -f "$part"
}
poke() { printf "$2" | dd of="$IMG" bs=1 seek="$1" conv=notrunc status=none; }
clear() { dd if=/dev/zero of="$IMG" bs=512 seek="$1" count="$2" conv=notrunc status=none; }
noise() { dd if=/dev/urandom of="$IMG" bs=512 seek="$1" count="$2" conv=notrunc status=none; }
sfdisk() { command sfdisk -q --no-reread --no-tell-kernel "$@" >/dev/null; }
sgdisk() { command sgdisk "$@" "$IMG" >/dev/null; }
# parted itself ends now and then with a segmentation fault. A wrong disk would fail the comparison.
parted() {
    local try status=0
    for try in 1 2 3; do
        status=0; command parted -s -a none "$IMG" "$@" >/dev/null 2>&1 || status=$?
        [ $status = 139 ] || return $status
    done
    return $status
}
"#;

pub(crate) fn make(case: &Case, directory: &Path) -> PathBuf {
    let image = directory.join(format!("{}.img", case.name));
    let output = Command::new("bash")
        .args(["-c", &format!("{PRELUDE}\n{}", case.script)])
        .env("IMG", &image)
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .output()
        .expect("bash runs");
    assert!(output.status.success(), "{}: {}", case.name, String::from_utf8_lossy(&output.stderr));
    if let Some(patch) = case.patch {
        patch(&OpenOptions::new().read(true).write(true).open(&image).expect("just made"));
    }
    image
}

fn run(case: &Case, directory: &Path) -> Result<Duration, String> {
    let image = make(case, directory);
    let blocks = blocks_of(&image);
    let started = Instant::now();
    let layout = detected(case.name, &blocks);
    let took = started.elapsed();
    let mut wrong = compare(&layout, case.regions, case.problems).err().unwrap_or_default();
    wrong += &oracles::compare_tables(&image, &layout, case.disagree);
    wrong += &oracles::compare_contents(&image, &layout, case.blkid_differs);
    std::fs::remove_file(&image).expect("just made");
    if wrong.is_empty() { Ok(took) } else { Err(format!("--- {}\n{wrong}", case.name)) }
}

#[test]
fn every_layout_is_found_as_the_tools_see_it() {
    let only = std::env::var("VOLBAK_CASE").ok();
    let cases: Vec<Case> =
        cases::all().into_iter().filter(|case| only.as_ref().is_none_or(|only| case.name.contains(only))).collect();
    assert!(only.is_some() || cases.len() >= 60, "{} cases", cases.len());
    let directory = tempfile::tempdir().expect("a directory");
    let queue = Mutex::new(cases.iter());
    let failures = Mutex::new(Vec::new());
    let slowest = Mutex::new((Duration::ZERO, ""));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 4) {
            scope.spawn(|| {
                while let Some(case) = { queue.lock().expect("no panic holds it").next() } {
                    match std::panic::catch_unwind(|| run(case, directory.path())) {
                        Ok(Ok(took)) => {
                            let mut slowest = slowest.lock().expect("no panic holds it");
                            *slowest = (*slowest).max((took, case.name));
                        }
                        Ok(Err(wrong)) => failures.lock().expect("no panic holds it").push(wrong),
                        Err(_) => failures.lock().expect("no panic holds it").push(format!("{}: panic", case.name)),
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().expect("no panic holds it");
    let (took, name) = slowest.into_inner().expect("no panic holds it");
    let peak = invariants::peak_memory_kib();
    println!("{} layouts; the slowest was {name} with {took:?}; peak memory {peak} KiB", cases.len());
    assert!(failures.is_empty(), "{} of {} failed\n{}", failures.len(), cases.len(), failures.join("\n"));
    assert!(peak < MEMORY_LIMIT_KIB, "{peak} KiB");
}
