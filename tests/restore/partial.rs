//! Promise: what could not be read of the source when it was backed up is not given back as if it had been: the status is 3, and the
//! file is named.

use std::process::{Command, Output};

use crate::testkit::guest::{quoted, sh};

fn volbak(at: &std::path::Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_volbak")).current_dir(at).args(arguments).output().unwrap()
}

#[test]
fn a_file_that_was_not_read_whole_is_told_by_all_that_give_it_back() {
    let scratch = tempfile::tempdir().unwrap();
    let at = scratch.path();
    // A block of `f` lies behind the end of the filesystem.
    sh(&format!(
        "cd {}; mkdir tree b; seq 5000 >tree/f; echo whole >tree/g; truncate -s 20M disk.img
         mkfs.ext4 -q -O ^extents,^64bit,^metadata_csum -d tree disk.img
         debugfs -w -R 'sif /f block[1] 99999999' disk.img",
        quoted(at)
    ));
    for mode in [&[][..], &["--image"]] {
        let made = volbak(at, &[&["snapshot", "./disk.img", "--to", "b"], mode].concat());
        let is_image = !mode.is_empty();
        assert_eq!(made.status.code(), Some(3), "{made:?}");
        let archive = String::from_utf8(made.stdout).unwrap().lines().next().unwrap().to_owned();
        let file = format!("{archive}:f");
        let of_f = [
            vec!["cat", &file],
            vec!["restore", &archive, "--to", "one", "--path", "f"],
            vec!["restore", &archive, "--to", "all"],
            vec!["restore", &archive, "--to-image", "disk.new"],
        ];
        // An image has the damaged filesystem as it is: only its files are in doubt.
        for call in of_f.iter().take(if is_image { 3 } else { 4 }) {
            let output = volbak(at, call);
            let said = String::from_utf8_lossy(&output.stderr);
            if is_image && call[0] == "cat" {
                assert_eq!(output.status.code(), Some(1), "{call:?}: {said}");
            } else {
                assert_eq!(output.status.code(), Some(3), "{call:?}: {said}");
                assert!(said.contains("f: was not read whole when it was backed up") || is_image, "{call:?}: {said}");
            }
        }
        sh(&format!("cd {}; cmp all/g tree/g; ! cmp -s all/f tree/f; rm -r one all", quoted(at)));
        let well = volbak(at, &["restore", &archive, "--to", "well", "--path", "g"]);
        let said = String::from_utf8_lossy(&well.stderr);
        assert_eq!(well.status.code(), Some(0), "{said}");
        assert_eq!(said.contains("is partial: 2 of its files"), !is_image, "{said}");
        sh(&format!("cd {}; cmp well/g tree/g; rm -r well", quoted(at)));
    }
}
