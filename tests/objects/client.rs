//! The client against a store that lies, hangs, cuts off, loops or refuses.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use chrono::{NaiveDateTime, TimeDelta, Utc};
use volbak::objects::{
    CopySource, Limits, ObjectAddress, ObjectClient, ObjectError, ObjectSettings, ObjectSources, Part,
};

use crate::server::{Asked, Reply, Server};

pub(crate) const SECRET: &str = "geheim-4711";
/// A name, and the answer.
type Case = (&'static str, Box<dyn Fn() -> Reply + Send + Sync>);

/// Where the deadline is what ends a request.
const SHORT: Duration = Duration::from_secs(3);
/// Where it is not: a machine that is busy with other things may take long for an answer.
const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) fn sources(url: &str) -> ObjectSources {
    let pairs = [("AWS_ENDPOINT_URL", url), ("AWS_ACCESS_KEY_ID", "KEY"), ("AWS_SECRET_ACCESS_KEY", SECRET)];
    let environment: BTreeMap<String, String> =
        pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    ObjectSources { environment, ..ObjectSources::default() }
}

fn client(server: &Server) -> ObjectClient {
    client_within(server, DEADLINE, DEADLINE)
}

fn client_within(server: &Server, deadline: Duration, attempt: Duration) -> ObjectClient {
    let limits = Limits { deadline, attempt, pause: Duration::from_millis(10), ..Limits::default() };
    let settings = ObjectSettings::find(&sources(&server.url)).unwrap();
    ObjectClient::new(ObjectAddress::parse("s3://bucket/host").unwrap(), settings, limits).unwrap()
}

fn answering(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Server {
    Server::start(move |asked, _| {
        // The store sees the signature, and never the secret.
        let all = format!("{asked:?}");
        assert!(!all.contains(SECRET) && asked.path.contains("X-Amz-Signature="), "{all}");
        answer(asked)
    })
}

fn xml(status: u16, body: &str) -> Reply {
    Reply::Json(status, body.to_owned())
}

fn error(status: u16, code: &str) -> Reply {
    xml(status, &format!("<Error><Code>{code}</Code><Message>as {SECRET} said</Message></Error>"))
}

/// A good answer to a request for bytes 0 to 9.
fn range() -> Reply {
    Reply::Raw(b"HTTP/1.1 206 P\r\nContent-Length: 10\r\nContent-Range: bytes 0-9/100\r\n\r\n0123456789".to_vec())
}

/// The error, after checking that it came in time and shows no secret.
fn refused<T: std::fmt::Debug>(began: Instant, result: Result<T, ObjectError>) -> ObjectError {
    let error = result.expect_err("such an answer is refused");
    let text = format!("{error} {error:?}");
    assert!(!text.contains(SECRET) && !text.contains("X-Amz"), "{text}");
    assert!(began.elapsed() < 2 * DEADLINE, "{text}: after {:?}", began.elapsed());
    error
}

#[test]
fn a_request_is_repeated_after_what_may_pass() {
    for trouble in 0..6 {
        let count = AtomicUsize::new(0);
        let server = answering(move |_| match (count.fetch_add(1, Ordering::SeqCst), trouble) {
            (0 | 1, 0) => Reply::Close,
            (0 | 1, 1) => error(503, "SlowDown"),
            (0 | 1, 2) => error(500, "InternalError"),
            // Cut off, and then the end.
            (0 | 1, 3) => {
                Reply::Raw(b"HTTP/1.1 206 P\r\nContent-Length: 10\r\nContent-Range: bytes 0-9/100\r\n\r\n012".to_vec())
            }
            (0, 4) => Reply::Hang,
            (0 | 1, 5) => Reply::With(429, vec!["Retry-After: 0".to_owned()], String::new()),
            _ => range(),
        });
        // An attempt that hangs is given up.
        let attempt = if trouble == 4 { SHORT } else { DEADLINE };
        let client = client_within(&server, DEADLINE, attempt);
        assert_eq!(client.get_range("host/a", &(0..10)).unwrap(), b"0123456789", "trouble {trouble}");
        let asked = server.calls().len();
        assert_eq!(asked, if trouble == 4 { 2 } else { 3 }, "trouble {trouble}");
        assert_eq!(client.traffic().requests, asked as u64);
    }
}

#[test]
fn what_will_not_pass_is_not_repeated() {
    for (status, code) in [
        (403, "AccessDenied"),
        (404, "NoSuchBucket"),
        (501, "NotImplemented"),
        (400, "InvalidRequest"),
        (301, "PermanentRedirect"),
    ] {
        let server = answering(move |_| {
            let Reply::Json(_, body) = error(status, code) else { unreachable!() };
            Reply::With(status, vec!["Location: http://192.0.2.1/".to_owned()], body)
        });
        let found = refused(Instant::now(), client(&server).put("host/a", b"x", false));
        assert_eq!((found.status(), found.code()), (Some(status), Some(code)));
        assert_eq!(server.calls().len(), 1, "{status}");
    }
}

/// After a lost answer nobody knows whether a conditional write was carried out: a second attempt would fail by itself.
#[test]
fn what_is_not_the_same_twice_is_sent_once() {
    let server = answering(|_| error(503, "SlowDown"));
    let client = client(&server);
    refused(Instant::now(), client.put("host/a", b"x", true));
    assert_eq!(server.calls().len(), 1);
    refused(Instant::now(), client.complete_upload("host/a", "id", &[], false));
    assert_eq!(server.calls().len(), 2);
}

#[test]
fn an_error_in_an_answer_of_200_is_a_failure() {
    let server = answering(|_| error(200, "AccessDenied"));
    let part = Part { number: 1, etag: "e".to_owned(), len: 5 };
    let (began, client) = (Instant::now(), client(&server));
    for found in [
        refused(began, client.complete_upload("host/a", "id", &[part], false)),
        refused(began, client.copy_part("host/a", "id", 1, &CopySource { key: "host/b", etag: "e", range: 0..5 })),
        refused(began, client.list("host/", false)),
        refused(began, client.begin_upload("host/a")),
        refused(began, client.put("host/a", b"x", false)),
    ] {
        assert_eq!((found.status(), found.code()), (Some(200), Some("AccessDenied")), "{found}");
    }
    assert_eq!(server.calls().len(), 5);

    let count = AtomicUsize::new(0);
    let server = answering(move |_| match count.fetch_add(1, Ordering::SeqCst) {
        0 => error(200, "InternalError"),
        _ => xml(200, "\n  <CopyPartResult><ETag>\"e1\"</ETag></CopyPartResult>"),
    });
    let from = CopySource { key: "host/b", etag: "e", range: 0..5 };
    assert_eq!(self::client(&server).copy_part("host/a", "id", 3, &from).unwrap().etag, "e1");
}

#[test]
fn hostile_answers_are_errors_in_time() {
    let list = |inner: &str| xml(200, &format!("<ListBucketResult>{inner}</ListBucketResult>"));
    let answers: Vec<Case> = vec![
        ("no XML", Box::new(|| xml(200, "<html><p>busy"))),
        ("another document", Box::new(|| xml(200, "<html></html>"))),
        ("nested deep", Box::new(|| Reply::Json(200, "<a>".repeat(1 << 20)))),
        ("no end", Box::new(|| Reply::Endless)),
        ("byte by byte", Box::new(|| Reply::Drip(vec![b' '; 1 << 20], Duration::from_millis(20)))),
        ("silence", Box::new(|| Reply::Hang)),
        ("no HTTP", Box::new(|| Reply::Raw(b"\0\0\0\0".to_vec()))),
        ("keys of others", Box::new(move || list("<Contents><Key>other/a</Key><Size>1</Size></Contents>"))),
        ("a length that is none", Box::new(move || list("<Contents><Key>host/a</Key><Size>-1</Size></Contents>"))),
        ("cut off without a next page", Box::new(move || list("<IsTruncated>true</IsTruncated>"))),
        (
            "pages that lead back",
            Box::new(move || {
                list(
                    "<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>\
                      <Contents><Key>host/a</Key><Size>1</Size></Contents>",
                )
            }),
        ),
        (
            "pages of nothing",
            Box::new(move || list("<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>")),
        ),
    ];
    for (name, answer) in answers {
        let server = answering(move |_| answer());
        let client = client_within(&server, SHORT, Duration::from_secs(1));
        let found = refused(Instant::now(), client.list("host/", false));
        eprintln!("{name}: {found}");
    }
}

/// Versions and uploads: the second page is asked for with both markers of the first, and pages without an end are given up.
#[test]
fn lists_go_on_from_two_markers() {
    let pages = |is_endless: bool| {
        answering(move |asked| {
            let (root, element, id, asked_with) = if asked.path.contains("uploads=") {
                ("ListMultipartUploadsResult", "Upload", "UploadId", "upload-id-marker=i1")
            } else {
                ("ListVersionsResult", "Version", "VersionId", "version-id-marker=i1")
            };
            let is_second = asked.path.contains("key-marker=host%2Fa") && asked.path.contains(asked_with);
            let number = if is_second { 2 } else { 1 };
            let is_cut = is_endless || !is_second;
            xml(
                200,
                &format!(
                    "<{root}><IsTruncated>{is_cut}</IsTruncated><NextKeyMarker>host/a</NextKeyMarker><Next{id}Marker>i1</Next{id}Marker>\
                     <{element}><Key>host/a</Key><{id}>i{number}</{id}></{element}></{root}>"
                ),
            )
        })
    };
    let server = pages(false);
    let uploads = client(&server).uploads("host/").unwrap();
    assert_eq!(uploads, [("host/a".to_owned(), "i1".to_owned()), ("host/a".to_owned(), "i2".to_owned())]);
    let versions = client(&server).object_versions("host/").unwrap();
    let ids: Vec<&str> = versions.iter().map(|version| version.id.as_str()).collect();
    assert_eq!(ids, ["i1", "i2"]);

    let server = pages(true);
    let endless = |error: ObjectError| assert!(matches!(error, ObjectError::Endless { .. }), "{error}");
    endless(refused(Instant::now(), client(&server).uploads("host/")));
    endless(refused(Instant::now(), client(&server).object_versions("host/")));
}

#[test]
fn a_range_is_the_one_that_was_asked_for() {
    for head in [
        // The whole object, another range, and a range of another length.
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789",
        "HTTP/1.1 206 P\r\nContent-Length: 10\r\nContent-Range: bytes 5-14/100\r\n\r\n0123456789",
        "HTTP/1.1 206 P\r\nContent-Length: 9\r\nContent-Range: bytes 0-9/100\r\n\r\n012345678",
        "HTTP/1.1 206 P\r\nContent-Length: 10\r\n\r\n0123456789",
    ] {
        let server = answering(move |_| Reply::Raw(head.as_bytes().to_vec()));
        let found = refused(Instant::now(), client(&server).get_range("host/a", &(0..10)));
        assert!(matches!(found, ObjectError::NotUnderstood { .. }), "{found}");
    }
    let server = answering(|_| Reply::Endless);
    let found = refused(Instant::now(), client(&server).get("host/a", 100));
    assert!(matches!(found, ObjectError::TooLong { .. }), "{found}");
}

#[test]
fn a_wrong_clock_is_corrected_by_the_stores_and_reported_once() {
    // It goes on: a day may end meanwhile.
    let server = answering(move |asked| {
        let theirs = Utc::now() + TimeDelta::days(1);
        let date = format!("Date: {}", theirs.format("%a, %d %b %Y %H:%M:%S GMT"));
        let signed = asked.path.split_once("X-Amz-Date=").and_then(|(_, rest)| rest.get(..15)).unwrap();
        let signed = NaiveDateTime::parse_from_str(signed, "%Y%m%dT%H%M%S").unwrap().and_utc();
        if (theirs - signed).abs() < TimeDelta::minutes(15) {
            return Reply::With(200, vec![date, "ETag: \"e\"".to_owned()], String::new());
        }
        let Reply::Json(status, body) = error(403, "RequestTimeTooSkewed") else { unreachable!() };
        Reply::With(status, vec![date], body)
    });
    let client = client(&server);
    client.put("host/a", b"x", false).unwrap();
    client.put("host/b", b"x", false).unwrap();
    assert_eq!(server.calls().len(), 3, "{:?}", server.calls());
    let notes = client.take_notes();
    assert!(notes.len() == 1 && notes[0].contains("behind"), "{notes:?}");
    assert!((86_300..86_500).contains(&client.skew_seconds()), "{}", client.skew_seconds());

    // A store whose time is right refuses for another cause.
    let server = answering(|_| error(403, "AccessDenied"));
    refused(Instant::now(), self::client(&server).put("host/a", b"x", false));
    assert_eq!(server.calls().len(), 1);
}

#[test]
fn bodies_carry_their_md5() {
    let server = answering(|_| Reply::With(200, vec!["ETag: \"e\"".to_owned()], String::new()));
    let client = client(&server);
    client.put("host/a b+c", b"hello", false).unwrap();
    client.put_part("host/a", "id/+=", 7, b"hello").unwrap();
    let asked = server.asked.lock().unwrap();
    for one in asked.iter() {
        assert_eq!(one.header("content-md5"), Some("XUFAKrxLKna5cZ2REBfFkg=="));
        assert!(one.path.contains("X-Amz-SignedHeaders=content-md5%3Bhost"), "{}", one.path);
    }
    assert!(asked[0].path.starts_with("/bucket/host/a%20b%2Bc?"), "{}", asked[0].path);
    assert!(asked[1].path.contains("partNumber=7&uploadId=id%2F%2B%3D"), "{}", asked[1].path);
    drop(asked);
    assert_eq!((client.traffic().requests, client.traffic().sent_bytes), (2, 10));
}
