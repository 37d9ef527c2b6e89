//! An object store on 127.0.0.1 that keeps what it is given, in memory: as much of the S3 API as volbak uses. It counts
//! requests, may refuse some of them, and can make what it has look older.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Child;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};
use md5::Digest;

use crate::server::{over_tls, url_of};
use crate::testkit::http::Request;
use crate::testkit::tls::server_config;
use crate::testkit::wait::wait_until;

/// A part that is not the last has so much, as in the S3 API.
const LEAST_PART: usize = 5 << 20;
/// A page of a list is short, so that tests see several.
const PAGE: usize = 7;

#[derive(Clone)]
struct Object {
    bytes: Arc<Vec<u8>>,
    /// The id of this version; empty in a bucket that keeps none.
    version: String,
    /// Mode and end of its lock.
    lock: Option<(String, String)>,
    etag: String,
    modified: SystemTime,
}

struct Upload {
    key: String,
    lock: Option<(String, String)>,
    parts: BTreeMap<u32, Object>,
}

/// What a server does with the lock of an object.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Locks {
    Kept,
    /// It forgets that of an upload in parts, as Ceph's RADOS gateway does, and keeps one that a finished object is given.
    KeptOfObjects,
    /// It takes them without a word, and forgets them.
    Forgotten,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Object>,
    /// What was replaced or deleted, the newest first, in a bucket that keeps versions.
    older: Option<BTreeMap<String, Vec<Object>>>,
    uploads: BTreeMap<String, Upload>,
    made: u64,
    /// Method, key or bucket with its query, and bytes of the answer.
    requests: Vec<(String, usize)>,
    /// Parts of requests (`DELETE /bucket/x`) that get 403.
    forbidden: Vec<String>,
    /// Requests (`PUT /backups/a*z`) that are never answered nor carried out, and how many came.
    stalled: (Vec<String>, usize),
    /// How many more requests are answered, and whether the next one is carried out; no answer comes to it nor to any after it.
    answered: Option<(usize, bool)>,
    /// Each request takes so long.
    delay: Duration,
    /// Keys of a page of a list; 0 for the usual few.
    page: usize,
    /// What becomes of locks; `None` in a bucket without them.
    locks: Option<Locks>,
    /// As the RADOS gateway 16 does with the condition of a copy.
    heeds_no_conditions: bool,
    /// What requests sent, and what was copied of one object to another.
    sent_bytes: usize,
    copied_bytes: usize,
    /// Keys of objects in an archive tier.
    cold: Vec<String>,
    /// Requests with a condition on the key that they write.
    conditions: usize,
    /// The next upload that is aborted stays, as one does to which a part comes late.
    keeps_uploads_once: bool,
    /// An object of which the next copy finds another content.
    replaced: Option<String>,
}

pub(crate) struct Storing {
    pub(crate) url: String,
    state: Arc<Mutex<State>>,
}

struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

impl Storing {
    pub(crate) fn start() -> Self {
        Self::start_with(None)
    }

    /// The same as `https://localhost:PORT`, with this certificate.
    pub(crate) fn start_tls(certificate: &Path) -> Self {
        Self::start_with(Some(certificate))
    }

    fn start_with(certificate: Option<&Path>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let tls = certificate.map(server_config);
        let url = url_of(&listener, tls.is_some());
        let state: Arc<Mutex<State>> = Arc::default();
        let of_server = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (state, tls) = (Arc::clone(&of_server), tls.clone());
                let stream = stream.unwrap();
                let _ = stream.set_nodelay(true);
                // A client that goes away is an everyday matter here.
                thread::spawn(move || match tls {
                    None => serve(stream, &state).ok(),
                    Some(tls) => serve(over_tls(stream, tls), &state).ok(),
                });
            }
        });
        Self { url, state }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn put(&self, key: &str, bytes: &[u8]) {
        let object = object(bytes.to_vec());
        self.state().objects.insert(key.to_owned(), object);
    }

    /// Changes a byte of an object, and nothing else that a request shows of it.
    pub(crate) fn rot(&self, key: &str, at: usize) {
        let mut state = self.state();
        let object = state.objects.get_mut(key).unwrap();
        let mut bytes = object.bytes.to_vec();
        bytes[at] ^= 1;
        object.bytes = bytes.into();
    }

    /// Gives an object a second key.
    pub(crate) fn link(&self, key: &str, other: &str) {
        let object = self.state().objects[key].clone();
        self.state().objects.insert(other.to_owned(), object);
    }

    pub(crate) fn get(&self, key: &str) -> Vec<u8> {
        self.state().objects[key].bytes.to_vec()
    }

    pub(crate) fn keys(&self, start: &str) -> Vec<String> {
        self.state().objects.keys().filter(|key| key.starts_with(start)).cloned().collect()
    }

    /// Pages of lists are as long as in real stores.
    pub(crate) fn list_long_pages(&self) {
        self.state().page = 1000;
    }

    pub(crate) fn remove(&self, key: &str) {
        self.state().objects.remove(key).unwrap();
    }

    /// Makes all that is here older.
    pub(crate) fn age(&self, by: Duration) {
        for object in self.state().objects.values_mut() {
            object.modified -= by;
        }
    }

    pub(crate) fn delay(&self, by: Duration) {
        self.state().delay = by;
    }

    pub(crate) fn forbid(&self, requests: &[&str]) {
        self.state().forbidden = requests.iter().map(|&part| part.to_owned()).collect();
    }

    /// Requests that begin and end like one of these (`PUT /backups/a*z`) are neither carried out nor answered.
    pub(crate) fn stall(&self, requests: &[&str]) {
        self.state().stalled = (requests.iter().map(|&part| part.to_owned()).collect(), 0);
    }

    pub(crate) fn stalled(&self) -> usize {
        self.state().stalled.1
    }

    /// After so many requests the next one is not answered, and it is carried out or not. None after it is either.
    pub(crate) fn answer_so_many(&self, requests: usize, is_next_done: bool) {
        self.state().answered = Some((requests, is_next_done));
        self.state().stalled.1 = 0;
    }

    /// Kills the program that `begin` starts, at a request that is not answered, and is carried out or not. False if the
    /// program ended before.
    pub(crate) fn kill_at(&self, requests: usize, is_next_done: bool, begin: impl FnOnce() -> Child) -> bool {
        self.answer_so_many(requests, is_next_done);
        let mut child = begin();
        wait_until("so many requests", || self.stalled() > 0 || child.try_wait().unwrap().is_some());
        child.kill().unwrap();
        self.answer_all();
        child.wait().unwrap().code().is_none()
    }

    pub(crate) fn answer_all(&self) {
        self.state().answered = None;
    }

    /// Moves an object to an archive tier.
    pub(crate) fn make_cold(&self, key: &str) {
        self.state().cold.push(key.to_owned());
    }

    /// The number of requests so far that had a condition on the key that they write.
    pub(crate) fn conditions(&self) -> usize {
        self.state().conditions
    }

    /// The next upload that is aborted is still there, and a second one ends it.
    pub(crate) fn keeps_uploads_once(&self) {
        self.state().keeps_uploads_once = true;
    }

    /// The bucket keeps versions.
    pub(crate) fn keeps_versions(&self) {
        self.state().older.get_or_insert_default();
    }

    /// The bucket has object lock.
    pub(crate) fn has_locks(&self, locks: Locks) {
        self.state().locks = Some(locks);
    }

    /// The mode and the end of an object's lock.
    pub(crate) fn lock_of(&self, key: &str) -> Option<(String, String)> {
        self.state().objects[key].lock.clone()
    }

    /// Ends all locks.
    pub(crate) fn end_locks(&self) {
        self.state().objects.values_mut().for_each(|object| object.lock = None);
    }

    pub(crate) fn heeds_no_conditions(&self) {
        self.state().heeds_no_conditions = true;
    }

    /// What was sent to the server, and what it copied, since the last call.
    pub(crate) fn take_bytes(&self) -> (usize, usize) {
        let mut state = self.state();
        (std::mem::take(&mut state.sent_bytes), std::mem::take(&mut state.copied_bytes))
    }

    /// The first copy of a part finds that its source was replaced.
    pub(crate) fn replace_at_copy(&self, by: &str) {
        self.state().replaced = Some(by.to_owned());
    }

    pub(crate) fn uploads(&self) -> usize {
        self.state().uploads.len()
    }

    pub(crate) fn count(&self) -> usize {
        self.state().requests.len()
    }

    /// The requests since the last call, and the bytes of their answers.
    pub(crate) fn take_requests(&self) -> Vec<(String, usize)> {
        std::mem::take(&mut self.state().requests)
    }
}

impl State {
    /// Puts an object, or deletes one, and keeps what was there as an older version. Returns the id of the new version.
    fn change(&mut self, key: &str, new: Option<Object>) -> String {
        let version = if self.older.is_some() { format!("v{}", self.made) } else { String::new() };
        self.made += 1;
        let before = match new {
            Some(new) => self.objects.insert(key.to_owned(), Object { version: version.clone(), ..new }),
            None => self.objects.remove(key),
        };
        if let Some((older, before)) = self.older.as_mut().zip(before) {
            older.entry(key.to_owned()).or_default().insert(0, before);
        }
        version
    }
}

fn versioned(mut answer: Answer, version: String) -> Answer {
    if !version.is_empty() {
        answer.headers.push(("x-amz-version-id", version));
    }
    answer
}

/// All versions; where an object is deleted, a marker is the latest.
fn list_versions(state: &State, prefix: &str) -> Answer {
    let none = BTreeMap::new();
    let older = state.older.as_ref().unwrap_or(&none);
    let keys: std::collections::BTreeSet<&String> = state.objects.keys().chain(older.keys()).collect();
    let mut items = String::new();
    for key in keys.into_iter().filter(|key| key.starts_with(prefix)) {
        let (name, current) = (escaped(key), state.objects.get(key));
        for (object, is_latest) in current
            .map(|object| (object, true))
            .into_iter()
            .chain(older.get(key).into_iter().flatten().map(|object| (object, false)))
        {
            let Object { version, etag, .. } = object;
            write!(items, "<Version><Key>{name}</Key><VersionId>{version}</VersionId><IsLatest>{is_latest}</IsLatest><ETag>\"{etag}\"</ETag></Version>").unwrap();
        }
        if current.is_none() && older.get(key).is_some_and(|older| !older.is_empty()) {
            write!(
                items,
                "<DeleteMarker><Key>{name}</Key><VersionId>m</VersionId><IsLatest>true</IsLatest></DeleteMarker>"
            )
            .unwrap();
        }
    }
    xml(format!("<ListVersionsResult><IsTruncated>false</IsTruncated>{items}</ListVersionsResult>"))
}

fn delete(state: &mut State, key: &str, version: Option<&String>) -> Answer {
    let is_locked = |object: &Object| object.lock.is_some();
    let Some(version) = version else {
        if state.older.is_none() && state.objects.get(key).is_some_and(is_locked) {
            return refusal(403, "AccessDenied");
        }
        state.change(key, None);
        return done(204);
    };
    let older = state.older.get_or_insert_default().entry(key.to_owned()).or_default();
    let current = state.objects.get(key).filter(|object| object.version == *version);
    if current.into_iter().chain(older.iter().filter(|object| object.version == *version)).any(is_locked) {
        return refusal(403, "AccessDenied");
    }
    older.retain(|object| object.version != *version);
    let is_marker = version == "m" && !state.objects.contains_key(key);
    if current.is_some() || is_marker {
        let next = (!older.is_empty()).then(|| older.remove(0));
        let _ = match next {
            Some(next) => state.objects.insert(key.to_owned(), next),
            None => state.objects.remove(key),
        };
    }
    done(204)
}

/// Requests by their kind: the method, what of a bucket or an object is meant, and how often.
pub(crate) fn by_kind(requests: &[(String, usize)]) -> BTreeMap<String, usize> {
    let mut kinds = BTreeMap::new();
    for (what, _) in requests {
        let (path, query) = what.split_once('?').unwrap_or((what, ""));
        let (method, key) = path.split_once(' ').unwrap_or((path, ""));
        let end = key.rsplit('/').next().unwrap_or_default();
        let end = end
            .find(".volbak-tmp")
            .map_or_else(|| end.find('.').map_or(end, |at| &end[at..]).to_owned(), |_| "announcement".to_owned());
        *kinds.entry(format!("{method} {end}?{query}")).or_default() += 1;
    }
    kinds
}

fn object(bytes: Vec<u8>) -> Object {
    let etag = volbak::shown::hex(&md5::Md5::digest(&bytes));
    Object { bytes: Arc::new(bytes), version: String::new(), lock: None, etag, modified: SystemTime::now() }
}

fn serve(stream: impl Read + Write, state: &Mutex<State>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    while let Some(Request { method, target, headers, body }) = Request::read(&mut reader)? {
        let delay = state.lock().unwrap_or_else(PoisonError::into_inner).delay;
        let turn = turn(&mut state.lock().unwrap_or_else(PoisonError::into_inner), &method, &target);
        if turn == Turn::Stalled {
            // Until the client goes.
            reader.read_to_end(&mut Vec::new())?;
            return Ok(());
        }
        // The whole request came: it is carried out, whether the client is still there or not.
        thread::sleep(delay);
        let answer = {
            let sent = body.len();
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            state.sent_bytes += sent;
            let has_condition = ["if-none-match", "if-match"].iter().any(|name| headers.contains_key(*name));
            state.conditions += usize::from(has_condition);
            let answer = answer(&mut state, &method, &target, &headers, body);
            let path = target.split('?').next().unwrap_or_default();
            let names = query(&target).into_keys().filter(|name| !name.starts_with("X-Amz-")).collect::<Vec<_>>();
            let sent = if method == "HEAD" { 0 } else { answer.body.len() };
            state.requests.push((format!("{method} {path}?{}", names.join("&")), sent));
            // Whoever waits for it finds it carried out.
            state.stalled.1 += usize::from(turn == Turn::Unanswered);
            answer
        };
        if turn == Turn::Unanswered {
            reader.read_to_end(&mut Vec::new())?;
            return Ok(());
        }
        let mut head = format!("HTTP/1.1 {} Status\r\nDate: {}\r\n", answer.status, http_date(SystemTime::now()));
        if !answer.headers.iter().any(|(name, _)| *name == "Content-Length") {
            write!(head, "Content-Length: {}\r\n", answer.body.len()).unwrap();
        }
        for (name, value) in &answer.headers {
            write!(head, "{name}: {value}\r\n").unwrap();
        }
        head.push_str("\r\n");
        let stream = reader.get_mut();
        stream.write_all(head.as_bytes())?;
        if method != "HEAD" {
            stream.write_all(&answer.body)?;
        }
        stream.flush()?;
    }
    Ok(())
}

/// What becomes of a request that came.
#[derive(PartialEq, Eq)]
enum Turn {
    Answered,
    /// It is carried out.
    Unanswered,
    /// It is neither carried out nor answered.
    Stalled,
}

fn turn(state: &mut State, method: &str, target: &str) -> Turn {
    let what = format!("{method} {}", decoded(target.split('?').next().unwrap_or_default()));
    let fits = |(start, end): (&str, &str)| what.starts_with(start) && what.ends_with(end);
    let mut turn = Turn::Answered;
    if state.stalled.0.iter().any(|pattern| fits(pattern.split_once('*').unwrap())) {
        turn = Turn::Stalled;
    }
    match &mut state.answered {
        Some((0, is_done)) => turn = if std::mem::take(is_done) { Turn::Unanswered } else { Turn::Stalled },
        Some((left, _)) => *left -= 1,
        None => {}
    }
    state.stalled.1 += usize::from(turn == Turn::Stalled);
    turn
}

fn http_date(time: SystemTime) -> String {
    DateTime::<Utc>::from(time).format("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut left = text.as_bytes();
    while let [first, rest @ ..] = left {
        left = rest;
        if *first == b'%' {
            bytes.push(u8::from_str_radix(std::str::from_utf8(&rest[..2]).unwrap(), 16).unwrap());
            left = &rest[2..];
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).unwrap()
}

fn query(target: &str) -> BTreeMap<String, String> {
    let pairs = target.split_once('?').map_or("", |(_, query)| query).split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (decoded(name), decoded(value)))
        .collect()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

fn xml(body: String) -> Answer {
    Answer { status: 200, headers: Vec::new(), body: body.into_bytes() }
}

fn done(status: u16) -> Answer {
    Answer { status, headers: Vec::new(), body: Vec::new() }
}

fn refusal(status: u16, code: &str) -> Answer {
    Answer { status, ..xml(format!("<Error><Code>{code}</Code><Message>of a test</Message></Error>")) }
}

fn answer(state: &mut State, method: &str, target: &str, headers: &BTreeMap<String, String>, body: Vec<u8>) -> Answer {
    let path = decoded(target.split('?').next().unwrap_or_default());
    let query = query(target);
    let asked = query.keys().map(|name| format!("{method} {path}?{name}")).chain([format!("{method} {path}")]);
    if asked.into_iter().any(|asked| state.forbidden.iter().any(|part| asked.contains(part.as_str()))) {
        return refusal(403, "AccessDenied");
    }
    let Some((bucket, key)) = path.trim_start_matches('/').split_once('/').or(Some((path.trim_start_matches('/'), "")))
    else {
        return refusal(400, "InvalidRequest");
    };
    if bucket != "backups" {
        return refusal(404, "NoSuchBucket");
    }
    let upload = query.get("uploadId").cloned();
    match (method, key, upload) {
        ("GET", "", _) if query.contains_key("uploads") => list_uploads(state, &query),
        ("GET", "", _) if query.contains_key("lifecycle") => refusal(404, "NoSuchLifecycleConfiguration"),
        ("GET", "", _) if query.contains_key("versions") => list_versions(state, &query["prefix"]),
        ("GET", "", _) if query.contains_key("versioning") && state.older.is_some() => {
            xml("<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>".to_owned())
        }
        ("GET", "", _) if query.contains_key("versioning") => xml("<VersioningConfiguration/>".to_owned()),
        ("GET", "", _) if query.contains_key("object-lock") && state.locks.is_none() => {
            refusal(404, "ObjectLockConfigurationNotFoundError")
        }
        ("GET", "", _) if query.contains_key("object-lock") => {
            xml("<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled></ObjectLockConfiguration>"
                .to_owned())
        }
        ("GET", "", _) => list(state, &query),
        ("GET", key, _) if query.contains_key("retention") => {
            match state.objects.get(key).and_then(|object| object.lock.clone()) {
                Some((mode, until)) => {
                    xml(format!("<Retention><Mode>{mode}</Mode><RetainUntilDate>{until}</RetainUntilDate></Retention>"))
                }
                None => refusal(404, "NoSuchObjectLockConfiguration"),
            }
        }
        ("PUT", key, None) if query.contains_key("retention") => {
            let text = String::from_utf8(body).unwrap();
            let of = |name: &str| text.split(name).nth(1).unwrap().trim_matches(['<', '>', '/']).to_owned();
            let asked = (of("Mode"), of("RetainUntilDate"));
            if state.locks != Some(Locks::Forgotten)
                && let Some(object) = state.objects.get_mut(key)
            {
                object.lock = Some(asked);
            }
            done(200)
        }
        ("POST", key, None) => {
            state.made += 1;
            let id = format!("upload-{}", state.made);
            let upload =
                Upload { key: key.to_owned(), lock: lock(state, headers, &[Locks::Kept]), parts: BTreeMap::new() };
            state.uploads.insert(id.clone(), upload);
            xml(format!("<InitiateMultipartUploadResult><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"))
        }
        ("PUT", _, Some(id)) if headers.contains_key("x-amz-copy-source") => {
            copy_part(state, &id, query.get("partNumber"), headers)
        }
        (_, _, Some(id)) => of_upload(state, method, &id, query.get("partNumber"), body),
        ("PUT", key, None) => {
            let object = Object { lock: lock(state, headers, &[Locks::Kept, Locks::KeptOfObjects]), ..object(body) };
            let etag = object.etag.clone();
            let version = state.change(key, Some(object));
            versioned(Answer { headers: vec![("ETag", format!("\"{etag}\""))], ..done(200) }, version)
        }
        ("DELETE", key, None) => delete(state, key, query.get("versionId")),
        (_, key, None) => read(state, key, headers.get("range")),
    }
}

/// The lock that a request asks for, if this server keeps it: one that is `kept_by` these.
fn lock(state: &State, headers: &BTreeMap<String, String>, kept_by: &[Locks]) -> Option<(String, String)> {
    let of = |name: &str| headers.get(name).cloned();
    let asked = of("x-amz-object-lock-mode").zip(of("x-amz-object-lock-retain-until-date"));
    asked.filter(|_| state.locks.is_some_and(|locks| kept_by.contains(&locks)))
}

/// A part that is a range of another object, if that has the ETag that is asked for.
fn copy_part(state: &mut State, id: &str, part: Option<&String>, headers: &BTreeMap<String, String>) -> Answer {
    let source = decoded(&headers["x-amz-copy-source"]);
    if let Some(by) = state.replaced.take() {
        state.objects.insert(source.trim_start_matches("/backups/").to_owned(), object(by.into_bytes()));
    }
    let Some(from) = state.objects.get(source.trim_start_matches("/backups/")) else {
        return refusal(404, "NoSuchKey");
    };
    let wanted = headers.get("x-amz-copy-source-if-match").map(|etag| etag.trim_matches('"'));
    if !state.heeds_no_conditions && wanted.is_some_and(|etag| etag != from.etag) {
        return refusal(412, "PreconditionFailed");
    }
    let (first, last) = headers["x-amz-copy-source-range"].strip_prefix("bytes=").unwrap().split_once('-').unwrap();
    let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
    let Some(bytes) = from.bytes.get(first..=last) else { return refusal(416, "InvalidRange") };
    let copied = object(bytes.to_vec());
    let etag = copied.etag.clone();
    let Some(upload) = state.uploads.get_mut(id) else { return refusal(404, "NoSuchUpload") };
    upload.parts.insert(part.unwrap().parse().unwrap(), copied);
    state.copied_bytes += last + 1 - first;
    xml(format!("<CopyPartResult><ETag>\"{etag}\"</ETag></CopyPartResult>"))
}

fn of_upload(state: &mut State, method: &str, id: &str, part: Option<&String>, body: Vec<u8>) -> Answer {
    if method == "DELETE" && std::mem::take(&mut state.keeps_uploads_once) {
        return done(204);
    }
    let Some(upload) = state.uploads.get_mut(id) else { return refusal(404, "NoSuchUpload") };
    match method {
        "PUT" => {
            let object = object(body);
            let etag = object.etag.clone();
            upload.parts.insert(part.unwrap().parse().unwrap(), object);
            Answer { headers: vec![("ETag", format!("\"{etag}\""))], ..done(200) }
        }
        "GET" => {
            let mut parts = String::new();
            for number in upload.parts.keys() {
                write!(parts, "<Part><PartNumber>{number}</PartNumber></Part>").unwrap();
            }
            xml(format!("<ListPartsResult>{parts}</ListPartsResult>"))
        }
        "DELETE" => {
            state.uploads.remove(id);
            done(204)
        }
        _ => {
            let wanted = String::from_utf8(body).unwrap();
            let mut all = String::new();
            for (number, Object { etag, .. }) in &upload.parts {
                write!(all, "<Part><PartNumber>{number}</PartNumber><ETag>\"{etag}\"</ETag></Part>").unwrap();
            }
            if wanted != format!("<CompleteMultipartUpload>{all}</CompleteMultipartUpload>") {
                return refusal(400, "InvalidPart");
            }
            let most = upload.parts.len().saturating_sub(1);
            if upload.parts.values().take(most).any(|part| part.bytes.len() < LEAST_PART) {
                return refusal(400, "EntityTooSmall");
            }
            let bytes: Vec<u8> = upload.parts.values().flat_map(|part| part.bytes.iter().copied()).collect();
            let (key, object) = (upload.key.clone(), Object { lock: upload.lock.clone(), ..object(bytes) });
            let etag = object.etag.clone();
            state.uploads.remove(id);
            let version = state.change(&key, Some(object));
            let made =
                format!("<CompleteMultipartUploadResult><ETag>\"{etag}\"</ETag></CompleteMultipartUploadResult>");
            versioned(xml(made), version)
        }
    }
}

fn read(state: &State, key: &str, range: Option<&String>) -> Answer {
    let Some(object) = state.objects.get(key) else { return refusal(404, "NoSuchKey") };
    let len = object.bytes.len();
    let mut facts = vec![("ETag", format!("\"{}\"", object.etag)), ("Last-Modified", http_date(object.modified))];
    if let Some((mode, until)) = object.lock.clone() {
        facts.extend([("x-amz-object-lock-mode", mode), ("x-amz-object-lock-retain-until-date", until)]);
    }
    if state.cold.iter().any(|cold| cold == key) {
        facts.push(("x-amz-storage-class", "GLACIER".to_owned()));
    }
    if !object.version.is_empty() {
        facts.push(("x-amz-version-id", object.version.clone()));
    }
    let Some(range) = range else {
        return Answer { status: 200, headers: facts, body: object.bytes.to_vec() };
    };
    let (first, last) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
    let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
    if first >= len {
        return refusal(416, "InvalidRange");
    }
    let last = last.min(len - 1);
    let mut headers = facts;
    headers.push(("Content-Range", format!("bytes {first}-{last}/{len}")));
    Answer { status: 206, headers, body: object.bytes[first..=last].to_vec() }
}

fn list(state: &State, query: &BTreeMap<String, String>) -> Answer {
    let (prefix, delimiter) = (query["prefix"].as_str(), query.get("delimiter"));
    let most =
        query.get("max-keys").map_or(if state.page == 0 { PAGE } else { state.page }, |most| most.parse().unwrap());
    let after = query.get("continuation-token").map(String::as_str).unwrap_or_default();
    let (mut items, mut last, mut is_cut) = (String::new(), String::new(), false);
    let mut count = 0;
    let from = if after > prefix { after } else { prefix };
    let (all, of_prefix) = (state.objects.range(from.to_owned()..), |key: &&String| key.starts_with(prefix));
    for (key, object) in all.take_while(|(key, _)| of_prefix(key)) {
        let folder = delimiter.and_then(|_| key[prefix.len()..].find('/')).map(|end| &key[..=prefix.len() + end]);
        let name = folder.unwrap_or(key);
        if name <= after || name == last {
            continue;
        }
        if count == most {
            is_cut = true;
            break;
        }
        count += 1;
        if let Some(folder) = folder {
            write!(items, "<CommonPrefixes><Prefix>{}</Prefix></CommonPrefixes>", escaped(folder)).unwrap();
        } else {
            let (key, len, etag) = (escaped(key), object.bytes.len(), &object.etag);
            let class = if state.cold.contains(&key) { "GLACIER" } else { "STANDARD" };
            let facts =
                format!("<ETag>&quot;{etag}&quot;</ETag><Size>{len}</Size><StorageClass>{class}</StorageClass>");
            write!(items, "<Contents><Key>{key}</Key>{facts}</Contents>").unwrap();
        }
        name.clone_into(&mut last);
    }
    let next = if is_cut {
        format!("<NextContinuationToken>{}</NextContinuationToken>", escaped(&last))
    } else {
        String::new()
    };
    xml(format!("<ListBucketResult><IsTruncated>{is_cut}</IsTruncated>{next}{items}</ListBucketResult>"))
}

fn list_uploads(state: &State, query: &BTreeMap<String, String>) -> Answer {
    let mut items = String::new();
    for (id, upload) in state.uploads.iter().filter(|(_, upload)| upload.key.starts_with(&query["prefix"])) {
        write!(items, "<Upload><Key>{}</Key><UploadId>{id}</UploadId></Upload>", escaped(&upload.key)).unwrap();
    }
    xml(format!("<ListMultipartUploadsResult>{items}</ListMultipartUploadsResult>"))
}
