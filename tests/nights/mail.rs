//! The promise: a report reaches its readers through a real mail server, over TLS and with a login, byte for byte as
//! it is kept, and a server that misbehaves costs the run neither the mail nor more than the deadline.
//!
//! The server is aiosmtpd (Debian's python3-aiosmtpd), its certificate from an authority made by openssl; what arrives
//! is decoded by Python's email package, so that nothing of ours checks itself.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use volbak::mail::{Delivery, PasswordSource, Settings, SmtpServer, SpoolSettings, Tls, Transport, send};
use volbak::report::{Outcome, Rendered, RunReport, Style, Usage, VolumeReport};

use crate::testkit::wait::ClosedPort;

const PASSWORD: &str = "geheim é";

struct Fixture {
    directory: tempfile::TempDir,
    server: Option<Child>,
    port: u16,
    kind: Tls,
}

impl Fixture {
    fn start(kind: Tls) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        make_certificates(path);
        fs::write(path.join("password"), format!("{PASSWORD}\n")).unwrap();
        fs::set_permissions(path.join("password"), fs::Permissions::from_mode(0o600)).unwrap();
        fs::create_dir(path.join("mails")).unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/nights/mail/server.py");
        // Debian's own Python: its packages hold aiosmtpd.
        let mut server = Command::new("/usr/bin/python3")
            .arg(script)
            .arg(path.join("mails"))
            .args([path.join("server.pem"), path.join("server.key")])
            .arg(if kind == Tls::StartTls { "starttls" } else { "tls" })
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(path.join("server.log")).unwrap())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let Ok(port) = line.trim().parse() else {
            let log = fs::read_to_string(path.join("server.log")).unwrap();
            panic!("no mail server (scripts/packages test installs python3-aiosmtpd): {log}");
        };
        Self { directory, server: Some(server), port, kind }
    }

    fn settings(&self) -> Settings {
        let path = |name: &str| self.directory.path().join(name);
        Settings {
            transport: Transport::Smtp(SmtpServer {
                host: "localhost".to_owned(),
                port: Some(self.port),
                tls: self.kind,
                login: Some(("volbak".to_owned(), PasswordSource::File(path("password")))),
                ca_file: Some(path("ca.pem")),
            }),
            from: "volbak@stor1.example.com".to_owned(),
            to: vec!["admin@example.com".to_owned(), "Zweite Person <second@example.com>".to_owned()],
            host: "stor1.example.com".to_owned(),
            deadline: Duration::from_secs(60),
            spool: SpoolSettings { directory: path("spool"), max_mails: 5, max_days: 7 },
        }
    }

    fn with_server(&self, change: impl FnOnce(&mut SmtpServer)) -> Settings {
        let mut settings = self.settings();
        if let Transport::Smtp(server) = &mut settings.transport {
            change(server);
        }
        settings
    }

    fn stop(&mut self) {
        if let Some(mut server) = self.server.take() {
            drop(server.stdin.take());
            server.wait().unwrap();
        }
    }

    fn arrived(&self, name: &str) -> Vec<u8> {
        fs::read(self.directory.path().join("mails").join(name)).unwrap()
    }

    fn facts(&self, number: usize) -> serde_json::Value {
        serde_json::from_slice(&self.arrived(&format!("{number}.json"))).unwrap()
    }

    fn count(&self) -> usize {
        fs::read_dir(self.directory.path().join("mails")).unwrap().count() / 3
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            drop(server.stdin.take());
            let _ = server.wait();
        }
    }
}

fn openssl(directory: &Path, arguments: &str) {
    let output = Command::new("openssl").current_dir(directory).args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn make_certificates(directory: &Path) {
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    openssl(directory, &format!("req -x509 {key} -subj /CN=test-ca -days 2 -keyout ca.key -out ca.pem"));
    openssl(directory, &format!("req {key} -subj /CN=localhost -keyout server.key -out server.csr"));
    fs::write(directory.join("san"), "subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n").unwrap();
    openssl(
        directory,
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile san -out server.pem",
    );
}

fn now() -> DateTime<Utc> {
    "2011-10-06T23:00:01Z".parse().unwrap()
}

fn report() -> Rendered {
    let volume = VolumeReport {
        removed: vec![format!("/BACKUPS/EBS-VOL/{}_28_09_2011.tar.gz", "ü".repeat(700))],
        outcome: Outcome::BackedUp,
        duration_seconds: 81,
        directory_bytes: 3_758_096_384,
        archive_bytes: Some(417_566_264),
        entries: Some(1402),
        ..VolumeReport::not_started("volume-00000019".to_owned(), "/BACKUPS/EBS-VOL/volume-00000019".to_owned())
    };
    RunReport {
        duration_seconds: 4535,
        retention_days: 7,
        destination: "/BACKUPS/EBS-VOL".to_owned(),
        usage: Some(Usage { backups_bytes: 286_689_754_317, used_bytes: 35, available_bytes: 65, full_in_days: None }),
        volumes: vec![volume],
        ..RunReport::begun("stör1".to_owned(), "2011-10-07T01:00:01+02:00".parse().unwrap())
    }
    .render(Style::default())
}

fn with_crlf(text: &str) -> Vec<u8> {
    text.replace('\n', "\r\n").into_bytes()
}

fn assert_arrived(fixture: &Fixture, number: usize, report: &Rendered) {
    let facts = fixture.facts(number);
    assert_eq!(facts["subject"], report.subject.as_str());
    assert_eq!(facts["content_type"], "multipart/alternative");
    assert_eq!(facts["parts"], serde_json::json!(["text/plain", "text/html"]));
    assert_eq!(facts["tls"], true);
    assert_eq!(fixture.arrived(&format!("{number}.text")), with_crlf(&report.text));
    assert_eq!(fixture.arrived(&format!("{number}.html")), with_crlf(&report.html));
}

#[test]
fn over_starttls_with_a_login_it_arrives_byte_for_byte() {
    let fixture = Fixture::start(Tls::StartTls);
    let mut report = report();
    report.text.push_str(".\n..\nFrom here\n   trailing  \n\n=3D\n");
    let delivery = send(&fixture.settings(), &report, now());
    assert_eq!(delivery, Delivery { sent: true, ..Delivery::default() });
    assert_eq!(fixture.count(), 1);
    assert_arrived(&fixture, 1, &report);
    let facts = fixture.facts(1);
    assert_eq!(facts["from"], "volbak@stor1.example.com");
    assert_eq!(facts["to"], serde_json::json!(["admin@example.com", "second@example.com"]));
}

#[test]
fn over_tls_from_the_first_byte_too() {
    let fixture = Fixture::start(Tls::Immediate);
    let delivery = send(&fixture.settings(), &report(), now());
    assert!(delivery.sent, "{delivery:?}");
    let text = fixture.arrived("1.text");
    assert_eq!(text, with_crlf(&report().text));
}

#[test]
fn a_server_is_tried_without_a_mail() {
    let mut fixture = Fixture::start(Tls::StartTls);
    let limit = Duration::from_secs(60);
    volbak::mail::try_server(&fixture.settings(), limit).unwrap().unwrap();
    fs::write(fixture.directory.path().join("password"), "falsch\n").unwrap();
    let error = volbak::mail::try_server(&fixture.settings(), limit).unwrap().unwrap_err();
    assert!(!format!("{error:?}").contains("falsch"));
    fixture.stop();
    assert!(volbak::mail::try_server(&fixture.settings(), limit).unwrap().is_err());
    assert_eq!(fixture.count(), 0);
}

#[test]
fn a_wrong_password_is_told_without_showing_it() {
    let fixture = Fixture::start(Tls::StartTls);
    let path = fixture.directory.path().join("password");
    fs::write(&path, "falsch-geraten\n").unwrap();
    let delivery = send(&fixture.settings(), &report(), now());
    assert_eq!((delivery.sent, delivery.waiting, fixture.count()), (false, 1, 0), "{delivery:?}");
    assert!(delivery.problems[0].what.contains("535"), "{delivery:?}");
    assert!(!format!("{delivery:?}").contains("falsch"));

    fs::write(&path, format!("{PASSWORD}\n")).unwrap();
    let later = send(&fixture.settings(), &report(), now() + chrono::Duration::days(1));
    assert_eq!((later.sent, later.sent_from_spool, later.waiting), (true, 1, 0), "{later:?}");
    assert_arrived(&fixture, 2, &report());
    assert_ne!(fixture.facts(1)["id"], fixture.facts(2)["id"]);
}

#[test]
fn a_certificate_that_nobody_vouches_for_is_refused() {
    let fixture = Fixture::start(Tls::StartTls);
    for change in [
        |server: &mut SmtpServer| server.ca_file = None,
        |server: &mut SmtpServer| {
            server.host = "127.0.0.1".to_owned();
        },
    ] {
        let delivery = send(&fixture.with_server(change), &report(), now());
        assert!(!delivery.sent);
        assert!(delivery.problems[0].what.contains("certificate"), "{delivery:?}");
    }
    assert_eq!(fixture.count(), 0);
}

/// Somebody between us and the server who hides its STARTTLS would otherwise be handed the password.
#[test]
fn a_server_without_starttls_gets_neither_mail_nor_password() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let heard = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"220 localhost\r\n").unwrap();
        let mut heard = Vec::new();
        for line in BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok) {
            let answer: &[u8] =
                if line.starts_with("EHLO") { b"250-localhost\r\n250 AUTH PLAIN LOGIN\r\n" } else { b"250 ok\r\n" };
            heard.push(line);
            if stream.write_all(answer).is_err() {
                break;
            }
        }
        heard
    });
    let fixture = Fixture::start(Tls::StartTls);
    let hidden = fixture.with_server(|server| server.port = Some(port));
    let delivery = send(&hidden, &report(), now());
    assert_eq!((delivery.sent, delivery.waiting), (false, 1), "{delivery:?}");
    let heard = heard.join().unwrap();
    assert!(heard.iter().all(|line| line.starts_with("EHLO") || line == "QUIT"), "{heard:?}");
}

#[test]
fn one_refused_recipient_does_not_keep_it_from_the_others() {
    let fixture = Fixture::start(Tls::StartTls);
    let mut settings = fixture.settings();
    settings.to.insert(0, "refused@example.com".to_owned());
    let delivery = send(&settings, &report(), now());
    assert_eq!((delivery.sent, delivery.waiting, fixture.count()), (false, 1, 2), "{delivery:?}");
    assert_eq!(delivery.problems.len(), 1);
    assert_eq!(delivery.problems[0].location, "refused@example.com");
    assert!(delivery.problems[0].what.contains("no such user here"), "{delivery:?}");
    let later = send(&fixture.settings(), &report(), now() + chrono::Duration::days(1));
    assert!(later.sent);
    assert_eq!((later.sent_from_spool, later.waiting, fixture.count()), (0, 1, 3), "only its own recipient is tried");
}

#[test]
fn a_server_that_is_down_and_comes_back_gets_the_mail_at_the_next_run() {
    let (gone, closed) = (Fixture::start(Tls::StartTls), ClosedPort::new());
    let down = gone.with_server(|server| server.port = Some(closed.number()));
    let began = Instant::now();
    let first = send(&down, &report(), now());
    assert!(began.elapsed() < Duration::from_secs(60));
    assert_eq!((first.sent, first.waiting), (false, 1), "{first:?}");

    let back = Fixture::start(Tls::StartTls);
    let spool: PathBuf = gone.directory.path().join("spool");
    let settings = Settings { spool: SpoolSettings { directory: spool, ..down.spool }, ..back.settings() };
    let second = send(&settings, &report(), now() + chrono::Duration::days(1));
    assert_eq!((second.sent, second.sent_from_spool, second.waiting), (true, 1, 0), "{second:?}");
    assert_arrived(&back, 2, &report());
}
