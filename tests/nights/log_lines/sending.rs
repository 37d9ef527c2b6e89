//! What the library sends, and what becomes of lines that nothing takes.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value as Json;
use volbak::events::{Problem, SourceName};
use volbak::log::{Format, Kind, Line, Log, Severity, Unsent, unit_of};

use super::{Entry, HOSTILE, Listener, PATIENCE, decoded, field, out, text_of};
use crate::testkit::wait::wait_until;

/// A few hundred lines that each wait for [`PATIENCE`] take longer, on any machine.
const NO_WAIT: Duration = Duration::from_secs(120);

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
    assert!(began.elapsed() < NO_WAIT, "{:?}", began.elapsed());
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
    let (reader, writer) = io::pipe().unwrap();
    let writer: &'static io::PipeWriter = Box::leak(Box::new(writer));
    let log = journal.log(writer.as_fd());
    let began = Instant::now();
    for number in 0..12_000 {
        log.write(&Line::new(Severity::Info, Kind::Message, format!("line {number:0100}")));
    }
    log.finish(PATIENCE);
    assert!(began.elapsed() < NO_WAIT, "{:?}", began.elapsed());
    // Both are read again.
    let reading = read_until(reader, |text| text.contains("lines are lost") || text.contains("line end"));
    let mut entries = Vec::new();
    let is_last = |entry: &Entry| field(entry, "MESSAGE").contains("lines are lost");
    wait_until("what was lost is said", || {
        log.finish(PATIENCE);
        entries.extend(journal.entries());
        entries.iter().any(is_last) || reading.is_finished()
    });
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
    log.finish(5 * NO_WAIT);
    assert!(began.elapsed() < NO_WAIT);
}

#[test]
fn a_line_that_standard_error_took_in_part_keeps_no_other_from_the_journal() {
    let journal = Listener::new();
    let (reader, writer) = io::pipe().unwrap();
    let writer: &'static io::PipeWriter = Box::leak(Box::new(writer));
    let log = journal.log(writer.as_fd());
    let line = |text: &str| Line::new(Severity::Info, Kind::Message, text);
    let long = "x".repeat(1 << 20);
    let fill = |log: &volbak::log::Log| (0..5000).for_each(|_| log.write(&line("fill")));
    fill(&log);
    log.write(&line(&long));
    let messages =
        || -> Vec<String> { journal.entries().iter().map(|entry| field(entry, "MESSAGE").to_owned()).collect() };
    let mut came = Vec::new();
    wait_until("the journal has room again, and the long line comes", || {
        came.extend(messages());
        log.finish(PATIENCE);
        came.contains(&long)
    });
    fs::remove_file(journal.path()).unwrap();
    let reading = read_until(reader, |text| text.ends_with("volbak: last\n"));
    log.write(&line("last"));
    log.finish(Duration::from_secs(60));
    let text = reading.join().unwrap();
    let fills = came.iter().filter(|line| *line == "fill").count()
        + text.lines().filter(|line| *line == "volbak: fill").count();
    assert_eq!(fills, 5000);
    assert!(text.ends_with("\nvolbak: last\n"));
}

/// Reads until it has all that is wanted.
fn read_until(mut reader: io::PipeReader, is_all: impl Fn(&str) -> bool + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut text = String::new();
        let mut bytes = [0; 4096];
        while !is_all(&text) {
            let count = reader.read(&mut bytes).unwrap();
            text.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
        }
        text
    })
}

/// A log of lines for standard error, which is a pipe that is read as the test wants it.
fn log_to_pipe(format: Format) -> (Log, io::PipeReader) {
    let (reader, writer) = io::pipe().unwrap();
    let writer: &'static io::PipeWriter = Box::leak(Box::new(writer));
    (Log::new(format, "0".repeat(32), writer.as_fd(), PATIENCE), reader)
}

#[test]
fn a_standard_error_that_is_not_read_stops_nothing_and_loses_nothing_before_its_time() {
    for format in [Format::Text, Format::Json] {
        let is_json = matches!(format, Format::Json);
        let (log, reader) = log_to_pipe(format);
        let began = Instant::now();
        for number in 0..3000 {
            log.write(&Line::new(Severity::Info, Kind::Message, format!("line {number:0100}")));
        }
        assert!(began.elapsed() < NO_WAIT, "only the first line that finds it full waits");
        let unsent = log.finish(PATIENCE);
        assert!(unsent.lost == 0 && unsent.waiting > 1000, "{unsent:?}");
        let reading = read_until(reader, |text| text.contains("line end") && text.ends_with('\n'));
        // It is read again: all that waited comes, in its order.
        wait_until("all that waited is written", || log.finish(PATIENCE).waiting == 0);
        log.write(&Line::new(Severity::Info, Kind::Message, "line end"));
        assert_eq!(log.finish(PATIENCE), Unsent { lost: 0, waiting: 0 });
        let text = reading.join().unwrap();
        let mut numbers = text.lines().map(|line| line.split("line ").nth(1).unwrap());
        for number in 0..3000 {
            assert!(numbers.next().unwrap().starts_with(&format!("{number:0100}")), "{number}");
        }
        assert!(numbers.next().unwrap().starts_with("end"));
        if is_json {
            let is_whole = |line| serde_json::from_str::<serde_json::Value>(line).is_ok();
            assert!(text.lines().all(is_whole), "a line that came in two parts is one");
        }
    }
}

#[test]
fn lines_over_the_limit_are_dropped_and_counted() {
    let (log, reader) = log_to_pipe(Format::Text);
    for number in 0..12_000 {
        log.write(&Line::new(Severity::Info, Kind::Message, format!("line {number:0100}")));
    }
    let unsent = log.finish(PATIENCE);
    assert!(unsent.lost > 500 && unsent.waiting == 10_000, "{unsent:?}");
    let reading = read_until(reader, |text| text.contains("lines are lost"));
    wait_until("all that waited is written", || log.finish(PATIENCE).waiting == 0);
    let text = reading.join().unwrap();
    let count = text.lines().filter(|line| line.contains("line 0")).count() as u64;
    assert_eq!(count + unsent.lost, 12_000);
    assert!(
        text.contains(&format!("volbak: warning: {} lines are lost: ", unsent.lost)),
        "{}",
        &text[text.len() - 200..]
    );
    assert_eq!(log.finish(PATIENCE), Unsent { lost: unsent.lost, waiting: 0 }, "what was lost stays known");
}

#[test]
fn a_reader_that_ended_is_no_loss_and_a_full_disk_is_one() {
    let (log, reader) = log_to_pipe(Format::Text);
    drop(reader);
    log.write(&Line::new(Severity::Error, Kind::Message, "for no reader"));
    assert_eq!(log.finish(Duration::from_secs(60)), Unsent { lost: 0, waiting: 0 });
    let full: &'static File = Box::leak(Box::new(File::options().write(true).open("/dev/full").unwrap()));
    let log = Log::new(Format::Json, "0".repeat(32), full.as_fd(), PATIENCE);
    log.write(&Line::new(Severity::Error, Kind::Message, "no space"));
    assert_eq!(log.finish(Duration::from_secs(60)), Unsent { lost: 0, waiting: 1 });
}
