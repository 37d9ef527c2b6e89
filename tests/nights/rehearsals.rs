//! Promise: a night restores some backups for a test, boots those that have a system, and says what that proved.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;

use crate::testkit::guest::{Mounted, quoted, sh};
use crate::testkit::stand_in::Host;
use crate::testkit::tree::noise;
use crate::testkit::wait::{Killed, wait_until};

const SECTOR: u64 = 512;
/// No capabilities, as /proc shows it.
const NONE: &str = "0000000000000000";
/// Where the only partition begins.
const PARTITION_SECTOR: u32 = 2048;

/// A program for the first sector: it writes `text` to the first serial port, and halts (Intel SDM, volume 2; PC16550D).
fn boot_code(text: &str) -> Vec<u8> {
    let mut code = vec![
        0x31, 0xc0, // xor ax, ax
        0x8e, 0xd8, // mov ds, ax
        0xbe, 0x22, 0x7c, // mov si, 0x7c22: the text
        0xfc, // cld
        0xac, // lodsb
        0x84, 0xc0, // test al, al
        0x74, 0x12, // jz to hlt
        0x88, 0xc3, // mov bl, al
        0xba, 0xfd, 0x03, // mov dx, 0x3fd: the line status
        0xec, // in al, dx
        0xa8, 0x20, // test al, 0x20: it takes a byte
        0x74, 0xfb, // jz to in
        0x88, 0xd8, // mov al, bl
        0xba, 0xf8, 0x03, // mov dx, 0x3f8
        0xee, // out dx, al
        0xeb, 0xe9, // jmp to lodsb
        0xf4, // hlt
        0xeb, 0xfd, // jmp to hlt
    ];
    assert_eq!(code.len(), 0x22);
    code.extend(text.as_bytes());
    code.push(0);
    assert!(code.len() <= 440);
    code
}

/// A disk with an MBR, this boot code, and an ext4 in its only partition.
fn add_system(host: &Host, name: &str, text: &str) {
    host.ext4(name);
    let filesystem = fs::read(host.at(&format!("{name}.img"))).unwrap();
    let disk = OpenOptions::new().write(true).truncate(true).open(host.at(&format!("{name}.img"))).unwrap();
    disk.write_all_at(&boot_code(text), 0).unwrap();
    let sectors = u32::try_from(filesystem.len() as u64 / SECTOR).unwrap();
    let mut entry = [0_u8; 16];
    entry[0] = 0x80;
    entry[4] = 0x83;
    entry[8..12].copy_from_slice(&PARTITION_SECTOR.to_le_bytes());
    entry[12..].copy_from_slice(&sectors.to_le_bytes());
    disk.write_all_at(&entry, 446).unwrap();
    disk.write_all_at(&[0x55, 0xaa], 510).unwrap();
    disk.write_all_at(&filesystem, u64::from(PARTITION_SECTOR) * SECTOR).unwrap();
    host.add(name);
}

/// A disk with a GPT and these partitions, each of 8 MiB: a type as sfdisk names it, and an image.
fn add_gpt(host: &Host, name: &str, partitions: &[(&str, PathBuf)]) {
    let disk = host.at(&format!("{name}.img"));
    let mut table = "label: gpt\n".to_owned();
    for (at, (kind, _)) in partitions.iter().enumerate() {
        table += &format!("start={}M, size=8M, type={kind}\n", 1 + 8 * at);
    }
    let mebibytes = 2 + 8 * partitions.len();
    sh(&format!("truncate -s {mebibytes}M {0}; echo '{table}' | sfdisk -q {0}", quoted(&disk)));
    for (at, (_, image)) in partitions.iter().enumerate() {
        sh(&format!("dd if={} of={} bs=1M seek={} conv=notrunc status=none", quoted(image), quoted(&disk), 1 + 8 * at));
    }
    host.add(name);
}

/// An image of a partition with an ext4.
fn ext4(host: &Host, name: &str) -> PathBuf {
    host.ext4(name);
    host.at(&format!("{name}.img"))
}

/// An image of a partition with noise.
fn unknown(host: &Host, name: &str) -> PathBuf {
    let image = host.at(&format!("{name}.img"));
    fs::write(&image, noise(7, 100_000)).unwrap();
    image
}

/// An image of an EFI system partition, whose GRUB writes `text` to the first serial port, and waits. In another place than
/// EFI/BOOT no firmware finds it.
fn system_partition(host: &Host, name: &str, place: &str, text: &str) -> PathBuf {
    let image = host.at(&format!("{name}.img"));
    let commands = format!("serial --unit=0\nterminal_output serial\necho -n '{text}'\nsleep 3600\n");
    fs::write(host.at("grub.cfg"), commands).unwrap();
    sh(&format!(
        "grub-mkimage -O x86_64-efi -p /EFI/BOOT -c {0} -o {1} normal serial terminal echo sleep
         truncate -s 8M {2}; mkfs.fat {2} >&2; mmd -i {2} ::/EFI ::/EFI/{place}; mcopy -i {2} {1} ::/EFI/{place}/BOOTX64.EFI",
        quoted(&host.at("grub.cfg")),
        quoted(&host.at("grub.efi")),
        quoted(&image)
    ));
    image
}

/// The settings of a rehearsal, in a scratch directory of the test's own.
fn host(more: &str) -> Host {
    let host = Host::new("");
    fs::create_dir(host.at("scratch")).unwrap();
    let scratch = host.at("scratch");
    let scratch = scratch.display();
    let metrics = host.at("metrics.prom");
    let metrics = metrics.display();
    // No test relies on the host's processor.
    let rehearse = format!(
        "[report]\nmetrics_file = '{metrics}'\n[rehearse]\nscratch = '{scratch}'\nboot_accelerator = 'tcg'\nboot_memory = '64M'\n{more}"
    );
    host.write_config("volbak.toml", &rehearse);
    host
}

/// The levels in the records of a volume's backups.
fn levels(host: &Host, name: &str) -> Vec<String> {
    let mut levels = Vec::new();
    for entry in fs::read_dir(host.at("backups").join(name)).unwrap() {
        let path = entry.unwrap().path();
        if path.to_string_lossy().ends_with(".verified.json") {
            let record: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
            let results = record["results"].as_array().unwrap();
            levels.extend(results.iter().map(|result| {
                assert_eq!(result["verdict"], "good", "{record}");
                result["level"].as_str().unwrap().to_owned()
            }));
        }
    }
    levels
}

fn is_empty(directory: &Path) -> bool {
    fs::read_dir(directory).unwrap().next().is_none()
}

#[test]
fn a_rehearsal_restores_and_boots_and_everything_says_so() {
    let host = host("enabled = true\n");
    add_system(&host, "volume-web", "\r\nweb login: ");
    host.add_ext4("volume-data");
    let did = host.verb(&["run"]);
    assert_eq!(did.status, 0, "{did:?}");
    assert!(did.stderr.contains("booted: login prompt after"), "{did:?}");
    assert!(did.stderr.contains("not booted: it has no partition table"), "{did:?}");
    assert_eq!(levels(&host, "volume-web"), ["boot"]);
    assert_eq!(levels(&host, "volume-data"), ["restore-test"]);
    assert!(is_empty(&host.at("scratch")));

    assert!(host.verb(&["list"]).stdout.contains("booted: good"));
    let status = host.verb(&["status"]).stdout;
    assert!(status.lines().any(|line| line.contains("volume-web") && line.contains("booted")), "{status}");
    let metrics = fs::read_to_string(host.at("metrics.prom")).unwrap();
    assert!(metrics.contains("volbak_volume_last_proof_level{volume=\"volume-web\"} 4"), "{metrics}");
    assert!(metrics.contains("volbak_volume_last_proof_level{volume=\"volume-data\"} 3"), "{metrics}");
    let html = host.at("report.html");
    host.verb(&["report", "--html", html.to_str().unwrap()]);
    assert!(fs::read_to_string(html).unwrap().contains(", booted "));

    // A week passes before the next one, unless it is asked for.
    let did = host.verb(&["run"]);
    assert!(!did.stderr.contains("restored for a test"), "{did:?}");
    let last = host.at("backups/.volbak/rehearsed.json");
    fs::write(&last, "{\"at\":\"2026-01-01T00:00:00Z\"}").unwrap();
    let did = host.verb(&["run"]);
    assert!(did.stderr.contains("restored for a test, and good"), "{did:?}");
    assert!(!fs::read_to_string(&last).unwrap().contains("2026-01-01"));
    let did = host.verb(&["run", "--rehearse", "--only", "volume-data"]);
    assert!(did.stderr.contains("restored for a test, and good") && !did.stderr.contains("booted: login"), "{did:?}");
}

/// Chosen again and again, such a backup would keep others from their turn.
#[test]
fn backups_without_room_are_left_out_and_that_is_said() {
    let host = host("");
    host.add_ext4("volume-1");
    host.add_ext4("volume-2");
    let small = host.at("small.img");
    sh(&format!("mke2fs -q -t ext4 {} 12M", quoted(&small)));
    let mounted = Mounted::with_options(&small, &host.at("scratch"), "loop");
    let did = host.verb(&["run", "--rehearse"]);
    assert_eq!(did.status, 3, "{did:?}");
    assert_eq!(did.stderr.matches("2 backups are not restored for a test: ").count(), 1, "{did:?}");
    assert!(did.stderr.contains("there is no backup to restore for a test"), "{did:?}");
    assert!(!host.at("backups/.volbak/rehearsed.json").exists(), "it is due in the next night");
    mounted.unmount();
}

#[test]
fn a_rehearsal_that_was_interrupted_is_due_again() {
    let host = host("enabled = true\n");
    add_system(&host, "volume-silent", "");
    let scratch = host.at("scratch").canonicalize().unwrap();
    let last = host.at("backups/.volbak/rehearsed.json");
    let arguments = ["run", "--config", host.at("volbak.toml").to_str().unwrap()].map(str::to_owned);
    let mut run =
        Killed(host.program(&arguments.each_ref().map(String::as_str)).stderr(Stdio::null()).spawn().unwrap());
    wait_until("the emulator runs", || emulator(&scratch).is_some());
    sh(&format!("kill -TERM {}", run.0.id()));
    assert_eq!(run.0.wait().unwrap().code(), Some(3));
    assert!(!last.exists());
    let config = fs::read_to_string(host.at("volbak.toml")).unwrap();
    fs::write(host.at("volbak.toml"), config.replace("boot_accelerator", "boot = false\nboot_accelerator")).unwrap();
    let did = host.verb(&["run"]);
    assert!(did.stderr.contains("restored for a test, and good") && last.exists(), "{did:?}");
}

#[test]
fn no_rehearsal_begins_after_the_time_for_the_run() {
    let host = Host::new("");
    host.add_ext4("volume-1");
    host.write_config(
        "volbak.toml",
        "max_run_hours = 0.001\n[volume.volume-1]\nbefore_snapshot = ['/bin/sleep', '600']\n[verify]\nenabled = true\n",
    );
    let did = host.verb(&["run", "--rehearse"]);
    let why = "the run reached its limit of 3 s (max_run_hours)";
    assert!(did.stderr.contains(&format!("nothing was restored for a test: {why}")), "{did:?}");
    assert!(did.stderr.contains(&format!("nothing was verified: {why}")), "{did:?}");
}

#[test]
fn a_system_that_does_not_come_up_is_a_warning_and_no_verdict() {
    let host = host("");
    add_system(&host, "volume-sick", "\r\nKernel panic - not syncing: VFS: Unable to mount root fs\r\n");
    let did = host.verb(&["run", "--rehearse"]);
    assert_eq!(did.status, 3, "{did:?}");
    assert!(did.stderr.contains("its kernel panicked") && did.stderr.contains("Unable to mount root fs"), "{did:?}");
    assert_eq!(levels(&host, "volume-sick"), ["restore-test"]);
    let did = host.verb(&["verify", "volume-sick", "--boot", "--json"]);
    let found: Value = serde_json::from_str(&did.stdout).unwrap();
    assert_eq!((did.status, &found["backups"][0]["boot"]), (3, &"not_up".into()), "{did:?}");
    assert_eq!(found["backups"][0]["verdict"], "good", "{did:?}");
}

#[test]
fn a_disk_of_several_regions_passes_its_restore_test() {
    let host = host("");
    add_gpt(&host, "volume-two", &[("linux", ext4(&host, "root")), ("linux", ext4(&host, "home"))]);
    add_gpt(&host, "volume-mixed", &[("linux", unknown(&host, "noise")), ("linux", ext4(&host, "data"))]);
    add_gpt(&host, "volume-raw", &[("linux", unknown(&host, "first")), ("linux", unknown(&host, "second"))]);
    let did = host.verb(&["run", "--rehearse"]);
    assert!(!did.stderr.contains("BAD"), "{did:?}");
    for name in ["volume-two", "volume-mixed", "volume-raw"] {
        assert_eq!(levels(&host, name), ["restore-test"], "{did:?}");
    }
}

#[test]
fn a_system_that_boots_through_uefi_is_booted() {
    let host = host("");
    let system = system_partition(&host, "esp", "BOOT", "web login: ");
    add_gpt(&host, "volume-web", &[("uefi", system), ("linux", ext4(&host, "root"))]);
    let did = host.verb(&["run", "--rehearse"]);
    assert!(did.stderr.contains("booted: login prompt after"), "{did:?}");
    assert_eq!(levels(&host, "volume-web"), ["boot"]);
    assert!(is_empty(&host.at("scratch")));
}

#[test]
fn a_system_partition_without_a_system_is_said_to_have_none() {
    let host = host("");
    let system = system_partition(&host, "esp", "debian", "web login: ");
    add_gpt(&host, "volume-web", &[("uefi", system)]);
    let did = host.verb(&["run", "--rehearse"]);
    assert_eq!(did.status, 3, "{did:?}");
    assert!(did.stderr.contains("its firmware found no system to start: there is no EFI/BOOT/BOOTX64.EFI"), "{did:?}");
    assert_eq!(levels(&host, "volume-web"), ["restore-test"]);
}

#[test]
fn an_image_is_booted_by_hand() {
    let host = host("[volume.'volume-web']\nmode = 'image'\n");
    add_system(&host, "volume-web", "web login: ");
    assert_eq!(host.verb(&["run"]).status, 0);
    let scratch = host.at("scratch");
    let did = host.verb(&["verify", "volume-web", "--boot", "--scratch", scratch.to_str().unwrap()]);
    assert!(did.status == 0 && did.stdout.contains("booted: login prompt after"), "{did:?}");
    assert_eq!(levels(&host, "volume-web"), ["restore-test", "boot"]);
}

/// The emulator of this test's scratch directory.
fn emulator(scratch: &Path) -> Option<PathBuf> {
    fs::read_dir("/proc").unwrap().filter_map(Result::ok).map(|entry| entry.path()).find(|process| {
        let is_emulator = fs::read_to_string(process.join("comm")).is_ok_and(|name| name.starts_with("qemu-system"));
        is_emulator && fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd.starts_with(scratch))
    })
}

#[test]
fn a_killed_rehearsal_leaves_no_emulator_and_the_next_one_no_disk() {
    let host = host("");
    add_system(&host, "volume-silent", "");
    assert_eq!(host.verb(&["run"]).status, 0);
    let scratch = host.at("scratch").canonicalize().unwrap();
    let arguments = ["run", "--rehearse", "--config", host.at("volbak.toml").to_str().unwrap()].map(str::to_owned);
    let run = Killed(host.program(&arguments.each_ref().map(String::as_str)).stderr(Stdio::null()).spawn().unwrap());
    let mut status = String::new();
    wait_until("the emulator runs in its sandbox", || {
        let process = emulator(&scratch);
        status = process.and_then(|process| fs::read_to_string(process.join("status")).ok()).unwrap_or_default();
        status.contains("Seccomp:\t2")
    });
    // What starts is a tenant's: a user that owns nothing else, and no rights.
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim();
    assert!(field("Uid:").starts_with("2147"), "{status}");
    assert_eq!((field("CapEff:"), field("CapBnd:"), field("NoNewPrivs:")), (NONE, NONE, "1"), "{status}");
    drop(run);
    wait_until("the emulator ends with its run", || emulator(&scratch).is_none());
    assert!(!is_empty(&scratch), "nobody was there to remove it");

    host.remove("volume-silent");
    add_system(&host, "volume-web", "web login: ");
    let did = host.verb(&["run", "--rehearse", "--only", "volume-web"]);
    assert!(did.stderr.contains("was left by a run that was cut off; removed"), "{did:?}");
    assert!(is_empty(&scratch));
}
