//! The runbook's commands work, and print what it says: blocks with `<!-- tested -->` before them on an image, those with
//! `<!-- tested in the lab -->` where there is real LVM (`tests/lab/runbook.rs`). The destination, `/mnt` and the dates stand for the test's own.

use crate::testkit::examples::{run, runbook};
use crate::testkit::guest::sh;

const VOLUME: &str = "volume-0000001a";

#[test]
fn files_are_brought_back_as_the_runbook_says() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().to_str().unwrap();
    let volbak = env!("CARGO_BIN_EXE_volbak");
    sh(&format!(
        "cd {at}; mkdir backups mnt tree
         mkdir -p tree/etc/ssh tree/srv; echo PermitRootLogin no >tree/etc/ssh/sshd_config; echo web-01 >tree/etc/hostname
         chmod 600 tree/etc/ssh/sshd_config; seq 9999 >tree/srv/numbers
         disk() {{
             rm -f {VOLUME}.img; truncate -s 256M {VOLUME}.img; echo 'label: gpt; start=2048' | tr ';' '\\n' |
                 sfdisk -q {VOLUME}.img; mke2fs -q -t ext4 -d tree -E offset=1048576 {VOLUME}.img 254M
             {volbak} -q snapshot {VOLUME}.img --to backups >/dev/null
         }}
         disk; sleep 1.1; rm tree/etc/ssh/sshd_config; disk"
    ));
    let (backups, mnt) = (format!("{at}/backups"), format!("{at}/mnt"));
    run(&runbook("<!-- tested -->", &[("/BACKUPS/EBS-VOL", &backups), ("/mnt", &mnt)]), dir.path());
}
