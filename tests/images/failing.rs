//! Promise: whatever fails while a disk is written to a device or into an image, and whenever the program is killed there, nothing
//! that looks complete is not, and the message says what is on the target and what to do next.
//!
//! strace(1) makes a call of the real program fail, or kills it there.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::backup::Place;
use crate::disks::Noise;
use crate::killed::{Loop, names};
use crate::testkit::cases;

const LEN: usize = 4 << 20;
/// What is written last, at both ends.
const HELD_BACK: usize = 1 << 20;
/// What is on a device before.
const STALE: u8 = 0x5a;

/// A disk, its backup, and a device.
struct Bench {
    place: Place,
    disk: PathBuf,
    was: Vec<u8>,
    device: Loop,
}

impl Bench {
    fn new() -> Self {
        let place = Place::in_memory();
        let (disk, backing) = (place.path("disk.img"), place.path("device.img"));
        // Noise without zeros, so that each byte of the disk shows.
        let was: Vec<u8> = Noise::new(4).bytes(LEN).into_iter().map(|byte| byte.max(1)).collect();
        fs::write(&disk, &was).unwrap();
        place.back_up(&disk, &[]);
        fs::create_dir(place.path("out")).unwrap();
        fs::write(&backing, vec![STALE; LEN]).unwrap();
        let device = Loop::new(&backing);
        Self { place, disk, was, device }
    }

    /// `import` and `restore` to this target.
    fn verbs(&self, target: &[&str]) -> [Vec<String>; 2] {
        let to = self.place.to();
        let import = vec!["-q", "import", self.disk.to_str().unwrap()];
        let restore = vec!["-q", "restore", "disk", "--from", &to];
        [import, restore].map(|verb| verb.iter().chain(target).map(|word| (*word).to_owned()).collect())
    }

    /// Runs volbak; call number `moment` of this kind meets `fault`. `None` if there was no such call.
    fn run(&self, args: &[String], call: &str, fault: &str, moment: usize, of: Option<&str>) -> Option<Output> {
        self.run_when(args, call, fault, &moment.to_string(), of)
    }

    /// The same; `when` is as strace takes it: `3+` is the third call and all that follow.
    fn run_when(&self, args: &[String], call: &str, fault: &str, when: &str, of: Option<&str>) -> Option<Output> {
        let log = self.place.path("log");
        let mut strace = Command::new("strace");
        // Three times as fast, and sends no signals.
        if !fault.contains("signal") {
            strace.arg("--seccomp-bpf");
        }
        strace.args(["-f", "-qq", "-o", log.to_str().unwrap(), "-e", &format!("trace={call}")]);
        strace.args(["-e", &format!("inject={call}:{fault}:when={when}")]);
        if let Some(of) = of {
            strace.args(["-P", of]);
        }
        let output = strace.arg(env!("CARGO_BIN_EXE_volbak")).args(args).output().unwrap();
        let log = fs::read_to_string(log).unwrap();
        (log.contains("(INJECTED)") || output.status.signal() == Some(9)).then_some(output)
    }

    /// The numbers of the calls that are tried: the first, the last ones, and some between.
    fn moments(&self, args: &[String], call: &str, of: Option<&str>, tried: usize) -> Vec<usize> {
        // Beyond all: the highest number that strace takes.
        assert!(self.run(args, call, "error=EIO", 65_535, of).is_none());
        let log = fs::read_to_string(self.place.path("log")).unwrap();
        let calls = log.lines().filter(|line| line.contains(&format!("{call}("))).count();
        assert!(calls > 0, "{args:?}: {call}: {log}");
        let count = cases::count(tried);
        let mut moments: Vec<usize> = (0..count).map(|number| 1 + number * calls / count).collect();
        moments.extend([calls.saturating_sub(1).max(1), calls]);
        moments.sort_unstable();
        moments.dedup();
        moments
    }

    fn stale(&self) {
        fs::write(&self.device.0, vec![STALE; LEN]).unwrap();
    }

    /// Fails unless what is on the device is what was there before, the disk, or what nothing takes for a disk.
    fn judge(&self, what: &str) -> bool {
        let now = fs::read(&self.device.0).unwrap();
        let zeros = |range: std::ops::Range<usize>| now[range].iter().all(|byte| *byte == 0);
        let middle = HELD_BACK..LEN - HELD_BACK;
        let is_equal = now == self.was;
        let is_stale = now.iter().all(|byte| *byte == STALE);
        // Where something beside its first page has come, all between the ends is there.
        let is_no_disk = zeros(0..HELD_BACK) || (zeros(0..4096) && now[middle.clone()] == self.was[middle]);
        assert!(is_equal || is_stale || is_no_disk, "{what}");
        is_equal
    }
}

#[test]
fn a_device_whose_writes_syncs_or_reads_fail_never_looks_like_a_disk() {
    let bench = Bench::new();
    let device = bench.device.0.clone();
    let erase = format!("--yes-erase={}", device.rsplit('/').next().unwrap());
    for args in bench.verbs(&["--to-device", &device, &erase]) {
        for call in ["pwrite64", "fsync", "pread64"] {
            for moment in bench.moments(&args, call, Some(&device), 5) {
                bench.stale();
                let what = format!("{args:?}: {call} {moment}");
                let output = bench.run(&args, call, "error=EIO", moment, Some(&device)).unwrap();
                let said = String::from_utf8(output.stderr).unwrap();
                let is_equal = bench.judge(&format!("{what}: {said}"));
                if output.status.success() {
                    // Only a read before all is overwritten may fail.
                    assert!(is_equal && call == "pread64", "{what}: {said}");
                    continue;
                }
                assert_eq!(output.status.code(), Some(1), "{what}: {said}");
                let next = ["choose another", "repeat it", "make sure that nothing else writes"];
                assert!(said.contains(&device) && next.iter().any(|next| said.contains(next)), "{what}: {said}");
                let has_no_disk = said.contains("first sectors are zeros");
                let first = fs::read(&device).unwrap()[..4096].to_vec();
                assert!(!has_no_disk || first.iter().all(|byte| *byte == 0), "{what}: {said}");
            }
        }
    }
}

#[test]
fn a_device_is_no_disk_when_the_run_is_killed_at_any_write() {
    let bench = Bench::new();
    let device = bench.device.0.clone();
    let erase = format!("--yes-erase={}", device.rsplit('/').next().unwrap());
    for args in bench.verbs(&["--to-device", &device, &erase]) {
        for call in ["pwrite64", "fsync"] {
            for moment in bench.moments(&args, call, Some(&device), 15) {
                bench.stale();
                let output = bench.run(&args, call, "signal=KILL", moment, Some(&device)).unwrap();
                assert_eq!(output.status.signal(), Some(9), "{args:?}: {call} {moment}");
                bench.judge(&format!("{args:?}: {call} {moment}"));
            }
        }
        bench.stale();
        let output = Command::new(env!("CARGO_BIN_EXE_volbak")).args(&args).output().unwrap();
        assert!(output.status.success() && bench.judge("after all"));
    }
}

/// The names in a directory, those of temporary files apart.
fn complete(out: &Path) -> (Vec<String>, usize) {
    let all = names(out);
    let complete: Vec<String> = all.iter().filter(|name| !name.starts_with(".volbak-tmp.")).cloned().collect();
    let left = all.len() - complete.len();
    (complete, left)
}

#[test]
fn an_image_has_its_name_only_when_it_is_complete_whatever_fails() {
    let bench = Bench::new();
    let out = bench.place.path("out");
    let target = out.join("a.img");
    for args in bench.verbs(&["--to-image", target.to_str().unwrap()]) {
        let mut left_something = false;
        for (call, tried) in [("pwrite64", 4), ("fsync", 5), ("renameat2", 1), ("ftruncate", 1)] {
            let _ = fs::remove_file(&target);
            for moment in bench.moments(&args, call, None, tried) {
                for fault in ["error=EIO", "signal=KILL"] {
                    fs::remove_dir_all(&out).unwrap();
                    fs::create_dir(&out).unwrap();
                    let what = format!("{args:?}: {call} {moment} {fault}");
                    let output = bench.run(&args, call, fault, moment, None).unwrap();
                    let said = String::from_utf8(output.stderr).unwrap();
                    assert!(!output.status.success(), "{what}: {said}");
                    let (complete, left) = complete(&out);
                    assert!(complete.iter().all(|name| fs::read(out.join(name)).unwrap() == bench.was), "{what}");
                    if fault == "signal=KILL" {
                        left_something |= left > 0;
                    } else {
                        // One that is complete and got no name is kept, which the message says.
                        assert!(left == 0 || said.contains("it is complete as"), "{what}: {said}");
                        assert!(said.contains("out"), "{what}: {said}");
                    }
                    if left > 0 && complete.is_empty() {
                        let args: Vec<&str> = args.iter().map(String::as_str).filter(|word| *word != "-q").collect();
                        let output = Command::new(env!("CARGO_BIN_EXE_volbak")).args(&args).output().unwrap();
                        let said = [output.stdout, output.stderr].concat();
                        let said = String::from_utf8_lossy(&said);
                        assert!(output.status.success() && said.contains("left .volbak-tmp.a.img."), "{what}: {said}");
                        assert!(fs::read(&target).unwrap() == bench.was);
                    }
                }
            }
        }
        assert!(left_something);
    }
}

/// Sources and archives whose medium fails.
#[test]
fn what_cannot_be_read_makes_no_image_and_is_found_by_a_verification() {
    let bench = Bench::new();
    let out = bench.place.path("out");
    let (disk, to) = (bench.disk.to_str().unwrap(), bench.place.to());
    let image = out.join("a.img");
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let archive = names(&bench.place.path("to/disk")).into_iter().find(|name| name.ends_with(".img.gz")).unwrap();
    let archive = bench.place.path("to/disk").join(archive);
    let archive = archive.to_str().unwrap();
    for (args, of, said_next) in [
        (words(&["-q", "import", disk, "--to-image", image.to_str().unwrap()]), disk, "volbak snapshot --image"),
        (words(&["-q", "restore", "disk", "--from", &to, "--to-image", image.to_str().unwrap()]), archive, "verify"),
        (words(&["-q", "verify", "disk", "--from", &to]), archive, "could not be read"),
        (words(&["-q", "export", archive, "--to", image.to_str().unwrap()]), archive, "cannot be read at byte"),
    ] {
        let _ = fs::remove_file(&image);
        let moments = bench.moments(&args, "pread64", Some(of), 6);
        let mut tried = 0;
        // The first reads look for what it is. How many there are depends on what is read at once.
        for moment in moments.into_iter().filter(|moment| *moment > 1) {
            let _ = fs::remove_file(&image);
            // A read of a backup is tried again if it fails once.
            let when = if of == archive { format!("{moment}+") } else { moment.to_string() };
            let Some(output) = bench.run_when(&args, "pread64", "error=EIO", &when, Some(of)) else { continue };
            tried += 1;
            let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
            assert_eq!(output.status.code(), Some(1), "{args:?} {moment}: {said}");
            let is_told = said.contains(said_next) || said.contains("it cannot be read");
            assert!(is_told && said.contains("Input/output error"), "{args:?} {moment}: {said}");
            assert!(!image.exists(), "{args:?} {moment}");
            bench.place.well(&["verify", "disk"]);
        }
        assert!(tried > 0, "{args:?}");
    }
    // An image backup is made of what can be read. A read that fails once loses nothing.
    let args = words(&["-q", "snapshot", disk, "--image", "--full", "--to", &to]);
    let last = *bench.moments(&args, "pread64", Some(disk), 1).last().unwrap();
    let output = bench.run(&args, "pread64", "error=EIO", last, Some(disk)).unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(3) && said.contains("the data are whole"), "{said}");
    let lost = "bytes in 1 place could not be read and are zeros";
    let output = bench.run_when(&args, "pread64", "error=EIO", &format!("{last}+"), Some(disk)).unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(3) && said.contains(lost), "{said}");
    let partial = bench.place.well(&["list", "disk"]);
    assert!(partial.contains("partial"), "{partial}");
}
