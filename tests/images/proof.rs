//! What exports and imports cost, how small they are beside what the filesystems' own tools write, and what is there when one
//! is killed.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::disks::{Noise, judge, run};
use crate::testkit::cases;

const VOLBAK: &str = env!("CARGO_BIN_EXE_volbak");

/// What a run cost.
struct Cost {
    peak_kib: u64,
    seconds: f64,
}

/// Runs volbak, which must end well, and measures it.
fn measured(args: &[&str]) -> Cost {
    const MEASURE: &str = "import resource, subprocess, sys\n\
        status = subprocess.call(sys.argv[1:])\n\
        used = resource.getrusage(resource.RUSAGE_CHILDREN)\n\
        print(used.ru_maxrss, used.ru_utime + used.ru_stime)\n\
        sys.exit(status)";
    let said = run("python3", &[&["-c", MEASURE, VOLBAK, "-q"][..], args].concat());
    let last = said.lines().last().unwrap();
    let (peak, seconds) = last.split_once(' ').unwrap();
    Cost { peak_kib: peak.parse().unwrap(), seconds: seconds.parse().unwrap() }
}

/// The number of bytes that volbak reads of a file.
fn bytes_read(file: &Path, args: &[&str]) -> u64 {
    let log = tempfile::NamedTempFile::new().unwrap();
    let strace = ["-f", "-y", "-e", "trace=read,pread64,readv,preadv,preadv2", "-o", text(log.path()), VOLBAK, "-q"];
    let output = Command::new("strace").args(strace).args(args).output().unwrap();
    // 3: with problems, such as a region that is kept as an image.
    assert!(matches!(output.status.code(), Some(0 | 3)), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    let log = fs::read_to_string(log.path()).unwrap();
    let of_file = format!("<{}>", file.display());
    let mut waiting: Vec<&str> = Vec::new();
    let mut bytes = 0;
    for line in log.lines() {
        // `PID call(3</path>, …) = N`, or the two halves of it.
        let thread = line.split_whitespace().next().unwrap();
        let is_of_file = line.contains(&of_file);
        if is_of_file && line.ends_with("<unfinished ...>") {
            waiting.push(thread);
            continue;
        }
        let resumed = line.contains("resumed>").then(|| waiting.iter().position(|waits| *waits == thread)).flatten();
        if let Some(at) = resumed {
            waiting.swap_remove(at);
        } else if !is_of_file {
            continue;
        }
        bytes += line.rsplit_once(" = ").unwrap().1.split_whitespace().next().unwrap().parse::<u64>().unwrap_or(0);
    }
    bytes
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// An image of noise, of these MiB, on which a filesystem is made.
fn stale(directory: &Path, name: &str, mib: u64, make: &[&str]) -> PathBuf {
    let path = directory.join(name);
    let file = File::create(&path).unwrap();
    let noise = Noise::new(mib).bytes(1 << 20);
    (0..mib).for_each(|at| file.write_all_at(&noise, at << 20).unwrap());
    drop(file);
    run(make[0], &[&make[1..], &[text(&path)]].concat());
    path
}

/// 20 GiB of nothing known, with 1 MiB of data: holes cost nothing, by either format.
#[test]
fn holes_of_a_large_disk_cost_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let disk = directory.path().join("disk.img");
    let file = File::create(&disk).unwrap();
    file.set_len(20 << 30).unwrap();
    file.write_all_at(&Noise::new(1).bytes(1 << 20), 7 << 30).unwrap();
    for name in ["a.qcow2", "a.raw"] {
        let image = directory.path().join(name);
        let args = ["export", text(&disk), "--to", text(&image), "--overwrite"];
        let cost = measured(&args);
        // A build without optimisation, on a machine that does other things: the least of some runs.
        let least = (0..4).map(|_| measured(&args).seconds).fold(cost.seconds, f64::min);
        assert!(least < 0.2, "{name}: {least} s of processor time");
        assert!(cost.peak_kib < 64 << 10, "{name}: {} KiB", cost.peak_kib);
        let read = bytes_read(&disk, &args);
        // Looking for tables and signatures reads no holes.
        assert!(read < (1 << 20) * 105 / 100, "{name}: {read} bytes were read");
    }
}

#[test]
fn an_export_stays_within_64_mib_of_memory_and_reads_what_is_used() {
    let directory = tempfile::tempdir().unwrap();
    let disk = stale(directory.path(), "disk.img", 320, &["/sbin/mke2fs", "-q", "-F", "-t", "ext4", "-E", "nodiscard"]);
    let (content, image) = (directory.path().join("content"), directory.path().join("a.qcow2"));
    fs::write(&content, Noise::new(8).bytes(200 << 20)).unwrap();
    run("/sbin/debugfs", &["-w", "-R", &format!("write {} kept", content.display()), text(&disk)]);
    for more in [&[][..], &["--compress"], &["--cluster-size", "4K"], &["--verify"]] {
        let args = [&["export", text(&disk), "--to", text(&image), "--overwrite"][..], more].concat();
        let cost = measured(&args);
        assert!(cost.peak_kib < 64 << 10, "{more:?}: {} KiB", cost.peak_kib);
    }
    let read = bytes_read(&disk, &["export", text(&disk), "--to", text(&image), "--overwrite"]);
    // The journal is in use, and of zeros.
    let used = (200 + 20) << 20;
    assert!(read < used * 105 / 100, "{read} bytes were read");
    let back = directory.path().join("back.img");
    let cost = measured(&["import", text(&image), "--to-image", text(&back)]);
    assert!(cost.peak_kib < 64 << 10, "import: {} KiB", cost.peak_kib);
}

/// Whatever is on a disk, at most 5 % more than what is used is read of it: for the image, and for looking what is used.
#[test]
fn little_more_is_read_than_is_used() {
    let directory = tempfile::tempdir().unwrap();
    let of = |name: &str| directory.path().join(name);
    let content = of("content");
    fs::write(&content, Noise::new(8).bytes(60 << 20)).unwrap();
    fs::create_dir(of("tree")).unwrap();
    fs::hard_link(&content, of("tree/a")).unwrap();
    fs::write(
        of("prototype"),
        format!("/\n0 0\nd--755 0 0\na ---644 0 0 {0}\nb ---644 0 0 {0}\n$\n$\n", text(&content)),
    )
    .unwrap();
    let ext = stale(
        directory.path(),
        "ext",
        200,
        &["/sbin/mke2fs", "-q", "-F", "-t", "ext4", "-E", "nodiscard", "-d", text(&of("tree"))],
    );
    let ntfs = stale(directory.path(), "ntfs", 200, &["/sbin/mkntfs", "-F", "-Q", "-q"]);
    run("ntfscp", &["-q", "-f", text(&ntfs), text(&content), "/a"]);
    let fat = stale(directory.path(), "fat", 200, &["/sbin/mkfs.vfat"]);
    run("mcopy", &["-i", text(&fat), text(&content), "::/a"]);
    let xfs = stale(directory.path(), "xfs", 480, &["/sbin/mkfs.xfs", "-q", "-f", "-K", "-p", text(&of("prototype"))]);
    let unknown = stale(directory.path(), "unknown", 64, &["true"]);
    // The log of an XFS is read once more, to find its newest record.
    for (disk, besides) in [(ext, 0), (ntfs, 0), (fat, 0), (xfs, 24 << 20), (unknown, 0)] {
        let image = of("image.raw");
        let args = ["export", text(&disk), "--to", text(&image), "--overwrite"];
        let said: serde_json::Value =
            serde_json::from_str(&run(VOLBAK, &[&["-q"], &args[..], &["--json"]].concat())).unwrap();
        let used = said["read_bytes"].as_u64().unwrap();
        let read = bytes_read(&disk, &args);
        assert!(
            used >= 60 << 20 && read * 100 < used * 105 + besides * 100,
            "{}: {read} were read, {used} are used",
            disk.display()
        );
        let backups = of("backups");
        fs::create_dir_all(&backups).unwrap();
        let read = bytes_read(&disk, &["snapshot", text(&disk), "--image", "--to", text(&backups)]);
        assert!(
            read * 100 < used * 105 + besides * 100,
            "{}: {read} were read for a backup, {used} are used",
            disk.display()
        );
    }
}

/// The image is at most 5 % larger than what the filesystem's own tool writes, and its checker finds nothing in it.
#[test]
fn exports_are_as_small_as_those_of_the_filesystems_own_tools() {
    let directory = tempfile::tempdir().unwrap();
    let of = |name: &str| directory.path().join(name);
    let content = of("content");
    fs::write(&content, Noise::new(8).bytes(60 << 20)).unwrap();

    // Noise is in the inode tables, too, which the kernel zeroes after the first mount.
    let options = ["/sbin/mke2fs", "-q", "-F", "-t", "ext4", "-E", "nodiscard,lazy_itable_init=1"];
    let ext = stale(directory.path(), "ext", 256, &options);
    for command in
        [format!("write {} a", content.display()), format!("write {} b", content.display()), "rm b".to_owned()]
    {
        run("/sbin/debugfs", &["-w", "-R", &command, text(&ext)]);
    }
    run("/sbin/e2image", &["-Qa", text(&ext), text(&of("peer.qcow2"))]);
    let peer = fs::metadata(of("peer.qcow2")).unwrap().len();
    let raw = exported(directory.path(), &ext, peer);
    run("/sbin/e2fsck", &["-fn", text(&raw)]);

    let ntfs = stale(directory.path(), "ntfs", 256, &["/sbin/mkntfs", "-F", "-Q", "-q"]);
    run("ntfscp", &["-q", "-f", text(&ntfs), text(&content), "/a"]);
    let said = run("/sbin/ntfsclone", &["--save-image", "-f", "-O", text(&of("peer.ntfs")), text(&ntfs)]);
    assert!(said.contains("Space in use"), "{said}");
    let peer = fs::metadata(of("peer.ntfs")).unwrap().len();
    let raw = exported(directory.path(), &ntfs, peer);
    run("/bin/ntfsfix", &["-n", text(&raw)]);

    let tree = of("tree");
    fs::create_dir(&tree).unwrap();
    fs::rename(&content, tree.join("a")).unwrap();
    let prototype = of("prototype");
    fs::write(&prototype, format!("/\n0 0\nd--755 0 0\na ---644 0 0 {}\n$\n$\n", tree.join("a").display())).unwrap();
    let xfs = stale(directory.path(), "xfs", 320, &["/sbin/mkfs.xfs", "-q", "-f", "-K", "-p", text(&prototype)]);
    let said = Command::new("/usr/sbin/partclone.xfs")
        .args(["-c", "-s", text(&xfs), "-O", text(&of("peer.xfs")), "-L", text(&of("log")), "-F"])
        .output()
        .unwrap();
    assert!(said.status.success(), "{said:?}");
    let peer = fs::metadata(of("peer.xfs")).unwrap().len();
    let raw = exported(directory.path(), &xfs, peer);
    run("/sbin/xfs_repair", &["-n", text(&raw)]);
}

/// Exports a disk to qcow2, which may have 5 % more than `peer_bytes`, and gives what QEMU makes of it.
fn exported(directory: &Path, disk: &Path, peer_bytes: u64) -> PathBuf {
    let (image, raw) = (directory.join("image.qcow2"), directory.join("image.raw"));
    run(VOLBAK, &["-q", "export", text(disk), "--to", text(&image), "--overwrite", "--verify"]);
    let own = fs::metadata(&image).unwrap().len();
    assert!(own * 100 <= peer_bytes * 105, "{}: {own} bytes, {peer_bytes} by its own tool", disk.display());
    run("qemu-img", &["convert", "-f", "qcow2", "-O", "raw", text(&image), text(&raw)]);
    judge(&image, "qcow2", &raw);
    raw
}

/// What is written goes to the disk while the rest is read: one sync at the end has little left.
#[test]
fn an_export_is_written_to_the_disk_while_it_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let disk = stale(directory.path(), "unknown", 48, &["true"]);
    let (image, log) = (directory.path().join("a.qcow2"), directory.path().join("log"));
    let strace = ["-f", "-y", "-e", "trace=fadvise64,fsync,pwrite64", "-o", text(&log), VOLBAK, "-q", "export"];
    let output = Command::new("strace").args(strace).args([text(&disk), "--to", text(&image)]).output().unwrap();
    // 3: what is on the disk is unknown.
    assert!(matches!(output.status.code(), Some(0 | 3)), "{}", String::from_utf8_lossy(&output.stderr));
    let log = fs::read_to_string(&log).unwrap();
    let of_image: Vec<&str> = log.lines().filter(|line| line.contains(".volbak-tmp.a.qcow2.")).collect();
    let at = |call: &str| of_image.iter().position(|line| line.contains(call)).unwrap_or(usize::MAX);
    let early = of_image[..at("fsync(")].iter().filter(|line| line.contains("POSIX_FADV_DONTNEED")).count();
    assert!((5..=6).contains(&early), "{early} times before the sync: {log}");
    let before_first = of_image[..at("POSIX_FADV_DONTNEED")].iter().filter(|line| line.contains("pwrite64(")).count();
    assert!(before_first < of_image.len() / 4, "{log}");
}

/// Zeros inside of what is used are no data of an image, in either format.
#[test]
fn used_zeros_are_holes() {
    let directory = tempfile::tempdir().unwrap();
    let disk = directory.path().join("disk.img");
    let file = File::create(&disk).unwrap();
    // Written zeros, which the source does not have as holes.
    let zeros = vec![0; 1 << 20];
    (0..64).for_each(|at| file.write_all_at(&zeros, at << 20).unwrap());
    file.write_all_at(&Noise::new(4).bytes(1 << 20), 32 << 20).unwrap();
    for (name, most) in [("a.qcow2", 2 << 20), ("a.raw", 2 << 20)] {
        use std::os::unix::fs::MetadataExt as _;
        let image = directory.path().join(name);
        run(VOLBAK, &["-q", "export", text(&disk), "--to", text(&image), "--verify"]);
        let taken = fs::metadata(&image).unwrap().blocks() * 512;
        assert!(taken < most, "{name} takes {taken}");
    }
    let image = directory.path().join("a.qcow2");
    assert!(fs::metadata(&image).unwrap().len() < 2 << 20);
}

/// Whenever they are killed, a file backup with a raw region and an import leave nothing that looks complete and is not.
#[test]
fn backups_and_imports_that_are_killed_leave_nothing_that_looks_complete() {
    let directory = tempfile::tempdir().unwrap();
    let disk = stale(directory.path(), "disk.img", 24, &["/sbin/mkntfs", "-F", "-Q", "-q"]);
    let content = directory.path().join("content");
    fs::write(&content, Noise::new(8).bytes(8 << 20)).unwrap();
    run("ntfscp", &["-q", "-f", text(&disk), text(&content), "/a"]);
    let backups = directory.path().join("backups");
    fs::create_dir(&backups).unwrap();
    let backup = ["-q", "snapshot", text(&disk), "--to", text(&backups)];
    // Status 3: an NTFS region is kept as an image, with a warning.
    let back_up =
        || assert_eq!(Command::new(VOLBAK).args(backup).stderr(Stdio::null()).status().unwrap().code(), Some(3));
    let began = Instant::now();
    back_up();
    let took = began.elapsed();
    let own = backups.join("disk");
    let archives = |suffix: &str| -> Vec<PathBuf> {
        let all = fs::read_dir(&own).unwrap().map(|entry| entry.unwrap().path());
        let mut all: Vec<PathBuf> =
            all.filter(|path| text(path).ends_with(suffix) && !text(path).contains("/.volbak")).collect();
        all.sort();
        all
    };
    let first = archives(".tar.gz").remove(0);
    for moment in cases::numbers(25) {
        kill_after(&backup, took * u32::try_from(moment).unwrap() / 22);
        // The archive and the manifest have their names last, in this order.
        for manifest in archives(".manifest.json") {
            let archive = PathBuf::from(text(&manifest).replace(".manifest.json", ".tar.gz"));
            assert!(archive.exists(), "moment {moment}");
            if archive != first {
                run(VOLBAK, &["-q", "verify", text(&archive)]);
                for suffix in [".manifest.json", ".tar.gz", ".index", ".checksum", ".verified.json"] {
                    let _ = fs::remove_file(text(&archive).replace(".tar.gz", suffix));
                }
            }
        }
    }
    back_up();
    let names: Vec<String> =
        fs::read_dir(&own).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert!(names.iter().all(|name| !name.starts_with(".volbak-tmp")), "{names:?}");
    let last = archives(".tar.gz").pop().unwrap();
    run(VOLBAK, &["-q", "verify", text(&last)]);

    // A restored disk has its first sector last: it is no disk before.
    let target = directory.path().join("target.img");
    let restore = ["-q", "restore", text(&last), "--to-image", text(&target), "--yes-erase=target.img"];
    let began = Instant::now();
    run(VOLBAK, &restore);
    let took = began.elapsed();
    let whole = fs::read(&target).unwrap();
    for moment in cases::numbers(25) {
        File::create(&target).unwrap().set_len(24 << 20).unwrap();
        kill_after(&restore, took * u32::try_from(moment).unwrap() / 22);
        let now = fs::read(&target).unwrap();
        assert!(
            now.get(..512).is_none_or(|sector| sector.iter().all(|byte| *byte == 0)) || now == whole,
            "moment {moment}"
        );
    }
    run(VOLBAK, &restore);
    assert!(fs::read(&target).unwrap() == whole);
}

/// Starts volbak, and kills it at a moment.
pub(crate) fn kill_after(args: &[&str], moment: Duration) {
    let mut run = Command::new(VOLBAK).args(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    // The moment itself is what is tried: nothing is waited for.
    std::thread::sleep(moment.min(Duration::from_secs(5)));
    let _ = run.kill();
    run.wait().unwrap();
}
