//! Nights on a host with real LVM: each test runs in a machine that `scripts/lab` starts for it.
//!
//! Promises: each volume's old backups go when and only when its new one is there; the report says exactly what
//! happened; a night that goes wrong (the destination lost or full, another run, a signal, kill -9, a power cut) costs
//! no good backup, calls no bad one good, and leaves nothing that the next night does not remove.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::testkit::cases;
use crate::testkit::guest::backups::{archives, assert_all_good, leftovers, volbak};
use crate::testkit::guest::lab::{GROUP, SCRATCH, dest, in_lab, set_up, state, thick_volume, thin_volume};
use crate::testkit::guest::{Mounted, both_outputs, make_filesystem, partition, quoted, sh};
use crate::testkit::tree::{Filesystem, noise};

const CONFIG: &str = "/run/t/volbak.toml";

/// A config for the destination with so many days' retention, and more lines at the end.
fn write_config(dest: &Path, days: u32, more: &str) {
    let text = format!("backup_destination = '{}'\nbackups_retention_days = {days}\n{more}", dest.display());
    fs::write(CONFIG, text).unwrap();
}

fn night_command(more: &[&str]) -> Command {
    let mut command = volbak(&["--quiet", "run", "--config", CONFIG]);
    command.args(more);
    command
}

fn night(more: &[&str]) -> Output {
    night_command(more).output().unwrap()
}

/// A night that is to end with this status; gives its report, and whatever else it said.
fn night_expecting(status: i32, more: &[&str]) -> String {
    let output = night(more);
    assert_eq!(output.status.code(), Some(status), "{}", both_outputs(&output));
    String::from_utf8(output.stdout).unwrap()
}

fn verb(status: i32, arguments: &[&str]) -> String {
    let output = volbak(arguments).args(["--config", CONFIG]).output().unwrap();
    assert_eq!(output.status.code(), Some(status), "{arguments:?}: {}", both_outputs(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// A volume with an ext4 in a partition and some files in it.
fn fill(volume: &Path, seed: u64, bytes: usize) {
    partition(volume);
    make_filesystem(volume, Filesystem::Ext4);
    let guest = Mounted::partition(volume, &Path::new(SCRATCH).join("guest"));
    fs::write(guest.point.join("file"), noise(seed, bytes)).unwrap();
    fs::write(guest.point.join("note"), "hello\n").unwrap();
    guest.unmount();
}

/// The report with durations and the destination's own size, which nobody can know beforehand, as T and S.
fn normalised(report: &str) -> String {
    let mut lines = Vec::new();
    for line in report.lines() {
        let mut words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let begin = words.windows(2).position(|two| two[1] == "h" && two[0].parse::<u64>().is_ok());
        let end = words.iter().position(|word| word.starts_with("seconds"));
        if let (Some(at), Some(end)) = (begin, end) {
            let after = words[end].trim_start_matches("seconds").to_owned();
            words.splice(at..=end, [format!("T{after}")]);
        }
        let line = words.join(" ");
        lines.push(match line.split_once("Total backups size - ") {
            Some(_) => "Total backups size - S".to_owned(),
            None => line,
        });
    }
    lines.join("\n") + "\n"
}

fn du(directory: &Path) -> String {
    sh(&format!("du -sh {} | cut -f1 | tr . ,", quoted(directory))).trim().to_owned()
}

/// Eight nights over five volumes. volume-e overflows in nights 3 to 5: its after hook, which runs once the snapshot
/// is there, writes more to the volume than the snapshot has room for.
#[test]
fn eight_nights() {
    if !in_lab("nights::eight_nights") {
        return;
    }
    set_up();
    fill(&thick_volume("volume-a", "24M"), 1, 500_000);
    fill(&thin_volume("volume-b", "24M"), 2, 500_000);
    nested(&thick_volume("volume-c", "48M"));
    let nothing = thick_volume("volume-d", "8M");
    fs::write(&nothing, noise(4, 1_000_000)).unwrap();
    fill(&thick_volume("volume-e", "64M"), 5, 500_000);
    // Not volumes of instances: a Cinder snapshot, a volume of the host's.
    sh(&format!(
        "lvcreate -q -y -s -n _snapshot-of-cinder -L 4M {GROUP}/volume-a; lvcreate -q -y -n root -L 8M {GROUP}
         cat >{SCRATCH}/flood <<'END'\n#!/bin/sh\n\
         [ ! -e {SCRATCH}/flooding ] || exec dd if=/dev/urandom of=/dev/$VOLBAK_GROUP/$VOLBAK_VOLUME bs=1M seek=50 count=12 \
         conv=notrunc,fsync status=none\nEND\n
         chmod +x {SCRATCH}/flood"
    ));
    write_config(
        &dest(),
        2,
        &format!(
            "[snapshot]\nextend = false\n[report]\nmetrics_file = '{SCRATCH}/volbak.prom'\n\
             [volume.volume-e]\nsnapshot_max_size = '4M'\nafter_snapshot = ['{SCRATCH}/flood']\n"
        ),
    );
    let before = state();
    let names = ["a", "b", "c", "d", "e"];
    let mut removed_in_all = 0;
    for night in 0..8_i64 {
        let overflows = (3..=5).contains(&night);
        sh(&format!("date -s '2026-11-{:02} 01:00:01' >/dev/null", night + 1));
        let flag = Path::new(SCRATCH).join("flooding");
        if overflows {
            fs::write(&flag, "").unwrap();
        } else {
            let _ = fs::remove_file(&flag);
        }
        let started = Instant::now();
        let said = night_expecting(if overflows { 1 } else { 3 }, &[]);
        eprintln!("night {night}: {:?}", started.elapsed());

        let mut expected =
            format!("Backup Start Time - {:02}/11 at 01:XX:XX\nCurrent retention - 2 days\n\n", night + 1);
        let mut blocks = Vec::new();
        for name in names {
            let directory = dest().join(format!("volume-{name}"));
            let shown = directory.display();
            let removed: Vec<i64> = match (name, night) {
                ("e", 3..=5) => vec![],
                ("e", 6) => vec![0, 1],
                ("e", 7) => vec![2],
                (_, 3..) => vec![night - 3],
                _ => vec![],
            };
            removed_in_all += removed.len();
            let paths: Vec<String> =
                removed.iter().map(|night| format!("{shown}/volume-{name}_{:02}_11_2026.tar.gz", night + 1)).collect();
            let pruning = if paths.is_empty() {
                "Not any old backups to remove...".to_owned()
            } else {
                format!("Removing old backups...  : {}", paths.join("\n     "))
            };
            let outcome = if name == "e" && overflows {
                format!("FAILED after T. {GROUP}/volume-e-volbak-01XXXX: snapshot overflowed: 100% of 4 MiB used")
            } else {
                format!("T. Size - {}", du(&directory))
            };
            let problems = match name {
                "d" => "\n       disk: holds something unknown; kept as a raw image, disk.img",
                "e" if night == 6 => {
                    "\n       retention: 4 days lie between the backups of 2026-11-03 and 2026-11-07: a long outage, or the \
                     clock is wrong"
                }
                _ => "",
            };
            blocks.push(format!(
                "The backup volume is mounted. Proceed...\n{pruning}\n     {shown} - {outcome}{problems}\n"
            ));
        }
        expected.push_str(&blocks.join("\n"));
        expected
            .push_str("---------------------------------------\nTotal backups size - S\nTotal execution time - T\n");
        let (documented, listed) = without_list(&without_times(&normalised(&said)));
        assert_eq!(documented, expected, "night {night}");
        assert!(listed.contains("  - volume-d: 1 warning: disk: holds something unknown"), "{listed}");
        assert_eq!(listed.contains("volume-e: FAILED") || listed.contains("volume-e: failed"), overflows, "{listed}");
        assert_eq!(verb(0, &["report"]), said, "the kept report is the printed one");
        assert_all_good(&dest());
        assert_eq!(state(), before, "night {night} left something behind");
        let metrics = fs::read_to_string(format!("{SCRATCH}/volbak.prom")).unwrap();
        let verdict = if overflows { 2 } else { 1 };
        assert!(metrics.contains(&format!("volbak_run_verdict {verdict}\n")), "{metrics}");
        let full = metrics.contains("volbak_volume_snapshot_peak_percent{volume=\"volume-e\"} 100\n");
        assert_eq!(full, overflows, "{metrics}");
    }
    let kept: Vec<String> = archives(&dest())
        .iter()
        .map(|path| path.file_name().unwrap().to_str().unwrap().replace("_11_2026.tar.gz", ""))
        .collect();
    let expected: Vec<String> = names
        .iter()
        .flat_map(|name| {
            if *name == "e" { vec![7, 8] } else { vec![6, 7, 8] }
                .into_iter()
                .map(move |d| format!("volume-{name}_{d:02}"))
        })
        .collect();
    assert_eq!(kept, expected);
    eprintln!("8 nights, {} backups made, {removed_in_all} removed, {} kept", 8 * 5 - 3, kept.len());
    let inside = sh(&format!("tar tzf {}", quoted(&archives(&dest().join("volume-c"))[0])));
    assert!(inside.contains("note"), "the nested volume's files are in the archive:\n{inside}");
}

/// A disk with a partition that holds a volume group of the guest's own.
fn nested(volume: &Path) {
    sh(&format!(
        "sfdisk -q --no-reread --no-tell-kernel {0} <<'TABLE'\nlabel: gpt\nstart=2048, size=94208, type=lvm\nTABLE
         loop=$(losetup -f --show -o 1048576 --sizelimit {1} {0}); pvcreate -q $loop; vgcreate -q guest $loop
         lvcreate -q -y -n home -L 16M guest; mkfs.ext4 -q /dev/guest/home
         mkdir -p {SCRATCH}/nested; mount /dev/guest/home {SCRATCH}/nested; echo hello >{SCRATCH}/nested/note
         umount {SCRATCH}/nested; vgchange -q -an guest; losetup -d $loop",
        quoted(volume),
        // Its end belongs to the backup table.
        (48 << 20) - (2 << 20)
    ));
}

/// A report's documented lines, and the list of what to look at before its totals.
fn without_list(report: &str) -> (String, String) {
    // What needs somebody and what changed follow after the documented part.
    let totals = report.find("Total execution time").unwrap();
    let report = &report[..=totals + report[totals..].find('\n').unwrap()];
    let Some((before, rest)) = report.split_once("\nVolumes to look at: ") else {
        return (report.to_owned(), String::new());
    };
    let totals = rest.find("---------------------------------------").unwrap();
    (format!("{before}{}", &rest[totals..]), rest[..totals].to_owned())
}

/// A report with X for the minutes and seconds at which the run began and snapshots were taken: they depend on how fast the
/// machine is.
fn without_times(report: &str) -> String {
    let masked = |text: &str, before: &str, digits: &str| {
        let mut parts = text.split(before);
        let mut masked = parts.next().unwrap().to_owned();
        for part in parts {
            masked.extend([before, digits, part.get(digits.len()..).unwrap_or_default()]);
        }
        masked
    };
    masked(&masked(report, "-volbak-01", "XXXX"), " at 01:", "XX:XX")
}

/// What a hook of the next night does, in place of nothing: a script for a phase and a volume.
fn hook(phase_and_volume: &str, script: &str) {
    fs::write(Path::new(SCRATCH).join(phase_and_volume), script).unwrap();
}

fn no_hook(phase_and_volume: &str) {
    fs::remove_file(Path::new(SCRATCH).join(phase_and_volume)).unwrap();
}

fn install_hooks() -> String {
    let path = Path::new(SCRATCH).join("hook");
    let script = format!("#!/bin/sh\nf={SCRATCH}/$VOLBAK_PHASE-$VOLBAK_VOLUME\n[ ! -e $f ] || . $f\n");
    fs::write(&path, script).unwrap();
    sh(&format!("chmod +x {}", quoted(&path)));
    format!("[hooks]\nbefore_snapshot = ['{0}']\nafter_snapshot = ['{0}']\n", path.display())
}

#[test]
fn nights_that_go_wrong() {
    if !in_lab("nights::nights_that_go_wrong") {
        return;
    }
    // Not below /run, which is a mount point itself.
    let directory = tempfile::tempdir().unwrap();
    let point = directory.path().join("destination");
    fs::create_dir(&point).unwrap();
    let mount = || sh(&format!("mount /dev/ubdb {}", quoted(&point)));
    sh(&format!(
        "pvcreate -q /dev/ubda; vgcreate -q {GROUP} /dev/ubda; mkdir -p {SCRATCH}; mkfs.ext4 -q -m 0 /dev/ubdb 300M
         date -s '2026-11-01 01:00:01' >/dev/null"
    ));
    mount();
    for number in 1..=3 {
        fill(&thick_volume(&format!("volume-{number}"), "12M"), number, 500_000);
    }
    write_config(&point, 2, &install_hooks());
    let before = state();
    let count = |volume: u64| archives(&point.join(format!("volume-{volume}"))).len();
    let counts = || [count(1), count(2), count(3)];
    let nothing_left = |what: &str| {
        assert_all_good(&point);
        assert_eq!(leftovers(&point), "", "{what}");
        assert_eq!(state(), before, "{what}");
    };
    let dry = verb(0, &["run", "--dry-run"]);
    assert!(dry.contains("would back up cinder-volumes/volume-1 (12 MiB; the first backup)"), "{dry}");
    assert_eq!(fs::read_dir(&point).unwrap().count(), 1, "lost+found alone: nothing was done");
    night_expecting(0, &[]);
    assert_eq!(counts(), [1, 1, 1]);

    // Not mounted: nothing is written to the directory below.
    sh(&format!("umount {}", quoted(&point)));
    let said = night_expecting(1, &[]);
    assert!(said.contains("The backup volume is not mounted. The backup has been aborted...\n------"), "{said}");
    assert!(verb(3, &["status"]).starts_with("VOLBAK UNKNOWN - "));
    assert_eq!(fs::read_dir(&point).unwrap().count(), 0);
    mount();

    // Another run at the same time.
    hook("before-volume-1", &format!("touch {SCRATCH}/waits; while [ ! -e {SCRATCH}/go ]; do sleep 0.1; done"));
    let first = night_command(&[]).stdout(Stdio::piped()).spawn().unwrap();
    while !Path::new(SCRATCH).join("waits").exists() {
        thread::sleep(Duration::from_millis(50));
    }
    let output = night(&[]);
    assert_eq!(output.status.code(), Some(4), "{}", both_outputs(&output));
    let holder = format!("process {} on ", first.id());
    assert!(both_outputs(&output).contains(&holder), "{}", both_outputs(&output));
    verb(4, &["protect", "volume-1@last"]);
    fs::write(Path::new(SCRATCH).join("go"), "").unwrap();
    let output = first.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", both_outputs(&output));
    no_hook("before-volume-1");
    assert_eq!(counts(), [2, 2, 2]);

    // SIGTERM while the second volume is read.
    hook("after-volume-2", "kill -TERM $PPID");
    let said = night_expecting(1, &[]);
    assert!(said.contains("volume-2 - FAILED after") && said.contains("interrupted"), "{said}");
    assert!(said.contains("The backup has been aborted... stopped by a signal"), "{said}");
    assert_eq!(counts(), [3, 2, 2]);
    nothing_left("after SIGTERM");

    // A hook that fails, and takes too long: no snapshot of that volume, the others go on.
    hook("before-volume-1", "echo the agent does not answer >&2; exit 1");
    hook("after-volume-1", &format!("echo $VOLBAK_OUTCOME >{SCRATCH}/outcome"));
    no_hook("after-volume-2");
    let said = night_expecting(1, &[]);
    assert!(said.contains("before the snapshot") && said.contains("the agent does not answer"), "{said}");
    assert_eq!(fs::read_to_string(Path::new(SCRATCH).join("outcome")).unwrap(), "failed\n");
    assert_eq!(counts(), [3, 3, 3]);
    no_hook("before-volume-1");
    no_hook("after-volume-1");

    // Unmounted while the second volume is read: what is open can be finished, nothing further is begun.
    hook("after-volume-2", &format!("umount -l {}", quoted(&point)));
    let said = night_expecting(1, &[]);
    assert!(said.contains("The backup volume is not mounted. The backup has been aborted..."), "{said}");
    assert!(!said.contains("volume-3"), "{said}");
    assert_eq!(fs::read_dir(&point).unwrap().count(), 0, "nothing was written below the mount point");
    no_hook("after-volume-2");
    mount();
    assert_eq!(counts(), [4, 4, 3]);
    nothing_left("after the destination was lost");

    // Full in the middle of the second volume; the third is known to need more than there is.
    let filler = point.join("filler");
    hook(
        "after-volume-2",
        &format!("fallocate -l $(( $(stat -f -c '%a * %S' {0}) - 300000 )) {1}", quoted(&point), quoted(&filler)),
    );
    let said = night_expecting(1, &[]);
    assert!(said.contains("volume-2 - FAILED after") && said.contains("No space left on device"), "{said}");
    assert!(said.contains("volume-3 - FAILED after") && said.contains("going by the last backup"), "{said}");
    fs::remove_file(&filler).unwrap();
    no_hook("after-volume-2");
    assert_eq!(counts(), [5, 4, 3]);
    nothing_left("after the destination was full");

    // A volume that is deleted while the night goes on, then is gone.
    hook("before-volume-1", &format!("lvremove -q -y {GROUP}/volume-3 >/dev/null"));
    let said = night_expecting(0, &[]);
    assert!(!said.contains("volume-3"), "{said}");
    no_hook("before-volume-1");
    let before = state();
    let said = night_expecting(0, &[]);
    let gone = format!(
        "The volume volume-3 is gone, its backups are kept until 30/01/2027...\nNot any old backups to remove...\n     \
         {}/volume-3 - 3 backups. Size - ",
        point.display()
    );
    assert!(said.contains(&gone), "{said}");
    assert!(verb(0, &["status"]).starts_with("VOLBAK OK - 2 volumes have their backups\n"));
    assert_eq!(counts(), [7, 6, 3]);

    // --only and --test: no other volume, and nothing about gone ones.
    assert!(!night_expecting(0, &["--only", "volume-2"]).contains("volume-3"));
    night_expecting(0, &["--test"]);
    assert_eq!(counts(), [8, 7, 3]);
    let output = night(&["--only", "volume-3"]);
    assert_eq!(output.status.code(), Some(2), "{}", both_outputs(&output));

    // A deadline that is over before the first volume; and one volume read slowly, all backups verified again.
    let output = night_command(&[]).env("VOLBAK_MAX_RUN_HOURS", "0.000001").output().unwrap();
    let said = both_outputs(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(
        said.matches(
            "FAILED after 0 h 0 m and 0 seconds. not started: not backed up in time: the run reached its limit"
        )
        .count(),
        2,
        "{said}"
    );
    let started = Instant::now();
    let mut slow = night_command(&["--only", "volume-2"]);
    let output = slow.env("VOLBAK_READ_RATE_LIMIT", "100K").env("VOLBAK_NICE", "5").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", both_outputs(&output));
    assert!(started.elapsed() > Duration::from_secs(3), "500 kB at 100 KiB a second, the first second free");
    let verified = night_command(&[])
        .env("VOLBAK_VERIFY__ENABLED", "true")
        .env("VOLBAK_VERIFY__SHARE_PERCENT", "100")
        .output()
        .unwrap();
    assert_eq!(verified.status.code(), Some(0), "{}", both_outputs(&verified));
    let records = sh(&format!("ls {}/*/*.verified.json | wc -l", quoted(&point)));
    assert_eq!(records.trim(), "21", "each of them");
    assert_eq!(counts(), [9, 9, 3]);

    // A clock that is a month ahead: the brake, and what is protected.
    verb(0, &["protect", "volume-1@01_11_2026"]);
    assert_eq!(verb(0, &["prune", "--dry-run"]).matches("protected").count(), 1);
    sh("date -s '2026-12-01 01:00:01' >/dev/null");
    assert!(verb(2, &["status"]).starts_with("VOLBAK CRITICAL - "));
    let said = night_expecting(3, &[]);
    assert!(said.contains("retention: 15 of all 21 backups would be removed, more than half; nothing was"), "{said}");
    assert_eq!(counts(), [10, 10, 3]);
    let said = night_expecting(0, &["--force"]);
    assert_eq!(said.matches(".tar.gz").count(), 15, "{said}");
    assert_eq!(counts(), [4, 3, 3], "today's two, the last verified, and the protected one; the gone volume's stay");
    assert_eq!(archives(&point.join("volume-1"))[0].file_name().unwrap(), "volume-1_01_11_2026.tar.gz");
    verb(0, &["unprotect", "volume-1@01_11_2026"]);
    assert_all_good(&point);
    assert_eq!(state(), before);
}

/// Two volumes for the tests that stop a night short.
fn two_small_volumes() {
    fill(&thick_volume("volume-1", "12M"), 1, 2_000_000);
    fill(&thick_volume("volume-2", "12M"), 2, 2_000_000);
}

/// 1 November 2026, one second after one o'clock, and so many days: the host's clock is UTC.
fn set_day(day: u64) {
    sh(&format!("date -s @{} >/dev/null", 1_793_494_801 + day * 86_400));
}

/// After a normal night: all that is there is good, and there is as much of it as retention keeps.
fn assert_recovered(before: &str, nights: usize, said: &str) {
    assert_eq!(state(), before, "{said}");
    assert_all_good(&dest());
    for volume in ["volume-1", "volume-2"] {
        // Every other night is a whole one: of the last five days there are three at least, and five when the nights that
        // were stopped had come so far.
        let there = archives(&dest().join(volume)).len();
        assert!(there >= nights.min(3) && there <= 5, "{there} of {volume}\n{said}");
    }
}

/// How many moments of each kind are tried.
fn moments() -> u32 {
    u32::try_from(cases::count(15)).unwrap()
}

/// The moment number `number` of all in a night that takes so long: each at random in its own part of it.
fn moment(number: u32, of: u32, duration: Duration) -> Duration {
    let random = noise(2027, of as usize)[number as usize];
    duration / of * number + duration / of * u32::from(random) / 256
}

#[test]
fn a_night_killed_at_any_moment_is_made_good_by_the_next() {
    if !in_lab("nights::a_night_killed_at_any_moment_is_made_good_by_the_next") {
        return;
    }
    set_up();
    set_day(0);
    two_small_volumes();
    write_config(&dest(), 4, "");
    let before = state();
    // The last whole night says how long one takes: others may have the processor at one time and not at another.
    let whole_night = || {
        let started = Instant::now();
        (night_expecting(0, &[]), started.elapsed())
    };
    let (_, mut duration) = whole_night();
    let (mut killed, mut left_something) = (0, 0);
    for number in 0..moments() {
        set_day(u64::from(number) * 2 + 1);
        let mut child = night_command(&[]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        thread::sleep(moment(number, moments(), duration));
        killed += u32::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
        left_something += u32::from(state() != before || !leftovers(&dest()).is_empty());
        set_day(u64::from(number) * 2 + 2);
        let said;
        (said, duration) = whole_night();
        assert_recovered(&before, number as usize + 2, &said);
    }
    eprintln!("{killed} of {} nights were killed before their end; {left_something} left something", moments());
    assert!(killed >= moments() / 4, "{killed}");
}

/// The machine itself is stopped, at moments of a night that is under way, and started again on the same disks.
#[test]
fn a_power_cut_at_any_moment_is_made_good_by_the_next_night() {
    if std::env::var_os("VOLBAK_LAB").is_some() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    for disk in ["a", "b"] {
        fs::File::create(path(disk)).unwrap().set_len(1 << 30).unwrap();
    }
    let mut cut = 0;
    for number in 0..=moments() {
        let _ = fs::remove_file(path("ready"));
        let log = fs::File::create(path("log")).unwrap();
        let mut lab = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/lab"))
            .arg(std::env::current_exe().unwrap())
            .args(["nights::inside_the_machine_whose_power_is_cut", "--exact", "--nocapture"])
            .env("VOLBAK_LAB_SECONDS", "600")
            .env("VOLBAK_LAB_DISKS", format!("{} {}", path("a").display(), path("b").display()))
            .env("VOLBAK_LAB_PIDFILE", path("pid"))
            .env("NIGHT_NUMBER", number.to_string())
            .env("NIGHT_READY", path("ready"))
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let said = || fs::read_to_string(path("log")).unwrap();
        let duration: PathBuf = path("ready");
        while !duration.exists() {
            assert!(lab.try_wait().unwrap().is_none(), "boot {number}: the machine ended:\n{}", said());
            thread::sleep(Duration::from_millis(20));
        }
        let millis: u64 = fs::read_to_string(&duration).unwrap().trim().parse().unwrap();
        if number < moments() {
            thread::sleep(moment(number, moments(), Duration::from_millis(millis)));
            let pid = fs::read_to_string(path("pid")).unwrap();
            // A night may have been faster than the one that was timed, and the machine have ended by itself.
            sh(&format!("kill -9 -- -{} 2>/dev/null || true", pid.trim()));
            let status = lab.wait().unwrap();
            assert!([Some(0), Some(125)].contains(&status.code()), "{status}:\n{}", said());
            cut += u32::from(status.code() == Some(125));
        } else {
            assert!(lab.wait().unwrap().success(), "the last boot:\n{}", said());
        }
    }
    eprintln!("{cut} of {} nights lost their power, each was made good by the next one", moments());
    assert!(cut >= moments() / 4, "{cut}");
}

/// The other side of the test above, which starts it with `NIGHT_NUMBER` set; by itself it does nothing: a normal night
/// after whatever happened, all of it looked at; then one more.
#[test]
fn inside_the_machine_whose_power_is_cut() {
    let Ok(number) = std::env::var("NIGHT_NUMBER") else { return };
    let number: u64 = number.parse().unwrap();
    let ready = PathBuf::from(std::env::var_os("NIGHT_READY").unwrap());
    if number == 0 {
        set_up();
        set_day(0);
        two_small_volumes();
    } else {
        // Activated as a host does at boot, what the cut left included.
        sh(&format!("mkdir -p {SCRATCH}; mount /dev/ubdb {SCRATCH}; vgchange -q -ay >/dev/null"));
    }
    write_config(&dest(), 4, "");
    set_day(number * 2);
    let started = Instant::now();
    let said = night_expecting(0, &[]);
    let duration = started.elapsed();
    assert_eq!(crate::testkit::guest::lab::volumes_of_volbak(), "");
    assert_recovered(&state(), usize::try_from(number).unwrap() + 1, &said);
    sh("sync");
    set_day(number * 2 + 1);
    // Renamed into place, so that whoever waits reads all of it.
    fs::write(ready.with_extension("new"), duration.as_millis().to_string()).unwrap();
    fs::rename(ready.with_extension("new"), &ready).unwrap();
    night_expecting(0, &[]);
}

/// A device whose reads never return: the night goes on to the next volume and ends, the process with it; the next night
/// copes with what was left; and when the device goes on, nothing of it stays.
#[test]
fn a_device_that_never_answers() {
    if !in_lab("nights::a_device_that_never_answers") {
        return;
    }
    set_up();
    fill(&thick_volume("volume-a", "24M"), 1, 500_000);
    fill(&thick_volume("volume-b", "24M"), 2, 500_000);
    sh(&format!(
        "cat >{SCRATCH}/suspend <<'END'\n#!/bin/sh\n\
         [ ! -e {SCRATCH}/suspending ] || exec dmsetup suspend --noflush \
         $(echo $VOLBAK_SNAPSHOT | sed 's/-/--/g; s,/,-,')\nEND\n\
         chmod +x {SCRATCH}/suspend; touch {SCRATCH}/suspending"
    ));
    // Long enough for its snapshot on a busy machine.
    let limits = "[volume.volume-a]\nmax_volume_hours = 0.003\n";
    write_config(&dest(), 7, &format!("{limits}after_snapshot = ['{SCRATCH}/suspend']\n"));
    let before = state();
    let suspended = || sh("dmsetup info -c --noheadings -o name,suspended | grep -i suspended | cut -d: -f1 || true");

    // It ends: the test waits for its process.
    let report = night_expecting(1, &[]);
    assert!(report.contains("volume-a - FAILED") && report.contains("hangs in a read or a write"), "{report}");
    assert!(!report.contains("volume-b - FAILED") && archives(&dest()).len() == 1, "{report}");
    assert_eq!(suspended().lines().count(), 1, "still suspended");

    // What was left is named, and keeps no other volume from its backup.
    fs::remove_file(Path::new(SCRATCH).join("suspending")).unwrap();
    let output = night(&[]);
    let said = both_outputs(&output);
    assert!(said.contains("volbak-") && said.contains("is left alone"), "{said}");
    assert!(archives(&dest()).len() >= 2, "{said}");

    for name in suspended().lines() {
        sh(&format!("dmsetup resume {name}"));
    }
    // The child that held the device open ends within a minute of that.
    let deadline = Instant::now() + Duration::from_secs(120);
    while state() != before && Instant::now() < deadline {
        night(&[]);
        thread::sleep(Duration::from_secs(1));
    }
    assert_eq!(state(), before);
    assert_all_good(&dest());
}
