//! Promise: `remap` changes owners and groups to other numbers and nothing else: set-id bits, capabilities, ACLs and times stay, no
//! symbolic link leads it anywhere, no mount point is crossed; it goes on after `kill -9`, and `--undo` goes back.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::testkit::guest::{Mounted, make_image, quoted, sh};
use crate::testkit::schema::compare;
use crate::testkit::tree::{Filesystem, Tree, assert_equal_trees, fingerprint, make_hard_tree, make_many_entries};
use crate::testkit::wait::met;

fn command(work: &Path, tree: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_volbak"));
    command.arg("remap").arg(tree).arg("--journal").arg(work.join("journal")).args(more);
    command
}

fn remap(work: &Path, tree: &Path, more: &[&str]) -> Output {
    command(work, tree, more).output().unwrap()
}

fn done(work: &Path, tree: &Path, more: &[&str]) -> serde_json::Value {
    let mut all = more.to_vec();
    all.push("--json");
    let output = remap(work, tree, &all);
    assert!(output.status.success(), "{output:?}");
    let report = serde_json::from_slice(&output.stdout).unwrap();
    compare(&report, "remap");
    report
}

/// An ext4 of its own: the hard tree, and what a change of owner loses.
fn hard(work: &Path) -> Mounted {
    let image = work.join("disk.img");
    // A smaller one has blocks of 1 KiB, and a symbolic link is no longer than a block.
    make_image(&image, "1G", Filesystem::Ext4);
    let point = work.join("mounted");
    fs::create_dir(&point).unwrap();
    let mounted = Mounted::partition(&image, &point);
    fs::create_dir(point.join("hard")).unwrap();
    make_hard_tree(&point.join("hard"), Filesystem::Ext4);
    sh(&format!(
        "cd {}; mkdir nova nova/dir; cd nova; for f in setuid setgid both caps acl plain named; do cp /bin/true $f; done
         ln both again; ln both dir/third; ln -s /etc link; ln -s ../../../outside out; mkfifo pipe; mknod dev c 1 3
         chown -Rh 108:108 .; chmod 4755 setuid; chmod 2755 setgid; chmod 6711 both; chmod 2770 dir; chmod 1777 plain
         setcap cap_net_raw+ep caps; setfacl -m u:108:rw,u:5000:r,g:108:r,g:1500:rx acl; setfacl -m u:108:rwx named; chown 0:0 named
         setfacl -d -m u:108:rwx,g:108:r dir; setfacl -m g:108:rw pipe; setfattr -n user.note -v hello acl
         mkdir other; touch other/below; touch -d '2001-02-03 04:05:06.789' acl both dir; touch $(printf 'odd\\377name')
         chown 108 odd*",
        quoted(&point)
    ));
    mounted
}

#[test]
fn hard_cases_are_mapped_undone_and_equal_in_every_attribute() {
    let work = tempfile::tempdir().unwrap();
    let work = work.path();
    fs::create_dir(work.join("outside")).unwrap();
    sh(&format!("touch {0}/outside/file; chown 108:108 {0}/outside/file {0}/outside", quoted(work)));
    let mounted = hard(work);
    let tree = work.join("mounted");
    sh(&format!(
        "mount -t tmpfs none {0}/nova/other; touch {0}/nova/other/inside; chown 108:108 {0}/nova/other/inside",
        quoted(&tree)
    ));
    let before = fingerprint(&tree.join("nova"));
    let hard_before = fingerprint(&tree.join("hard"));
    let maps = ["--uid", "108:112", "--gid", "108:115"];

    let mut dry = maps.to_vec();
    dry.push("--dry-run");
    let counted = done(work, &tree, &dry);
    assert_equal_trees(&before, &fingerprint(&tree.join("nova")));
    assert!(!work.join("journal").exists());
    let report = done(work, &tree, &maps);
    for key in ["changed", "uids", "gids", "set_id", "capabilities", "acls", "other_filesystems"] {
        assert_eq!(counted[key], report[key], "{key}");
    }
    assert_eq!(report["capabilities"], 1, "{report}");
    assert_eq!(report["other_filesystems"], 1, "{report}");

    let at = |name: &str| fs::symlink_metadata(tree.join("nova").join(name)).unwrap();
    for (name, mode) in [("setuid", 0o4755), ("setgid", 0o2755), ("both", 0o6711), ("dir", 0o2770), ("plain", 0o1777)] {
        assert_eq!((at(name).uid(), at(name).gid(), at(name).mode() & 0o7000), (112, 115, mode & 0o7000), "{name}");
    }
    for name in ["link", "out", "pipe", "dev", "dir/third"] {
        assert_eq!((at(name).uid(), at(name).gid()), (112, 115), "{name}");
    }
    let tools = sh(&format!("cd {}/nova; getcap caps; getfacl -n -c -p acl dir pipe named", quoted(&tree)));
    assert!(tools.contains("cap_net_raw=ep"), "{tools}");
    assert!(
        tools.contains("user:112:rw-") && tools.contains("group:115:r--") && tools.contains("default:user:112:rwx"),
        "{tools}"
    );
    assert!(tools.contains("user:5000:r--") && !tools.contains(":108:"), "{tools}");
    for kept in [tree.join("nova/other/inside"), work.join("outside/file"), work.join("outside")] {
        assert_eq!(fs::metadata(&kept).unwrap().uid(), 108, "{}", kept.display());
    }
    // Times and content stay.
    let after = fingerprint(&tree.join("nova"));
    assert_eq!(times(&before), times(&after));

    // Again: nothing. Another mapping over the same journal: refused.
    assert_eq!(done(work, &tree, &maps)["was_complete"], true);
    let other = remap(work, &tree, &["--uid", "112:108"]);
    assert!(!other.status.success() && String::from_utf8_lossy(&other.stderr).contains("--undo"), "{other:?}");

    let undone = done(work, &tree, &["--undo"]);
    assert_eq!(undone["changed"], report["changed"]);
    assert_equal_trees(&before, &fingerprint(&tree.join("nova")));
    assert_equal_trees(&hard_before, &fingerprint(&tree.join("hard")));
    assert!(!work.join("journal").exists());
    assert!(
        String::from_utf8_lossy(&remap(work, &tree, &["--undo"]).stderr)
            .contains("does not exist: no change can be undone")
    );
    sh(&format!("umount {}/nova/other", quoted(&tree)));
    mounted.unmount();
}

fn times(tree: &Tree) -> Vec<(i64, u32)> {
    tree.values().map(|attributes| attributes.mtime).collect()
}

#[test]
fn what_changed_since_is_left_alone_and_what_is_not_there_is_named() {
    let work = tempfile::tempdir().unwrap();
    let (work, tree) = (work.path(), work.path().join("tree"));
    sh(&format!("mkdir {0}; cd {0}; touch a b c d; chown 108:108 a b c d", quoted(&tree)));
    done(work, &tree, &["--uid", "108:112"]);
    // `a` has another owner, `b` is gone, `c` is another file, and leads out of the tree.
    sh(&format!(
        "cd {0}; chown 7 a; rm b c; touch ../victim; ln -s ../victim c; chown -h 112 c; chown 112 ../victim",
        quoted(&tree)
    ));
    let output = remap(work, &tree, &["--undo"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{said}");
    for what in ["a: it has the numbers 7:108 now", "b: it is not there any more", "c: another file is there now"] {
        assert!(said.contains(what), "{said}");
    }
    let uid = |name: &str| fs::symlink_metadata(tree.join(name)).unwrap().uid();
    assert_eq!((uid("a"), uid("c"), uid("d"), uid("../victim")), (7, 112, 108, 112));
    // A journal that others can change is not used.
    sh(&format!("chmod 666 {}/journal", quoted(work)));
    assert!(String::from_utf8_lossy(&remap(work, &tree, &["--undo"]).stderr).contains("is not used"));
    sh(&format!("chmod 600 {0}/journal; echo '{{}}' >>{0}/journal", quoted(work)));
    let said = String::from_utf8_lossy(&remap(work, &tree, &["--undo"]).stderr).into_owned();
    assert!(said.contains("journal: line 10 is damaged: {}"), "{said}");
    fs::write(work.join("journal"), "{\"format\":2}\n").unwrap();
    assert!(String::from_utf8_lossy(&remap(work, &tree, &["--undo"]).stderr).contains("is no journal"));
    assert_eq!(remap(work, &tree, &[]).status.code(), Some(2));
}

#[test]
fn a_damaged_line_keeps_no_other_from_being_undone() {
    let work = tempfile::tempdir().unwrap();
    let (work, tree) = (work.path(), work.path().join("tree"));
    sh(&format!("mkdir {0}; cd {0}; touch a b c; chown 108:108 a b c", quoted(&tree)));
    let maps = ["--uid", "108:112", "--uid", "112:108"];
    let journal = work.join("journal");
    done(work, &tree, &maps);
    let whole = fs::read_to_string(&journal).unwrap();
    let of_b = whole.lines().position(|line| line.contains("\"b\"")).unwrap();
    let broken = |line: usize, is_complete: bool| {
        let lines = whole.lines().filter(|line| is_complete || !line.contains("complete"));
        lines
            .enumerate()
            .fold(String::new(), |text, (at, one)| text + if at == line { &one[..one.len() / 2] } else { one } + "\n")
    };
    let uids = || ["a", "b", "c"].map(|name| fs::metadata(tree.join(name)).unwrap().uid());
    let failed = |status: i32, more: &[&str]| {
        let output = remap(work, &tree, more);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(status), "{said}");
        said
    };
    // Cut off, as after a kill -9: to go on could swap the numbers of `b` once more.
    fs::write(&journal, broken(of_b, false)).unwrap();
    for more in [&[][..], &["--dry-run"]] {
        let said = failed(1, &[&maps[..], more].concat());
        assert!(said.contains(&format!("line {} is damaged", of_b + 1)) && said.contains("--undo"), "{said}");
    }
    assert_eq!(uids(), [112; 3]);
    // Without its first line it may be of another directory. What that line was is said.
    fs::write(&journal, broken(0, true)).unwrap();
    let said = failed(1, &["--undo"]);
    let right = said.split("first line by ").nth(1).unwrap().split(", and call").next().unwrap().to_owned();
    assert_eq!(uids(), [112; 3]);
    let mut lines: Vec<&str> = whole.lines().collect();
    lines[0] = &right;
    lines[of_b] = "\0\0\0";
    fs::write(&journal, lines.join("\n") + "\n").unwrap();
    let told = format!("line {} is damaged", of_b + 1);
    assert!(failed(3, &["--undo", "--dry-run"]).contains(&told));
    assert_eq!(uids(), [112; 3]);
    let said = failed(3, &["--undo"]);
    assert!(said.contains(&told) && said.contains("back by hand, and remove it") && journal.exists(), "{said}");
    assert_eq!(uids(), [108, 112, 108]);
}

#[test]
fn a_new_file_with_the_inode_number_of_one_in_the_journal_is_named() {
    let work = tempfile::tempdir().unwrap();
    let mounted = hard(work.path());
    let tree = mounted.point.join("nova");
    let maps = ["--uid", "108:112", "--gid", "108:112"];
    done(work.path(), &tree, &maps);
    // As after a kill -9 before the last line.
    let journal = work.path().join("journal");
    let text = fs::read_to_string(&journal).unwrap();
    fs::write(&journal, text.strip_suffix("{\"complete\":true}\n").unwrap()).unwrap();
    let number = fs::metadata(tree.join("plain")).unwrap().ino();
    fs::remove_file(tree.join("plain")).unwrap();
    // ext4 gives the lowest free number.
    let fresh = (0..50).map(|n| tree.join(format!("fresh-{n}"))).find(|path| {
        fs::write(path, "").unwrap();
        std::os::unix::fs::chown(path, Some(108), Some(108)).unwrap();
        fs::metadata(path).unwrap().ino() == number
    });
    let fresh = fresh.unwrap();
    let output = remap(work.path(), &tree, &maps);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let name = fresh.file_name().unwrap().to_str().unwrap();
    assert!(output.status.code() == Some(3) && said.contains(&format!("{name}: it has the inode number")), "{said}");
    assert_eq!(fs::metadata(&fresh).unwrap().uid(), 108);
}

/// Starts it, and kills it as soon as the journal has so many bytes, or lets it end.
fn killed_at(mut child: Child, journal: &Path, bytes: u64) -> bool {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        if fs::metadata(journal).is_ok_and(|metadata| metadata.len() >= bytes) {
            child.kill().unwrap();
            child.wait().unwrap();
            return true;
        }
        assert!(Instant::now() < until, "it hangs");
        std::thread::yield_now();
    }
}

#[test]
fn two_numbers_are_swapped_once_however_often_it_is_killed() {
    let maps = ["--uid", "108:112", "--uid", "112:108", "--gid", "108:112", "--gid", "112:108"];
    let quiet = |work: &Path, more: &[&str]| {
        command(work, &work.join("tree"), more).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    let (work, before) = met("three kills of one run", || {
        let work = tempfile::tempdir().unwrap();
        let tree = work.path().join("tree");
        fs::create_dir(&tree).unwrap();
        sh(&format!(
            "cd {}; for d in 0 1 2 3 4 5; do mkdir $d; (cd $d; seq 1 700 | xargs touch; chmod 4755 $(seq 1 50)
             chown 108:108 $(seq 1 350); chown 112:112 $(seq 351 700); chmod 6755 $(seq 330 370)); done",
            quoted(&tree)
        ));
        let before = fingerprint(&tree);
        let journal = work.path().join("journal");
        let kills = (1..12_u64).filter(|step| killed_at(quiet(work.path(), &maps), &journal, step * 40_000)).count();
        (kills >= 3).then_some((work, before))
    });
    let (work, tree) = (work.path(), work.path().join("tree"));
    let journal = work.join("journal");
    done(work, &tree, &maps);
    let swapped = |id: u32| match id {
        108 => 112,
        112 => 108,
        other => other,
    };
    let mut expected = before.clone();
    for attributes in expected.values_mut() {
        attributes.uid = swapped(attributes.uid);
        attributes.gid = swapped(attributes.gid);
    }
    assert_equal_trees(&expected, &fingerprint(&tree));
    // The way back, killed in the middle.
    let mut child = quiet(work, &["--undo"]);
    let first = tree.join("5/99");
    while fs::metadata(&first).is_ok_and(|metadata| metadata.uid() != 108) && child.try_wait().unwrap().is_none() {}
    let _ = child.kill();
    child.wait().unwrap();
    if journal.exists() {
        done(work, &tree, &["--undo"]);
    }
    assert_equal_trees(&before, &fingerprint(&tree));
}

#[test]
fn many_files_and_a_thousand_levels_take_a_moment() {
    let work = tempfile::tempdir().unwrap();
    let (work, tree) = (work.path(), work.path().join("tree"));
    make_many_entries(&tree.join("many"), 20_000);
    // Deeper than descriptors may be open, and than a path may be long.
    let levels = "import os; [(os.mkdir('level'), os.chdir('level')) for _ in range(1500)]; open('end', 'w')";
    sh(&format!("cd {} && python3 -c \"{levels}\"", quoted(&tree)));
    let began = Instant::now();
    let report = done(work, &tree, &["--uid", "0:7", "--gid", "0:8"]);
    let took = began.elapsed();
    assert!(report["changed"].as_u64().unwrap() > 21_500, "{report}");
    assert_eq!(report["changed"], report["inodes"]);
    assert!(took < Duration::from_secs(90), "{took:?}");
    let left = sh(&format!("find {} \\( -uid 0 -o -gid 0 \\) | wc -l", quoted(&tree)));
    assert_eq!(left.trim(), "0");
    done(work, &tree, &["--undo"]);
    let left = sh(&format!("find {} ! -uid 0 | wc -l", quoted(&tree)));
    assert_eq!(left.trim(), "0");
}

#[test]
fn a_half_undone_remap_is_not_complete() {
    let work = tempfile::tempdir().unwrap();
    let (work, tree) = (work.path(), work.path().join("tree"));
    sh(&format!("mkdir {0}; cd {0}; touch a b c; chown 108:108 a b c", quoted(&tree)));
    let maps = ["--uid", "108:112", "--gid", "108:112"];
    done(work, &tree, &maps);
    sh(&format!("chattr +i {}/b", quoted(&tree)));
    assert_eq!(remap(work, &tree, &["--undo"]).status.code(), Some(3));
    sh(&format!("chattr -i {}/b", quoted(&tree)));
    done(work, &tree, &maps);
    for name in ["a", "b", "c"] {
        assert_eq!(fs::metadata(tree.join(name)).unwrap().uid(), 112, "{name}");
    }
    done(work, &tree, &["--undo"]);
    assert_eq!(fs::metadata(tree.join("a")).unwrap().uid(), 108);
}

#[test]
fn what_was_changed_after_a_remap_survives_its_undo() {
    let work = tempfile::tempdir().unwrap();
    let (work, tree) = (work.path(), work.path().join("tree"));
    sh(&format!(
        "mkdir {0}; cd {0}; for f in mode unset set caps uncaps acl stuck same; do cp /bin/true $f; done; chmod 755 *; chmod u+s unset same
         setcap cap_net_raw+ep uncaps; setcap cap_chown+ep same; setfacl -m u:108:r acl; chown 108:108 *; chmod u+s unset same
         setcap cap_net_raw+ep uncaps; setcap cap_chown+ep same",
        quoted(&tree)
    ));
    done(work, &tree, &["--uid", "108:112", "--gid", "108:112"]);
    sh(&format!(
        "cd {0}; chmod 640 mode; chmod u-s unset; chmod 4711 set; setcap cap_kill+ep caps; setcap -r uncaps
         setfacl -m u:5000:rw acl; chattr +i stuck",
        quoted(&tree)
    ));
    let assert_kept = || {
        let modes = sh(&format!(
            "cd {}; stat -c %a:%u mode unset set same | tr '\\n' ' '; getcap caps uncaps same",
            quoted(&tree)
        ));
        assert_eq!(modes, "640:108 755:108 4711:108 4755:108 caps cap_kill=ep\nsame cap_chown=ep\n");
        assert!(sh(&format!("getfacl -n {}/acl", quoted(&tree))).contains("user:5000:rw-"));
    };
    // One that cannot be changed: the journal stays, and the second call finds the others changed back.
    for _ in 0..2 {
        let output = remap(work, &tree, &["--undo"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(3), "{said}");
        assert!(said.contains("acl: its owner is changed, and its ACL is not"), "{said}");
        assert_kept();
    }
    // By hand, as the message says.
    sh(&format!("cd {0}; setfacl -b acl; chmod 755 acl; setfacl -m u:108:r acl; chattr -i stuck", quoted(&tree)));
    done(work, &tree, &["--undo"]);
    assert_eq!(sh(&format!("cd {}; stat -c %u * | sort -u", quoted(&tree))).trim(), "108");
}
