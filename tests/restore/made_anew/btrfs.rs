//! btrfs.

use super::{assert_same, there_and_back};

/// Mounts `$1` at `$1.m` and prints of each subvolume its id, path and flag, the default one, and all files.
const SUBVOLUMES: &str = "mkdir -p $1.m; mount -o loop,ro,subvolid=5 $1 $1.m; trap 'umount $1.m' EXIT
    btrfs subvolume list $1.m | sed 's/gen [0-9]*//'; btrfs subvolume list -r $1.m | sed 's/gen [0-9]*//'
    btrfs subvolume get-default $1.m | sed 's/gen [0-9]*//'
    (cd $1.m; find . -printf '%P %M %U %G %s %T@\\n' | grep -v '^.snapshots/1/var/lib/a name' | sort
     find . -type f -exec sha256sum {} + | sort; getfattr -R -d -m - .)";
const FILESYSTEM: &str = "btrfs inspect-internal dump-super $1 | grep -E '^(csum_type|fsid|metadata_uuid|label|sectorsize|nodesize|total_bytes|num_devices)[[:space:]]'
    btrfs inspect-internal dump-super $1 | sed -n '/^compat_ro_flags/,/^cache_generation/p' | grep -vE 'COMPRESS|DEFAULT|flags' || true
    btrfs inspect-internal dump-tree -t chunk $1 | grep -oE 'type (DATA|METADATA|SYSTEM)[|A-Za-z0-9]*' | sort -u";

/// A filesystem made with `options`, in which `fill` ran.
fn comes_back(options: &str, fill: &str, then: &str) {
    let make = format!(
        "truncate -s 300M $1; mkfs.btrfs -q {options} $1; mkdir $1.m; mount -o loop $1 $1.m
         (cd $1.m; head -c 100000 /dev/urandom >file; {fill}); umount $1.m; {then}"
    );
    let round = there_and_back(0, &make, &[]);
    assert!(round.said.contains("0 other problems"), "{options}: {}", round.said);
    assert_same(&round, FILESYSTEM);
    assert_same(&round, SUBVOLUMES);
}

#[test]
fn subvolumes_come_back_as_subvolumes() {
    // As installers make them, with the root's as the default; one in a directory in another, snapshots, one read-only; ids
    // that are missing, and one that was moved into a younger one.
    comes_back(
        "-L system",
        "btrfs -q subvolume create @; btrfs -q subvolume create gone; btrfs -q subvolume create @home; mkdir -p @/var/lib
         btrfs -q subvolume create '@/var/lib/a name'; cp /etc/passwd '@/var/lib/a name/'; chmod 0711 @home; chown 5:6 @home
         echo x >@/etc; btrfs -q subvolume delete gone; mkdir -m 0700 .snapshots; btrfs -q subvolume snapshot -r @ .snapshots/1
         btrfs -q subvolume create new; mv @home new/home; setfattr -n btrfs.compression -v zstd new
         btrfs -q subvolume set-default @; touch -d 2001-01-01 new/home new .snapshots @",
        "",
    );
}

#[test]
fn profiles_checksums_and_uuids_come_back() {
    comes_back("-d dup -m single --csum sha256", "mkdir x", "");
    comes_back("--mixed -s 4096 -n 4096 -O ^no-holes", "mkdir x", "");
    comes_back("-n 32768 --csum blake2", "mkdir x", "btrfstune -f -m $1 >/dev/null");
}

#[test]
fn quotas_are_said() {
    let make = "truncate -s 200M $1; mkfs.btrfs -q $1; mkdir $1.m; mount -o loop $1 $1.m; btrfs quota enable $1.m; umount $1.m";
    let round = there_and_back(3, make, &[]);
    assert_eq!(round.said.matches("its quotas are off").count(), 2, "{}", round.said);
}
