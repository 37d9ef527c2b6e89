//! What systemd's own journal makes of it.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value as Json;
use volbak::events::SourceName;
use volbak::log::{Format, Journal, Kind, Line, Log, Severity};

use super::{HOSTILE, PATIENCE, out, text_of};
use crate::testkit::guest::WITHOUT_OTHER_MOUNTS;

/// systemd's own journal, with `/run` of its own.
struct Journald {
    process: std::process::Child,
    _configured: tempfile::TempDir,
}

impl Journald {
    fn start() -> Self {
        let configured = tempfile::tempdir().unwrap();
        fs::write(configured.path().join("machine-id"), "0123456789abcdef0123456789abcdef\n").unwrap();
        let settings = "[Journal]\nStorage=volatile\nReadKMsg=no\nAudit=no\nRateLimitBurst=0\nForwardToSyslog=no\n";
        fs::write(configured.path().join("test.conf"), settings).unwrap();
        let script = "mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/journald.conf.d /run/log/journal && \
                      cp \"$0\"/test.conf /run/systemd/journald.conf.d/ && \
                      { [ -e /etc/machine-id ] || exit 3; } && mount --bind \"$0\"/machine-id /etc/machine-id && \
                      exec /usr/lib/systemd/systemd-journald";
        let mut command = Command::new("unshare");
        let script = format!("{WITHOUT_OTHER_MOUNTS}{script}");
        command.args(["--mount", "--propagation", "private", "sh", "-c", &script]).arg(configured.path());
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut journald = Self { process, _configured: configured };
        let limit = Instant::now() + Duration::from_secs(60);
        while !journald.socket().exists() {
            assert!(Instant::now() < limit && journald.process.try_wait().unwrap().is_none(), "no journal starts");
            std::thread::sleep(Duration::from_millis(20));
        }
        journald
    }

    fn socket(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root/run/systemd/journal/socket", self.process.id()))
    }

    fn inside(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--mount", "--target", &self.process.id().to_string(), program]);
        command
    }

    fn journalctl(&self, arguments: &[&str]) -> Vec<Json> {
        let sync = self.inside("journalctl").arg("--sync").output().unwrap();
        assert!(sync.status.success(), "{}", String::from_utf8_lossy(&sync.stderr));
        let output = self.inside("journalctl").args(["--all", "--output=json"]).args(arguments).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Drop for Journald {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn the_journal_itself_takes_what_is_sent() {
    let journald = Journald::start();
    let (out, written) = out();
    let journal = Journal::new(&journald.socket(), Duration::from_secs(30)).unwrap();
    let unit = Some("volbak-test.service".to_owned());
    let log = Log::new(Format::Journal { journal, is_stream: false, unit }, "the-run".to_owned(), out, PATIENCE);
    for name in HOSTILE {
        let line = Line::new(Severity::Error, Kind::Problem, format!("first {name}\nsecond {name}"));
        log.write(&line.about(Some(SourceName::of_volume("vg0", name))));
    }
    let long = "é".repeat(5 << 20);
    log.write(&Line::new(Severity::Notice, Kind::Message, long.clone()));
    log.finish(Duration::from_secs(60));
    assert_eq!(text_of(written), "");
    let errors = journald.journalctl(&["-t", "volbak", "-p", "err", "VOLBAK_RUN_ID=the-run", "VOLBAK_EVENT=problem"]);
    let volumes: Vec<&str> = errors.iter().filter_map(|entry| entry["VOLBAK_VOLUME"].as_str()).collect();
    assert_eq!(volumes, HOSTILE.map(volbak::shown::text));
    assert!(errors.iter().all(|entry| entry["PRIORITY"] == "3" && entry["VOLBAK_GROUP"] == "vg0"));
    let all = journald.journalctl(&["-u", "volbak-test.service"]);
    assert_eq!(all.len(), HOSTILE.len() + 1, "the unit's entries are found by its name");
    assert!(all.last().unwrap()["MESSAGE"] == long, "10 MiB are there as they were");

    // And the program itself.
    let mut program = journald.inside(env!("CARGO_BIN_EXE_volbak"));
    program.args(["--log", "journal", "list", "--destination", "/nonexistent"]);
    let did = program.output().unwrap();
    assert_eq!((did.status.code(), did.stderr.len()), (Some(1), 0), "{}", String::from_utf8_lossy(&did.stderr));
    let entries = journald.journalctl(&["-t", "volbak", "VOLBAK_EVENT=message", "PRIORITY=3"]);
    assert!(entries.len() == 1 && entries[0]["MESSAGE"].as_str().unwrap().contains("/nonexistent"), "{entries:?}");
}
