//! The client against a server that lies, hangs, cuts off, loops or refuses.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use volbak::openstack::{CloudError, CloudSettings, Limits, Session, Sources};

use crate::server::{Asked, Reply, Server, token};

const PASSWORD: &str = "geheim-4711";
const TOKEN: &str = "gAAAAA-token-0815";
/// A name, what the error has to be, and the answer.
type Case = (&'static str, fn(&CloudError) -> bool, Box<dyn Fn() -> Reply + Send + Sync>);

/// Where the deadline is what ends a request.
const SHORT: Duration = Duration::from_secs(3);
/// Where it is not: a machine that is busy with other things may take long for an answer.
const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) fn variables(url: &str) -> Sources {
    let pairs = [
        ("OS_AUTH_URL", url),
        ("OS_USERNAME", "admin"),
        ("OS_PASSWORD", PASSWORD),
        ("OS_PROJECT_NAME", "admin"),
        ("HOME", "/nonexistent"),
    ];
    let environment: BTreeMap<String, String> =
        pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    Sources { environment, ..Sources::default() }
}

fn open(url: &str) -> Result<Session, CloudError> {
    open_within(url, DEADLINE)
}

fn open_within(url: &str, deadline: Duration) -> Result<Session, CloudError> {
    let limits = Limits { deadline, pause: Duration::from_millis(10), page: 500 };
    Session::open(CloudSettings::find(&variables(url))?, limits)
}

/// Answers log-ins, and everything else as the closure says.
fn after_login(answer: impl Fn(&Asked, &str) -> Reply + Send + Sync + 'static) -> Server {
    Server::start(
        move |asked, base| {
            if asked.path == "/v3/auth/tokens" { token(base, TOKEN) } else { answer(asked, base) }
        },
    )
}

fn volume(id: &str) -> String {
    format!(
        r#"{{"id": "{id}", "name": null, "status": "available", "size": 1, "metadata": null, "bootable": "false"}}"#
    )
}

/// The error, after checking that it came in time and shows no secret.
fn refused<T>(began: Instant, result: Result<T, CloudError>) -> CloudError {
    let error = result.err().expect("such an answer is refused");
    let text = format!("{error} {error:?}");
    assert!(!text.contains(PASSWORD) && !text.contains(TOKEN), "{text}");
    assert!(began.elapsed() < 2 * DEADLINE, "{text}: after {:?}", began.elapsed());
    error
}

#[test]
fn pages_are_read_with_the_token_and_the_microversion() {
    let server = after_login(|asked, _| match asked.path.as_str() {
        // The host of a link is not heeded: it may be wrong, or hostile.
        "/volume/v3/p1/volumes/detail?all_tenants=1&limit=500" => Reply::Json(
            200,
            format!(
                r#"{{"volumes": [{}], "volumes_links": [{{"rel": "next", "href": "http://192.0.2.1/x?all_tenants=1&limit=500&marker=a"}}]}}"#,
                volume("a")
            ),
        ),
        "/volume/v3/p1/volumes/detail?all_tenants=1&limit=500&marker=a" => {
            // `a` comes again: it moved while the pages were read.
            Reply::Json(200, format!(r#"{{"volumes": [{}, {}], "volumes_links": null}}"#, volume("a"), volume("b")))
        }
        other => panic!("{other}"),
    });
    let found = open(&server.url).unwrap().volumes().unwrap();
    assert_eq!(found.iter().map(|volume| volume.id.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    let asked = server.asked.lock().unwrap();
    assert!(asked[0].body.contains(PASSWORD));
    for one in &asked[1..] {
        assert_eq!(one.header("x-auth-token"), Some(TOKEN));
        assert_eq!(one.header("openstack-api-version"), Some("volume 3.27"));
    }
}

#[test]
fn a_token_that_expires_in_the_middle_is_renewed_once() {
    let refusals = AtomicUsize::new(0);
    let server = after_login(move |asked, _| {
        if asked.path.contains("marker=a") && refusals.fetch_add(1, Ordering::SeqCst) == 0 {
            return Reply::Json(401, r#"{"error": {"message": "expired"}}"#.to_owned());
        }
        let next = r#"[{"rel": "next", "href": "http://h/x?marker=a"}]"#;
        let (id, next) = if asked.path.contains("marker=a") { ("b", "[]") } else { ("a", next) };
        Reply::Json(200, format!(r#"{{"volumes": [{}], "volumes_links": {next}}}"#, volume(id)))
    });
    assert_eq!(open(&server.url).unwrap().volumes().unwrap().len(), 2);
    assert_eq!(server.calls().iter().filter(|call| call.contains("tokens")).count(), 2);

    let server = after_login(|_, _| Reply::Json(401, "{}".to_owned()));
    let error = refused(Instant::now(), open(&server.url).unwrap().volumes());
    assert!(matches!(error, CloudError::Status { status: 401, .. }), "{error}");
    assert_eq!(server.calls().len(), 4, "{:?}", server.calls());
}

#[test]
fn a_read_is_repeated_after_what_may_pass() {
    for trouble in [0, 1, 2, 3] {
        let count = AtomicUsize::new(0);
        let server = after_login(move |_, _| match (count.fetch_add(1, Ordering::SeqCst), trouble) {
            (0 | 1, 0) => Reply::Close,
            (0 | 1, 1) => Reply::With(429, vec!["Retry-After: 0".to_owned()], "{}".to_owned()),
            (0 | 1, 2) => Reply::Json(503, "busy".to_owned()),
            (0 | 1, _) => Reply::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{\"volumes\": [".to_vec()),
            _ => Reply::Json(200, format!(r#"{{"volumes": [{}]}}"#, volume("a"))),
        });
        assert_eq!(open(&server.url).unwrap().volumes().unwrap().len(), 1, "{trouble}");
        assert_eq!(server.calls().len(), 4, "{trouble}: {:?}", server.calls());
    }
    // 500 is an answer, and asking again does not change it.
    let server = after_login(|_, _| Reply::Json(500, r#"{"computeFault": {"message": "boom"}}"#.to_owned()));
    let error = refused(Instant::now(), open(&server.url).unwrap().servers());
    assert!(error.to_string().contains("status 500: boom; look in the service's log"), "{error}");
    assert_eq!(server.calls().len(), 2);
}

#[test]
fn no_answer_makes_it_wait_past_the_deadline_or_fill_the_memory() {
    let huge = || format!(r#"{{"volumes": [], "x": "{}"}}"#, "x".repeat(17 << 20));
    let nested = || format!(r#"{{"volumes": {}"#, "[".repeat(1 << 20));
    let cases: Vec<Case> = vec![
        ("hangs", |e| matches!(e, CloudError::Deadline { .. }), Box::new(|| Reply::Hang)),
        (
            "drips",
            |e| matches!(e, CloudError::Deadline { .. }),
            Box::new(|| Reply::Drip(vec![b' '; 10_000], Duration::from_millis(100))),
        ),
        ("endless", |e| matches!(e, CloudError::TooLong { .. }), Box::new(|| Reply::Endless)),
        ("huge", |e| matches!(e, CloudError::TooLong { .. }), Box::new(move || Reply::Json(200, huge()))),
        ("closes", |e| matches!(e, CloudError::NoAnswer { .. }), Box::new(|| Reply::Close)),
        (
            "truncated",
            |e| matches!(e, CloudError::NoAnswer { .. }),
            Box::new(|| Reply::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{".to_vec())),
        ),
        (
            "no HTTP",
            |e| matches!(e, CloudError::NoAnswer { .. }),
            Box::new(|| Reply::Raw(b"SSH-2.0-OpenSSH\r\n\r\n".to_vec())),
        ),
        ("nested", |e| matches!(e, CloudError::NotUnderstood { .. }), Box::new(move || Reply::Json(200, nested()))),
        (
            "a page",
            |e| matches!(e, CloudError::NotUnderstood { .. }),
            Box::new(|| Reply::Json(200, "<html>Log in</html>".to_owned())),
        ),
        ("a list", |e| matches!(e, CloudError::NotUnderstood { .. }), Box::new(|| Reply::Json(200, "[]".to_owned()))),
        ("nothing", |e| matches!(e, CloudError::NotUnderstood { .. }), Box::new(|| Reply::Json(200, "{}".to_owned()))),
        (
            "wrong types",
            |e| matches!(e, CloudError::NotUnderstood { .. }),
            Box::new(|| Reply::Json(200, r#"{"volumes": [{"id": 7, "status": "x", "size": "big"}]}"#.to_owned())),
        ),
        (
            "a negative size",
            |e| matches!(e, CloudError::NotUnderstood { .. }),
            Box::new(|| Reply::Json(200, r#"{"volumes": [{"id": "a", "status": "x", "size": -1}]}"#.to_owned())),
        ),
        (
            "elsewhere",
            |e| e.status() == Some(302),
            Box::new(|| Reply::With(302, vec!["Location: http://192.0.2.1/".to_owned()], String::new())),
        ),
        (
            "the secrets themselves",
            |e| e.status() == Some(400),
            Box::new(|| Reply::Json(400, format!(r#"{{"error": {{"message": "bad: {PASSWORD} {TOKEN}"}}}}"#))),
        ),
        (
            "later than the deadline",
            |e| matches!(e, CloudError::Deadline { .. }),
            Box::new(|| Reply::With(503, vec!["Retry-After: 86400".to_owned()], String::new())),
        ),
        (
            "the same page again",
            |e| matches!(e, CloudError::Endless { .. }),
            Box::new(|| {
                let links = r#"[{"rel": "next", "href": "http://h/x?all_tenants=1&limit=500"}]"#;
                Reply::Json(200, format!(r#"{{"volumes": [{}], "volumes_links": {links}}}"#, volume("a")))
            }),
        ),
    ];
    for (name, is_right, reply) in cases {
        let server = after_login(move |_, _| reply());
        let deadline = if ["hangs", "drips"].contains(&name) { SHORT } else { DEADLINE };
        let began = Instant::now();
        let error = refused(began, open_within(&server.url, deadline).unwrap().volumes());
        assert!(is_right(&error), "{name}: {error:?}");
    }
}

#[test]
fn pages_without_an_end_are_given_up() {
    // Each page has a new address, and nothing new in it.
    let count = AtomicUsize::new(0);
    let server = after_login(move |_, _| {
        let marker = count.fetch_add(1, Ordering::SeqCst);
        let links = format!(r#"[{{"rel": "next", "href": "http://h/x?marker={marker}"}}]"#);
        Reply::Json(200, format!(r#"{{"volumes": [{}], "volumes_links": {links}}}"#, volume("a")))
    });
    let error = refused(Instant::now(), open(&server.url).unwrap().volumes());
    assert!(matches!(error, CloudError::Endless { .. }), "{error}");
    assert_eq!(server.calls().len(), 3);

    // Something new in each, without an end: the deadline.
    let count = AtomicUsize::new(0);
    let server = after_login(move |_, _| {
        let marker = count.fetch_add(1, Ordering::SeqCst);
        let links = format!(r#"[{{"rel": "next", "href": "http://h/x?marker={marker}"}}]"#);
        Reply::Json(200, format!(r#"{{"volumes": [{}], "volumes_links": {links}}}"#, volume(&marker.to_string())))
    });
    let error = refused(Instant::now(), open_within(&server.url, SHORT).unwrap().volumes());
    assert!(matches!(error, CloudError::Deadline { .. } | CloudError::Endless { .. }), "{error}");

    // An instance's list is cut off without a link: the rest is asked for, and a server that repeats itself is not believed.
    let server = after_login(|_, _| Reply::Json(200, r#"{"volumeAttachments": [{"volumeId": "a"}]}"#.to_owned()));
    assert_eq!(open(&server.url).unwrap().volumes_of("s1", 1000).unwrap().len(), 1);
    assert_eq!(server.calls().len(), 3);
    let error = refused(Instant::now(), open(&server.url).unwrap().volumes_of("../../os-services", 1));
    assert!(matches!(error, CloudError::NotUnderstood { .. }), "{error}");
}

#[test]
fn an_older_nova_is_asked_with_its_own_microversion() {
    let server = after_login(|asked, _| {
        if asked.header("openstack-api-version") == Some("compute 2.89") {
            return Reply::Json(406, r#"{"computeFault": {"message": "Version 2.89 is not supported"}}"#.to_owned());
        }
        Reply::Json(200, r#"{"volumeAttachments": [{"volumeId": "v", "device": "/dev/vdb"}]}"#.to_owned())
    });
    let session = open(&server.url).unwrap();
    assert_eq!(session.volumes_of("s1", 1).unwrap()[0].attachment_id, None);
    session.volumes_of("s2", 1).unwrap();
    assert!(!session.knows_attachment_ids());
    assert_eq!(server.calls().len(), 4);
}

#[test]
fn a_log_in_that_fails_says_why() {
    let refuses = |reply: fn() -> Reply| {
        let server = Server::start(move |_, _| reply());
        refused(Instant::now(), open(&server.url)).to_string()
    };
    let error = refuses(|| Reply::Json(401, format!(r#"{{"error": {{"message": "no {PASSWORD} here"}}}}"#)));
    assert!(error.contains("refuses the credentials of the user admin (status 401: no … here)"), "{error}");
    assert!(refuses(|| Reply::Json(201, r#"{"token": {}}"#.to_owned())).contains("X-Subject-Token"));
    assert!(
        refuses(|| Reply::With(201, vec!["X-Subject-Token: t".to_owned()], "[]".to_owned())).contains("not understood")
    );
    assert!(refuses(|| Reply::Json(404, "{}".to_owned())).contains("404"));
    let error = refused(Instant::now(), open("http://127.0.0.1:1"));
    assert!(matches!(error, CloudError::NoAnswer { .. }), "{error}");
    let error = refused(Instant::now(), open("http://user:geheim@127.0.0.1:1"));
    assert!(!error.to_string().contains("geheim"), "{error}");
    // The catalogue.
    let server = Server::start(|_, _| {
        let body = r#"{"token": {"catalog": [{"type": "compute", "endpoints": [
            {"interface": "internal", "region": "R1", "url": "http://127.0.0.1:1"}]}]}}"#;
        Reply::With(201, vec!["X-Subject-Token: t".to_owned()], body.to_owned())
    });
    let error = refused(Instant::now(), open(&server.url).unwrap().servers()).to_string();
    assert!(error.contains("no public endpoint of compute; it has: internal in R1"), "{error}");
}
