//! Promise: a token that Keystone revokes in the middle of a night costs a log-in, and nothing of the backup.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, Mutex};

use chrono::Utc;
use md5::{Digest, Md5};
use serde_json::{Value, json};
use volbak::objects::{Limits, ObjectAddress, ObjectClient, ObjectSettings, SwiftSources};

use crate::server::{Asked, Reply, Server};
use crate::verbs::{Place, disk};

const SECRET: &str = "geheim-4711";

struct Object {
    bytes: Vec<u8>,
    /// Those of a large object, by container and name.
    segments: Vec<String>,
    /// That of a large object is made of those of its segments.
    etag: String,
    len: usize,
}

#[derive(Default)]
struct State {
    /// By container and name.
    objects: BTreeMap<String, Object>,
    /// Tokens that are good.
    tokens: BTreeSet<String>,
    logins: usize,
    refused: usize,
    /// No token is good.
    accepts_none: bool,
    /// Requests after which all tokens are revoked; 0 for never.
    revoke_after: usize,
    since: usize,
}

/// A Keystone and a Swift on 127.0.0.1, with as much of their APIs as volbak uses.
pub(crate) struct Keystone {
    pub(crate) server: Server,
    state: Arc<Mutex<State>>,
}

impl Keystone {
    /// Over TLS if there is a certificate.
    pub(crate) fn start(certificate: Option<&Path>) -> Self {
        let state: Arc<Mutex<State>> = Arc::default();
        let of_server = Arc::clone(&state);
        let answer = move |asked: &Asked, base: &str| answer(&mut of_server.lock().unwrap(), asked, base);
        let server = match certificate {
            Some(certificate) => Server::start_tls(certificate, answer),
            None => Server::start(answer),
        };
        Self { server, state }
    }

    /// A host whose destination is here; `cacert` is a line of its `clouds.yaml`.
    pub(crate) fn place(&self, ca_file: Option<&Path>) -> Place {
        let folder = tempfile::tempdir().unwrap();
        let clouds = |folder: &Path| {
            let cacert = ca_file.map(|path| format!("    cacert: {}\n", path.display())).unwrap_or_default();
            let text = format!(
                "clouds:\n  one:\n{cacert}    auth_type: v3applicationcredential\n    auth:\n      auth_url: {}/v3\n      \
                 application_credential_id: abc\n      application_credential_secret: {SECRET}\n",
                self.server.url
            );
            let path = folder.join("clouds.yaml");
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
            path
        };
        let sources = SwiftSources {
            cloud: Some("one".to_owned()),
            clouds_file: Some(clouds(folder.path())),
            ..SwiftSources::default()
        };
        let settings = ObjectSettings::find_swift(&sources).unwrap();
        let address = ObjectAddress::parse("swift://backups/host-1").unwrap();
        let place = Place::new(ObjectClient::new(address, settings, Limits::default()).unwrap());
        place.configure("");
        let config = fs::read_to_string(place.host.at("volbak.toml")).unwrap();
        let own = clouds(place.host.at("volbak.toml").parent().unwrap());
        fs::write(place.host.at("volbak.toml"), format!("{config}cloud = 'one'\nclouds_file = '{}'\n", own.display()))
            .unwrap();
        place
    }
}

fn raw(status: u16, lines: &[String], body: &[u8], sends_body: bool) -> Reply {
    let lines: String = lines.iter().flat_map(|line| [line.as_str(), "\r\n"]).collect();
    let date = Utc::now().format("%a, %d %b %Y %H:%M:%S GMT");
    let head = format!(
        "HTTP/1.1 {status} Status\r\nContent-Length: {}\r\nDate: {date}\r\nLast-Modified: {date}\r\nConnection: close\r\n{lines}\r\n",
        body.len()
    );
    Reply::Raw([head.as_bytes(), if sends_body { body } else { b"" }].concat())
}

fn answer(state: &mut State, asked: &Asked, base: &str) -> Reply {
    if asked.path == "/v3/auth/tokens" {
        assert!(asked.body.contains(SECRET), "{}", asked.body);
        state.logins += 1;
        let token = format!("token-{}", state.logins);
        state.tokens.insert(token.clone());
        let endpoints =
            json!([{ "interface": "public", "region": "one", "region_id": "one", "url": format!("{base}/v1/AUTH_p") }]);
        let body = json!({ "token": { "catalog": [{ "type": "object-store", "endpoints": endpoints }], "roles": [] } });
        return Reply::With(201, vec![format!("X-Subject-Token: {token}")], body.to_string());
    }
    state.since += 1;
    if state.revoke_after > 0 && state.since > state.revoke_after {
        state.since = 0;
        state.tokens.clear();
    }
    let is_good = asked.header("x-auth-token").is_some_and(|token| state.tokens.contains(token));
    if !is_good || state.accepts_none {
        state.refused += 1;
        return Reply::Json(401, "<html><p>Authentication required</p></html>".to_owned());
    }
    of_swift(state, asked)
}

fn of_swift(state: &mut State, asked: &Asked) -> Reply {
    let (path, query) = asked.path.split_once('?').unwrap_or((&asked.path, ""));
    if path == "/info" {
        return Reply::Json(200, json!({ "slo": { "max_manifest_segments": 1000 } }).to_string());
    }
    let Some(path) = path.strip_prefix("/v1/AUTH_p/") else { return Reply::Json(404, String::new()) };
    let is_container = !path.contains('/');
    let asks = |what: &str| query.split('&').any(|one| one == what);
    let value = |name: &str| query.split('&').find_map(|one| one.strip_prefix(name)?.strip_prefix('='));
    match &*asked.method {
        "GET" if is_container => {
            let decoded = |text: &str| text.replace("%2F", "/").replace("%20", " ");
            let prefix = format!("{path}/{}", value("prefix").map(decoded).unwrap_or_default());
            let marker = value("marker").map(|marker| format!("{path}/{}", decoded(marker))).unwrap_or_default();
            let mut seen = BTreeSet::new();
            let mut entries: Vec<Value> = Vec::new();
            for (name, object) in state.objects.iter().filter(|(name, _)| name.starts_with(&prefix)) {
                let own = &name[path.len() + 1..];
                let rest = &name[prefix.len()..];
                if let Some(end) = rest.find('/').filter(|_| value("delimiter").is_some()) {
                    let folder = &name[path.len() + 1..=prefix.len() + end];
                    if seen.insert(folder.to_owned()) && format!("{path}/{folder}") > marker {
                        entries.push(json!({ "subdir": folder }));
                    }
                } else if *name > marker {
                    entries.push(json!({ "name": own, "bytes": object.len, "hash": object.etag }));
                }
            }
            entries.truncate(value("limit").map_or(usize::MAX, |limit| limit.parse().unwrap()));
            Reply::Json(200, json!(entries).to_string())
        }
        "HEAD" if is_container => raw(204, &[], b"", false),
        "PUT" => {
            let object = if asks("multipart-manifest=put") {
                let given: Vec<Value> = serde_json::from_slice(&asked.bytes).unwrap();
                let paths = given.iter().map(|one| one["path"].as_str().unwrap().trim_start_matches('/').to_owned());
                let segments: Vec<String> = paths.collect();
                let parts = segments.iter().map(|segment| &state.objects[segment]);
                let etags: String = parts.clone().map(|part| part.etag.as_str()).collect();
                let len = parts.map(|part| part.len).sum();
                Object { bytes: Vec::new(), segments, etag: md5(etags.as_bytes()), len }
            } else if let Some(from) = asked.header("x-copy-from") {
                let range = asked.header("range").unwrap().strip_prefix("bytes=").unwrap();
                let (first, last) = range.split_once('-').unwrap();
                let all = whole(state, &state.objects[from]);
                plain(all[first.parse().unwrap()..=last.parse().unwrap()].to_vec())
            } else {
                plain(asked.bytes.clone())
            };
            let etag = object.etag.clone();
            state.objects.insert(path.to_owned(), object);
            Reply::With(201, vec![format!("ETag: {etag}")], String::new())
        }
        "DELETE" => {
            let found = state.objects.remove(path);
            let Some(Object { segments, .. }) = found else { return Reply::Json(404, String::new()) };
            if !asks("multipart-manifest=delete") {
                return raw(204, &[], b"", false);
            }
            for segment in segments {
                state.objects.remove(&segment);
            }
            Reply::Json(200, json!({ "Response Status": "200 OK", "Errors": [] }).to_string())
        }
        method => {
            let Some(object) = state.objects.get(path) else { return raw(404, &[], b"", false) };
            let mut lines = vec![format!("ETag: {}", object.etag)];
            if !object.segments.is_empty() {
                lines.push("X-Static-Large-Object: True".to_owned());
            }
            if asks("multipart-manifest=get") {
                let listed = object.segments.iter().map(|segment| {
                    let Object { etag, len, .. } = &state.objects[segment];
                    json!({ "name": format!("/{segment}"), "hash": etag, "bytes": len })
                });
                return raw(200, &lines, json!(listed.collect::<Vec<_>>()).to_string().as_bytes(), true);
            }
            let all = whole(state, object);
            let Some(range) = asked.header("range").filter(|_| method == "GET") else {
                return raw(200, &lines, &all, method == "GET");
            };
            let (first, last) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
            let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
            if first >= all.len() {
                return raw(416, &[], b"", false);
            }
            let last = last.min(all.len() - 1);
            lines.push(format!("Content-Range: bytes {first}-{last}/{}", all.len()));
            raw(206, &lines, &all[first..=last], true)
        }
    }
}

fn md5(bytes: &[u8]) -> String {
    volbak::shown::hex(&Md5::digest(bytes))
}

/// An object of these bytes.
fn plain(bytes: Vec<u8>) -> Object {
    Object { etag: md5(&bytes), len: bytes.len(), bytes, segments: Vec::new() }
}

fn whole(state: &State, object: &Object) -> Vec<u8> {
    if object.segments.is_empty() {
        return object.bytes.clone();
    }
    object.segments.iter().map(|segment| &*state.objects[segment].bytes).collect::<Vec<&[u8]>>().concat()
}

#[test]
fn a_token_that_keystone_revokes_in_the_middle_of_a_night_is_renewed() {
    let keystone = Keystone::start(None);
    let place = keystone.place(None);
    let image = disk(&place.host, "vol", 24);
    place.good(&["snapshot", &image]);
    let one_each = keystone.state.lock().unwrap().logins;
    // Now every seventh request finds that all tokens are revoked, those of parts that are on their way among them.
    keystone.state.lock().unwrap().revoke_after = 6;
    for _ in 0..2 {
        let did = place.verb(&["snapshot", &image, "--full"]);
        assert_eq!(did.status, 0, "{did:?}");
        assert!(!format!("{did:?}").contains(SECRET), "{did:?}");
    }
    place.good(&["verify", "--all", "--level", "full"]);
    {
        let state = keystone.state.lock().unwrap();
        assert!(
            state.refused > 6 && state.logins > one_each + 6,
            "{} refused, {} log-ins",
            state.refused,
            state.logins
        );
        // No segment without an archive, and no note of an upload.
        let used: BTreeSet<&String> = state.objects.values().flat_map(|object| &object.segments).collect();
        for name in state.objects.keys().filter(|name| name.starts_with("backups_segments/")) {
            assert!(used.contains(name), "{name} is left");
        }
    }
    keystone.state.lock().unwrap().revoke_after = 0;
    assert_eq!(place.whole_backups("vol").len(), 3);

    // A user who lost the role ends the run, with the reason.
    keystone.state.lock().unwrap().accepts_none = true;
    let did = place.verb(&["snapshot", &image, "--full"]);
    assert_eq!(did.status, 1, "{did:?}");
    assert!(did.stderr.contains("a new token is not accepted either"), "{did:?}");
    assert_eq!(place.client.has_any("host-1/").err().and_then(|error| error.status()), Some(401));
}

#[test]
fn a_token_that_is_refused_to_several_requests_at_once_is_renewed_for_each() {
    const AT_ONCE: usize = 4;
    for round in 0..40 {
        let (first, together) = (AtomicBool::new(true), Barrier::new(AT_ONCE));
        let server = Server::start(move |asked, base| match asked.header("x-auth-token") {
            None => {
                let token = if first.swap(false, Ordering::SeqCst) { "old" } else { "new" };
                let lines = vec![format!("X-Storage-Url: {base}/v1/AUTH_a"), format!("X-Auth-Token: {token}")];
                Reply::With(200, lines, String::new())
            }
            Some("old") => {
                together.wait();
                Reply::Json(401, String::new())
            }
            Some(_) => Reply::With(201, vec![format!("ETag: {}", md5(&asked.bytes))], String::new()),
        });
        let pairs =
            [("ST_AUTH", format!("{}/auth/v1.0", server.url)), ("ST_USER", "a:b".into()), ("ST_KEY", "k".into())];
        let environment = pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let settings = ObjectSettings::find_swift(&SwiftSources { environment, ..SwiftSources::default() }).unwrap();
        let address = ObjectAddress::parse("swift://c/host").unwrap();
        let client = ObjectClient::new(address, settings, Limits::default()).unwrap();
        std::thread::scope(|scope| {
            let puts: Vec<_> = (0..AT_ONCE)
                .map(|number| {
                    let client = &client;
                    scope.spawn(move || client.put(&format!("host/{number}"), b"x", false))
                })
                .collect();
            for put in puts {
                put.join().unwrap().unwrap_or_else(|error| panic!("round {round}: {error}"));
            }
        });
    }
}
