//! A session: a token, the catalogue, and requests with microversions, pages and repeated attempts, all by one deadline.

use std::cell::{Cell, RefCell};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde_json::Value;
use ureq::http::{Method, Request};

use super::answers::{CatalogService, Project, TokenAnswer};
use super::catalogue::{ServiceKind, endpoint};
use super::error::{CloudError, hint};
use super::message::{request, understood};
use super::settings::CloudSettings;
use crate::http::{Answer, Failure, Http, Secret, retry_after};
use crate::shown;

/// The role that the policies of Cinder and Nova ask for.
const ADMIN: &str = "admin";
/// Attempts of a read, in all.
const MOST_ATTEMPTS: u32 = 5;
const LONGEST_PAUSE: Duration = Duration::from_secs(8);
/// A longer answer is not read: pages keep honest ones far below.
const MAX_ANSWER_BYTES: u64 = 16 << 20;
/// Bytes of a server's message that an error repeats.
const MESSAGE_CHARS: usize = 300;

/// Limits of a session.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The time for all requests together.
    pub deadline: Duration,
    /// The pause before the second attempt of a read; it doubles from then on.
    pub pause: Duration,
    /// Rows to ask for in one answer; a server may send fewer.
    pub page: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { deadline: Duration::from_secs(60), pause: Duration::from_millis(250), page: 500 }
    }
}

/// A session with a cloud.
#[derive(Debug)]
pub struct Session {
    pub(super) settings: CloudSettings,
    http: Http,
    pub(super) limits: Limits,
    until: Cell<Instant>,
    token: RefCell<Option<Secret>>,
    catalogue: RefCell<Vec<CatalogService>>,
    roles: RefCell<Vec<String>>,
    project: RefCell<Option<Project>>,
    /// Whether Nova is older than 2.89.
    pub(super) old_compute: Cell<bool>,
}

impl std::fmt::Debug for CatalogService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.kind)
    }
}

impl Session {
    /// Logs in. The deadline begins now.
    pub fn open(settings: CloudSettings, limits: Limits) -> Result<Self, CloudError> {
        Self::through(Http::new(settings.ca_file.as_deref())?, settings, limits)
    }

    /// As [`Self::open`]; requests go this way.
    pub(super) fn through(http: Http, settings: CloudSettings, limits: Limits) -> Result<Self, CloudError> {
        let now = Instant::now();
        let session = Self {
            until: Cell::new(now.checked_add(limits.deadline).unwrap_or(now)),
            settings,
            http,
            limits,
            token: RefCell::default(),
            catalogue: RefCell::default(),
            roles: RefCell::default(),
            project: RefCell::default(),
            old_compute: Cell::default(),
        };
        session.log_in()?;
        Ok(session)
    }

    /// The settings that it was opened with.
    pub fn settings(&self) -> &CloudSettings {
        &self.settings
    }

    /// Whether the token has the role that the policies of Cinder and Nova ask for.
    pub fn is_admin(&self) -> bool {
        self.roles.borrow().iter().any(|one| one == ADMIN)
    }

    /// The project of the token: what is made with it belongs to that project. `None` with system scope.
    pub fn project(&self) -> Option<Project> {
        self.project.borrow().clone()
    }

    /// Begins the deadline anew: for work of many steps, each of which has all of it.
    pub fn renew_deadline(&self) {
        let now = Instant::now();
        self.until.set(now.checked_add(self.limits.deadline).unwrap_or(now));
    }

    /// Whether Nova says which attachment of Cinder it means: from microversion 2.89 on.
    pub fn knows_attachment_ids(&self) -> bool {
        !self.old_compute.get()
    }

    fn log_in(&self) -> Result<(), CloudError> {
        let url = format!("{}/auth/tokens", self.settings.auth_url);
        let what = format!("POST {url}");
        let body = self.settings.login.auth_body().to_string().into_bytes();
        // A token that was made and whose answer was lost does no harm: a log-in is repeated as reads are.
        let answer = self.repeated(&what, || request(&Method::POST, &url, None, None, Some(&body)))?;
        match answer.status {
            200 | 201 => {}
            401 | 403 => {
                let message = self.message(&answer);
                let who = self.settings.login.who();
                return Err(CloudError::Refused { url, who, status: answer.status, message });
            }
            _ => return Err(self.status_error(what, &answer)),
        }
        let token = answer.headers.get("x-subject-token").and_then(|token| token.to_str().ok());
        let token = token.filter(|token| !token.is_empty()).ok_or_else(|| CloudError::NotUnderstood {
            what: what.clone(),
            why: "it has no X-Subject-Token".to_owned(),
        })?;
        *self.token.borrow_mut() = Some(Secret::new(token));
        let body = understood::<TokenAnswer>(&what, &answer.body)?.token;
        *self.catalogue.borrow_mut() = body.catalog;
        *self.project.borrow_mut() = body.project;
        *self.roles.borrow_mut() = body.roles.into_iter().map(|role| role.name).collect();
        Ok(())
    }

    /// The token.
    #[cfg(feature = "swift")]
    pub(super) fn token(&self) -> Result<Secret, CloudError> {
        let why = || CloudError::NotUnderstood { what: "the log-in".to_owned(), why: "it gave no token".to_owned() };
        self.token.borrow().clone().ok_or_else(why)
    }

    /// The address of a service.
    pub(super) fn endpoint(&self, service: ServiceKind) -> Result<String, CloudError> {
        endpoint(service, &self.catalogue.borrow(), &self.settings)
    }

    /// Sends a write, once: its answer may be lost after it was carried out. Returns the body of a good answer.
    pub(super) fn write(
        &self,
        method: &Method,
        service: ServiceKind,
        version: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Vec<u8>, CloudError> {
        let url = format!("{}{path}", self.endpoint(service)?);
        Ok(self.attempt(method, &url, Some((service, version)), body)?.body)
    }

    pub(super) fn read<T: DeserializeOwned>(
        &self,
        service: ServiceKind,
        version: &str,
        path: &str,
    ) -> Result<T, CloudError> {
        let url = format!("{}{path}", self.endpoint(service)?);
        let answer = self.attempt(&Method::GET, &url, Some((service, version)), None)?;
        understood(&format!("GET {url}"), &answer.body)
    }

    /// Sends a request with the token; after a 401 once more, with a new one: what was refused was not carried out. A
    /// read is repeated after errors that may pass, a write never.
    pub(super) fn attempt(
        &self,
        method: &Method,
        url: &str,
        version: Option<(ServiceKind, &str)>,
        body: Option<&Value>,
    ) -> Result<Answer, CloudError> {
        let what = format!("{method} {}", shown::text(url));
        let body = body.map(|body| body.to_string().into_bytes());
        let mut is_renewed = false;
        loop {
            let token = self.token.borrow().clone();
            let made = || request(method, url, token.as_ref(), version, body.as_deref());
            let answer = if method == Method::GET { self.repeated(&what, made)? } else { self.once(&what, made()?)? };
            match answer.status {
                200..=299 => return Ok(answer),
                401 if !is_renewed => {
                    is_renewed = true;
                    self.log_in()?;
                }
                _ => return Err(self.status_error(what, &answer)),
            }
        }
    }

    fn once(&self, what: &str, request: Request<Vec<u8>>) -> Result<Answer, CloudError> {
        self.send(request).map_err(|failure| self.no_answer(what, failure))
    }

    fn send(&self, request: Request<Vec<u8>>) -> Result<Answer, Failure> {
        let (parts, body) = request.into_parts();
        self.http.send(Request::from_parts(parts, ()), &body, MAX_ANSWER_BYTES, self.until.get())
    }

    fn repeated(
        &self,
        what: &str,
        request: impl Fn() -> Result<Request<Vec<u8>>, CloudError>,
    ) -> Result<Answer, CloudError> {
        let mut pause = self.limits.pause;
        for attempt in 1.. {
            let is_last = attempt == MOST_ATTEMPTS;
            let wait = match self.send(request()?) {
                Ok(answer) if !is_last && matches!(answer.status, 429 | 502 | 503) => {
                    pause.max(retry_after(&answer.headers).unwrap_or_default())
                }
                Ok(answer) => return Ok(answer),
                Err(Failure::Broken(_)) if !is_last => pause,
                Err(failure) => return Err(self.no_answer(what, failure)),
            };
            let left = self.until.get().saturating_duration_since(Instant::now());
            if wait >= left {
                return Err(self.no_answer(what, Failure::Late));
            }
            sleep(wait);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        unreachable!("the last attempt returns")
    }

    fn no_answer(&self, what: &str, failure: Failure) -> CloudError {
        let what = what.to_owned();
        match failure {
            Failure::Late => CloudError::Deadline { what, limit: self.limits.deadline },
            Failure::TooLong => CloudError::TooLong { what, limit_bytes: MAX_ANSWER_BYTES },
            Failure::Broken(why) => CloudError::NoAnswer { what, why: self.without_secrets(&shown::text(&why)) },
            Failure::Final(why) => CloudError::NoConnection { what, why: self.without_secrets(&shown::text(&why)) },
        }
    }

    fn status_error(&self, what: String, answer: &Answer) -> CloudError {
        let (status, message) = (answer.status, self.message(answer));
        CloudError::Status { what, status, message, hint: hint(status) }
    }

    /// What the server says of its error, after a colon; empty if it says nothing that can be shown.
    fn message(&self, answer: &Answer) -> String {
        let value: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        // {"error": {"message": …}}, {"itemNotFound": {"message": …}}, {"errors": [{"detail": …}]}
        let said = value.as_object().into_iter().flatten().find_map(|(_, inner)| {
            let inner = inner.as_array().map_or(inner, |list| list.first().unwrap_or(inner));
            ["message", "detail", "title"].iter().find_map(|key| inner.get(key)?.as_str())
        });
        let Some(said) = said else { return String::new() };
        let said: String = self.without_secrets(&shown::text(said)).chars().take(MESSAGE_CHARS).collect();
        format!(": {said}")
    }

    fn without_secrets(&self, text: &str) -> String {
        let text = self.settings.login.secret().hide_in(text);
        self.token.borrow().as_ref().map_or(text.clone(), |token| token.hide_in(&text))
    }
}
