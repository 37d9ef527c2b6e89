//! Promise: bash, zsh and fish complete the volumes of a destination and the dates of their backups, fast, and nothing that
//! goes wrong is seen in the line that is being typed. The shells are real, at a terminal of their own.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::testkit::guest::{sh, timed};
use crate::testkit::wait::{Killed, wait_until};

const VOLBAK: &str = env!("CARGO_BIN_EXE_volbak");

/// A destination with the names of backups, and a home without settings.
fn place() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for volume in ["vol-1", "vol-10", "db", "v;reboot"] {
        let folder = dir.path().join("backups").join(volume);
        fs::create_dir_all(&folder).unwrap();
        for date in ["19_11_2026", "20_11_2026", "20_11_2026_101500", "21_11_2026"] {
            fs::write(folder.join(format!("{volume}_{date}.tar.gz")), "").unwrap();
        }
    }
    dir
}

fn script(shell: &str) -> String {
    let made = Command::new(VOLBAK).args(["completions", shell]).output().unwrap();
    assert!(made.status.success() && made.stderr.is_empty());
    String::from_utf8(made.stdout).unwrap()
}

fn in_place(program: &str, dir: &Path) -> Command {
    let mut command = Command::new(program);
    let folder = Path::new(VOLBAK).parent().unwrap().display();
    command.current_dir(dir).env_clear().env("HOME", dir).env("TERM", "xterm");
    command.env("PATH", format!("{folder}:/usr/sbin:/usr/bin:/sbin:/bin"));
    command.env("VOLBAK_BACKUP_DESTINATION", dir.join("backups"));
    command
}

/// The line after these keys, in an interactive shell that reads `set_up` from the file `rc`. Ctrl-T then writes the line to the
/// file `line`, and the file `ready` is there once the shell reads keys.
fn line_after(shell: &str, rc: &str, set_up: &str, keys: &str) -> String {
    let dir = place();
    fs::write(dir.path().join(rc), set_up).unwrap();
    // util-linux's script gives the shell a terminal.
    let mut script = in_place("script", dir.path());
    script.args(["-qec", shell, "/dev/null"]).env("ZDOTDIR", dir.path()).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut running = Killed(script.spawn().unwrap());
    let mut input = running.0.stdin.take().unwrap();
    wait_until("the shell is ready", || dir.path().join("ready").exists());
    write!(input, "{keys}\x14").unwrap();
    let line = dir.path().join("line");
    wait_until(&format!("{shell} has written its line after {keys:?}"), || line.exists());
    fs::read_to_string(line).unwrap()
}

#[test]
fn bash_completes_volumes_and_dates() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("volbak.bash");
    fs::write(&file, script("bash")).unwrap();
    let set_up = format!(
        "source {}\nwrite() {{ printf %s \"$READLINE_LINE\" >line.new; mv line.new line; }}\nbind -x '\"\\C-t\": write'\n\
         PROMPT_COMMAND=': >ready'\n",
        file.display()
    );
    for (typed, right) in [
        ("restore d", "restore db"),
        ("list d", "list db "),
        ("restore vo", "restore vol-1"),
        ("restore db@2026-11-21", "restore db@2026-11-21 "),
        ("verify vol-1@2026-11-1", "verify vol-1@2026-11-19 "),
        ("verify vol-1@l", "verify vol-1@last "),
        ("verify vol-1@19", "verify vol-1@19_11_2026 "),
        ("cat vol-10@21", "cat vol-10@21_11_2026:"),
        ("snapshot --parent=db@2026-11-21", "snapshot --parent=db@2026-11-21 "),
        ("--quiet diff vol-1@20_11_2026 vol-1@2026-11-20_", "--quiet diff vol-1@20_11_2026 vol-1@2026-11-20_101500 "),
        // Verbs, options and files as before.
        ("protec", "protect "),
        ("verify --rest", "verify --restore-test "),
        ("verify ./rea", "verify ./ready "),
        // Nothing to offer changes nothing.
        ("restore no", "restore no"),
        ("list --destination /nonexistent d", "list --destination /nonexistent d"),
        ("list --config ready d", "list --config ready d"),
    ] {
        let line = line_after("bash --rcfile rc -i", "rc", &set_up, &format!("volbak {typed}\t"));
        assert_eq!(line, format!("volbak {right}"), "after {typed:?}");
    }
}

#[test]
fn zsh_completes_volumes_and_dates() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("_volbak"), script("zsh")).unwrap();
    let set_up = format!(
        "fpath=({} $fpath)\nautoload -Uz compinit; compinit -u -D\n\
         w() {{ print -rn -- \"$BUFFER\" >line.new; mv line.new line; }}\nzle -N w; bindkey '^T' w\n\
         zle-line-init() {{ : >ready }}\nzle -N zle-line-init\n",
        dir.path().display()
    );
    for (typed, right) in [
        ("restore d", "restore db"),
        ("list d", "list db "),
        ("restore vo", "restore vol-1"),
        ("verify vol-1@2026-11-1", "verify vol-1@2026-11-19 "),
        ("verify vol-1@19", "verify vol-1@19_11_2026 "),
        ("snapshot --parent=db@2026-11-21", "snapshot --parent=db@2026-11-21 "),
        // The function is loaded by the first, and called again by the second.
        ("list d\tv", "list db vol-1"),
        ("protec", "protect "),
        ("verify --rest", "verify --restore-test "),
        ("restore no", "restore no"),
    ] {
        let line = line_after("zsh -d -i", ".zshrc", &set_up, &format!("volbak {typed}\t"));
        assert_eq!(line, format!("volbak {right}"), "after {typed:?}");
    }
}

#[test]
fn fish_completes_volumes_and_dates() {
    let dir = place();
    let file = dir.path().join("volbak.fish");
    fs::write(&file, script("fish")).unwrap();
    let offered = |typed: &str| {
        let mut fish = in_place("fish", dir.path());
        fish.args(["--no-config", "-c", &format!("source {}; complete -C 'volbak {typed}'", file.display())]);
        let output = fish.output().unwrap();
        assert!(output.stderr.is_empty(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(offered("restore "), ["db", "vol-1", "vol-10"]);
    assert_eq!(offered("restore vol-1"), ["vol-1@", "vol-1", "vol-10"]);
    let dates = ["last", "2026-11-21", "2026-11-20_101500", "20_11_2026", "2026-11-19"];
    assert_eq!(offered("verify vol-1@"), dates.map(|date| format!("vol-1@{date}")));
    assert_eq!(offered("find x --volume d"), ["db"]);
    assert_eq!(offered("snapshot --parent=db@l"), ["--parent=db@last"]);
    assert_eq!(offered("protec"), ["protect\tExempt a backup from retention"]);
    assert_eq!(offered("restore --overw"), ["--overwrite\tReplace existing files"]);
    assert_eq!(offered("verify volbak."), ["volbak.fish"]);
    assert!(offered("restore --from /nonexistent d").is_empty());
}

/// The status, the candidates and the time for a line of these words: the processor's, since others may have it meanwhile.
fn words(dir: &Path, words: &[&str]) -> (i32, String, Duration) {
    let (output, took) = timed(in_place(VOLBAK, dir).args(["complete-words", "--", "volbak"]).args(words));
    assert!(output.stderr.is_empty(), "{output:?}");
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap(), took)
}

#[test]
fn a_thousand_backups_are_no_wait_and_errors_are_silent() {
    let dir = place();
    let folder = dir.path().join("backups/many");
    fs::create_dir(&folder).unwrap();
    for night in 0..1000_u32 {
        let stem = format!("many_{:02}_{:02}_{}", night % 28 + 1, night / 28 % 12 + 1, 2020 + night / 336);
        for suffix in [".tar.gz", ".checksum", ".manifest.json", ".index"] {
            fs::write(folder.join(format!("{stem}{suffix}")), "").unwrap();
        }
    }
    // The fastest of several: caches are shared with other tests.
    let tries = (0..10).map(|_| words(dir.path(), &["restore", "many@"])).collect::<Vec<_>>();
    let (_, dates, took) = tries.iter().min_by_key(|(_, _, took)| *took).unwrap();
    assert_eq!(dates.lines().count(), 1001);
    assert!(*took < Duration::from_millis(200), "{took:?}");

    // A config that is wrong, a directory in its place, no destination, a pipe that nobody writes to.
    fs::write(dir.path().join("wrong.toml"), "backup_destination = 7").unwrap();
    sh(&format!("mkfifo {}", dir.path().join("pipe").display()));
    for wrong in ["wrong.toml", "backups", "missing"] {
        assert_eq!(words(dir.path(), &["list", "--config", wrong, ""]).0, 1, "{wrong}");
    }
    let began = Instant::now();
    let (status, text, _) = words(dir.path(), &["list", "--config", "pipe", ""]);
    assert!(status == 1 && text.is_empty() && began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    assert_eq!(words(dir.path(), &["restore", "--destination", "missing", "v"]).0, 1);
    // A volume's name that a shell would run is not offered.
    assert!(!words(dir.path(), &["restore", "v"]).1.contains("reboot"));
}
