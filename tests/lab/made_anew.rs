//! Promise: a filesystem that was made anew is the one that was, for those that need another kernel than most hosts have:
//! FAT's reserved sectors, numbers and labels; XFS without checksums, and with names without case.

use std::path::Path;

use crate::testkit::guest::backups::{run_expecting, snapshot};
use crate::testkit::guest::lab::{SCRATCH, dest, in_lab, set_up};
use crate::testkit::guest::{Mounted, quoted, sh};

/// Makes a filesystem with `make` on `$1`, puts files into it, and restores its backup; gives what `command` prints of
/// `$1`, before and after.
fn there_and_back(name: &str, size: &str, make: &str, command: &str) -> (String, String, String) {
    let source = Path::new(SCRATCH).join(format!("{name}.img"));
    sh(&format!("set -- {}; rm -f $1; truncate -s {size} $1; {make} 2>&1", quoted(&source)));
    let mounted = Mounted::with_options(&source, &Path::new(SCRATCH).join("m"), "loop");
    sh(&format!(
        "cd {}; cp /bin/ls FILE.BIN; mkdir 'a long directory'; cp /etc/passwd 'a long directory/x'",
        quoted(&mounted.point)
    ));
    mounted.unmount();
    let archive = snapshot(&source, &dest(), &[]);
    let restored = Path::new(SCRATCH).join(format!("{name}-restored.img"));
    let arguments = ["restore", archive.to_str().unwrap(), "--to-image", restored.to_str().unwrap()];
    let said = run_expecting(0, &arguments);
    let seen = |image: &Path| sh(&format!("set -- {}; {command}", quoted(image)));
    (seen(&source), seen(&restored), said)
}

#[test]
fn fat_comes_back_with_its_reserved_sectors() {
    if !in_lab("made_anew::fat_comes_back_with_its_reserved_sectors") {
        return;
    }
    set_up();
    // Reserved sectors without the counters of free clusters, the labels, and the first entries of the FAT.
    let seen = |sectors: u32, fsinfo: bool| {
        let counters = if fsinfo { "; p[1512:1520] = bytes(8); p[8680:8688] = bytes(8)" } else { "" };
        format!(
            "fsck.vfat -n $1 >/dev/null || true; python3 -c 'import sys, hashlib
d = open(sys.argv[1], \"rb\").read(); n = int.from_bytes(d[11:13], \"little\")
p = bytearray(d[:{sectors} * n]){counters}
print(hashlib.sha256(p).hexdigest(), d[{sectors} * n:{sectors} * n + 3].hex())' $1; fatlabel $1; fatlabel -i $1; blkid -p -o export $1 | tail -n +2"
        )
    };
    let code = "head -c 380 /dev/urandom | dd of=$1 bs=1 seek=90 conv=notrunc status=none";
    for (name, size, sectors, fsinfo, make) in [
        ("fat12", "1440K", 1, false, "mkfs.vfat -F 12 -f 1 -M 0xf0 -g 2/18 -r 112 -n FLOPPY -D 0 $1".to_owned()),
        (
            "fat16",
            "40M",
            8,
            false,
            format!(
                "mkfs.vfat -a -F 16 -R 8 -s 4 -r 1024 -h 63 -n 'ONE TWO' $1; {code}; printf 'MSDOS5.0' | dd of=$1 bs=1 seek=3 conv=notrunc status=none; head -c 3000 /dev/urandom | dd of=$1 bs=512 seek=2 conv=notrunc status=none; printf 'IN BOOT    ' | dd of=$1 bs=1 seek=43 conv=notrunc status=none"
            ),
        ),
        (
            "fat32",
            "68M",
            40,
            true,
            format!(
                "mkfs.vfat -a -F 32 -R 40 -b 7 -s 1 -S 1024 -M 0xf8 -i cafe1234 -n DATA $1; {code}; head -c 9000 /dev/urandom | dd of=$1 bs=1024 seek=12 conv=notrunc status=none"
            ),
        ),
    ] {
        let (was, is, said) = there_and_back(name, size, &make, &seen(sectors, fsinfo));
        assert_eq!(was, is, "{name}: {said}");
        assert!(said.contains("0 other problems") && said.contains("with its reserved sectors"), "{name}: {said}");
    }
}

#[test]
fn old_and_caseless_xfs_comes_back() {
    if !in_lab("made_anew::old_and_caseless_xfs_comes_back") {
        return;
    }
    set_up();
    // versionnum without the bit of the first extended attribute.
    let seen = "xfs_db -r -c 'sb 0' -c 'p dblocks logblocks logsunit agblocks features2 inodesize unit width' $1
        xfs_db -r -c 'sb 0' -c 'p versionnum' $1 | sed 's/.* 0x/0x/' | { read n; echo $((n & ~16)); }";
    for (name, make) in [
        ("v4", "mkfs.xfs -q -m crc=0,finobt=0 -l version=1,lazy-count=0 -i attr=2,projid32bit=0 -n ftype=0 $1"),
        ("ci", "mkfs.xfs -q -n version=ci -d su=64k,sw=4 $1"),
        ("oldci", "mkfs.xfs -q -m crc=0 -n version=ci,ftype=1 -l su=16k $1"),
    ] {
        let (was, is, said) = there_and_back(name, "600M", make, seen);
        assert_eq!(was, is, "{name}: {said}");
        assert!(said.contains("0 other problems"), "{name}: {said}");
    }
}

#[test]
fn attributes_of_fat_come_back() {
    if !in_lab("made_anew::attributes_of_fat_come_back") {
        return;
    }
    set_up();
    // FAT_IOCTL_SET_ATTRIBUTES and FAT_IOCTL_GET_ATTRIBUTES.
    let attributes = |root: &Path, set: bool| {
        let python = format!(
            "import fcntl, os, struct, sys
os.chdir(sys.argv[1])
for name, value in (('IO.SYS', 0x27), ('HIDDEN', 0x12), ('HIDDEN/NONE', 0), ('PLAIN', 0x20), ('OLD', 0x30), ('RO', 1)):
    fd = os.open(name, os.O_RDONLY)
    if {}: fcntl.ioctl(fd, 0x40047211, struct.pack('I', value))
    print(name, struct.unpack('I', fcntl.ioctl(fd, 0x80047210, bytes(4)))[0])",
            if set { "True" } else { "False" }
        );
        sh(&format!("python3 -c {} {}", quoted(Path::new(&python)), quoted(root)))
    };
    for make in ["mkfs.vfat -F 16", "mkfs.vfat -F 32"] {
        let source = Path::new(SCRATCH).join("attributes.img");
        sh(&format!("rm -f {0}; truncate -s 68M {0}; {make} {0} >/dev/null", quoted(&source)));
        let mounted = Mounted::with_options(&source, &Path::new(SCRATCH).join("m"), "loop");
        sh(&format!("cd {}; mkdir HIDDEN OLD; touch IO.SYS PLAIN RO; echo x >HIDDEN/NONE", quoted(&mounted.point)));
        let was = attributes(&mounted.point, true);
        mounted.unmount();
        let archive = snapshot(&source, &dest(), &[]);
        let path = archive.to_str().unwrap();
        for other in ["tar -tzf", "tar -xzf", "bsdtar -tf", "bsdtar -xf"] {
            let said =
                sh(&format!("cd {SCRATCH}; rm -rf x; mkdir x; cd x; {other} {} 2>&1 >/dev/null", quoted(&archive)));
            assert_eq!(said, "", "{other}");
        }
        let restored = Path::new(SCRATCH).join("attributes-restored.img");
        let said = run_expecting(0, &["restore", path, "--to-image", restored.to_str().unwrap()]);
        assert!(said.contains("0 other problems") && !said.contains("the attributes"), "{said}");
        let mounted = Mounted::with_options(&restored, &Path::new(SCRATCH).join("m"), "loop,ro");
        assert_eq!(was, attributes(&mounted.point, false), "{said}");
        mounted.unmount();
        // A change of attributes alone is in the next backup, whatever was carried forward.
        let mounted = Mounted::with_options(&source, &Path::new(SCRATCH).join("m"), "loop");
        sh(&format!(
            "python3 -c \"import fcntl, os, struct; fcntl.ioctl(os.open('{}/PLAIN', 0), 0x40047211, struct.pack('I', 2))\"",
            mounted.point.display()
        ));
        mounted.unmount();
        let archive = snapshot(&source, &dest(), &[]);
        sh(&format!("rm {}", quoted(&restored)));
        run_expecting(0, &["restore", archive.to_str().unwrap(), "--to-image", restored.to_str().unwrap()]);
        let mounted = Mounted::with_options(&restored, &Path::new(SCRATCH).join("m"), "loop,ro");
        assert!(attributes(&mounted.point, false).contains("PLAIN 2\n"));
        mounted.unmount();
        // A target without such attributes is told, and the restore test still compares the rest.
        run_expecting(0, &["verify", archive.to_str().unwrap(), "--restore-test"]);
        let out = Path::new(SCRATCH).join("out");
        sh(&format!("rm -rf {} {}", quoted(&out), quoted(&restored)));
        let said = sh(&format!(
            "{} restore {} --to {} 2>&1 || true",
            env!("CARGO_BIN_EXE_volbak"),
            quoted(&archive),
            quoted(&out)
        ));
        assert!(said.contains("FAT attributes"), "{said}");
    }
}
