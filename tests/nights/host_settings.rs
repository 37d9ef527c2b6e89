//! The promise: what a host's login, cron, systemd or an administrator's slip leave around volbak changes nothing about its
//! backups, and is named where it stands in the way. Limits of the process, its standard descriptors, its environment, /proc
//! and /sys, and files that others can write to.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::testkit::guest::program;

const VOLBAK: &str = env!("CARGO_BIN_EXE_volbak");

struct Host {
    directory: tempfile::TempDir,
}

impl Host {
    /// A small image `v.img` with an ext4, and an empty destination `o`.
    fn new() -> Self {
        let host = Self { directory: tempfile::tempdir().unwrap() };
        fs::create_dir(host.at("d")).unwrap();
        fs::create_dir(host.at("o")).unwrap();
        fs::write(host.at("d/a"), "x\n").unwrap();
        fs::write(host.at("d/b"), vec![7; 300_000]).unwrap();
        let made = host.shell("truncate -s 8M v.img && mke2fs -q -t ext4 -d d v.img");
        assert!(made.status.success(), "{}", said(&made));
        host
    }

    fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Runs a script in the host's directory, `$V` being volbak.
    fn shell(&self, script: &str) -> Output {
        let mut command = Command::new("bash");
        command.args(["-c", script]).env("V", VOLBAK).current_dir(self.directory.path());
        // Those of the one who runs the tests are none of ours.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("VOLBAK_")) {
            command.env_remove(name);
        }
        command.output().unwrap()
    }

    fn published(&self) -> usize {
        let listed = fs::read_dir(self.at("o/v")).into_iter().flatten();
        listed.filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().ends_with(".tar.gz")).count()
    }

    fn config(&self, more: &str, mode: u32) -> PathBuf {
        let path = self.at("c.toml");
        let text = format!("backup_destination = '{}'\nrequire_mount = false\n{more}", self.at("o").display());
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    /// Puts a script of this name into the directory `bin`.
    fn program(&self, name: &str, script: &str) -> PathBuf {
        fs::create_dir_all(self.at("bin")).unwrap();
        let path = self.at("bin").join(name);
        program(&path, script);
        path
    }
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn status(output: &Output) -> i32 {
    output.status.code().unwrap_or_else(|| panic!("{}: {}", output.status, said(output)))
}

#[test]
fn a_full_or_closed_output_is_not_a_failed_backup() {
    let host = Host::new();
    for more in ["", "--json"] {
        let output = host.shell(&format!("$V -q snapshot v.img --to o {more} >/dev/full"));
        assert_eq!(status(&output), 3, "{}", said(&output));
        let text = said(&output);
        assert!(text.contains("standard output cannot be written to") && text.contains(" is published"), "{text}");
    }
    assert_eq!(host.published(), 2);
    // What was closed must not become the number of a file that is then written to.
    for closed in [">&-", "2>&-", "<&- >&- 2>&-"] {
        let output = host.shell(&format!("$V snapshot v.img --to o {closed}"));
        assert_eq!(status(&output), 0, "{closed}: {}", said(&output));
    }
    assert_eq!(host.published(), 5);
    let output = host.shell("for a in o/v/*.tar.gz; do gzip -t $a && sha1sum -c --quiet o/v/*.checksum; done; cd o/v && sha1sum -c *.checksum");
    assert_eq!(said(&output).matches(": OK").count(), 5, "{}", said(&output));
    // Nothing was done but to print: that failed.
    for verb in ["list o", "browse v --from o", "cat v:b --from o", "inspect v.img", "--help", "--version"] {
        let output = host.shell(&format!("$V {verb} >/dev/full"));
        assert_eq!(status(&output), 1, "{verb}: {}", said(&output));
        assert!(said(&output).contains("standard output cannot be written to"), "{verb}: {}", said(&output));
        assert_eq!(status(&host.shell(&format!("$V {verb} | true; exit ${{PIPESTATUS[0]}}"))), 0, "{verb}");
    }
    let output = host.shell("$V restore v --from o --to r >/dev/full");
    assert_eq!(status(&output), 3, "{}", said(&output));
    assert!(said(&output).contains("restore into r is done") && host.at("r/b").exists());
    let output = host.shell("$V verify v --from o >/dev/full");
    assert_eq!(status(&output), 3, "{}", said(&output));
    let config = host.config("enable_lvmsnapshots = false\n", 0o644);
    let output = host.shell(&format!("$V run --config {} >/dev/full", config.display()));
    assert_eq!(status(&output), 3, "{}", said(&output));
    assert!(said(&output).contains("the run is over"), "{}", said(&output));
}

#[test]
fn limits_of_the_process_are_named_and_leave_nothing() {
    let host = Host::new();
    // Below some limit the loader cannot map the program, which a debug build makes long.
    let loads = |kib: &u32| host.shell(&format!("ulimit -v {kib}; $V --version")).status.code() == Some(0);
    let least = (20_000..100_000).step_by(2500).find(loads).unwrap();
    let [little, more] = [2500, 15_000].map(|above| format!("ulimit -v {}", least + above));
    let limits = [
        ("ulimit -f 4", "may write files of up to"),
        ("ulimit -n 8", "files open: `ulimit -n`"),
        ("ulimit -n 4", "files open: `ulimit -n`"),
        (little.as_str(), "`ulimit -v`"),
        (more.as_str(), "`ulimit -v`"),
    ];
    for (limit, named) in limits {
        let output = host.shell(&format!("{limit}; exec $V snapshot v.img --to o"));
        assert_eq!(status(&output), 1, "{limit}: {}", said(&output));
        assert!(said(&output).contains(named), "{limit}: {}", said(&output));
        assert_eq!(host.published(), 0, "{limit}");
    }
    assert_eq!(status(&host.shell("ulimit -v 400000; ulimit -n 64; $V snapshot v.img --to o")), 0);
    // A backup that cannot be read here is not a bad one.
    let (verify, restore) = ("verify v --from o", "restore v --from o --to r");
    for (limit, verb) in [(more.as_str(), verify), (more.as_str(), restore), ("ulimit -n 9", verify)] {
        let output = host.shell(&format!("{limit}; exec $V {verb}"));
        assert_eq!(status(&output), 1, "{limit}, {verb}: {}", said(&output));
        let text = said(&output);
        assert!(text.contains(&limit[..9]) && !text.contains("BAD"), "{limit}, {verb}: {text}");
    }
    assert!(!said(&host.shell("cat o/v/*.verified.json; $V list o")).contains("BAD"));
    assert_eq!(status(&host.shell("$V verify v --from o")), 0);
}

#[test]
fn no_limit_of_memory_is_a_panic() {
    let host = Host::new();
    let mut tried = 0;
    for kib in (30_000..100_000).step_by(3500) {
        // Below some limit the loader cannot map the program, which a debug build makes long.
        if host.shell(&format!("ulimit -v {kib}; $V --version")).status.code() != Some(0) {
            continue;
        }
        tried += 1;
        let output = host.shell(&format!("ulimit -v {kib}; $V snapshot v.img --to o"));
        assert!([0, 1].contains(&status(&output)), "{kib}: {}", said(&output));
        assert!(!said(&output).contains("panicked"), "{kib}: {}", said(&output));
    }
    assert!(tried > 10, "{tried}");
}

#[test]
fn without_proc_or_sys_the_error_names_it() {
    let host = Host::new();
    for (hidden, named) in [("/proc", "/proc/self"), ("/sys", "/sys/block")] {
        let output =
            host.shell(&format!("unshare -m bash -c 'mount -t tmpfs none {hidden}; $V snapshot v.img --to o'"));
        assert_eq!(status(&output), 1, "{}", said(&output));
        assert!(said(&output).contains(named), "{}", said(&output));
    }
    assert_eq!(host.published(), 0);
}

#[test]
fn a_bare_or_odd_environment_changes_nothing() {
    let host = Host::new();
    let environments = [
        "env -i",
        "env -i PATH=/usr/bin:/bin",
        "env -i PATH=",
        "env HOME=/no/such TMPDIR=/no/such LC_ALL=xx_YY.UTF-8 TZ=No/Where",
        "umask 0; env",
        "umask 077; env",
    ];
    let mut sums = Vec::new();
    for environment in environments {
        let output = host.shell(&format!("{environment} $V -q snapshot --full v.img --to o | grep sha1"));
        sums.push(said(&output));
    }
    assert!(sums[0].contains("sha1") && sums.iter().all(|sum| *sum == sums[0]), "{sums:?}");
    let modes = said(&host.shell("stat -c %a o/v o/v/*.tar.gz o/v/*.index o/v/*.manifest.json | sort -u"));
    assert_eq!(modes, "600\n700\n");
    // Found in sbin, and told where it was looked for.
    let config = host.config("", 0o644);
    let output = host.shell(&format!("env -i PATH=/usr/bin:/bin $V doctor --config {}", config.display()));
    assert!(said(&output).contains("lvs is there"), "{}", said(&output));
}

#[test]
fn no_child_gets_a_secret() {
    let host = Host::new();
    let log = host.at("env");
    let record = format!("echo \"program $0\" >>{0}; env >>{0}", log.display());
    host.program("lvs", &format!("{record}; echo '{{\"report\":[{{\"lv\":[]}}]}}'"));
    host.program("mailer", &format!("{record}; cat >/dev/null"));
    let config = host.config(
        &format!(
            "enable_mail_notification = true\nemail_recipient = 'a@example.com'\n[mail]\ntransport = 'sendmail'\n\
             sendmail_program = '{}'\nspool_dir = '{}'\n",
            host.at("bin/mailer").display(),
            host.at("spool").display()
        ),
        0o644,
    );
    let output = host.shell(&format!(
        "PATH=$PWD/bin:$PATH VOLBAK_MAIL__PASSWORD=sekret OS_PASSWORD=of-the-cloud PGPASSWORD=of-his-own LVM_SYSTEM_DIR=/etc/lvm2 \
         LVM_COMMAND_PROFILE=odd $V run --config {}",
        config.display()
    ));
    let seen = fs::read_to_string(&log).unwrap_or_else(|_| panic!("{}", said(&output)));
    let (lvs, mailer) = seen.split_once("/bin/mailer").unwrap();
    assert!(!seen.contains("sekret") && !seen.contains("VOLBAK_"), "{seen}");
    assert!(lvs.contains("bin/lvs") && lvs.contains("LVM_SYSTEM_DIR=/etc/lvm2") && lvs.contains("LC_ALL=C"), "{lvs}");
    assert!(!seen.contains("of-the-cloud"), "{seen}");
    assert!(!lvs.contains("of-his-own") && !lvs.contains("LVM_COMMAND_PROFILE"), "{lvs}");
    assert!(mailer.contains("of-his-own"), "what the administrator set reaches his own programs: {mailer}");
}

#[test]
fn a_config_that_others_can_change_runs_nothing() {
    let host = Host::new();
    let hooks = "enable_lvmsnapshots = false\n[volume.'*']\nbefore_snapshot = ['/bin/true']\n";
    let verbs = ["config check", "run", "run --dry-run", "doctor", "prune --dry-run", "report"];
    let refused = |path: &Path, verbs: &[&str]| {
        for verb in verbs {
            let output = host.shell(&format!("$V {verb} --config {}", path.display()));
            assert_eq!(status(&output), 2, "{verb}: {}", said(&output));
            let text = said(&output);
            assert!(text.contains("runs hooks") && text.contains("write to"), "{verb}: {text}");
        }
    };
    let config = host.config(hooks, 0o666);
    refused(&config, &verbs);
    refused(&host.config(hooks, 0o646), &["run"]);
    let check = |path: &Path| host.shell(&format!("$V config check --config {}", path.display()));
    assert_eq!(status(&check(&host.config(hooks, 0o644))), 0);
    assert_eq!(status(&check(&host.config(hooks, 0o664))), 0, "root's own group");
    // By another group, by its owner, by a directory above it, through a link.
    assert!(host.shell("chgrp 4 c.toml").status.success());
    refused(&config, &["run"]);
    assert!(host.shell("chgrp 0 c.toml; chown 1000 c.toml").status.success());
    refused(&config, &["run"]);
    assert!(host.shell("chown 0 c.toml; mkdir open; ln -s ../c.toml open/link; chmod 777 open").status.success());
    refused(&host.at("open/link"), &["run"]);
    assert!(host.shell("chmod 1777 open").status.success());
    assert_eq!(status(&check(&host.at("open/link"))), 0, "as in /tmp");
    // Without anything to run it is a warning, and the night goes on.
    let config = host.config("enable_lvmsnapshots = false\n", 0o666);
    assert_eq!(status(&check(&config)), 3);
    let output = host.shell(&format!("$V run --config {}", config.display()));
    assert!(status(&output) == 0 && said(&output).contains("others can write to"), "{}", said(&output));
}

#[test]
fn files_that_the_config_names_are_looked_at_too() {
    let host = Host::new();
    host.program("hook", "exit 0");
    fs::write(host.at("password"), "geheim\n").unwrap();
    let config = host.config(
        &format!(
            "enable_lvmsnapshots = false\nenable_mail_notification = true\nemail_recipient = 'a@example.com'\n\
             [hooks]\nafter_snapshot = ['/bin/sh', '{}']\n[mail]\nsmtp_host = 'localhost'\nuser = 'u'\npassword_file = '{}'\n",
            host.at("bin/hook").display(),
            host.at("password").display()
        ),
        0o644,
    );
    let check = |change: &str| host.shell(&format!("{change}; $V config check --config {}", config.display()));
    assert_eq!(status(&check("chmod 600 password")), 0);
    for (change, back, named) in [
        ("chmod 777 bin/hook", "chmod 755 bin/hook", "bin/hook"),
        ("chmod 777 bin", "chmod 755 bin", "bin/hook"),
        ("chown 1000 bin/hook", "chown 0 bin/hook", "bin/hook"),
        ("chmod 602 password", "chmod 600 password", "password"),
    ] {
        let output = check(change);
        assert_eq!(status(&output), 2, "{change}: {}", said(&output));
        assert!(said(&output).contains(named) && said(&output).contains("is refused"), "{change}: {}", said(&output));
        let output = host.shell(&format!("$V doctor --config {}", config.display()));
        assert!(said(&output).lines().any(|line| line.starts_with("BAD") && line.contains(named)), "{}", said(&output));
        assert_eq!(status(&check(back)), 0, "{back}");
    }
}
