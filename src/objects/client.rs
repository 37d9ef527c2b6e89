//! Requests: signed, repeated with growing pauses, counted, and by one deadline.

use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use chrono::DateTime;
use jiff::Timestamp;
use rustix::rand::{GetRandomFlags, getrandom};
use rusty_s3::{Bucket, UrlStyle};
use ureq::Proxy;
use ureq::http::{HeaderMap, Method, Request};
use url::Url;

use super::address::ObjectAddress;
use super::answers::{Refusal, refusal};
use super::call::{Call, Repeat};
use super::error::{ObjectError, hint};
use super::limits::Limits;
use super::settings::ObjectSettings;
use crate::http::{Answer, Failure, Http, retry_after};
use crate::outside::Traffic;
use crate::outside::rate::Rate;
use crate::shown;

const MOST_ATTEMPTS: u32 = 10;
const LONGEST_PAUSE: Duration = Duration::from_secs(20);
/// How long a signature is valid.
const SIGNATURE_SECONDS: u64 = 900;
/// An answer without content of an object is not longer.
const MAX_ANSWER_BYTES: u64 = 8 << 20;
const MESSAGE_CHARS: usize = 300;
/// A store that copies more slowly from its own objects is too slow.
const COPIED_A_SECOND: u64 = 4 << 20;
/// A clock that is wrong by less is none of the causes of a refusal.
const SKEW_SECONDS: i64 = 60;

/// A client of one bucket. Threads may share it.
#[derive(Debug)]
pub struct ObjectClient {
    address: ObjectAddress,
    settings: ObjectSettings,
    limits: Limits,
    bucket: Bucket,
    http: Http,
    upload_rate: Option<Rate>,
    /// The store's clock minus this host's, once the store refused a request for its time.
    skew_seconds: AtomicI64,
    requests: AtomicU64,
    changes: AtomicU64,
    sent_bytes: AtomicU64,
    received_bytes: AtomicU64,
    copied_bytes: AtomicU64,
    notes: Mutex<Vec<String>>,
}

impl ObjectClient {
    /// A client of the bucket in `address`. Nothing is sent yet.
    pub fn new(address: ObjectAddress, settings: ObjectSettings, limits: Limits) -> Result<Self, ObjectError> {
        let http = match &settings.proxy {
            Some(proxy) => {
                let wrong = |_| ObjectError::Settings {
                    place: "`proxy` in [store]".to_owned(),
                    what: "write an address like http://proxy.example.com:3128".to_owned(),
                };
                Http::through(Proxy::new(proxy).map_err(wrong)?, settings.ca_file.as_deref())?
            }
            None => Http::new(settings.ca_file.as_deref())?,
        };
        let style = if settings.path_style { UrlStyle::Path } else { UrlStyle::VirtualHost };
        let wrong = |what: String| ObjectError::Settings { place: format!("the endpoint {}", settings.endpoint), what };
        let url = Url::parse(&settings.endpoint).map_err(|error| wrong(error.to_string()))?;
        let bucket = Bucket::new(url, style, address.bucket.clone(), settings.region.clone())
            .map_err(|error| wrong(format!("{error}; set `path_style = true` in [store]")))?;
        Ok(Self {
            address,
            settings,
            limits,
            bucket,
            http,
            upload_rate: limits.upload_rate.map(|rate| Rate::new(rate, Duration::ZERO)),
            skew_seconds: AtomicI64::new(0),
            requests: AtomicU64::new(0),
            changes: AtomicU64::new(0),
            sent_bytes: AtomicU64::new(0),
            received_bytes: AtomicU64::new(0),
            copied_bytes: AtomicU64::new(0),
            notes: Mutex::default(),
        })
    }

    /// The bucket and the prefix.
    pub fn address(&self) -> &ObjectAddress {
        &self.address
    }

    /// How the store is reached.
    pub fn settings(&self) -> &ObjectSettings {
        &self.settings
    }

    /// What was sent and received so far.
    pub fn traffic(&self) -> Traffic {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Traffic {
            requests: of(&self.requests),
            sent_bytes: of(&self.sent_bytes),
            received_bytes: of(&self.received_bytes),
            copied_bytes: of(&self.copied_bytes),
        }
    }

    /// The number of requests that may have changed something.
    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    /// The store's clock minus this host's in seconds; 0 unless the store refused a request for its time.
    pub fn skew_seconds(&self) -> i64 {
        self.skew_seconds.load(Ordering::Relaxed)
    }

    /// What the user has to know of the requests so far, and was not told yet.
    pub fn take_notes(&self) -> Vec<String> {
        std::mem::take(&mut *self.notes.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// Sends a request, and repeats it as it says, until an answer has a good status and holds no error.
    pub(super) fn send(&self, call: &Call<'_>) -> Result<Answer, ObjectError> {
        let deadline = self.limits.deadline + self.time_of_bytes(call);
        let until = Instant::now().checked_add(deadline).unwrap_or_else(Instant::now);
        let mut pause = self.limits.pause;
        let mut is_clock_set = false;
        for attempt in 1.. {
            let (error, least) = match self.once(call, until) {
                Ok(answer) => match self.judged(call, &answer) {
                    None => {
                        self.copied_bytes.fetch_add(call.copied_bytes, Ordering::Relaxed);
                        return Ok(answer);
                    }
                    Some(error) if !is_clock_set && self.takes_clock_of(&answer, &error) => {
                        is_clock_set = true;
                        continue;
                    }
                    Some(error) => {
                        if !may_pass(&error) {
                            return Err(error);
                        }
                        (error, retry_after(&answer.headers).unwrap_or_default())
                    }
                },
                Err(Failure::TooLong) => {
                    let limit_bytes = limit_of(call);
                    return Err(ObjectError::TooLong { what: self.what(call), limit_bytes });
                }
                Err(Failure::Final(why)) => return Err(self.no_answer(call, &why)),
                Err(Failure::Broken(why)) => (self.no_answer(call, &why), Duration::ZERO),
                Err(Failure::Late) => (self.no_answer(call, "no answer in time"), Duration::ZERO),
            };
            if call.repeat == Repeat::No || attempt == MOST_ATTEMPTS {
                return Err(error);
            }
            let wait = jittered(pause).max(least);
            if wait >= until.saturating_duration_since(Instant::now()) {
                let (what, limit) = (self.what(call), deadline);
                return Err(ObjectError::Deadline { what, limit, last: last_of(&error) });
            }
            sleep(wait);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        unreachable!("the last attempt returns")
    }

    fn once(&self, call: &Call<'_>, until: Instant) -> Result<Answer, Failure> {
        let moved = call.body.len() as u64 + call.expected_bytes;
        let own = self.limits.attempt + Duration::from_secs(moved / (128 << 10)) + self.time_of_bytes(call);
        let until = Instant::now().checked_add(own).map_or(until, |own| own.min(until));
        self.requests.fetch_add(1, Ordering::Relaxed);
        if call.method != Method::GET && call.method != Method::HEAD {
            self.changes.fetch_add(1, Ordering::Relaxed);
        }
        self.sent_bytes.fetch_add(call.body.len() as u64, Ordering::Relaxed);
        let signed = self.signed(call)?;
        let answer = match &self.upload_rate {
            Some(rate) if !call.body.is_empty() => {
                self.http.send_slowly(signed, call.body, rate, limit_of(call), until)?
            }
            _ => self.http.send(signed, call.body, limit_of(call), until)?,
        };
        self.received_bytes.fetch_add(answer.body.len() as u64, Ordering::Relaxed);
        Ok(answer)
    }

    /// The time that one attempt may take by the limit of the rate, with two other parts on their way, and by what the store
    /// copies: neither is the store's fault.
    fn time_of_bytes(&self, call: &Call<'_>) -> Duration {
        let sent = self.upload_rate.as_ref().map_or(Duration::ZERO, |rate| rate.time_for(call.body.len() as u64) * 3);
        sent + Duration::from_secs(call.copied_bytes / COPIED_A_SECOND)
    }

    fn signed(&self, call: &Call<'_>) -> Result<Request<()>, Failure> {
        let url = match call.key {
            Some(key) => self.bucket.object_url(key),
            None => self.bucket.base_url().clone(),
        };
        let credentials = &self.settings.credentials;
        let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs());
        let now = now.unwrap_or(0).saturating_add(self.skew_seconds());
        let date = Timestamp::from_second(now).map_err(|_| Failure::Final("the clock is out of range".to_owned()))?;
        let signed = rusty_s3::signing::sign(
            &date,
            signed_method(&call.method),
            url,
            &credentials.key,
            credentials.secret.reveal(),
            credentials.token.as_ref().map(crate::http::Secret::reveal),
            &self.settings.region,
            SIGNATURE_SECONDS,
            call.query.iter().map(|(name, value)| (*name, value.as_str())),
            call.headers.iter().map(|(name, value)| (*name, value.as_str())),
        );
        let mut request = Request::builder().method(&call.method).uri(signed.as_str());
        for (name, value) in &call.headers {
            request = request.header(*name, value);
        }
        // The cause may quote the address, which holds the signature.
        request.body(()).map_err(|_| Failure::Final("the key has characters that HTTP does not allow".to_owned()))
    }

    /// The error that an answer holds.
    fn judged(&self, call: &Call<'_>, answer: &Answer) -> Option<ObjectError> {
        let is_good = (200..300).contains(&answer.status);
        // Content of an object may look like an error.
        if is_good && (call.method == Method::GET && call.key.is_some() && call.query.is_empty()) {
            return None;
        }
        let found = refusal(&answer.body);
        if is_good && found.is_none() {
            return None;
        }
        let Refusal { code, message } = found.unwrap_or_default();
        let message = match shown::text(&self.without_secrets(&message)).chars().take(MESSAGE_CHARS).collect::<String>()
        {
            empty if empty.is_empty() => empty,
            said => format!(": {said}"),
        };
        let code: String = shown::text(&code).chars().take(64).collect();
        let hint = hint(answer.status, &code);
        Some(ObjectError::Status { what: self.what(call), status: answer.status, code, message, hint })
    }

    /// Takes the store's time for further signatures if the answer refuses a request and the clocks differ.
    fn takes_clock_of(&self, answer: &Answer, error: &ObjectError) -> bool {
        if !matches!(error.status(), Some(400 | 401 | 403)) {
            return false;
        }
        let Some(theirs) = time_of(&answer.headers, "date") else { return false };
        let ours = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs());
        let skew = theirs.saturating_sub(ours.unwrap_or(0));
        if (skew - self.skew_seconds()).abs() < SKEW_SECONDS {
            return false;
        }
        self.skew_seconds.store(skew, Ordering::Relaxed);
        let (by, direction) = (skew.unsigned_abs(), if skew > 0 { "behind" } else { "ahead of" });
        let note = format!(
            "the clock of this host is {by} s {direction} that of {}; requests are signed with the store's time: set one of the clocks",
            self.settings.endpoint
        );
        self.notes.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(note);
        true
    }

    /// The request, for messages; without the query, which holds the signature.
    pub(super) fn what(&self, call: &Call<'_>) -> String {
        let bucket = &self.address.bucket;
        match call.key {
            Some(key) => format!("{} s3://{bucket}/{}", call.operation, shown::text(key)),
            None => format!("{} s3://{bucket}", call.operation),
        }
    }

    pub(super) fn not_understood(&self, call: &Call<'_>, why: impl Into<String>) -> ObjectError {
        ObjectError::NotUnderstood { what: self.what(call), why: why.into() }
    }

    fn no_answer(&self, call: &Call<'_>, why: &str) -> ObjectError {
        let why = shown::text(&self.without_secrets(why));
        ObjectError::NoAnswer { what: self.what(call), why, endpoint: self.settings.endpoint.clone() }
    }

    fn without_secrets(&self, text: &str) -> String {
        let credentials = &self.settings.credentials;
        let text = credentials.secret.hide_in(text);
        credentials.token.as_ref().map_or(text.clone(), |token| token.hide_in(&text))
    }
}

/// Whether another attempt may succeed.
fn may_pass(error: &ObjectError) -> bool {
    match error {
        ObjectError::Status { status, code, .. } => {
            let names = ["InternalError", "SlowDown", "ServiceUnavailable", "RequestTimeout", "OperationAborted"];
            // 501 says that the store never does it.
            matches!(status, 429 | 500 | 502 | 503 | 504) || names.contains(&code.as_str()) || code == "BadDigest"
        }
        ObjectError::NoAnswer { .. } => true,
        _ => false,
    }
}

/// The last part of a message about the deadline.
fn last_of(error: &ObjectError) -> String {
    match error {
        ObjectError::NoAnswer { why, .. } => why.clone(),
        ObjectError::Status { status, code, message, .. } => format!("status {status} {code}{message}"),
        other => other.to_string(),
    }
}

fn limit_of(call: &Call<'_>) -> u64 {
    MAX_ANSWER_BYTES.max(call.expected_bytes.saturating_add(1))
}

/// The time in this header, in seconds.
pub(super) fn time_of(headers: &HeaderMap, name: &str) -> Option<i64> {
    Some(DateTime::parse_from_rfc2822(headers.get(name)?.to_str().ok()?).ok()?.timestamp())
}

/// Between half of a pause and all of it: hosts that failed together do not come back together.
fn jittered(pause: Duration) -> Duration {
    let mut byte = [0_u8; 1];
    // Without a random byte the pause is half, which is as good.
    let _ = getrandom(&mut byte, GetRandomFlags::empty());
    pause / 2 + pause.mul_f64(f64::from(byte[0]) / 510.0)
}

fn signed_method(method: &Method) -> rusty_s3::Method {
    match *method {
        Method::HEAD => rusty_s3::Method::Head,
        Method::PUT => rusty_s3::Method::Put,
        Method::POST => rusty_s3::Method::Post,
        Method::DELETE => rusty_s3::Method::Delete,
        _ => rusty_s3::Method::Get,
    }
}
