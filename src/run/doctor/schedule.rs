//! Whether a nightly run is scheduled.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::finding::{Add, Answer};
use crate::run::child::{ChildError, ChildProgram, run};

const TIMER: &str = "volbak.timer";
/// The time limit for the init system, or a bus that hangs.
const LIMIT: Duration = Duration::from_secs(10);
/// A longer file is no crontab.
const MAX_BYTES: u64 = 1 << 20;

/// Searches for an enabled timer and for cron lines.
pub(super) fn schedule(add: &mut Add<'_>) {
    let has_systemd = Path::new("/run/systemd/system").exists();
    let timer = if has_systemd { timer_state() } else { Ok(false) };
    let lines = cron_lines(Path::new("/"), has_systemd);
    let is_enabled = match timer {
        Ok(is_enabled) => is_enabled,
        Err(why) => {
            add("schedule", Answer::Doubtful, format!("systemd cannot be asked about {TIMER}: {why}"));
            false
        }
    };
    let (answer, what) = judge(is_enabled, &lines, has_systemd);
    add("schedule", answer, what);
}

fn judge(is_enabled: bool, lines: &[PathBuf], has_systemd: bool) -> (Answer, String) {
    let files: Vec<String> = lines.iter().map(|path| path.display().to_string()).collect();
    let files = files.join(", ");
    match (is_enabled, lines.is_empty()) {
        (true, true) => (Answer::Good, format!("{TIMER} is enabled")),
        (false, false) => (Answer::Good, format!("cron starts it: {files}")),
        (true, false) => {
            (Answer::Doubtful, format!("{TIMER} is enabled, and cron starts it, too: {files}; one of them is enough"))
        }
        (false, true) => {
            let how = if has_systemd { "systemctl enable --now volbak.timer" } else { "a line in /etc/cron.d/volbak" };
            (Answer::Doubtful, format!("no timer and no cron job starts a run: use {how}"))
        }
    }
}

fn timer_state() -> Result<bool, ChildError> {
    let argv: Vec<OsString> = ["systemctl", "is-enabled", TIMER].map(OsString::from).to_vec();
    let job = ChildProgram { argv: &argv, environment: &[], input: b"", timeout: LIMIT, cancel: None };
    match run(&job) {
        Ok(said) => Ok(matches!(String::from_utf8_lossy(&said).trim(), "enabled" | "enabled-runtime" | "static")),
        // The unit is disabled or does not exist.
        Err(ChildError::Failed(status, _)) if status.code().is_some() => Ok(false),
        Err(error) => Err(error),
    }
}

/// The files below `root` with a cron line that starts a run.
fn cron_lines(root: &Path, has_systemd: bool) -> Vec<PathBuf> {
    let mut files = vec![root.join("etc/crontab"), root.join("etc/anacrontab")];
    files.push(root.join("var/spool/cron/crontabs/root"));
    for directory in ["etc/cron.d", "etc/cron.daily"] {
        let entries = fs::read_dir(root.join(directory)).into_iter().flatten().flatten();
        // cron ignores names with a dot, such as copies of a package manager.
        files.extend(
            entries.filter(|entry| !entry.file_name().to_string_lossy().contains('.')).map(|entry| entry.path()),
        );
    }
    files.sort();
    files.retain(|file| {
        let is_small = fs::metadata(file).is_ok_and(|metadata| metadata.is_file() && metadata.len() <= MAX_BYTES);
        is_small && fs::read(file).is_ok_and(|bytes| starts_a_run(&String::from_utf8_lossy(&bytes), has_systemd))
    });
    files
}

fn starts_a_run(crontab: &str, has_systemd: bool) -> bool {
    crontab.lines().map(str::trim).filter(|line| !line.starts_with('#')).any(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let program = words.iter().position(|word| word.rsplit('/').next() == Some("volbak"));
        let runs = program.is_some_and(|at| words[at..].contains(&"run"));
        // With systemd, the packaged line leaves the run to the timer.
        runs && !(has_systemd && line.contains("/run/systemd/system ]"))
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::{cron_lines, judge, starts_a_run};
    use crate::run::doctor::Answer;

    #[test]
    fn lines_of_cron_that_start_a_run_are_found() {
        let packaged = include_str!("../../../packaging/volbak.cron");
        assert!(starts_a_run(packaged, false) || packaged.contains("systemd-cat"), "{packaged}");
        for (line, is_one) in [
            ("0 1 * * * root /usr/bin/volbak --quiet run", true),
            ("30 2 * * * volbak run --config /etc/volbak/gold.toml", true),
            ("# 0 1 * * * root volbak run", false),
            ("0 * * * * root volbak status", false),
            ("0 1 * * * root run-parts /etc/volbak", false),
        ] {
            assert_eq!(starts_a_run(line, true), is_one, "{line}");
        }
        assert!(!starts_a_run("0 1 * * * root [ -d /run/systemd/system ] || exec volbak run", true));
    }

    #[test]
    fn crons_files_are_looked_through() {
        let root = tempfile::tempdir().unwrap();
        assert!(cron_lines(root.path(), true).is_empty());
        fs::create_dir_all(root.path().join("etc/cron.d")).unwrap();
        fs::write(root.path().join("etc/cron.d/volbak"), "0 1 * * * root volbak -q run\n").unwrap();
        fs::write(root.path().join("etc/cron.d/volbak.dpkg-old"), "0 1 * * * root volbak -q run\n").unwrap();
        fs::create_dir(root.path().join("etc/cron.d/directory")).unwrap();
        assert_eq!(cron_lines(root.path(), true), [root.path().join("etc/cron.d/volbak")]);
    }

    #[test]
    fn neither_and_both_are_doubtful() {
        let cron = [PathBuf::from("/etc/cron.d/volbak")];
        assert_eq!(judge(true, &[], true).0, Answer::Good);
        assert_eq!(judge(false, &cron, true).0, Answer::Good);
        assert_eq!(judge(true, &cron, true).0, Answer::Doubtful);
        assert!(judge(false, &[], true).1.contains("systemctl enable"));
    }
}
