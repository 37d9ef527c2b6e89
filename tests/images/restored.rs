//! What comes out of an image backup: disks, images for QEMU, files.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use volbak::manifest::Manifest;

use crate::backup::{Place, gunzip, noise};
use crate::disks::{Noise, judge, run};

const MEMBER: u64 = 1 << 20;

/// A GPT disk with an ext4 in its second partition, and unknown data in the first.
fn disk_with_files(place: &Place) -> PathBuf {
    let (disk, tree) = (place.path("disk.img"), place.path("tree"));
    fs::create_dir_all(tree.join("etc/deep")).unwrap();
    fs::write(tree.join("etc/hosts"), "127.0.0.1 localhost\n").unwrap();
    fs::write(tree.join("etc/deep/big"), Noise::new(1).bytes(3 << 20)).unwrap();
    fs::hard_link(tree.join("etc/hosts"), tree.join("second-name")).unwrap();
    std::os::unix::fs::symlink("hosts", tree.join("etc/link")).unwrap();
    let script = "truncate -s 64M disk.img && printf 'label: gpt\\nsize=8M\\nsize=48M\\n' | sfdisk -q disk.img \
        && head -c 100000 /dev/urandom | dd of=disk.img bs=1M seek=2 conv=notrunc status=none \
        && mke2fs -q -F -t ext4 -d tree -E offset=$((9<<20)) disk.img 48M";
    let directory = disk.parent().unwrap();
    let made = Command::new("bash")
        .args(["-c", script])
        .current_dir(directory)
        .env("PATH", format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap()))
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    disk
}

#[test]
fn an_image_is_restored_into_files_and_regions_of_it() {
    let place = Place::new();
    let disk = disk_with_files(&place);
    let archive = place.back_up(&disk, &[]);
    let volume = gunzip(&archive);
    let out = place.path("out.img");
    let to = out.to_str().unwrap();
    let plan = place.well(&["restore", "disk", "--to-image", to, "--dry-run"]);
    assert!(plan.contains("of data; the rest of 64 MiB becomes zeros") && !out.exists(), "{plan}");
    place.well(&["restore", "disk", "--to-image", to]);
    assert!(fs::read(&out).unwrap() == volume);
    // What is there is not replaced without a word.
    let refused = place.volbak(&["restore", "disk", "--to-image", to]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--yes-erase=out.img"));
    place.well(&["restore", "disk", "--to-image", to, "--yes-erase=out.img", "--size", "80M"]);
    let larger = fs::read(&out).unwrap();
    assert!(larger[..volume.len()] == volume[..] && larger[volume.len()..].iter().all(|byte| *byte == 0));
    let small = place.path("small.img");
    let refused = place.volbak(&["restore", "disk", "--to-image", small.to_str().unwrap(), "--size", "1M"]);
    assert!(refused.status.code() == Some(1) && !small.exists());
    let region = place.path("p2.img");
    place.well(&["restore", "disk", "--region", "p2", "--to-image", region.to_str().unwrap()]);
    assert!(fs::read(&region).unwrap() == volume[9 << 20..57 << 20]);
    run("/sbin/e2fsck", &["-fn", region.to_str().unwrap()]);
    for options in [["--region", "p7"], ["--vg-name", "a=b"]] {
        let refused = place.volbak(&["restore", "disk", "--to-image", small.to_str().unwrap(), options[0], options[1]]);
        assert!(refused.status.code() == Some(1) && !small.exists());
    }
    let said = place.well(&["verify", "disk", "--restore-test"]);
    assert!(said.contains("good, an image"), "{said}");
    assert_eq!(fs::read_dir(place.path("tmp")).unwrap().count(), 0);
}

#[test]
fn an_image_is_exported_without_being_rebuilt() {
    let place = Place::new();
    let disk = disk_with_files(&place);
    let archive = place.back_up(&disk, &[]);
    let raw = place.path("raw.img");
    fs::write(&raw, gunzip(&archive)).unwrap();
    let image = place.path("out.qcow2");
    place.well(&["export", archive.to_str().unwrap(), "--to", image.to_str().unwrap(), "--verify"]);
    judge(&image, "qcow2", &raw);
    assert!(fs::metadata(&image).unwrap().len() < 10 << 20);
    // Into a pipe, too: nothing is put into a file first.
    let piped = place.volbak(&["export", archive.to_str().unwrap(), "--to", "-", "--format", "raw"]);
    assert!(piped.stdout == fs::read(&raw).unwrap());
}

#[test]
fn files_come_out_of_an_image() {
    let place = Place::new();
    let disk = disk_with_files(&place);
    place.back_up(&disk, &[]);
    let said = place.well(&["browse", "disk", "etc"]);
    assert!(said.contains(" etc/hosts") && said.contains(" etc/link") && !said.contains("deep/big"), "{said}");
    assert!(place.well(&["browse", "disk", "-r"]).contains(" etc/deep/big"));
    assert_eq!(place.volbak(&["browse", "disk", "nothing"]).status.code(), Some(1));
    let printed = place.volbak(&["cat", "disk:etc/deep/big"]);
    assert!(printed.status.success() && printed.stdout == fs::read(place.path("tree/etc/deep/big")).unwrap());
    assert_eq!(place.volbak(&["cat", "disk:second-name"]).stdout, b"127.0.0.1 localhost\n");
    let to = place.path("out");
    place.well(&["restore", "disk", "--to", to.to_str().unwrap(), "--path", "etc/deep", "--dry-run"]);
    assert!(!to.exists());
    place.well(&["restore", "disk", "--to", to.to_str().unwrap(), "--path", "etc/deep"]);
    assert!(to.join("etc/deep/big").exists() && !to.join("etc/hosts").exists());
    let all = place.path("all");
    place.well(&["restore", "disk", "--to", all.to_str().unwrap(), "--region", "p2"]);
    run("diff", &["-r", "-x", "lost+found", place.path("tree").to_str().unwrap(), all.to_str().unwrap()]);
    for directory in [&to, &all] {
        let names: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(names.iter().all(|name| !name.to_string_lossy().starts_with(".volbak")), "{names:?}");
    }
    assert_eq!(fs::read_dir(place.path("tmp")).unwrap().count(), 0);
    let refused = place.volbak(&["diff", "disk", "disk"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("needs an archive of files"));
}

#[test]
fn a_damaged_member_ends_what_needs_it_and_nothing_else() {
    let place = Place::new();
    let disk = disk_with_files(&place);
    let archive = place.back_up(&disk, &[]);
    // Where the big file is: the longest member is of its data.
    let index = fs::read_to_string(archive.to_str().unwrap().replace(".img.gz", ".index")).unwrap();
    let members = index.lines().filter(|line| line.starts_with('M')).map(|line| line.split('\t').collect::<Vec<_>>());
    let longest = members.max_by_key(|fields| fields[3].parse::<u64>().unwrap()).unwrap();
    let at: u64 = longest[2].parse::<u64>().unwrap() + 5000;
    let file = File::options().read(true).write(true).open(&archive).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 4], at).unwrap();
    let target = place.path("out.img");
    let failed = place.volbak(&["restore", "disk", "--to-image", target.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert!(failed.status.code() == Some(1) && said.contains("is damaged") && !target.exists(), "{said}");
    let failed = place.volbak(&["cat", "disk:etc/deep/big"]);
    assert!(failed.status.code() == Some(1) && failed.stdout.is_empty());
    assert_eq!(place.volbak(&["cat", "disk:etc/hosts"]).stdout, b"127.0.0.1 localhost\n");
    let to = place.path("out");
    let part = place.volbak(&["restore", "disk", "--to", to.to_str().unwrap()]);
    assert_eq!(part.status.code(), Some(3), "{}", String::from_utf8_lossy(&part.stderr));
    let qcow2 = place.path("out.qcow2");
    let failed = place.volbak(&["export", archive.to_str().unwrap(), "--to", qcow2.to_str().unwrap()]);
    assert!(failed.status.code() == Some(1) && !qcow2.exists());
    // Once it is known, nothing is erased for it.
    place.volbak(&["verify", archive.to_str().unwrap()]);
    fs::write(&target, "something").unwrap();
    let name = archive.to_str().unwrap();
    let refused = place.volbak(&["restore", name, "--to-image", target.to_str().unwrap(), "--yes-erase=out.img"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--even-if-bad"));
    assert_eq!(fs::read(&target).unwrap(), b"something");
}

/// Replaces the index of a backup, with a manifest that goes with it.
fn forge(archive: &Path, change: impl Fn(&str) -> String, archive_bytes: Option<&[u8]>) {
    let side = |suffix: &str| archive.to_str().unwrap().replace(".img.gz", suffix);
    let index = change(&fs::read_to_string(side(".index")).unwrap());
    let mut manifest = Manifest::from_bytes(&fs::read(side(".manifest.json")).unwrap()).unwrap();
    fs::write(side(".index"), &index).unwrap();
    manifest.sizes.index_bytes = index.len() as u64;
    let digest = |program: &str, path: &str| -> String { run(program, &[path]).split(' ').take(1).collect() };
    manifest.digests.index_sha256 = digest("sha256sum", &side(".index"));
    if let Some(bytes) = archive_bytes {
        fs::write(archive, bytes).unwrap();
        manifest.sizes.archive_bytes = bytes.len() as u64;
        manifest.digests.archive_sha1 = digest("sha1sum", archive.to_str().unwrap());
        let line = format!("{}  {}\n", manifest.digests.archive_sha1, archive.file_name().unwrap().to_str().unwrap());
        fs::write(side(".checksum"), line).unwrap();
        manifest.digests.checksum_sha256 = digest("sha256sum", &side(".checksum"));
    }
    fs::write(side(".manifest.json"), manifest.to_bytes().unwrap()).unwrap();
}

/// Puts bytes between the data and the trailer of the last member. Index, manifest and checksum go with it, and so does the
/// length in the member's header.
pub(crate) fn forge_more_in_last_member(archive: &Path, more: &[u8]) {
    let index = fs::read_to_string(archive.to_str().unwrap().replace(".img.gz", ".index")).unwrap();
    let mut lines: Vec<Vec<String>> = index.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect();
    let number = |text: &str| text.parse::<usize>().unwrap();
    let [.., member, end] = &mut lines[..] else { panic!("{index}") };
    let (start, len) = (number(&member[2]), number(&member[3]) + more.len());
    let mut bytes = fs::read(archive).unwrap();
    let trailer = start + len - more.len() - 8;
    bytes.splice(trailer..trailer, more.iter().copied());
    bytes[start + 16..start + 20].copy_from_slice(&(len as u32).to_le_bytes());
    member[3] = len.to_string();
    member[6] = blake3::hash(&bytes[start..start + len]).to_hex().to_string();
    end[2] = bytes.len().to_string();
    let text: String = lines.iter().map(|fields| fields.join("\t") + "\n").collect();
    forge(archive, |_| text.clone(), Some(&bytes));
}

#[test]
fn hostile_indexes_are_refused_in_bounded_memory() {
    let place = Place::new();
    let disk = place.path("disk.img");
    noise(&disk, 6 * MEMBER, 9);
    let archive = place.back_up(&disk, &["--full"]);
    let index = fs::read_to_string(archive.to_str().unwrap().replace(".img.gz", ".index")).unwrap();
    let line = |number: usize, field: usize, to: &str| {
        let mut lines: Vec<String> = index.lines().map(str::to_owned).collect();
        let mut fields: Vec<&str> = index.lines().nth(number).unwrap().split('\t').collect();
        fields[field] = to;
        lines[number] = fields.join("\t");
        lines.join("\n") + "\n"
    };
    let last = index.lines().count() - 1;
    let huge = "9000000000000000000";
    let other = "0".repeat(64);
    let forged = [
        line(2, 2, "0"),
        line(2, 2, huge),
        line(2, 3, huge),
        line(2, 4, "0"),
        line(2, 5, huge),
        line(2, 5, "0"),
        line(1, 1, "1"),
        line(1, 6, &other),
        line(1, 7, &other),
        line(1, 7, "-"),
        line(last, 1, "1"),
        line(last, 2, huge),
        line(last, 3, huge),
        index.replace("volbak-image-index\t1", "volbak-image-index\t3"),
        // The next version has another column.
        index.replace("volbak-image-index\t1", "volbak-image-index\t2"),
        index.replace("volbak-image-index\t1", "volbak-image-index\t2").replace("\nZ", "\t00\nZ"),
        index.split_inclusive('\n').take(last).collect(),
        index.clone() + &index,
        "volbak-image-index\t1\n".to_owned() + &"M".repeat(1 << 20),
        "volbak-image-index\t1\nM\t0\t0\t".to_owned() + huge + "\t0\t67108864\t" + &other + "\t-\n",
        String::new(),
    ];
    let target = place.path("out.img");
    for (number, text) in forged.iter().enumerate() {
        forge(&archive, |_| text.clone(), None);
        let name = archive.to_str().unwrap();
        for args in
            [vec!["verify", name], vec!["restore", name, "--to-image", target.to_str().unwrap()], vec!["browse", name]]
        {
            let script = format!(
                "ulimit -v 800000; exec {} {} --destination {}",
                env!("CARGO_BIN_EXE_volbak"),
                args.join(" "),
                place.to()
            );
            let output = Command::new("bash").args(["-c", &script]).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
            assert_eq!(output.status.code(), Some(1), "{number} {args:?}: {said}");
            assert!(!said.contains("panicked") && !target.exists(), "{number} {args:?}: {said}");
        }
    }
}

#[test]
fn a_member_that_holds_more_than_it_says_is_not_decompressed() {
    let place = Place::new();
    let disk = place.path("disk.img");
    fs::write(&disk, vec![b'x'; 512]).unwrap();
    let archive = place.back_up(&disk, &[]);
    // The member of a mebibyte, whose own header says 512 bytes.
    let large = place.path("large.img");
    fs::write(&large, vec![b'x'; 1 << 20]).unwrap();
    let mut member = fs::read(place.back_up(&large, &[])).unwrap();
    member[20..24].copy_from_slice(&512_u32.to_le_bytes());
    let content = blake3::hash(&[b'x'; 512]).to_hex();
    let line = format!("M\t0\t0\t{}\t0\t512\t{}\t{content}\n", member.len(), blake3::hash(&member).to_hex());
    let index = format!("volbak-image-index\t1\n{line}Z\t1\t{}\t512\n", member.len());
    forge(&archive, |_| index.clone(), Some(&member));
    let output = place.volbak(&["verify", archive.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && said.contains("member 0"), "{said}");
    let target = place.path("out.img");
    let output = place.volbak(&["restore", archive.to_str().unwrap(), "--to-image", target.to_str().unwrap()]);
    assert!(output.status.code() == Some(1) && !target.exists());
}

/// Filesystems that the kernel reads are copied first. What cannot be copied of one leaves nothing of another as zeros.
#[test]
fn what_cannot_be_read_of_one_filesystem_is_no_zeros_in_another() {
    let place = Place::new();
    let disk = place.path("disk.img");
    let at = place.path("");
    let shell = format!(
        "cd {at}; mkdir mnt; truncate -s 250M disk.img; printf 'label: gpt\\n2048,120M\\n,120M\\n' | sfdisk -q disk.img
         for n in 1 2; do
             truncate -s 120M p$n; mkfs.btrfs -q p$n; head -c 6000000 /dev/urandom >big$n; mount -o loop p$n mnt
             cp big$n mnt/big; umount mnt; dd if=p$n of=disk.img bs=1M seek=$((1 + 120 * (n - 1))) conv=notrunc status=none
         done",
        at = at.display()
    );
    run("sh", &["-ec", &shell]);
    let archive = place.back_up(&disk, &[]);
    let index = fs::read_to_string(archive.to_str().unwrap().replace(".img.gz", ".index")).unwrap();
    let lines = index.lines().filter(|line| line.starts_with('M')).map(|line| line.split('\t').collect::<Vec<_>>());
    let members: Vec<(u64, u64)> =
        lines.map(|fields| (fields[2].parse().unwrap(), fields[3].parse().unwrap())).collect();
    let long: Vec<u64> = members.iter().filter(|(_, len)| *len > 500_000).map(|(offset, _)| *offset).collect();
    let whole = fs::read(&archive).unwrap();
    for (damaged, member) in [(1, long[1]), (2, long[long.len() - 2])] {
        let mut bytes = whole.clone();
        bytes[usize::try_from(member).unwrap() + 5000] ^= 4;
        fs::write(&archive, bytes).unwrap();
        let other = 3 - damaged;
        let printed = place.volbak(&["cat", &format!("disk:p{other}/big")]);
        assert!(printed.status.success() && printed.stdout == fs::read(place.path(&format!("big{other}"))).unwrap());
        let printed = place.volbak(&["cat", &format!("disk:p{damaged}/big")]);
        assert_eq!(printed.status.code(), Some(1), "{}", String::from_utf8_lossy(&printed.stderr));
        assert!(printed.stdout.iter().all(|byte| *byte != 0) || printed.stdout.is_empty());
        let (to, part) = (place.path(&format!("out{damaged}")), format!("p{damaged}/big"));
        let restored = place.volbak(&["restore", "disk", "--to", to.to_str().unwrap(), "--path", &part]);
        assert_eq!(restored.status.code(), Some(1), "{}", String::from_utf8_lossy(&restored.stderr));
        let all = place.volbak(&["restore", "disk", "--to", to.to_str().unwrap()]);
        assert_eq!(all.status.code(), Some(3), "{}", String::from_utf8_lossy(&all.stderr));
        assert!(to.join(format!("p{other}/big")).exists() && !to.join(part).exists());
        let dry = place.volbak(&["restore", "disk", "--to", to.to_str().unwrap(), "--dry-run", "--json"]);
        let found: serde_json::Value = serde_json::from_slice(&dry.stdout).unwrap();
        assert!(dry.status.code() == Some(3) && found["unreadable"].as_u64() > Some(0), "{found}");
    }
}

#[test]
fn a_disk_of_other_sectors_is_not_written_to_a_device() {
    let place = Place::new();
    let (disk, other) = (place.path("disk.img"), place.path("other.img"));
    let attach = |path: &Path, sectors: &str| {
        run("losetup", &["-f", "--show", "-b", sectors, path.to_str().unwrap()]).trim().to_owned()
    };
    for path in [&disk, &other] {
        File::create(path).unwrap().set_len(32 << 20).unwrap();
    }
    let devices = [attach(&disk, "4096"), attach(&other, "512")];
    run("sh", &["-ec", &format!("printf 'label: gpt\\n,16M\\n' | sfdisk -q {}", devices[0])]);
    place.well(&["snapshot", &devices[0], "--image", "--name", "disk"]);
    let erase = format!("--yes-erase={}", devices[1].rsplit('/').next().unwrap());
    let refused = place.volbak(&["restore", "disk", "--to-device", &devices[1], &erase]);
    let written = fs::read(&other).unwrap().iter().any(|byte| *byte != 0);
    for device in &devices {
        run("losetup", &["-d", device]);
    }
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(1) && said.contains("counts in sectors of 4096 bytes") && !written, "{said}");
}

#[test]
fn an_export_removes_nothing_that_a_restore_kept() {
    let place = Place::new();
    let disk = place.path("disk.img");
    File::create(&disk).unwrap().set_len(4 << 20).unwrap();
    let (to, kept) = (place.path("out.img"), place.path(".volbak-tmp.out.img.4194999"));
    fs::write(&to, "older").unwrap();
    fs::write(&kept, "what a restore kept").unwrap();
    place.well(&["export", disk.to_str().unwrap(), "--to", to.to_str().unwrap(), "--overwrite"]);
    assert_eq!(fs::read(&kept).unwrap(), b"what a restore kept");
}
