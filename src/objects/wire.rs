//! Requests of any protocol: repeated with growing pauses, counted, and by one deadline.

use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use chrono::DateTime;
use rustix::rand::{GetRandomFlags, getrandom};
use ureq::Proxy;
use ureq::http::{HeaderMap, Method, Request};

use super::address::ObjectAddress;
use super::call::{Call, Repeat};
use super::error::ObjectError;
use super::limits::Limits;
use super::settings::ObjectSettings;
use crate::http::{Answer, Failure, Http, retry_after};
use crate::outside::Traffic;
use crate::outside::rate::Rate;
use crate::shown;

const MOST_ATTEMPTS: u32 = 10;
const LONGEST_PAUSE: Duration = Duration::from_secs(20);
/// An answer without content of an object is not longer.
const MAX_ANSWER_BYTES: u64 = 8 << 20;
const MESSAGE_CHARS: usize = 300;
/// A store that copies more slowly from its own objects is too slow.
const COPIED_A_SECOND: u64 = 4 << 20;
/// A clock that is wrong by less is none of the causes of a refusal.
const SKEW_SECONDS: i64 = 60;

/// What a store says of an error.
#[derive(Debug, Default)]
pub(super) struct Refusal {
    pub(super) code: String,
    pub(super) message: String,
}

/// What tells one API from another: how a request is written, and how an error is read.
pub(super) trait Protocol: std::fmt::Debug + Send + Sync {
    /// The request as it is sent. `now` is the time by the store's clock, `until` the end of the attempt.
    fn request(&self, call: &Call<'_>, now: i64, until: Instant) -> Result<Request<()>, ObjectError>;

    /// The error that an answer holds; `None` if it is good.
    fn refusal(&self, call: &Call<'_>, answer: &Answer) -> Option<Refusal>;

    /// What a message calls a request but for its key: the operation, and the bucket.
    fn named(&self, call: &Call<'_>, bucket: String) -> String {
        format!("{} {bucket}", call.operation)
    }

    /// The server that is asked, if that is not the one of the settings.
    fn server(&self) -> Option<String> {
        None
    }

    /// What to do about an error.
    fn hint(&self, status: u16, code: &str) -> &'static str;

    /// `text` without what must not be shown.
    fn without_secrets(&self, text: &str) -> String;

    /// Whether requests carry the time, and are refused if it is not the store's.
    fn has_times(&self) -> bool {
        false
    }

    /// Whether the login that this answer refused was given up, so that the same request gets a new one.
    fn logs_in_again(&self, _status: u16) -> bool {
        false
    }

    /// The header with the version of an object.
    fn version_header(&self) -> &'static str;
}

/// The way to one bucket. Threads may share it.
#[derive(Debug)]
pub(super) struct Wire {
    address: ObjectAddress,
    endpoint: String,
    limits: Limits,
    protocol: Box<dyn Protocol>,
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

impl Wire {
    /// The way to the bucket in `address`. Nothing is sent yet.
    pub(super) fn new(
        address: ObjectAddress,
        settings: &ObjectSettings,
        limits: Limits,
        protocol: Box<dyn Protocol>,
    ) -> Result<Self, ObjectError> {
        Ok(Self {
            address,
            endpoint: settings.endpoint.clone(),
            limits,
            protocol,
            http: http(settings)?,
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
    pub(super) fn address(&self) -> &ObjectAddress {
        &self.address
    }

    /// The header with the version of an object.
    pub(super) fn version_header(&self) -> &'static str {
        self.protocol.version_header()
    }

    /// What was sent and received so far.
    pub(super) fn traffic(&self) -> Traffic {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Traffic {
            requests: of(&self.requests),
            sent_bytes: of(&self.sent_bytes),
            received_bytes: of(&self.received_bytes),
            copied_bytes: of(&self.copied_bytes),
        }
    }

    /// The number of requests that may have changed something.
    pub(super) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    /// The store's clock minus this host's in seconds; 0 unless the store refused a request for its time.
    pub(super) fn skew_seconds(&self) -> i64 {
        self.skew_seconds.load(Ordering::Relaxed)
    }

    /// What the user has to know of the requests so far, and was not told yet.
    pub(super) fn take_notes(&self) -> Vec<String> {
        std::mem::take(&mut *self.notes.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// Sends a request, and repeats it as it says, until an answer has a good status and holds no error.
    pub(super) fn send(&self, call: &Call<'_>) -> Result<Answer, ObjectError> {
        let deadline = self.limits.deadline + self.time_of_bytes(call);
        let until = Instant::now().checked_add(deadline).unwrap_or_else(Instant::now);
        let mut pause = self.limits.pause;
        let mut is_mended = false;
        for attempt in 1.. {
            let (error, least) = match self.once(call, until) {
                Ok(answer) => match self.judged(call, &answer) {
                    None => {
                        self.copied_bytes.fetch_add(call.copied_bytes, Ordering::Relaxed);
                        return Ok(answer);
                    }
                    Some(error) if !is_mended && self.mends(&answer, &error) => {
                        is_mended = true;
                        continue;
                    }
                    Some(error) => {
                        if !may_pass(&error) {
                            return Err(error);
                        }
                        (error, retry_after(&answer.headers).unwrap_or_default())
                    }
                },
                Err((error, true)) => (error, Duration::ZERO),
                Err((error, false)) => return Err(error),
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

    /// The error comes with whether another attempt may succeed.
    fn once(&self, call: &Call<'_>, until: Instant) -> Result<Answer, (ObjectError, bool)> {
        let moved = call.body.len() as u64 + call.expected_bytes;
        let own = self.limits.attempt + Duration::from_secs(moved / (128 << 10)) + self.time_of_bytes(call);
        let until = Instant::now().checked_add(own).map_or(until, |own| own.min(until));
        let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs());
        let now = now.unwrap_or(0).saturating_add(self.skew_seconds());
        let request = self.protocol.request(call, now, until).map_err(|error| {
            let passes = may_pass(&error);
            (error, passes)
        })?;
        self.requests.fetch_add(1, Ordering::Relaxed);
        if call.method != Method::GET && call.method != Method::HEAD {
            self.changes.fetch_add(1, Ordering::Relaxed);
        }
        self.sent_bytes.fetch_add(call.body.len() as u64, Ordering::Relaxed);
        let answer = match &self.upload_rate {
            Some(rate) if !call.body.is_empty() => {
                self.http.send_slowly(request, call.body, rate, limit_of(call), until)
            }
            _ => self.http.send(request, call.body, limit_of(call), until),
        };
        let answer = answer.map_err(|failure| match failure {
            Failure::TooLong => (ObjectError::TooLong { what: self.what(call), limit_bytes: limit_of(call) }, false),
            Failure::Final(why) => (self.no_answer(call, &why), false),
            Failure::Broken(why) => (self.no_answer(call, &why), true),
            Failure::Late => (self.no_answer(call, "no answer in time"), true),
        })?;
        self.received_bytes.fetch_add(answer.body.len() as u64, Ordering::Relaxed);
        Ok(answer)
    }

    /// The time that one attempt may take by the limit of the rate, with two other parts on their way, and by what the store
    /// copies: neither is the store's fault.
    fn time_of_bytes(&self, call: &Call<'_>) -> Duration {
        let sent = self.upload_rate.as_ref().map_or(Duration::ZERO, |rate| rate.time_for(call.body.len() as u64) * 3);
        sent + Duration::from_secs(call.copied_bytes / COPIED_A_SECOND)
    }

    /// The error that an answer holds.
    fn judged(&self, call: &Call<'_>, answer: &Answer) -> Option<ObjectError> {
        let Refusal { code, message } = self.protocol.refusal(call, answer)?;
        let message = shown::text(&self.protocol.without_secrets(&message));
        let message = match message.chars().take(MESSAGE_CHARS).collect::<String>() {
            empty if empty.is_empty() => empty,
            said => format!(": {said}"),
        };
        let code: String = shown::text(&code).chars().take(64).collect();
        let hint = self.protocol.hint(answer.status, &code);
        Some(ObjectError::Status { what: self.what(call), status: answer.status, code, message, hint })
    }

    /// Whether what made the store refuse a request was mended, so that it may be sent again at once.
    fn mends(&self, answer: &Answer, error: &ObjectError) -> bool {
        if self.protocol.has_times() {
            return self.takes_clock_of(answer, error);
        }
        self.protocol.logs_in_again(answer.status)
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
            self.endpoint
        );
        self.notes.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(note);
        true
    }

    /// The request, for messages; without the query, which holds the signature.
    pub(super) fn what(&self, call: &Call<'_>) -> String {
        let named = self.protocol.named(call, self.address.bucket_address());
        call.key.map_or(named.clone(), |key| format!("{named}/{}", shown::text(key)))
    }

    pub(super) fn not_understood(&self, call: &Call<'_>, why: impl Into<String>) -> ObjectError {
        ObjectError::NotUnderstood { what: self.what(call), why: why.into() }
    }

    fn no_answer(&self, call: &Call<'_>, why: &str) -> ObjectError {
        let why = shown::text(&self.protocol.without_secrets(why));
        ObjectError::NoAnswer {
            what: self.what(call),
            why,
            endpoint: self.protocol.server().unwrap_or_else(|| self.endpoint.clone()),
        }
    }
}

/// What sends requests to a store.
pub(super) fn http(settings: &ObjectSettings) -> Result<Http, ObjectError> {
    let Some(proxy) = &settings.proxy else { return Ok(Http::new(settings.ca_file.as_deref())?) };
    let wrong = |_| ObjectError::Settings {
        place: "`proxy` in [store]".to_owned(),
        what: "write an address like http://proxy.example.com:3128".to_owned(),
    };
    Ok(Http::through(Proxy::new(proxy).map_err(wrong)?, settings.ca_file.as_deref())?)
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
        ObjectError::NoAnswer { why, endpoint, .. } => {
            format!("{why}; check that the store runs, and that this host reaches {endpoint}")
        }
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
