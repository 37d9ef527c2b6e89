//! XFS.

use super::{assert_same, there_and_back};

/// The superblock, without the bit that says that an inode has an extended attribute, and without counters.
const SUPERBLOCK: &str = "xfs_db -r -c 'sb 0' -c 'p dblocks logstart logblocks logsunit unit width agblocks agcount imax_pct \
    rextsize features2 features_ro_compat features_incompat blocksize inodesize sectsize dirblklog fname uuid meta_uuid' $1";

fn comes_back(options: &str, then: &str) {
    let make = format!("truncate -s 600M $1; mkfs.xfs -q {options} $1 2>/dev/null; {then}");
    let round = there_and_back(0, &make, &[]);
    assert!(round.said.contains("0 other problems"), "{options}: {}", round.said);
    assert_same(&round, SUPERBLOCK);
}

#[test]
fn stripes_groups_and_logs_come_back() {
    comes_back("-L data -d sunit=128,swidth=512", "");
    comes_back("-l su=8192,agnum=1 -b size=2048 -n size=8192 -s size=2048", "");
    // As old versions made it, and as one looks that grew.
    comes_back("-d agsize=67108864 -l size=20m --unsupported", "");
    comes_back("-d agcount=1 --unsupported", "");
}

#[test]
fn inodes_features_and_identities_come_back() {
    comes_back("-i maxpct=40,size=1024,sparse=0,nrext64=1 -m reflink=0,rmapbt=1", "");
    comes_back("-r extsize=65536 -m bigtime=0,inobtcount=0", "xfs_admin -U generate $1 >/dev/null");
    comes_back("-m finobt=0,reflink=0", "xfs_db -x -c 'sb 0' -c 'write -d imax_pct 0' $1 >/dev/null");
}

#[test]
fn what_does_not_come_back_is_in_the_plan_and_in_the_result() {
    // As a mount with uquota leaves it, which needs a kernel that has quotas.
    let quotas = "truncate -s 400M $1; mkfs.xfs -q $1; xfs_db -x -c 'sb 0' -c 'write -d qflags 3' $1 >/dev/null";
    let round = there_and_back(3, quotas, &[]);
    assert_eq!(round.said.matches("limits are not in a backup").count(), 2, "{}", round.said);
    let dry = there_and_back(0, quotas, &["--dry-run"]);
    assert!(dry.said.contains("other:  disk: it had quotas (user accounting"), "{}", dry.said);
    assert!(!dry.restored.exists() && dry.dir.path().exists());
}
