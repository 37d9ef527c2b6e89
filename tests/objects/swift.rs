//! Promise: Swift's own API keeps what the S3 API keeps. A token that is refused is renewed once, a large object goes with its
//! segments and never with those of another one, and what a hostile server says costs an error.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::json;
use volbak::objects::{
    CopySource, Limits, ObjectAddress, ObjectClient, ObjectError, ObjectSettings, Part, SwiftSources,
};

use volbak::store::Store;
use volbak::store::object::ObjectStore;

use crate::real::asked;
use crate::server::{Asked, Reply, Server};
use crate::verbs::{Place, disk};

const KEY: &str = "geheim-4711";

/// A new container of the real Swift with its container of segments, and a client for the prefix `host-1` in it.
pub(crate) fn container(name: &str, headers: &[&str]) -> ObjectClient {
    // What an S3 API gives with its lock.
    let keeps_versions = !headers.is_empty();
    let path = format!("/{name}");
    if keeps_versions {
        asked("native", &["PUT", &path, "X-Versions-Enabled=true"]);
    } else {
        asked("native", &["PUT", &path]);
    }
    asked("native", &["PUT", &format!("{path}_segments")]);
    let address = ObjectAddress::parse(&format!("swift://{name}/host-1")).unwrap();
    let settings = ObjectSettings::find_swift(&SwiftSources::from_environment()).unwrap();
    ObjectClient::new(address, settings, Limits::default()).unwrap()
}

/// The names in the container of segments.
fn segments(place: &Place) -> BTreeSet<String> {
    let address = ObjectAddress::parse(&format!("swift://{}_segments", place.client.address().bucket)).unwrap();
    let beside = ObjectClient::new(address, place.client.settings().clone(), Limits::default()).unwrap();
    beside.list("", false).unwrap().objects.into_iter().map(|object| object.key).collect()
}

/// Fails if a segment belongs to no archive, or a note to no upload. Stores with an S3 API have no such segments.
pub(crate) fn assert_no_dead_segments(place: &Place) {
    if !place.client.address().to_string().starts_with("swift://") {
        return;
    }
    let keys: Vec<String> =
        place.client.list("", false).unwrap().objects.into_iter().map(|object| object.key).collect();
    for name in segments(place) {
        let of = name.strip_prefix("segments/").unwrap_or_else(|| panic!("{name} is left"));
        assert!(keys.iter().any(|key| of.starts_with(&format!("{key}/"))), "{name} is left: {keys:?}");
    }
}

#[test]
#[ignore = "needs a store of scripts/objects"]
fn a_removed_backup_goes_with_its_segments_alone() {
    let place = Place::real("removed", "");
    let image = disk(&place.host, "vol", 24);
    for _ in 0..2 {
        place.good(&["snapshot", &image]);
    }
    let stems: Vec<String> = place.whole_backups("vol").into_iter().collect();
    let of = |stem: &str| segments(&place).into_iter().filter(|name| name.contains(stem)).count();
    assert!(of(&stems[0]) > 1 && of(&stems[1]) > 1, "{:?}", segments(&place));
    let backup = |stem: &str| format!("vol@{}", &stem["vol_".len()..]);
    let kept = of(&stems[1]);
    place.good(&["remove", &backup(&stems[0])]);
    assert_eq!((of(&stems[0]), of(&stems[1])), (0, kept));
    // What was carried forward from it is whole.
    place.good(&["verify", "--all", "--level", "full"]);
    place.good(&["remove", &backup(&stems[1]), "--force"]);
    assert_eq!(segments(&place), BTreeSet::new());
}

#[test]
#[ignore = "needs a store of scripts/objects"]
fn a_segment_that_is_overwritten_or_missing_is_found_without_reading_the_archive() {
    let place = Place::real("segments", "");
    place.good(&["snapshot", &disk(&place.host, "vol", 24)]);
    let stem = place.whole_backups("vol").pop_last().unwrap();
    for level in ["quick", "full"] {
        place.good(&["verify", "--all", "--level", level, "--no-record"]);
    }
    let address = ObjectAddress::parse(&format!("swift://{}_segments", place.client.address().bucket)).unwrap();
    let beside = ObjectClient::new(address, place.client.settings().clone(), Limits::default()).unwrap();
    let names: Vec<String> = segments(&place).into_iter().filter(|name| name.contains(".tar.gz/")).collect();
    assert!(names.len() > 1, "{names:?}");
    for name in names {
        let honest = beside.get(&name, 1 << 30).unwrap().unwrap();
        let mut other = honest.clone();
        other[honest.len() / 2] ^= 1;
        // Of the same length, of another one, and not at all.
        for bytes in [Some(&other[..]), Some(&honest[..9]), None] {
            match bytes {
                Some(bytes) => drop(beside.put(&name, bytes, false).unwrap()),
                None => beside.delete(&name, None).unwrap(),
            }
            let did = place.verb(&["verify", "--all", "--quick", "--no-record"]);
            let said = format!("{}{}", did.stdout, did.stderr);
            let what = if bytes.is_some() { "was overwritten" } else { "is missing" };
            let expected = format!("{stem}.tar.gz: its segment /{}/{name} {what}", beside.address().bucket);
            assert!(did.status == 1 && said.contains(&expected), "{expected}: {said}");
        }
        beside.put(&name, &honest, false).unwrap();
        place.good(&["verify", "--all", "--quick", "--no-record"]);
    }
}

#[test]
#[ignore = "needs a store of scripts/objects"]
fn an_upload_whose_note_stayed_keeps_its_segments() {
    let client = container(&format!("noted-{}", std::process::id()), &[]);
    let (key, other) = ("host-1/v/ä b%", "host-1/v/other");
    let id = client.begin_upload(key).unwrap();
    let parts: Vec<Part> = (1..=3).map(|number| client.put_part(key, &id, number, &[b'a'; 1000]).unwrap()).collect();
    client.complete_upload(key, &id, &parts, false).unwrap();
    assert_eq!(client.uploads("host-1/").unwrap(), []);
    // As after a run that was killed between the manifest and the note.
    let path = format!("/{}_segments/uploads/host-1/v/%C3%A4%20b%25/{id}", client.address().bucket);
    asked("native", &["PUT", &path]);
    assert_eq!(client.uploads("host-1/").unwrap(), [(key.to_owned(), id.clone())]);
    assert!(!client.has_parts(key, &id).unwrap());
    client.abort_upload(key, &id).unwrap();
    assert_eq!(client.uploads("host-1/").unwrap(), []);
    assert_eq!(client.get(key, 10_000).unwrap().unwrap(), [b'a'; 3000]);
    // A copy has segments of its own: they stay when what they were copied from goes.
    let found = client.head(key).unwrap().unwrap();
    let id = client.begin_upload(other).unwrap();
    let from = CopySource { key, etag: &found.etag, range: 500..2500 };
    let part = client.copy_part(other, &id, 1, &from).unwrap();
    let wrong = client.copy_part(other, &id, 2, &CopySource { etag: "0123", ..from }).unwrap_err();
    assert_eq!(wrong.status(), Some(412), "{wrong}");
    client.complete_upload(other, &id, &[part], false).unwrap();
    client.delete(key, None).unwrap();
    assert!(client.head(key).unwrap().is_none());
    assert_eq!(client.get(other, 10_000).unwrap().unwrap(), [b'a'; 2000]);
    // The listing and the object have one ETag.
    let listed = client.list("host-1/v/", false).unwrap().objects;
    assert_eq!((listed.len(), listed[0].len), (1, 2000));
    assert_eq!(listed[0].etag, client.head(other).unwrap().unwrap().etag);
}

/// Ends all tokens of the real Swift, as an expiry does: tempauth keeps them in its cache alone.
fn end_tokens() {
    let endpoint = std::env::var("ST_AUTH").unwrap();
    let port: u16 = endpoint.split(':').nth(2).unwrap().split('/').next().unwrap().parse().unwrap();
    let mut cache = TcpStream::connect(("127.0.0.1", port + 4)).unwrap();
    cache.write_all(b"flush_all\r\nquit\r\n").unwrap();
    let mut said = String::new();
    cache.read_to_string(&mut said).unwrap();
    assert_eq!(said, "OK\r\n");
}

#[test]
#[ignore = "needs a store of scripts/objects"]
fn tokens_that_end_in_the_middle_of_a_night_are_renewed() {
    let place = Place::real("tokens", "");
    let config = std::fs::read_to_string(place.host.at("volbak.toml")).unwrap();
    std::fs::write(place.host.at("volbak.toml"), format!("{config}upload_rate_limit = '5M'\n")).unwrap();
    let image = disk(&place.host, "vol", 24);
    let mut child = place.begin(&["snapshot", &image]);
    // Twice while parts are on their way. Other tests use this store, too: not more often than once in one request.
    for _ in 0..2 {
        thread::sleep(Duration::from_millis(1800));
        assert!(child.try_wait().unwrap().is_none());
        end_tokens();
    }
    assert!(child.wait().unwrap().success());
    assert_eq!(place.whole_backups("vol").len(), 1);
    assert_no_dead_segments(&place);
}

const TOKEN: &str = "AUTH_tk-0815";

/// A server that logs in, and answers the rest as `answer` says.
fn answering(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Server {
    Server::start(move |asked, base| {
        if asked.path == "/auth/v1.0" {
            let lines = vec![format!("X-Storage-Url: {base}/v1/AUTH_a"), format!("X-Auth-Token: {TOKEN}")];
            return Reply::With(200, lines, String::new());
        }
        answer(asked)
    })
}

fn sources(server: &Server) -> SwiftSources {
    let pairs =
        [("ST_AUTH", format!("{}/auth/v1.0", server.url)), ("ST_USER", "a:b".to_owned()), ("ST_KEY", KEY.to_owned())];
    let environment = pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    SwiftSources { environment, ..SwiftSources::default() }
}

fn client(sources: &SwiftSources) -> ObjectClient {
    let limits = Limits { deadline: Duration::from_secs(3), pause: Duration::from_millis(2), ..Limits::default() };
    let settings = ObjectSettings::find_swift(sources).unwrap();
    ObjectClient::new(ObjectAddress::parse("swift://c/host").unwrap(), settings, limits).unwrap()
}

fn logins(server: &Server) -> usize {
    server.asked.lock().unwrap().iter().filter(|asked| asked.path == "/auth/v1.0").count()
}

fn refused<T: std::fmt::Debug>(result: Result<T, ObjectError>) -> ObjectError {
    let error = result.unwrap_err();
    let text = format!("{error} {error:?}");
    assert!(!text.contains(KEY) && !text.contains(TOKEN), "{text}");
    error
}

#[test]
fn a_refused_token_is_renewed_once() {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let server = answering(move |asked| {
        assert_eq!(asked.header("x-auth-token"), Some(TOKEN));
        match counted.fetch_add(1, Ordering::SeqCst) {
            1 => Reply::Json(401, format!("<html><p>{TOKEN} of {KEY}</p></html>")),
            _ => Reply::With(201, vec!["ETag: 5d41402abc4b2a76b9719d911017c592".to_owned()], String::new()),
        }
    });
    let client = self::client(&sources(&server));
    for key in ["host/a b", "host/b"] {
        client.put(key, b"hello", true).unwrap();
    }
    assert_eq!((logins(&server), count.load(Ordering::SeqCst)), (2, 3));
    let first = server.asked.lock().unwrap()[1].clone();
    assert_eq!((&*first.method, &*first.path), ("PUT", "/v1/AUTH_a/c/host/a%20b"));
    assert_eq!(first.header("etag"), Some("5d41402abc4b2a76b9719d911017c592"));
    // A right that is missing is no end of a token, and a second refusal is no reason for a third log-in.
    for (status, expected) in [(403, 1), (401, 2)] {
        let server = answering(move |_| Reply::Json(status, format!("<html><p>{TOKEN} of {KEY}</p></html>")));
        let error = refused(self::client(&sources(&server)).put("host/a", b"hello", false));
        assert_eq!(error.status(), Some(status), "{error}");
        assert_eq!(logins(&server), expected, "{error}");
    }
}

#[test]
fn a_log_in_that_fails_says_why() {
    let server = Server::start(|_, _| Reply::Json(401, KEY.to_owned()));
    let error = refused(client(&sources(&server)).head("host/a"));
    assert!(matches!(error, ObjectError::LogIn { .. }) && error.to_string().contains("a:b"), "{error}");
    assert_eq!(server.asked.lock().unwrap().len(), 1);
    for lines in [
        vec![],
        vec![format!("X-Auth-Token: {TOKEN}")],
        vec![format!("X-Auth-Token: {TOKEN}"), "X-Storage-Url: ftp://x".to_owned()],
        vec![format!("X-Auth-Token: {TOKEN}"), format!("X-Storage-Url: http://u:{KEY}@127.0.0.1/v1")],
    ] {
        let server = Server::start(move |_, _| Reply::With(200, lines.clone(), String::new()));
        let error = refused(client(&sources(&server)).head("host/a"));
        assert!(matches!(error, ObjectError::NotUnderstood { .. }), "{error}");
    }
    // A server that is away for a moment is asked again.
    let count = AtomicUsize::new(0);
    let server = Server::start(move |asked, base| match (count.fetch_add(1, Ordering::SeqCst), &*asked.path) {
        (0, _) => Reply::Close,
        (1, _) => Reply::Json(503, String::new()),
        (_, "/auth/v1.0") => {
            let lines = vec![format!("X-Storage-Url: {base}/v1"), format!("X-Auth-Token: {TOKEN}")];
            Reply::With(204, lines, String::new())
        }
        _ => Reply::Json(404, String::new()),
    });
    assert!(client(&sources(&server)).head("host/a").unwrap().is_none());
}

#[test]
fn keystones_catalogue_says_where_the_store_is() {
    let server = Server::start(|asked, base| {
        if asked.path != "/v3/auth/tokens" {
            assert_eq!(asked.header("x-auth-token"), Some(TOKEN));
            return Reply::With(200, vec!["Content-Length: 0".to_owned()], String::new());
        }
        assert!(asked.body.contains(KEY), "{}", asked.body);
        let endpoint = |region: &str, interface: &str, name: &str| json!({ "interface": interface, "region": region, "region_id": region, "url": format!("{base}/{name}/AUTH_p") });
        let endpoints =
            [endpoint("one", "public", "one"), endpoint("two", "public", "two"), endpoint("two", "internal", "inside")];
        let catalog = json!([{ "type": "object-store", "endpoints": endpoints }]);
        let body = json!({ "token": { "catalog": catalog, "roles": [] } });
        Reply::With(201, vec![format!("X-Subject-Token: {TOKEN}")], body.to_string())
    });
    let with = |region: Option<&str>, interface: Option<&str>| {
        let pairs = [
            ("OS_AUTH_URL", server.url.as_str()),
            ("OS_APPLICATION_CREDENTIAL_ID", "0123"),
            ("OS_APPLICATION_CREDENTIAL_SECRET", KEY),
        ];
        let environment = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter().collect();
        let (region, interface) = (region.map(str::to_owned), interface.map(str::to_owned));
        let sources = SwiftSources { region, interface, environment, ..SwiftSources::default() };
        server.asked.lock().unwrap().clear();
        client(&sources).has_any("host/")
    };
    let path = || server.asked.lock().unwrap().last().unwrap().path.clone();
    for (region, interface, name) in [("one", None, "one"), ("two", None, "two"), ("two", Some("internal"), "inside")] {
        // An empty answer is no list.
        assert!(matches!(refused(with(Some(region), interface)), ObjectError::NotUnderstood { .. }));
        assert!(path().starts_with(&format!("/{name}/AUTH_p/c?format=json&limit=1&prefix=host/")), "{}", path());
    }
    let error = refused(with(None, None));
    assert!(error.to_string().contains("several regions (one, two)"), "{error}");
    let error = refused(with(Some("one"), Some("admin")));
    assert!(error.to_string().contains("no admin endpoint"), "{error}");
}

#[test]
fn hostile_answers_of_swift_are_errors() {
    let entry = |name: &str| json!({ "name": name, "bytes": 1, "hash": "h" });
    let long: Vec<_> = (0..2000).map(|number| entry(&format!("host/{number:05}"))).collect();
    for list in [
        json!({}),
        json!([{}]),
        json!([entry("other/a")]),
        json!([entry("host/b"), entry("host/a")]),
        json!([entry("host/a"), entry("host/a")]),
        json!([{ "name": "host/a", "bytes": -1, "hash": "h" }]),
        // A page that is repeated without end.
        json!(long),
    ] {
        let server = answering(move |_| Reply::Json(200, list.to_string()));
        let error = refused(client(&sources(&server)).list("host/", false));
        assert!(matches!(error, ObjectError::NotUnderstood { .. } | ObjectError::Endless { .. }), "{error}");
    }
    // Not what was sent.
    let server = answering(|_| Reply::With(201, vec!["ETag: 0".to_owned()], String::new()));
    let client = self::client(&sources(&server));
    assert!(matches!(refused(client.put("host/a", b"x", false)), ObjectError::NotUnderstood { .. }));
    assert!(matches!(refused(client.put_part("host/a", "id", 1, b"x")), ObjectError::NotUnderstood { .. }));
    // A cluster that has no large objects, and one that says nothing of itself.
    let server = answering(|_| Reply::Json(200, "{\"swift\": {}}".to_owned()));
    assert!(refused(self::client(&sources(&server)).part_limits()).to_string().contains("large objects"));
    let server = answering(|_| Reply::Json(404, String::new()));
    assert_eq!(self::client(&sources(&server)).part_limits().unwrap().most, 1000);
    // A container that is missing is told from a missing object.
    let client = self::client(&sources(&server));
    assert!(client.head("host/a").unwrap().is_none());
    for error in [
        refused(client.put("host/a", b"x", false)),
        refused(client.list("host/", false)),
        refused(client.begin_upload("host/a")),
    ] {
        assert!(error.to_string().contains("create the container"), "{error}");
    }
}

/// A large object of these segments; what its removal asked for.
fn removal(names: &'static [&'static str], said: &'static str) -> (Result<(), ObjectError>, Vec<String>) {
    let server = answering(move |asked| {
        let manifest =
            json!(names.iter().map(|name| json!({ "name": name, "bytes": 1, "hash": "h" })).collect::<Vec<_>>());
        let lines = vec!["X-Static-Large-Object: True".to_owned()];
        match &*asked.method {
            "HEAD" => Reply::With(200, lines, String::new()),
            "GET" => Reply::With(200, lines, manifest.to_string()),
            "DELETE" if asked.path.contains("multipart-manifest") => Reply::Json(200, format!("  \r\n{said}")),
            _ => Reply::Json(204, String::new()),
        }
    });
    let result = client(&sources(&server)).delete("host/a", None);
    let asked = server.asked.lock().unwrap();
    let changes = asked.iter().filter(|asked| asked.method == "DELETE" || asked.method == "PUT");
    (result, changes.map(|asked| format!("{} {}", asked.method, asked.path)).collect())
}

/// What is found of an object with one segment: the manifest names it so, the list of segments shows `listed`, and a request
/// for it gets `seen`, both an ETag and a length.
fn wrong(
    name: &'static str,
    listed: Option<(&'static str, usize)>,
    seen: Option<(&'static str, usize)>,
) -> Vec<String> {
    let server = answering(move |asked| {
        let beside = asked.path.starts_with("/v1/AUTH_a/c_segments");
        let large = vec!["X-Static-Large-Object: True".to_owned()];
        match (&*asked.method, beside) {
            ("HEAD", true) => match seen {
                Some((etag, len)) => Reply::With(200, vec![format!("ETag: {etag}")], "x".repeat(len)),
                None => Reply::With(404, Vec::new(), String::new()),
            },
            ("GET", true) => {
                let entry =
                    |(hash, bytes)| json!({ "name": "segments/host/a.tar.gz/01/1", "bytes": bytes, "hash": hash });
                Reply::Json(200, json!(listed.map(entry).into_iter().collect::<Vec<_>>()).to_string())
            }
            ("HEAD", false) => Reply::With(200, large, String::new()),
            _ if asked.path.contains("multipart-manifest=get") => {
                Reply::Json(200, json!([{ "name": name, "bytes": 7, "hash": "aa" }]).to_string())
            }
            _ => Reply::Json(200, json!([{ "name": "host/a.tar.gz", "bytes": 7, "hash": "x" }]).to_string()),
        }
    });
    let mut states = ObjectStore::new(client(&sources(&server))).objects("a.").unwrap().unwrap();
    states.by_name.remove("a.tar.gz").unwrap().wrong_parts
}

#[test]
fn segments_that_are_not_those_of_the_manifest_are_told() {
    let own = "/c_segments/segments/host/a.tar.gz/01/1";
    let right = Some(("aa", 7));
    // A list may be late: what the segment says counts.
    for listed in [right, None, Some(("bb", 7)), Some(("aa", 8))] {
        assert_eq!(wrong(own, listed, right), Vec::<String>::new(), "{listed:?}");
    }
    for other in [Some(("bb", 7)), Some(("aa", 8))] {
        let said = wrong(own, other, other);
        assert!(said.len() == 1 && said[0].contains("was overwritten"), "{said:?}");
    }
    assert!(wrong(own, None, None)[0].contains("is missing"));
    assert!(wrong("/elsewhere/segments/host/a.tar.gz/01/1", right, right)[0].contains("another container"));
    assert!(wrong("\u{1b}[31m", right, right)[0].contains("another container"));
}

#[test]
fn a_large_object_goes_with_segments_of_its_own_alone() {
    let good = r#"{"Response Status": "200 OK", "Errors": [], "Number Deleted": 3}"#;
    let (result, changes) = removal(&["/c_segments/segments/host/a/0123/00000001"], good);
    result.unwrap();
    assert_eq!(changes, ["DELETE /v1/AUTH_a/c/host/a?multipart-manifest=delete"]);
    // A manifest in the place of a backup that names segments of another one: those stay.
    for names in [
        &["/c_segments/segments/host/a/0123/00000001", "/c_segments/segments/host/b/0123/00000001"][..],
        &["/c/host/b"],
        &["/c_segments/segments/host/a2/0123/00000001"],
    ] {
        let (result, changes) = removal(names, good);
        result.unwrap();
        assert_eq!(changes, ["DELETE /v1/AUTH_a/c/host/a"], "{names:?}");
    }
    // What is left after an error within an answer of 200 is noted for the next run.
    let bad = r#"{"Response Status": "400 Bad Request", "Errors": [["/c_segments/x", "503 Service Unavailable"]]}"#;
    let (result, changes) =
        removal(&["/c_segments/segments/host/a/0123/00000001", "/c_segments/segments/host/a/0123/00000002"], bad);
    let error = refused(result);
    assert!(error.to_string().contains("503 Service Unavailable"), "{error}");
    assert_eq!(changes[1..], ["PUT /v1/AUTH_a/c_segments/uploads/host/a/0123"]);
    refused(removal(&["/c_segments/segments/host/a/0123/00000001"], "<html>").0);
    // Nobody has to remove what is not there.
    let gone = r#"{"Response Status": "400 Bad Request", "Errors": [["/c/host/a", "404 Not Found"]]}"#;
    refused(removal(&["/c_segments/segments/host/a/0123/00000001"], gone).0);
}

#[test]
fn a_lock_is_refused_before_anything_is_written() {
    let server = answering(|asked| match &*asked.method {
        "GET" if asked.path.contains("format=json") => Reply::Json(200, "[]".to_owned()),
        "PUT" => Reply::Json(507, String::new()),
        _ => Reply::Json(404, String::new()),
    });
    let client = client(&sources(&server));
    let lock = volbak::objects::LockHeaders { mode: "COMPLIANCE", until: chrono::Utc::now() };
    assert!(client.why_no_lock().is_some() && !client.has_object_lock().unwrap());
    for error in [
        refused(client.put_locked("host/a", b"x", &lock)),
        refused(client.begin_upload_locked("host/a", Some(&lock)).map(drop)),
        refused(client.set_retention("host/a", None, &lock)),
    ] {
        assert!(error.to_string().contains("no object lock"), "{error}");
    }
    assert!(server.asked.lock().unwrap().is_empty());
}
