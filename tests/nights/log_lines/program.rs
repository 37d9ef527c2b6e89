//! What the program writes: a night, wrong usage, verbs for one backup.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, FileType, Mode, OFlags, fcntl_getfl, fcntl_setfl, mknodat};
use serde_json::Value as Json;

use super::{Entry, Listener, field};
use crate::testkit::guest::WITHOUT_OTHER_MOUNTS;
use crate::testkit::stand_in::{self, Host};

/// The program with `/run/systemd/journal` of its own, in which `journal` listens, and what came there.
fn under(journal: &Listener, program: &Command, stderr: impl Into<Stdio>) -> (Output, Vec<Entry>) {
    let script = "mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/journal && \
                  mount --bind \"$JOURNAL_DIRECTORY\" /run/systemd/journal && exec \"$@\"";
    let mut command = Command::new("unshare");
    let script = format!("{WITHOUT_OTHER_MOUNTS}{script}");
    command.args(["--mount", "--propagation", "private", "sh", "-c", &script, "sh"]).arg(program.get_program());
    command.args(program.get_args());
    command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.env("JOURNAL_DIRECTORY", journal.directory.path());
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr).spawn().unwrap();
    // A queue is short (net.unix.max_dgram_qlen), and a journal reads it all the time.
    let running = std::thread::spawn(move || child.wait_with_output().unwrap());
    let mut entries = Vec::new();
    while !running.is_finished() {
        let mut waited_for = [PollFd::new(&journal.socket, PollFlags::IN)];
        poll(&mut waited_for, Some(&Timespec { tv_sec: 0, tv_nsec: 20_000_000 })).unwrap();
        entries.extend(journal.entries());
    }
    entries.extend(journal.entries());
    (running.join().unwrap(), entries)
}

/// Two volumes: the snapshot of one fails, the other has a file with a hostile name that is a notice.
fn host() -> Host {
    let host = Host::new("");
    host.add_ext4("volume-1");
    host.zeros("volume-2");
    // A socket is a notice, with its name.
    let files = tempfile::tempdir().unwrap();
    let socket = [files.path().as_os_str().as_bytes(), b"/s\nPRIORITY=0\n\x1b[2J\xff\xfe"].concat();
    mknodat(CWD, socket, FileType::Socket, Mode::RWXU, 0).unwrap();
    let image = host.at("volume-2.img");
    stand_in::run(Command::new("mke2fs").args(["-q", "-F", "-t", "ext4", "-d"]).arg(files.path()).arg(image));
    host.add("volume-2");
    host.set_broken("volume-1", true);
    host
}

fn night(host: &Host, form: &str) -> Command {
    let mut night = host.program(&["--log", form, "run", "--config"]);
    night.arg(host.at("volbak.toml"));
    night
}

#[test]
fn a_night_in_json_lines() {
    let host = host();
    let did = night(&host, "json").output().unwrap();
    assert_eq!(did.status.code(), Some(1));
    let lines = json_lines(&did);
    let id = lines[0]["run_id"].as_str().unwrap();
    assert_eq!(id.len(), 32);
    for line in &lines {
        assert_eq!(line["run_id"], id);
        chrono::DateTime::parse_from_rfc3339(line["time"].as_str().unwrap()).unwrap();
        let severity = ["emergency", "alert", "critical", "error", "warning", "notice", "info"];
        assert_eq!(severity[usize::try_from(line["priority"].as_u64().unwrap()).unwrap()], line["severity"]);
        assert!(line["message"].is_string());
        if line["event"] != "summary" && line["event"] != "message" {
            assert!(line["volume"] == "volume-1" || line["volume"] == "volume-2", "{line}");
            assert_eq!(line["group"], "vg0", "{line}");
        }
    }
    let failed: Vec<&Json> = lines.iter().filter(|line| line["event"] == "volume_failed").collect();
    assert!(failed.len() == 1 && failed[0]["volume"] == "volume-1" && failed[0]["severity"] == "error", "{failed:?}");
    assert!(lines.iter().any(|line| line["event"] == "volume_finished" && line["volume"] == "volume-2"));
    let socket = lines.iter().find(|line| line["event"] == "problem" && line["volume"] == "volume-2").unwrap();
    assert_eq!(socket["severity"], "notice");
    assert!(socket["where"].as_str().unwrap().ends_with(r"s\nPRIORITY=0\n\u{1b}[2J\xff\xfe"), "{socket}");
    let last = lines.last().unwrap();
    assert_eq!((&last["event"], &last["severity"]), (&Json::from("summary"), &Json::from("error")));
    let figures = ["volumes_ok", "volumes_warning", "volumes_failed"].map(|name| last[name].as_u64().unwrap());
    assert_eq!(figures, [1, 0, 1]);
    assert!(last["archive_bytes"].as_u64().unwrap() > 0 && last["seconds"].is_u64());
    // The report says under which id its lines are found.
    let reports = host.at("backups/.volbak/reports");
    let report = fs::read_dir(reports).unwrap().next().unwrap().unwrap().path();
    let report: Json = serde_json::from_slice(&fs::read(report).unwrap()).unwrap();
    assert_eq!(report["run_id"], id);
}

/// A pipe that is full, and that is not read.
fn full_pipe() -> (io::PipeReader, io::PipeWriter) {
    let (reader, writer) = io::pipe().unwrap();
    let flags = fcntl_getfl(&writer).unwrap();
    fcntl_setfl(&writer, flags | OFlags::NONBLOCK).unwrap();
    // Down to its last byte, and then as a program gets it: one that blocks.
    for piece in [4096, 1] {
        while rustix::io::write(&writer, &vec![b'x'; piece]).is_ok() {}
    }
    fcntl_setfl(&writer, flags).unwrap();
    (reader, writer)
}

/// What `program` does within two minutes.
fn status_in_time(program: &mut Command, what: &str) -> i32 {
    let mut child = program.stdin(Stdio::null()).spawn().unwrap();
    let limit = Instant::now() + Duration::from_secs(120);
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code().unwrap();
        }
        if Instant::now() >= limit {
            child.kill().unwrap();
            panic!("{what}: it stands still");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A collector of log lines that hangs, `2>&1 | pager` that was left alone: the backups are made all the same, the process ends, and
/// the report, the standing and the exit status say that the lines were not read.
#[test]
fn a_night_whose_lines_are_not_read_is_made_and_says_so_elsewhere() {
    let nights = [("text", false), ("json", false), ("text", true)].map(|(form, both)| {
        std::thread::spawn(move || {
            let host = Host::new("");
            host.add_ext4("volume-1");
            let (reader, writer) = full_pipe();
            let mut program = night(&host, form);
            program.stderr(writer.try_clone().unwrap());
            program.stdout(if both { Stdio::from(writer) } else { Stdio::null() });
            let status = status_in_time(&mut program, form);
            drop((program, reader));
            assert_eq!(status, 3, "{form}");
            let report = host.verb(&["report"]);
            assert!(report.stdout.contains("log: "), "{}", report.stdout);
            assert!(report.stdout.contains("of this run's log lines are lost or waiting"), "{}", report.stdout);
            let standing = host.verb(&["status"]);
            assert!(standing.stdout.contains("of this run's log lines are lost or waiting"), "{}", standing.stdout);
            let proof =
                host.volbak(&["verify", "volume-1", "--quick", "--destination", host.at("backups").to_str().unwrap()]);
            assert_eq!(proof.status, 0, "{}{}", proof.stdout, proof.stderr);
            // The lock is free, and nothing of it is left for the next night.
            let next = host.verb(&["run"]);
            assert_eq!(next.status, 0, "{}", next.stderr);
        })
    });
    for night in nights {
        night.join().unwrap();
    }
}

/// Verbs that are no night, and lines before there is one.
#[test]
fn no_verb_stands_still_because_its_lines_are_not_read() {
    let host = Host::new("");
    host.zeros("volume-1");
    let (_reader, writer) = full_pipe();
    let image = host.at("volume-1.img");
    let to = host.at("backups");
    let [image, to] = [&image, &to].map(|path| path.to_str().unwrap());
    for arguments in [&["snapshot", image, "--to", to][..], &["verify", "no-such-volume", "--destination", to]] {
        let mut program = host.program(arguments);
        program.stdout(Stdio::null()).stderr(writer.try_clone().unwrap());
        status_in_time(&mut program, arguments[0]);
    }
    assert!(host.volbak(&["list", "--destination", to]).stdout.contains("volume-1"));
}

#[test]
fn a_night_in_the_journal() {
    let host = host();
    let journal = Listener::new();
    // As systemd starts it: standard error is a stream to the journal, and named in the environment.
    let stream = tempfile::NamedTempFile::new().unwrap();
    let of = |file: &Path| fs::metadata(file).map(|it| format!("{}:{}", it.dev(), it.ino())).unwrap();
    let mut program = night(&host, "auto");
    program.env("JOURNAL_STREAM", of(stream.path()));
    let (did, entries) = under(&journal, &program, stream.reopen().unwrap());
    assert_eq!(did.status.code(), Some(1));
    assert_eq!(fs::read_to_string(stream.path()).unwrap(), "", "nothing twice");
    let of_failed = |entry: &&Entry| field(entry, "VOLBAK_VOLUME") == "volume-1" && field(entry, "PRIORITY") == "3";
    let failed = entries.iter().find(of_failed).expect("journalctl VOLBAK_VOLUME=volume-1 -p err");
    assert!(field(failed, "MESSAGE").starts_with("vg0/volume-1: FAILED: "), "{failed:?}");
    let socket = |entry: &&Entry| field(entry, "MESSAGE").contains(r"s\nPRIORITY=0\n\u{1b}[2J\xff\xfe");
    assert_eq!(field(entries.iter().find(socket).expect("the socket's notice"), "PRIORITY"), "5");
    let summary = entries.last().unwrap();
    assert_eq!((field(summary, "VOLBAK_EVENT"), field(summary, "VOLBAK_VOLUMES_FAILED")), ("summary", "1"));
    let ids: std::collections::BTreeSet<&str> = entries.iter().map(|entry| field(entry, "VOLBAK_RUN_ID")).collect();
    assert!(ids.len() == 1 && ids.first().unwrap().len() == 32);
    assert!(entries.iter().all(|entry| field(entry, "SYSLOG_IDENTIFIER") == "volbak"));

    // Another file than the one that is named: text. So is a variable that says something else.
    for other in [of(Path::new("/dev/null")), "1:2:3".to_owned(), "x".to_owned(), String::new()] {
        let mut program = host.program(&["list", "--destination", "/nonexistent"]);
        program.env("JOURNAL_STREAM", other);
        let (did, entries) = under(&journal, &program, Stdio::piped());
        assert!(String::from_utf8(did.stderr).unwrap().starts_with("volbak: the destination /nonexistent"));
        assert!(entries.is_empty());
    }
    // The stream is there, and the socket is not: the stream's lines have their priority.
    let mut program = host.program(&["list", "--destination", "/nonexistent"]);
    program.env("JOURNAL_STREAM", of(stream.path()));
    fs::remove_file(journal.path()).unwrap();
    let _ = under(&journal, &program, stream.reopen().unwrap());
    assert!(fs::read_to_string(stream.path()).unwrap().starts_with("<3>volbak: the destination /nonexistent"));
}

#[test]
fn what_is_said_before_the_arguments_are_known_has_the_form_that_they_ask_for() {
    let host = Host::new("");
    let wrong: [&[&str]; 7] = [
        &["verify", "--progress=json", "--no-such"],
        &["--log", "json", "no\nsuch\u{1b}[2Jverb"],
        &["--log=json", "run", "--no-such"],
        &["verify", "--log", "JSON"],
        &["--log", "json"],
        &["status", "--log", "json", "--warning", "60", "--critical", "20"],
        &["snapshot", "--log", "json", "--name", "x", "a", "b"],
    ];
    for arguments in wrong {
        let did = host.program(arguments).output().unwrap();
        assert_eq!(did.status.code(), Some(2), "{arguments:?}");
        assert!(did.stdout.is_empty());
        let said = String::from_utf8(did.stderr).unwrap();
        assert_eq!(said.lines().count(), 1, "{said}");
        let line: Json = serde_json::from_str(&said).unwrap();
        assert_eq!((&line["event"], &line["priority"]), (&Json::from("usage"), &Json::from(3)), "{said}");
        let message = line["message"].as_str().unwrap();
        assert!(volbak::shown::lines(message) == message && !message.starts_with("error:"), "{message}");
    }
    // After `--` it is no option, and a form that is none is wrong usage in text.
    for arguments in [&["no-such-verb", "--", "--log", "json"][..], &["--log", "xml", "list"]] {
        let said = String::from_utf8(host.program(arguments).output().unwrap().stderr).unwrap();
        assert!(said.starts_with("error: "), "{said}");
    }
    // The last error of a verb, in the environment's form; and an environment that is wrong stops nothing.
    let list = |form: &str| {
        let mut program = host.program(&["list", "--destination", "/nonexistent"]);
        let did = program.env("VOLBAK_LOG", form).output().unwrap();
        assert_eq!(did.status.code(), Some(1));
        String::from_utf8(did.stderr).unwrap()
    };
    let line: Json = serde_json::from_str(&list("json")).unwrap();
    assert_eq!((&line["event"], &line["severity"]), (&Json::from("message"), &Json::from("error")));
    let mut program = host.program(&["config", "check", "--config"]);
    let not_text = OsStr::from_bytes(b"\xff\x1b[2J");
    let did = program.arg(host.at("volbak.toml")).env("VOLBAK_LOG", not_text).output().unwrap();
    let said = String::from_utf8(did.stderr).unwrap();
    assert!(did.status.success() && said.starts_with("volbak: warning: VOLBAK_LOG=\\xff\\u{1b}[2J is"), "{said}");
    assert!(list("").starts_with("volbak: the destination /nonexistent"));
    let said = list("xml");
    assert!(said.starts_with("volbak: warning: VOLBAK_LOG=xml") && said.lines().count() == 2, "{said}");
    let did = host.verb(&["config", "check"]);
    assert_eq!(did.status, 0, "{}", did.stderr);
}

fn json_lines(output: &Output) -> Vec<Json> {
    let text = std::str::from_utf8(&output.stderr).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"))).collect()
}

#[test]
fn verbs_for_one_backup_say_which_volume_it_is() {
    let host = Host::new("");
    fs::write(host.at("disk.img"), [7; 4096]).unwrap();
    let backups = host.at("backups");
    let run = |arguments: &[&str]| {
        let mut program = host.program(&["--log", "json"]);
        program.args(arguments).arg("--destination").arg(&backups).output().unwrap()
    };
    let image = host.at("disk.img");
    let did = run(&["--quiet", "snapshot", image.to_str().unwrap(), "/nonexistent/other.img"]);
    let lines = json_lines(&did);
    let of = |event: &str| lines.iter().filter(|line| line["event"] == event).cloned().collect::<Vec<Json>>();
    assert_eq!(of("volume_finished")[0]["severity"], "warning");
    assert_eq!((&of("message")[0]["volume"], &of("message")[0]["severity"]), (&"other.img".into(), &"error".into()));
    let [summary] = &of("summary")[..] else { panic!("one summary") };
    let figures = ["volumes_ok", "volumes_warning", "volumes_failed"].map(|name| summary[name].as_u64().unwrap());
    assert_eq!((figures, &summary["severity"]), ([0, 1, 1], &"error".into()));

    let archive = fs::read_dir(backups.join("disk")).unwrap().map(|entry| entry.unwrap().path());
    let archive = archive.into_iter().find(|path| path.to_string_lossy().ends_with(".tar.gz")).unwrap();
    let mut bytes = fs::read(&archive).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&archive, bytes).unwrap();
    let lines = json_lines(&run(&["--quiet", "verify", "disk"]));
    assert!(lines.iter().all(|line| line["volume"] == "disk"), "{lines:?}");
    assert!(lines.iter().any(|line| line["event"] == "volume_finished" && line["severity"] == "error"), "{lines:?}");
    // It is known to be bad now, and both the note and the error are about its volume.
    for arguments in [&["cat", "disk:no/such"][..], &["restore", "disk@last", "--to", "/nonexistent/target"]] {
        let did = run(arguments);
        let lines = json_lines(&did);
        assert!(did.status.code() != Some(0) && !lines.is_empty(), "{arguments:?}");
        assert!(arguments[0] != "cat" || lines.iter().all(|line| line["volume"] == "disk"), "{lines:?}");
    }
}

#[test]
fn json_on_standard_output_is_as_it_was() {
    let host = Host::new("");
    fs::write(host.at("disk.img"), [7; 4096]).unwrap();
    let image = host.at("disk.img");
    let run = |form: &str| {
        let mut program = host.program(&["--log", form, "snapshot", "--json", "--to"]);
        program.arg(host.at("backups")).arg(&image).output().unwrap()
    };
    for form in ["text", "json", "journal"] {
        let did = run(form);
        let value: Json = serde_json::from_slice(&did.stdout).unwrap();
        assert_eq!(value["backups"][0]["status"], "problems");
    }
    // A standard error that is closed loses the lines and nothing else.
    let closed = format!(
        "exec {} --log json snapshot --json --to '{}' '{}' 2>&-",
        env!("CARGO_BIN_EXE_volbak"),
        host.at("backups").display(),
        image.display()
    );
    let did = Command::new("sh").args(["-c", &closed]).output().unwrap();
    assert_eq!((did.status.code(), did.stderr.len()), (Some(3), 0));
    serde_json::from_slice::<Json>(&did.stdout).unwrap();
}
