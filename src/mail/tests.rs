//! What needs no mail server: files, a program in sendmail's place, a server that is down or silent, the spool's bounds.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use super::{Delivery, Settings, SmtpServer, SpoolSettings, Tls, Transport, send};
use crate::outside::for_tests::{ClosedPort, program};
use crate::report::Rendered;

fn at(time: &str) -> DateTime<Utc> {
    time.parse().unwrap()
}

fn rendered() -> Rendered {
    Rendered {
        subject: "volbak stor1: 2 of 2 volumes backed up in 1 h 15 m".to_owned(),
        text: "Backup Start Time - 07/10 at 01:00:01\n     é 3,5G\n.\n".to_owned(),
        html: "<html><body>&lt;b&gt;</body></html>\n".to_owned(),
    }
}

fn settings(directory: &Path, transport: Transport) -> Settings {
    Settings {
        transport,
        from: Settings::default_sender("stor1.example.com"),
        to: vec!["admin@example.com".to_owned(), "Second <second@example.com>".to_owned()],
        host: "stor1.example.com".to_owned(),
        deadline: Duration::from_secs(60),
        spool: SpoolSettings { directory: directory.join("spool"), max_mails: 3, max_days: 7 },
    }
}

fn server(port: u16) -> Transport {
    Transport::Smtp(SmtpServer {
        host: "127.0.0.1".to_owned(),
        port: Some(port),
        tls: Tls::None,
        login: None,
        ca_file: None,
    })
}

fn files(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_mail_as_a_file_is_whole_and_private() {
    let directory = tempfile::tempdir().unwrap();
    let mails = directory.path().join("mails");
    let settings = settings(directory.path(), Transport::File { directory: mails.clone() });
    let delivery = send(&settings, &rendered(), at("2026-11-20T01:00:01.5Z"));
    assert_eq!(delivery, Delivery { sent: true, ..Delivery::default() });
    let names = files(&mails);
    assert_eq!(names.len(), 1);
    let number = names[0].strip_prefix("volbak-20261120T010001.500000000-").and_then(|name| name.strip_suffix(".eml"));
    assert!(number.is_some_and(|number| number.parse::<u32>().is_ok()), "{names:?}");
    let path = mails.join(&names[0]);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(&mails).unwrap().permissions().mode() & 0o777, 0o700);
    let mail = fs::read_to_string(path).unwrap();
    for line in [
        "From: volbak@stor1.example.com\r\n",
        "To: admin@example.com, Second <second@example.com>\r\n",
        "Subject: volbak stor1: 2 of 2 volumes backed up in 1 h 15 m\r\n",
        "Date: Fri, 20 Nov 2026 01:00:01 +0000\r\n",
        "Auto-Submitted: auto-generated\r\n",
        "Content-Type: multipart/alternative;",
        "Content-Type: text/plain; charset=utf-8\r\n",
        "Content-Type: text/html; charset=utf-8\r\n",
    ] {
        assert!(mail.contains(line), "{line} is not in\n{mail}");
    }
    assert!(mail.find("text/plain") < mail.find("text/html"), "mail programs show the last part that they can");
}

#[test]
fn a_subject_cannot_add_headers() {
    let directory = tempfile::tempdir().unwrap();
    let mails = directory.path().join("mails");
    let settings = settings(directory.path(), Transport::File { directory: mails.clone() });
    let report = Rendered { subject: "x\r\nBcc: evil@example.com\r\n\r\nbody é".to_owned(), ..rendered() };
    send(&settings, &report, at("2026-11-20T01:00:01Z"));
    for name in files(&mails) {
        let mail = fs::read_to_string(mails.join(name)).unwrap();
        assert!(!mail.lines().any(|line| line.starts_with("Bcc")), "{mail}");
    }
}

#[test]
fn a_wrong_address_is_a_problem_that_names_it() {
    let directory = tempfile::tempdir().unwrap();
    let mut settings = settings(directory.path(), Transport::File { directory: directory.path().join("mails") });
    settings.to = vec!["nobody at all".to_owned()];
    let delivery = send(&settings, &rendered(), at("2026-11-20T01:00:01Z"));
    assert!(!delivery.sent);
    assert!(delivery.problems[0].what.starts_with("\"nobody at all\" is not a mail address"), "{delivery:?}");
}

#[test]
fn a_server_that_is_down_leaves_the_mail_in_the_spool_for_the_next_run() {
    let directory = tempfile::tempdir().unwrap();
    let closed = ClosedPort::new();
    let down = settings(directory.path(), server(closed.number()));
    let first = send(&down, &rendered(), at("2026-11-20T01:00:01Z"));
    assert!(!first.sent);
    assert_eq!((first.waiting, first.problems.len()), (1, 1), "{first:?}");
    assert!(first.problems[0].what.contains("refused"), "{first:?}");
    let spool = directory.path().join("spool");
    let path = spool.join(&files(&spool)[0]);
    assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);

    let second = send(&down, &rendered(), at("2026-11-21T01:00:01Z"));
    assert_eq!((second.waiting, second.problems.len()), (2, 1), "the spool is not tried when the server is away");

    let mails = directory.path().join("mails");
    let up = Settings { transport: Transport::File { directory: mails.clone() }, ..down };
    let third = send(&up, &rendered(), at("2026-11-22T01:00:01Z"));
    assert_eq!(third, Delivery { sent: true, sent_from_spool: 2, waiting: 0, problems: Vec::new() });
    assert_eq!(files(&mails).len(), 3);
    assert!(files(&spool).is_empty());
}

#[test]
fn the_spool_is_bounded_in_number_and_age_and_leaves_foreign_files_alone() {
    let directory = tempfile::tempdir().unwrap();
    let closed = ClosedPort::new();
    let down = settings(directory.path(), server(closed.number()));
    let spool = directory.path().join("spool");
    fs::create_dir(&spool).unwrap();
    for foreign in ["README", "volbak-x.mail", "volbak-20200101T000000.000000000-1.eml"] {
        fs::write(spool.join(foreign), "foreign").unwrap();
    }
    std::os::unix::fs::symlink("README", spool.join("volbak-20200101T000000.000000000-1.mail")).unwrap();
    for day in 10..14 {
        send(&down, &rendered(), at(&format!("2026-11-{day}T01:00:01Z")));
    }
    assert_eq!(files(&spool).len(), 4 + 3);
    let last = send(&down, &rendered(), at("2026-11-20T01:00:01Z"));
    assert_eq!(last.waiting, 2, "the 13th and the 20th; the 11th and 12th are too old");
    let dropped: Vec<&str> = last.problems[1..].iter().map(|problem| problem.what.as_str()).collect();
    assert_eq!(
        dropped,
        [
            "the mail of 11/11/2026 01:00 was dropped: it waited for more than 7 days",
            "the mail of 12/11/2026 01:00 was dropped: it waited for more than 7 days",
        ]
    );
    assert_eq!(files(&spool).len(), 4 + 2);
}

#[test]
fn a_damaged_mail_in_the_spool_is_reported_and_does_not_stop_the_others() {
    let directory = tempfile::tempdir().unwrap();
    let closed = ClosedPort::new();
    let down = settings(directory.path(), server(closed.number()));
    send(&down, &rendered(), at("2026-11-20T01:00:01Z"));
    let spool = directory.path().join("spool");
    fs::write(spool.join("volbak-20261119T010001.000000000-1.mail"), "{\"from\":").unwrap();
    let up = Settings { transport: Transport::File { directory: directory.path().join("mails") }, ..down };
    let delivery = send(&up, &rendered(), at("2026-11-21T01:00:01Z"));
    assert_eq!((delivery.sent_from_spool, delivery.waiting, delivery.problems.len()), (1, 1, 1), "{delivery:?}");
}

#[test]
fn a_server_that_never_answers_is_given_up_at_the_deadline() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let settings = Settings {
        deadline: Duration::from_secs(1),
        ..settings(directory.path(), server(silent.local_addr().unwrap().port()))
    };
    let began = Instant::now();
    let delivery = send(&settings, &rendered(), at("2026-11-20T01:00:01Z"));
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    assert!(!delivery.sent);
    assert_eq!(delivery.waiting, 1);
}

#[test]
fn a_server_that_drips_is_given_up_at_the_deadline() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        for _ in 0..600 {
            // Each line keeps a timeout that holds for one read from ever firing.
            if std::io::Write::write_all(&mut stream, b"220-wait\r\n").is_err() {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    let directory = tempfile::tempdir().unwrap();
    let settings = Settings { deadline: Duration::from_secs(1), ..settings(directory.path(), server(port)) };
    let began = Instant::now();
    let delivery = send(&settings, &rendered(), at("2026-11-20T01:00:01Z"));
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    assert_eq!(delivery.problems[0].what, "not done within 1 s");
}

fn script(directory: &Path, text: &str) -> Transport {
    let path = directory.join("sendmail");
    program(&path, text);
    Transport::Sendmail { program: path }
}

#[test]
fn sendmail_is_given_arguments_and_the_mail() {
    let directory = tempfile::tempdir().unwrap();
    let said = directory.path().join("said");
    let transport = script(directory.path(), &format!("echo \"$@\" > {0}; cat >> {0}", said.display()));
    let delivery = send(&settings(directory.path(), transport), &rendered(), at("2026-11-20T01:00:01Z"));
    assert!(delivery.sent, "{delivery:?}");
    let said = fs::read_to_string(said).unwrap();
    assert!(said.starts_with("-i -f volbak@stor1.example.com -- admin@example.com second@example.com\n"), "{said}");
    assert!(said.contains("\nSubject: volbak stor1") && !said.contains('\r'));
}

#[test]
fn a_failed_sendmail_is_reported_with_its_output() {
    let directory = tempfile::tempdir().unwrap();
    let transport = script(directory.path(), "echo 'no queue' >&2; exit 75");
    let delivery = send(&settings(directory.path(), transport), &rendered(), at("2026-11-20T01:00:01Z"));
    assert!(delivery.problems[0].what.ends_with("ended with exit status: 75: no queue"), "{delivery:?}");
    assert_eq!(delivery.waiting, 1);
}

#[test]
fn a_sendmail_that_hangs_is_killed_at_the_deadline() {
    let directory = tempfile::tempdir().unwrap();
    let transport = script(directory.path(), "exec sleep 600");
    let settings = Settings { deadline: Duration::from_millis(300), ..settings(directory.path(), transport) };
    let began = Instant::now();
    let delivery = send(&settings, &rendered(), at("2026-11-20T01:00:01Z"));
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    assert_eq!(delivery.waiting, 1);
}
