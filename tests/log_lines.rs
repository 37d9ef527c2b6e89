//! The promise of `--log`: each line of a run reaches who reads it, as text, as JSON or as an entry of the journal, with
//! its fields; nothing that a tenant names can forge a field or a line; a journal that is full or gone loses none and stops no night.
//! Entries are decoded strictly, as systemd's JOURNAL_NATIVE_PROTOCOL.md has them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, IoSliceMut, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, FileType, Mode, SealFlags, fcntl_get_seals, mknodat};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde_json::Value as Json;
use volbak::events::{Problem, SourceName};
use volbak::log::{Format, Journal, Kind, Line, Log, Severity, unit_of};

mod stand_in;

use stand_in::Host;

const PATIENCE: Duration = Duration::from_millis(200);

/// A journal: a socket at which a test listens.
struct Listener {
    directory: tempfile::TempDir,
    socket: UnixDatagram,
}

type Entry = BTreeMap<String, Vec<u8>>;

impl Listener {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(directory.path().join("socket")).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self { directory, socket }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    /// The bytes of the next entry, if one was sent, and whether it came in a memfd.
    fn datagram(&self) -> Option<(Vec<u8>, bool)> {
        let mut bytes = vec![0; 16 << 20];
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let got = recvmsg(&self.socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC).ok()?;
        let descriptors: Vec<OwnedFd> = control
            .drain()
            .flat_map(|message| match message {
                RecvAncillaryMessage::ScmRights(descriptors) => descriptors.collect(),
                _ => Vec::new(),
            })
            .collect();
        bytes.truncate(got.bytes);
        let Ok([memfd]) = <[OwnedFd; 1]>::try_from(descriptors) else { return Some((bytes, false)) };
        assert!(bytes.is_empty(), "either a payload or a descriptor");
        let all = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
        assert_eq!(fcntl_get_seals(&memfd).unwrap(), all, "older journals take exactly these");
        // Its offset is at the end, and a journal maps it from its start.
        let mut file = File::from(memfd);
        io::Seek::rewind(&mut file).unwrap();
        file.read_to_end(&mut bytes).unwrap();
        Some((bytes, true))
    }

    fn entries(&self) -> Vec<Entry> {
        std::iter::from_fn(|| self.datagram()).map(|(bytes, _)| decoded(&bytes)).collect()
    }

    fn log(&self, out: BorrowedFd<'static>) -> Log {
        let journal = Journal::new(&self.path(), PATIENCE).unwrap();
        Log::new(Format::Journal { journal, is_stream: false, unit: None }, "the-run".to_owned(), out, PATIENCE)
    }
}

/// The fields of an entry. Whatever the protocol does not allow fails.
fn decoded(mut entry: &[u8]) -> Entry {
    let mut fields = Entry::new();
    while !entry.is_empty() {
        let at = entry.iter().position(|byte| matches!(byte, b'=' | b'\n')).expect("a field's name ends");
        let (name, rest) = entry.split_at(at);
        let is_name = |byte: &u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || *byte == b'_';
        assert!(name.iter().all(is_name) && name[0].is_ascii_uppercase() && name.len() <= 64, "{name:?}");
        let (value, rest) = if rest[0] == b'=' {
            let end = rest.iter().position(|byte| *byte == b'\n').expect("a value ends");
            (&rest[1..end], &rest[end..])
        } else {
            let (length, rest) = rest[1..].split_first_chunk::<8>().expect("a length of 64 bits");
            rest.split_at(usize::try_from(u64::from_le_bytes(*length)).unwrap())
        };
        assert_eq!(rest[0], b'\n', "a field ends with a newline");
        let name = String::from_utf8(name.to_vec()).unwrap();
        assert!(fields.insert(name.clone(), value.to_vec()).is_none(), "{name} is there twice");
        entry = &rest[1..];
    }
    fields
}

fn field<'a>(entry: &'a Entry, name: &str) -> &'a str {
    entry.get(name).map_or("", |value| std::str::from_utf8(value).unwrap())
}

/// A file in place of standard error, for the life of the test's process.
fn out() -> (BorrowedFd<'static>, File) {
    let file = tempfile::tempfile().unwrap();
    let read = file.try_clone().unwrap();
    let leaked: &'static File = Box::leak(Box::new(file));
    (leaked.as_fd(), read)
}

fn text_of(mut file: File) -> String {
    io::Seek::rewind(&mut file).unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    text
}

const HOSTILE: [&str; 6] = [
    "a\nPRIORITY=0",
    "a\nMESSAGE\n\u{1}\0\0\0\0\0\0\0x\n",
    "\u{1b}[2J\u{1b}]0;owned\u{7}",
    "\u{202e}gnp.exe\u{200b}",
    "\0=\u{80}\u{9b}31m",
    "\",\"priority\":0,\"",
];

#[test]
fn no_name_forges_a_field_or_a_line() {
    for name in HOSTILE {
        let problem = Problem::new(volbak::events::Severity::Error, format!("./{name}"), format!("{name}: unreadable"));
        let source = SourceName::of_volume(name, &format!("vol{name}"));
        let line = Line::new(Severity::Error, Kind::Problem, format!("vg/{name}: error: {problem}"))
            .with_problem(&problem)
            .about(Some(source));
        let (journal, (out, written)) = (Listener::new(), out());
        journal.log(out).write(&line);
        let [entry] = &journal.entries()[..] else { panic!("one entry") };
        assert_eq!(field(entry, "PRIORITY"), "3");
        assert_eq!(field(entry, "SYSLOG_IDENTIFIER"), "volbak");
        assert_eq!(field(entry, "VOLBAK_RUN_ID"), "the-run");
        assert_eq!(field(entry, "VOLBAK_EVENT"), "problem");
        assert_eq!(entry.len(), 10, "{entry:?}");
        let json: BTreeMap<String, Json> = serde_json::from_str(&line.as_json("the-run", chrono::Utc::now())).unwrap();
        assert_eq!((json.len(), &json["priority"], &json["severity"]), (10, &Json::from(3), &Json::from("error")));
        let texts = json.values().filter_map(Json::as_str).map(str::to_owned);
        let fields = entry.values().map(|value| String::from_utf8(value.clone()).unwrap());
        for text in texts.chain(fields).filter(|text| !text.starts_with("vg/")) {
            assert_eq!(volbak::shown::text(&text), text);
        }
        for text in [line.as_text(), line.as_json("", chrono::Utc::now()), line.as_text_with_priority()] {
            assert_eq!(volbak::shown::lines(&text), text);
        }
        assert!(line.as_text_with_priority().split('\n').all(|line| line.starts_with("<3>")));
        assert_eq!(text_of(written), "");
    }
}

#[test]
fn a_text_of_several_lines_is_one_entry() {
    let (journal, (out, _)) = (Listener::new(), out());
    let text = "the config has 2 mistakes:\n  PRIORITY=0\n  MESSAGE=x";
    journal.log(out).write(&Line::new(Severity::Warning, Kind::Message, text));
    let [entry] = &journal.entries()[..] else { panic!("one entry") };
    assert_eq!((field(entry, "MESSAGE"), field(entry, "PRIORITY")), (text, "4"));
}

#[test]
fn a_text_of_any_size_is_sent_whole() {
    let (journal, (out, written)) = (Listener::new(), out());
    let log = journal.log(out);
    let mut by_memfd = 0;
    for size in [0, 1, 100_000, 1 << 20, 12 << 20] {
        log.write(&Line::new(Severity::Info, Kind::Message, "x".repeat(size)));
        let (bytes, is_memfd) = journal.datagram().expect("an entry");
        assert_eq!(decoded(&bytes)["MESSAGE"].len(), size);
        by_memfd += u32::from(is_memfd);
    }
    assert!(by_memfd > 0, "no datagram holds 12 MiB");
    assert_eq!(text_of(written), "");
}

#[test]
fn a_journal_that_is_full_loses_no_line_and_stops_nothing() {
    let (journal, (out, written)) = (Listener::new(), out());
    let log = journal.log(out);
    let began = Instant::now();
    for number in 0..3000 {
        log.write(&Line::new(Severity::Info, Kind::Message, format!("line {number}")));
    }
    // Only the first line that finds it full waits.
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    let sent = journal.entries();
    assert!(!sent.is_empty() && sent.len() < 3000);
    log.write(&Line::new(Severity::Info, Kind::Message, "line 3000"));
    let later = journal.entries();
    assert_eq!(later.len(), 1, "with room again it is used again");
    let written = text_of(written);
    let mut told: Vec<&str> = written.lines().collect();
    assert!(told.remove(0).starts_with("volbak: warning: the journal takes no lines"), "{written}");
    let mut all: Vec<String> = told.iter().map(|line| line.strip_prefix("volbak: ").unwrap().to_owned()).collect();
    all.extend(sent.iter().chain(&later).map(|entry| field(entry, "MESSAGE").to_owned()));
    all.sort_by_key(|line| line[5..].parse::<u32>().unwrap());
    let expected: Vec<String> = (0..=3000).map(|number| format!("line {number}")).collect();
    assert_eq!(all, expected);
}

#[test]
fn where_journal_and_standard_error_are_full_lines_wait() {
    let journal = Listener::new();
    let (mut reader, writer) = io::pipe().unwrap();
    let writer: &'static io::PipeWriter = Box::leak(Box::new(writer));
    let log = journal.log(writer.as_fd());
    let began = Instant::now();
    for number in 0..12_000 {
        log.write(&Line::new(Severity::Info, Kind::Message, format!("line {number:0100}")));
    }
    log.finish(PATIENCE);
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    // Both are read again.
    let reading = std::thread::spawn(move || {
        let mut text = String::new();
        let mut bytes = [0; 4096];
        while !text.contains("lines are lost") && !text.contains("line end") {
            let count = reader.read(&mut bytes).unwrap();
            text.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
        }
        text
    });
    let mut entries = Vec::new();
    let limit = Instant::now() + Duration::from_secs(60);
    let is_last = |entry: &Entry| field(entry, "MESSAGE").contains("lines are lost");
    while !entries.iter().any(is_last) && !reading.is_finished() {
        assert!(Instant::now() < limit, "{} entries came", entries.len());
        log.finish(PATIENCE);
        entries.extend(journal.entries());
    }
    log.write(&Line::new(Severity::Info, Kind::Message, "line end"));
    fs::remove_file(journal.path()).unwrap();
    log.write(&Line::new(Severity::Info, Kind::Message, "line end"));
    let text = reading.join().unwrap();
    entries.extend(journal.entries());
    let all = text.lines().map(str::to_owned).chain(entries.iter().map(|entry| field(entry, "MESSAGE").to_owned()));
    let all: Vec<String> = all.collect();
    let came = |line: &&String| line.contains("line 0");
    let lost = all.iter().find(|line| line.contains("lines are lost")).expect("what was lost is said");
    let count = all.iter().filter(came).count();
    let lost: usize = lost.split(' ').find_map(|word| word.parse().ok()).unwrap();
    assert_eq!(count + lost, 12_000);
}

#[test]
fn without_a_journal_lines_are_on_standard_error() {
    let (journal, (out, written)) = (Listener::new(), out());
    let log = journal.log(out);
    fs::remove_file(journal.path()).unwrap();
    log.write(&Line::new(Severity::Error, Kind::Message, "first"));
    log.write(&Line::new(Severity::Error, Kind::Message, "second\nline"));
    log.finish(PATIENCE);
    let text = text_of(written);
    assert!(text.starts_with("volbak: warning: the journal takes no lines, and they are written here: "), "{text}");
    assert!(text.ends_with("\nvolbak: first\nvolbak: second\nline\n"), "{text}");
}

#[test]
fn nothing_to_write_to_is_no_panic_and_no_wait() {
    let journal = Listener::new();
    fs::remove_file(journal.path()).unwrap();
    let full: &'static File = Box::leak(Box::new(File::options().write(true).open("/dev/full").unwrap()));
    let log = journal.log(full.as_fd());
    let began = Instant::now();
    log.write(&Line::new(Severity::Error, Kind::Message, "lost"));
    log.finish(Duration::from_secs(60));
    assert!(began.elapsed() < Duration::from_secs(20));
}

#[test]
fn the_unit_is_the_service_that_runs_it() {
    for (cgroups, unit) in [
        ("0::/system.slice/volbak.service\n", Some("volbak.service")),
        ("9:name=systemd:/system.slice/volbak.service\n0::/\n", Some("volbak.service")),
        ("0::/system.slice/system-a.slice/a@b:c.service/payload\n", Some("a@b:c.service")),
        ("0::/user.slice/user-0.slice/user@0.service/app.slice/x.service\n", None),
        ("5:devices:/system.slice/x.service\n0::/system.slice/x.scope\n", None),
        ("0::/\n", None),
        ("", None),
    ] {
        assert_eq!(unit_of(cgroups), unit, "{cgroups}");
    }
}

/// The program with `/run/systemd/journal` of its own, in which `journal` listens, and what came there.
fn under(journal: &Listener, program: &Command, stderr: impl Into<Stdio>) -> (Output, Vec<Entry>) {
    let script = "mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/journal && \
                  mount --bind \"$JOURNAL_DIRECTORY\" /run/systemd/journal && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"]).arg(program.get_program());
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
    let wrong: [&[&str]; 6] = [
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
        command.args(["--mount", "--propagation", "private", "sh", "-c", script]).arg(configured.path());
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
