//! Promise: restoring a tenant's files opens nothing to this host's users: the target keeps its own owner, mode and times,
//! and set-id programs stay where only root can run them, or lose what makes them dangerous, unless it is asked for.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use crate::testkit::guest::{Mounted, quoted, sh};
use crate::testkit::proof::{back_up, restore_options, restore_with, with};
use crate::testkit::tree::fingerprint;
use volbak::events::{Problem, Severity};
use volbak::run::restore::{Existing, RestoreOptions, RestoreReport};
use volbak::store::Backup;

/// A tenant's tree whose root is open to all, with programs of each dangerous kind.
fn tenant(at: &Path) -> Backup {
    let tree = at.join("tenant");
    sh(&format!(
        "mkdir -p {0}/bin {0}/shared; cd {0}; for f in suid sgid both caps plain; do echo '#!/bin/sh' >bin/$f; done
         cp bin/plain loose; chmod 4755 bin/suid loose; chmod 2755 bin/sgid; chmod 6711 bin/both; chmod 755 bin/caps
         setcap cap_setuid+ep bin/caps; setfattr -n user.note -v kept bin/caps bin/suid; chmod 3777 shared
         setfattr -n user.root -v theirs .; chmod 1777 .; chown 1234:5678 .; touch -d 2001-02-03 .",
        quoted(&tree)
    ));
    back_up(&tree, &at.join("backup"))
}

/// A scratch directory that every user can enter.
fn open_scratch() -> tempfile::TempDir {
    let scratch = tempfile::tempdir().unwrap();
    fs::set_permissions(scratch.path(), Permissions::from_mode(0o755)).unwrap();
    scratch
}

fn options(to: &Path) -> RestoreOptions {
    with(restore_options(to), |options| {
        options.top = false;
        options.keep_set_id = false;
    })
}

fn done(files: &Backup, options: &RestoreOptions) -> (RestoreReport, Vec<Problem>) {
    let (report, problems) = restore_with(files, options);
    let report = report.unwrap();
    assert!(report.is_complete(), "{problems:?}");
    (report, problems)
}

/// The files below `dir` that lend somebody's rights.
fn dangerous(dir: &Path) -> Vec<String> {
    let found = sh(&format!(
        "cd {}; (find . -type f -perm /6000; getcap -r . | cut -d ' ' -f 1 | sed 's,^,./,; s,^././,./,') | sort -u",
        quoted(dir)
    ));
    found.lines().map(str::to_owned).collect()
}

const ALL_DANGEROUS: [&str; 5] = ["./bin/both", "./bin/caps", "./bin/sgid", "./bin/suid", "./loose"];

#[test]
fn the_directory_itself_stays_as_it_was() {
    let scratch = open_scratch();
    let files = tenant(scratch.path());
    let to = scratch.path().join("to");
    for existing in [Existing::Keep, Existing::Resume, Existing::Overwrite] {
        for paths in [Vec::new(), vec!["bin/plain".to_owned()], vec!["/".to_owned()]] {
            let _ = fs::remove_dir_all(&to);
            fs::create_dir(&to).unwrap();
            sh(&format!("setfattr -n user.root -v ours {}", quoted(&to)));
            chown(&to, Some(7), Some(8)).unwrap();
            fs::set_permissions(&to, Permissions::from_mode(0o710)).unwrap();
            sh(&format!("touch -d 1999-01-01 {}", quoted(&to)));
            let before = fingerprint(&to);
            let (_, problems) = done(
                &files,
                &with(options(&to), |options| {
                    options.existing = existing;
                    options.paths = paths;
                }),
            );
            assert!(fingerprint(&to)[b".".as_slice()] == before[b".".as_slice()], "{existing:?}");
            let told = problems.iter().any(|problem| problem.what.contains("--top"));
            assert!(told, "what the archive's root has is told: {problems:?}");
        }
    }
    // One that was made is its owner's alone.
    let made = scratch.path().join("made");
    done(&files, &options(&made));
    assert_eq!(fs::metadata(&made).unwrap().mode() & 0o7777, 0o700);

    let whole = scratch.path().join("whole");
    fs::create_dir(&whole).unwrap();
    done(&files, &with(options(&whole), |options| options.top = true));
    let (expected, found) = (fingerprint(&scratch.path().join("tenant")), fingerprint(&whole));
    assert!(found[b".".as_slice()] == expected[b".".as_slice()]);
}

#[test]
fn a_filesystem_comes_back_whole_when_that_is_asked_for() {
    let scratch = open_scratch();
    let files = tenant(scratch.path());
    let to = scratch.path().join("to");
    fs::create_dir(&to).unwrap();
    let (report, problems) = done(
        &files,
        &with(options(&to), |options| {
            options.top = true;
            options.keep_set_id = true;
        }),
    );
    assert_eq!((report.stripped, problems.len()), (0, 0), "{problems:?}");
    crate::testkit::tree::assert_equal_trees(&fingerprint(&scratch.path().join("tenant")), &fingerprint(&to));
}

#[test]
fn set_id_files_stay_where_nobody_else_can_run_them() {
    let scratch = open_scratch();
    let files = tenant(scratch.path());
    let at = |name: &str| -> PathBuf {
        let path = scratch.path().join(name);
        fs::create_dir_all(&path).unwrap();
        path
    };
    let set = |path: &Path, mode: u32| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    let closed = at("closed");
    set(&closed, 0o700);
    let inside = at("parent/inside");
    set(inside.parent().unwrap(), 0o700);
    let made = scratch.path().join("made");
    for to in [&closed, &inside, &made] {
        let (report, _) = done(&files, &options(to));
        assert_eq!(report.stripped, 0);
        assert_eq!(dangerous(to), ALL_DANGEROUS);
    }
    let nosuid = at("nosuid");
    let mounted = Mounted::with_options(Path::new("tmpfs"), &nosuid, "nosuid,mode=755 -t tmpfs");
    assert_eq!(done(&files, &options(&mounted.point)).0.stripped, 0);
    drop(mounted);

    let open = at("open");
    let group = at("group");
    set(&group, 0o710);
    let acl = at("acl");
    sh(&format!("chmod 700 {0}; setfacl -m u:1234:x {0}", quoted(&acl)));
    let others_own = at("others");
    set(&others_own, 0o700);
    chown(&others_own, Some(1234), None).unwrap();
    let below_others = at("others/below");
    for to in [&open, &group, &acl, &others_own, &below_others] {
        let (report, problems) = done(&files, &options(to));
        assert_eq!(report.stripped, 5, "{}", to.display());
        assert_eq!(dangerous(to), [""; 0]);
        let notices: Vec<_> = problems.iter().filter(|problem| problem.what.contains("--keep-setid")).collect();
        assert!(notices.len() == 1 && notices[0].severity == Severity::Notice, "{problems:?}");
        assert!(notices[0].what.starts_with("5 files "), "{problems:?}");
        // What lends no rights stays.
        let mode = |path: &str| fs::metadata(to.join(path)).unwrap().mode() & 0o7777;
        assert_eq!((mode("bin/suid"), mode("bin/both"), mode("shared")), (0o755, 0o711, 0o3777));
        let notes = sh(&format!("getfattr --only-values -n user.note {}", quoted(&to.join("bin/caps"))));
        assert_eq!(notes, "kept");
    }

    // A single file; a closed target that the archive's root would open; and what is asked for.
    let single = at("single");
    done(&files, &with(options(&single), |options| options.paths = vec!["bin/suid".to_owned()]));
    assert_eq!(dangerous(&single), [""; 0]);
    let opened = scratch.path().join("opened");
    let (report, _) = done(&files, &with(options(&opened), |options| options.top = true));
    assert_eq!(report.stripped, 5);
    let asked = at("asked");
    done(&files, &with(options(&asked), |options| options.keep_set_id = true));
    assert_eq!(dangerous(&asked), ALL_DANGEROUS);
    // Resumed by other rules, what is there follows them.
    done(&files, &with(options(&asked), |options| options.existing = Existing::Resume));
    assert_eq!(dangerous(&asked), [""; 0]);
}

#[test]
fn what_is_in_the_way_is_one_line() {
    let scratch = open_scratch();
    let files = tenant(scratch.path());
    let to = scratch.path().join("to");
    done(&files, &options(&to));
    let (report, problems) = restore_with(&files, &options(&to));
    let report = report.unwrap();
    assert_eq!((report.failed, report.in_the_way), (6, 6));
    let errors: Vec<_> = problems.iter().filter(|problem| problem.severity == Severity::Error).collect();
    assert_eq!(errors.len(), 1, "{errors:?}");
    let said = &errors[0].what;
    assert!(said.starts_with("6 entries ") && said.contains("and 1 more") && said.contains("./bin/"), "{said}");
    assert!(said.matches("--overwrite").count() == 1 && said.matches("--resume").count() == 1, "{said}");

    // A file where the backup has a directory, and the other way round.
    let mixed = scratch.path().join("mixed");
    fs::create_dir(&mixed).unwrap();
    fs::write(mixed.join("bin"), "a file\n").unwrap();
    fs::create_dir(mixed.join("loose")).unwrap();
    let (report, problems) = restore_with(&files, &options(&mixed));
    let report = report.unwrap();
    assert_eq!((report.failed, report.in_the_way), (7, 6), "{problems:?}");
    assert!(problems.iter().any(|problem| problem.what.contains("a directory of that name")), "{problems:?}");
    let errors = problems.iter().filter(|problem| problem.severity == Severity::Error).count();
    assert_eq!(errors, 2, "{problems:?}");
    assert_eq!(fs::read(mixed.join("bin")).unwrap(), b"a file\n");
}
