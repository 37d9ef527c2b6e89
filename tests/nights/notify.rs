//! The promise: an outcome reaches those who wait for it over HTTP, in each service's form; a server that is slow, down,
//! wrong or hostile costs the night neither a backup nor more than the deadline, and learns and shows no secret.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

use crate::testkit::guest::{program, quoted};
use crate::testkit::stand_in::{Did, Host};
use crate::testkit::tls::{authority, server_config};
use crate::testkit::wait::ClosedPort;

/// What a server was sent.
#[derive(Clone, Debug)]
struct Asked {
    line: String,
    head: String,
    body: String,
}

/// Answers each request with the next of its answers, and the last one from then on.
struct Server {
    port: u16,
    asked: Arc<Mutex<Vec<Asked>>>,
}

const FINE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";

fn failing(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

impl Server {
    fn start(answers: &[&str]) -> Self {
        Self::with(answers, None)
    }

    fn with(answers: &[&str], certificate: Option<&Path>) -> Self {
        let tls = certificate.map(server_config);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (heard, answers) = (Arc::clone(&asked), answers.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>());
        std::thread::spawn(move || {
            let mut next = 0;
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                let answer = answers[next.min(answers.len() - 1)].clone();
                // A client that refuses the certificate asks nothing.
                let one = match &tls {
                    None => exchange(stream, &answer),
                    Some(config) => {
                        let connection = rustls::ServerConnection::new(Arc::clone(config)).unwrap();
                        exchange(rustls::StreamOwned::new(connection, stream), &answer)
                    }
                };
                if let Some(one) = one {
                    heard.lock().unwrap().push(one);
                    next += 1;
                }
            }
        });
        Self { port, asked }
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    fn lines(&self) -> Vec<String> {
        self.asked().into_iter().map(|one| one.line).collect()
    }
}

fn exchange(mut stream: impl Read + Write, answer: &str) -> Option<Asked> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    let (head, length) = loop {
        let count = stream.read(&mut buffer).ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, _)) = text.split_once("\r\n\r\n") {
            let length =
                head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
            break (head.to_owned(), length.unwrap_or(0));
        }
    };
    while bytes.len() < head.len() + 4 + length {
        let count = stream.read(&mut buffer).ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&buffer[..count]);
    }
    let body = String::from_utf8_lossy(&bytes[head.len() + 4..]).into_owned();
    let line = head.lines().next().unwrap().trim_end_matches(" HTTP/1.1").to_owned();
    if answer == "drip" {
        // Each byte keeps a timeout that holds for one read from ever firing.
        let _gone = (0..600).try_for_each(|_| {
            std::thread::sleep(Duration::from_millis(100));
            stream.write_all(b"H").and_then(|()| stream.flush())
        });
    } else if answer == "slow" {
        std::thread::sleep(Duration::from_millis(700));
        let _gone = stream.write_all(FINE.as_bytes()).and_then(|()| stream.flush());
    } else {
        let _gone = stream.write_all(answer.as_bytes()).and_then(|()| stream.flush());
    }
    Some(Asked { line, head, body })
}

/// A file that only its owner can read.
fn secret(host: &Host, name: &str, text: &str) -> String {
    let path = host.at(name);
    fs::write(&path, format!("{text}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path.display().to_string()
}

fn configure(host: &Host, tables: &str) {
    let spool = host.at("spool").display().to_string();
    host.write_config("volbak.toml", &format!("[mail]\nspool_dir = '{spool}'\n{tables}"));
}

fn spooled(host: &Host) -> usize {
    fs::read_dir(host.at("spool")).map_or(0, Iterator::count)
}

fn said(did: &Did) -> String {
    format!("{}{}", did.stdout, did.stderr)
}

#[test]
fn a_webhook_gets_the_facts_as_json_with_a_header_from_a_file() {
    let server = Server::start(&[FINE]);
    let host = Host::new("");
    host.add_ext4("volume-1");
    let header = secret(&host, "header", "Bearer geheim-123");
    configure(
        &host,
        &format!(
            "[[notify]]\nkind = 'webhook'\nurl = 'http://127.0.0.1:{}/hook/t0ken-in-path'\non = ['start', 'ok']\n\
             headers = {{ Authorization = '{header}' }}\n",
            server.port
        ),
    );
    let did = host.verb(&["run"]);
    assert_eq!(did.status, 0, "{did:?}");
    let asked = server.asked();
    assert_eq!(server.lines(), ["POST /hook/t0ken-in-path", "POST /hook/t0ken-in-path"]);
    let head = asked[1].head.to_ascii_lowercase();
    assert!(head.contains("\r\nauthorization: bearer geheim-123") && head.contains("application/json"), "{head}");
    let start: Value = serde_json::from_str(&asked[0].body).unwrap();
    assert_eq!((&start["event"], &start["format"]), (&"start".into(), &1.into()));
    let end: Value = serde_json::from_str(&asked[1].body).unwrap();
    assert_eq!((&end["event"], &end["volumes"][0]["name"]), (&"ok".into(), &"volume-1".into()), "{end}");
    assert!(end["subject"].as_str().unwrap().contains("1 of 1 volume backed up"), "{end}");
    assert!(end["text"].as_str().unwrap().starts_with("Backup Start Time - "), "{end}");
    assert_eq!(start["run_id"], end["run_id"]);
    assert!(!said(&did).contains("t0ken") && !said(&did).contains("geheim"), "{did:?}");
}

#[test]
fn each_service_gets_its_own_form() {
    let server = Server::start(&[FINE]);
    let host = Host::new("");
    host.add_ext4("volume-1");
    host.set_broken("volume-1", true);
    let token = secret(&host, "token", "tk_geheim");
    let port = server.port;
    configure(
        &host,
        &format!(
            "[[notify]]\nkind = 'healthchecks'\nurl = 'http://127.0.0.1:{port}/ping/uuid-1'\n\
             [[notify]]\nkind = 'ntfy'\nurl = 'http://127.0.0.1:{port}/backups'\ntoken_file = '{token}'\n\
             [[notify]]\nkind = 'slack'\nurl = 'http://127.0.0.1:{port}/services/T/B/x'\n\
             [[notify]]\nkind = 'matrix'\nurl = 'http://127.0.0.1:{port}'\nroom = '!abc:example.com'\n\
             token_file = '{token}'\n"
        ),
    );
    let did = host.verb(&["run"]);
    assert_eq!(did.status, 1, "{did:?}");
    let asked = server.asked();
    let of = |start: &str| {
        asked.iter().find(|one| one.line.starts_with(start)).unwrap_or_else(|| panic!("no {start} in {asked:?}"))
    };
    assert_eq!(asked[0].line, "POST /ping/uuid-1/start", "the start comes first");
    let fail = of("POST /ping/uuid-1/fail");
    assert!(fail.body.contains("FAILED 1 of 1") && fail.body.contains("insufficient free space"), "{fail:?}");
    let ntfy: Value = serde_json::from_str(&asked.iter().find(|one| one.line == "POST /").unwrap().body).unwrap();
    assert_eq!((&ntfy["topic"], &ntfy["priority"]), (&"backups".into(), &5.into()), "{ntfy}");
    let slack: Value = serde_json::from_str(&of("POST /services").body).unwrap();
    assert!(slack["text"].as_str().unwrap().starts_with("*volbak "), "{slack}");
    let matrix = of("PUT /_matrix/client/v3/rooms/%21abc%3Aexample.com/send/m.room.message/volbak.");
    assert!(matrix.head.to_ascii_lowercase().contains("authorization: bearer tk_geheim"), "{matrix:?}");
    assert_eq!(asked.len(), 5, "{asked:?}");
    // A run of one volume says nothing about the night that healthchecks.io watches.
    host.set_broken("volume-1", false);
    assert_eq!(host.verb(&["run", "--only", "volume-1"]).status, 0);
    assert_eq!(server.asked().len(), 5);
}

/// `?create=1` lets healthchecks.io make the check of a slug. A failure that was sent to `SLUG?create=1/fail` would count as a
/// success there.
#[test]
fn a_query_of_the_address_stays_behind_the_path() {
    let server = Server::start(&[FINE]);
    let host = Host::new("");
    host.add_ext4("volume-1");
    host.set_broken("volume-1", true);
    let port = server.port;
    configure(
        &host,
        &format!(
            "[[notify]]\nkind = 'healthchecks'\nurl = 'http://127.0.0.1:{port}/ping/key/slug/?create=1'\n\
             [[notify]]\nkind = 'ntfy'\nurl = 'http://127.0.0.1:{port}/backups?auth=a/b'\n"
        ),
    );
    assert_eq!(host.verb(&["run"]).status, 1);
    let lines = server.lines();
    for right in ["POST /ping/key/slug/start?create=1", "POST /ping/key/slug/fail?create=1", "POST /?auth=a/b"] {
        assert!(lines.iter().any(|line| line == right), "no {right} in {lines:?}");
    }
    let ntfy = server.asked().into_iter().find(|one| one.line.starts_with("POST /?")).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&ntfy.body).unwrap()["topic"], "backups");
}

#[test]
fn what_a_server_that_is_down_did_not_get_is_sent_by_the_next_run() {
    let host = Host::new("");
    host.add_ext4("volume-1");
    let down = ClosedPort::new();
    let table = |port: u16, deadline: u32| {
        format!(
            "[[notify]]\nname = 'hook'\nkind = 'webhook'\nurl = 'http://127.0.0.1:{port}/s3cret-path'\non = ['ok', 'warning']\n\
             deadline_seconds = {deadline}\n[[notify]]\nkind = 'healthchecks'\nurl = 'http://127.0.0.1:{port}/check'\n\
             deadline_seconds = {deadline}\n"
        )
    };
    configure(&host, &table(down.number(), 2));
    let did = host.verb(&["run"]);
    assert_eq!(did.status, 3, "a notice that is not sent is a warning, and the backup is there: {did:?}");
    assert!(
        did.stderr.contains("notify hook") && did.stderr.contains(&format!("127.0.0.1:{}", down.number())),
        "{did:?}"
    );
    assert!(!said(&did).contains("s3cret"), "{did:?}");
    assert_eq!(spooled(&host), 1, "the webhook's; a late signal would mislead healthchecks.io");
    assert_eq!(host.verb(&["verify", "volume-1"]).status, 0);

    let server = Server::start(&[FINE]);
    configure(&host, &table(server.port, 60));
    let did = host.verb(&["run"]);
    assert_eq!(did.status, 0, "{did:?}");
    assert_eq!(spooled(&host), 0);
    let hooks: Vec<Value> = server
        .asked()
        .iter()
        .filter(|one| one.line.contains("s3cret"))
        .map(|one| serde_json::from_str(&one.body).unwrap())
        .collect();
    assert_eq!(hooks.len(), 2);
    assert_eq!((&hooks[0]["event"], &hooks[1]["event"]), (&"ok".into(), &"ok".into()), "the new one, then the old");
    assert!(hooks[0]["started"].as_str() > hooks[1]["started"].as_str(), "{hooks:?}");
}

#[test]
fn nothing_stays_in_the_spool_that_no_notice_or_process_waits_for() {
    let host = Host::new("");
    host.add_ext4("volume-1");
    let down = ClosedPort::new();
    let table = format!(
        "[[notify]]\nkind = 'webhook'\nurl = 'http://127.0.0.1:{}/'\non = ['ok', 'warning']\ndeadline_seconds = 1\n",
        down.number()
    );
    configure(&host, &table);
    assert_eq!(host.verb(&["run"]).status, 3);
    // A process that was killed while it wrote one, and one that writes now.
    for (name, age) in [(".volbak-unfinished-1", 7200), (".volbak-unfinished-2", 0)] {
        let file = fs::File::create(host.at("spool").join(name)).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
    }
    assert_eq!(spooled(&host), 3);
    configure(&host, "");
    assert_eq!(host.verb(&["run"]).status, 0);
    assert_eq!(spooled(&host), 2, "another config may send the notice");
    let later = chrono::Utc::now() + chrono::TimeDelta::days(30);
    let did = host.verb_at(&later.format("%Y-%m-%d %H:%M:%S").to_string(), &["run"]);
    assert!(did.status == 3 && did.stderr.contains("it waited for more than"), "{did:?}");
    assert_eq!(spooled(&host), 0);
}

#[test]
fn a_slow_server_gets_each_notice_that_waits_once_over_several_runs() {
    const WAITING: usize = 14;
    let host = Host::new("");
    host.add_ext4("volume-1");
    let down = ClosedPort::new();
    let table = |port: u16| {
        format!(
            "[[notify]]\nkind = 'webhook'\nurl = 'http://127.0.0.1:{port}/'\non = ['ok', 'warning']\ndeadline_seconds = 1\n"
        )
    };
    configure(&host, &table(down.number()));
    assert_eq!(host.verb(&["run"]).status, 3);
    let kept = fs::read_dir(host.at("spool")).unwrap().next().unwrap().unwrap().path();
    for other in 1..WAITING {
        let name = kept.file_name().unwrap().to_str().unwrap().replace(".notice", &format!("{other}.notice"));
        fs::copy(&kept, kept.with_file_name(name)).unwrap();
    }
    assert_eq!(spooled(&host), WAITING);

    let server = Server::start(&["slow"]);
    configure(&host, &table(server.port));
    let did = host.verb(&["run"]);
    assert_eq!(did.status, 0, "{did:?}");
    let sent = server.asked().len() - 1;
    assert!((1..=3).contains(&sent), "no more than a deadline for what waits: {sent}");
    assert_eq!(spooled(&host), WAITING - sent, "what was sent is not sent again, nor is the end of this run");
}

#[test]
fn an_error_that_passes_is_tried_again_and_one_that_stays_is_not() {
    let busy = failing("503 Service Unavailable", "later");
    let server = Server::start(&[&busy, FINE]);
    let wrong = Server::start(&[&failing("404 Not Found", "no_service for /deep-s3cret")]);
    let host = Host::new("");
    host.add_ext4("volume-1");
    configure(
        &host,
        &format!(
            "[[notify]]\nname = 'busy'\nkind = 'webhook'\nurl = 'http://127.0.0.1:{}/a'\non = ['ok']\n\
             [[notify]]\nname = 'gone'\nkind = 'slack'\nurl = 'http://127.0.0.1:{}/deep-s3cret'\non = ['ok']\n",
            server.port, wrong.port
        ),
    );
    let did = host.verb(&["run"]);
    assert_eq!(did.status, 3, "{did:?}");
    assert_eq!((server.asked().len(), wrong.asked().len()), (2, 1));
    assert!(did.stderr.contains("notify gone") && did.stderr.contains("status 404: no_service"), "{did:?}");
    assert!(!did.stderr.contains("notify busy") && !did.stderr.contains("s3cret"), "{did:?}");
}

#[test]
fn a_slow_server_costs_the_deadline_and_no_more() {
    let slow = Server::start(&["drip"]);
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = Host::new("");
    host.add_ext4("volume-1");
    configure(
        &host,
        &format!(
            "[[notify]]\nname = 'slow'\nkind = 'webhook'\nurl = 'http://127.0.0.1:{}/a'\non = ['ok']\ndeadline_seconds = 1\n\
             [[notify]]\nname = 'silent'\nkind = 'webhook'\nurl = 'http://127.0.0.1:{}/b'\non = ['ok']\ndeadline_seconds = 1\n",
            slow.port,
            silent.local_addr().unwrap().port()
        ),
    );
    let began = Instant::now();
    let did = host.verb(&["run"]);
    assert!(began.elapsed() < Duration::from_secs(40), "{:?}", began.elapsed());
    assert_eq!(did.status, 3, "{did:?}");
    for name in ["notify slow", "notify silent"] {
        let line = did.stderr.lines().find(|line| line.contains(name)).unwrap_or_else(|| panic!("{did:?}"));
        assert!(line.contains("not done within 1 s"), "{line}");
    }
    assert_eq!(spooled(&host), 2);
}

#[test]
fn a_redirect_to_another_host_is_not_followed_with_secrets() {
    let other = Server::start(&[FINE]);
    let to = format!(
        "HTTP/1.1 307 Temporary Redirect\r\nLocation: http://127.0.0.1:{}/stolen\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        other.port
    );
    let server = Server::start(&[&to]);
    let host = Host::new("");
    host.add_ext4("volume-1");
    let header = secret(&host, "header", "geheim");
    configure(
        &host,
        &format!(
            "[[notify]]\nkind = 'webhook'\nurl = 'http://127.0.0.1:{}/a'\non = ['ok']\nheaders = {{ X-Token = '{header}' }}\n",
            server.port
        ),
    );
    let did = host.verb(&["run"]);
    assert_eq!(did.status, 3, "{did:?}");
    let where_to = format!("the server redirects to 127.0.0.1:{}", other.port);
    assert!(did.stderr.contains(&where_to) && !did.stderr.contains("stolen"), "{did:?}");
    assert!(other.asked().is_empty());
}

#[test]
fn tls_trusts_the_private_authority_alone_and_doctor_tries_it_without_sending() {
    let host = Host::new("");
    host.add_ext4("volume-1");
    let certificate = authority(host.at("").as_path(), "hook", "DNS:localhost,IP:127.0.0.1");
    let server = Server::with(&[FINE], Some(&certificate));
    let url = secret(&host, "url", &format!("https://localhost:{}/s3cret-path", server.port));
    let table = |ca: &str, deadline: u32| {
        format!("[[notify]]\nkind = 'webhook'\nurl_file = '{url}'\n{ca}on = ['ok']\ndeadline_seconds = {deadline}\n")
    };
    configure(&host, &table("", 5));
    let did = host.verb(&["notify", "test"]);
    assert_eq!(did.status, 1, "{did:?}");
    assert!(did.stderr.contains(&format!("localhost:{}: ", server.port)) && !did.stderr.contains("s3cret"), "{did:?}");
    assert!(server.asked().is_empty(), "nothing was sent to a server that is not trusted");

    configure(&host, &table(&format!("ca_file = '{}'\n", certificate.display()), 60));
    let did = host.verb(&["doctor"]);
    let line = did.stdout.lines().find(|line| line.contains("notify")).unwrap_or_else(|| panic!("{did:?}"));
    assert!(line.starts_with("ok ") && line.contains("accepts the connection"), "{line}");
    assert_eq!(server.lines(), ["HEAD /"], "neither the path nor a body");
    let did = host.verb(&["notify", "test", "webhook"]);
    assert_eq!((did.status, did.stdout.as_str()), (0, "webhook (webhook): sent\n"), "{did:?}");
    assert_eq!(host.verb(&["run"]).status, 0);
    assert_eq!(server.lines()[1..], ["POST /s3cret-path", "POST /s3cret-path"]);
    assert_eq!(host.verb(&["notify", "test", "other"]).status, 2);
}

#[test]
fn a_test_waits_for_no_target_before_it_tries_the_others() {
    let host = Host::new("");
    // Each ends when the other one has begun.
    let target = |name: &str, other: &str| {
        let (own, other, path) = (host.at(name), host.at(other), host.at(&format!("tell-{name}")));
        let wait = format!("touch {}; until [ -e {} ]; do sleep 0.1; done", quoted(&own), quoted(&other));
        program(&path, &wait);
        format!(
            "[[notify]]\nname = '{name}'\nkind = 'command'\ncommand = ['{}']\non = ['ok']\ndeadline_seconds = 30\n",
            path.display()
        )
    };
    configure(&host, &(target("one", "two") + &target("two", "one")));
    let did = host.verb(&["notify", "test"]);
    assert_eq!((did.status, did.stdout.as_str()), (0, "one (command): sent\ntwo (command): sent\n"), "{did:?}");
}

#[test]
fn a_template_makes_the_body_and_a_wrong_one_is_found_by_config_check() {
    let server = Server::start(&[FINE]);
    let host = Host::new("");
    host.add_ext4("volume-1");
    let table = |body: &str| {
        format!(
            "[[notify]]\nkind = 'webhook'\nmethod = 'PUT'\nurl = 'http://127.0.0.1:{}/t'\non = ['ok']\nbody = '{body}'\n",
            server.port
        )
    };
    configure(
        &host,
        &table(r#"{"says": {{ subject }}, "names": [{% for one in volumes %}{{ one.name }}{% endfor %}]}"#),
    );
    assert_eq!(host.verb(&["run"]).status, 0);
    let asked = server.asked();
    assert_eq!(asked[0].line, "PUT /t");
    let body: Value = serde_json::from_str(&asked[0].body).unwrap();
    assert_eq!(body["names"], serde_json::json!(["volume-1"]), "{body}");
    for (wrong, told) in [(r#"{"says": "{{ subject }}"}"#, "without quotes"), ("{{ nothing }}", "undefined")] {
        configure(&host, &table(wrong));
        let did = host.verb(&["config", "check"]);
        assert!(did.status == 2 && did.stderr.contains(told), "{did:?}");
    }
    // One of a loop over volumes shows with several alone.
    configure(&host, &table(r#"[{% for one in volumes %}{{ one.name }}{% endfor %}]"#));
    let did = host.verb(&["doctor"]);
    assert!(did.stdout.contains("the template of the body failed: the body is no JSON"), "{did:?}");
    configure(&host, "[[notify]]\nkind = 'slack'\nurl = 'https://user:s3cret@example.com'\n");
    let did = host.verb(&["config", "check"]);
    assert!(did.status == 2 && did.stderr.contains("holds a user") && !did.stderr.contains("s3cret"), "{did:?}");
}

#[test]
fn a_command_and_after_run_get_the_outcome_and_their_failure_is_a_warning() {
    let host = Host::new("");
    host.add_ext4("volume-1");
    let script = |name: &str, text: String| {
        program(&host.at(name), &text);
        host.at(name).display().to_string()
    };
    let tell = script(
        "tell",
        format!("cat >{0}/told.json; echo $VOLBAK_PHASE $VOLBAK_OUTCOME >{0}/told", host.at("").display()),
    );
    let after = script(
        "after",
        format!(
            "echo $VOLBAK_PHASE $VOLBAK_OUTCOME >{0}/after-said; cp \"$VOLBAK_REPORT\" {0}/copy.json",
            host.at("").display()
        ),
    );
    let broken = script("broken", "echo no pager >&2; exit 4".to_owned());
    configure(
        &host,
        &format!(
            "[[notify]]\nkind = 'command'\ncommand = ['{tell}']\non = ['ok']\n\
             [hooks]\nafter_run = [['{broken}'], ['{after}']]\n"
        ),
    );
    let did = host.verb(&["run"]);
    assert_eq!(did.status, 3, "{did:?}");
    assert!(did.stderr.contains("after_run") && did.stderr.contains("no pager"), "{did:?}");
    assert_eq!(fs::read_to_string(host.at("told")).unwrap(), "notify ok\n");
    let told: Value = serde_json::from_slice(&fs::read(host.at("told.json")).unwrap()).unwrap();
    assert_eq!(told["event"], "ok", "{told}");
    assert_eq!(fs::read_to_string(host.at("after-said")).unwrap(), "after_run ok\n");
    let copy: Value = serde_json::from_slice(&fs::read(host.at("copy.json")).unwrap()).unwrap();
    assert_eq!(copy["volumes"][0]["name"], "volume-1");
    assert!(host.verb(&["report"]).stdout.contains("no pager"), "the stored report has the warning");
}

/// The port of a listener that closes each connection at once.
fn refusing() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            drop::<TcpStream>(stream.unwrap());
        }
    });
    port
}

#[test]
fn a_server_that_hangs_up_is_tried_again_until_the_deadline() {
    let host = Host::new("");
    host.add_ext4("volume-1");
    configure(
        &host,
        &format!(
            "[[notify]]\nkind = 'webhook'\nurl = 'http://127.0.0.1:{}/a'\non = ['ok']\ndeadline_seconds = 2\n",
            refusing()
        ),
    );
    let did = host.verb(&["run"]);
    assert!(did.status == 3 && did.stderr.contains("not done within 2 s"), "{did:?}");
}
