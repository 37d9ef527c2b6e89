//! A session: a token, the catalogue, and requests with microversions, pages and repeated attempts, all by one deadline.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use ureq::http::{HeaderMap, Method, Request};

use super::answers::{Attachment, CatalogService, Link, NovaAttachment, Project, Server, Service, TokenAnswer, Volume};
use super::error::{CloudError, hint};
use super::http::{Answer, Failure, Http};
use super::secret::Secret;
use super::settings::{CloudSettings, address};
use crate::shown;

/// Attempts of a read, in all.
const MOST_ATTEMPTS: u32 = 5;
const LONGEST_PAUSE: Duration = Duration::from_secs(8);
/// More pages, or more rows, than any cloud has.
const MOST_PAGES: usize = 10_000;
const MOST_ROWS: usize = 500_000;
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

/// A service of the catalogue.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct ServiceKind {
    /// For messages, and the key of an address that overrides the catalogue's.
    name: &'static str,
    /// Its types, the preferred one first.
    kinds: &'static [&'static str],
    /// Its name in the microversion header.
    header: &'static str,
}

pub(super) const BLOCK_STORAGE: ServiceKind =
    ServiceKind { name: "block-storage", kinds: &["block-storage", "volumev3", "block-store"], header: "volume" };
pub(super) const COMPUTE: ServiceKind = ServiceKind { name: "compute", kinds: &["compute"], header: "compute" };

/// A session with a cloud.
#[derive(Debug)]
pub struct Session {
    settings: CloudSettings,
    http: Http,
    limits: Limits,
    until: Cell<Instant>,
    token: RefCell<Option<Secret>>,
    catalogue: RefCell<Vec<CatalogService>>,
    roles: RefCell<Vec<String>>,
    /// Whether Nova is older than 2.89.
    old_compute: Cell<bool>,
}

impl std::fmt::Debug for CatalogService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.kind)
    }
}

impl Session {
    /// Logs in. The deadline begins now.
    pub fn open(settings: CloudSettings, limits: Limits) -> Result<Self, CloudError> {
        let http = Http::new(settings.ca_file.as_deref())?;
        let now = Instant::now();
        let session = Self {
            until: Cell::new(now.checked_add(limits.deadline).unwrap_or(now)),
            settings,
            http,
            limits,
            token: RefCell::default(),
            catalogue: RefCell::default(),
            roles: RefCell::default(),
            old_compute: Cell::default(),
        };
        session.log_in()?;
        Ok(session)
    }

    /// The settings that it was opened with.
    pub fn settings(&self) -> &CloudSettings {
        &self.settings
    }

    /// Whether the token has this role, by its name.
    pub fn has_role(&self, role: &str) -> bool {
        self.roles.borrow().iter().any(|one| one == role)
    }

    /// Begins the deadline anew: for work of many steps, each of which has all of it.
    pub fn renew_deadline(&self) {
        let now = Instant::now();
        self.until.set(now.checked_add(self.limits.deadline).unwrap_or(now));
    }

    /// All volumes of all projects.
    pub fn volumes(&self) -> Result<Vec<Volume>, CloudError> {
        self.list(BLOCK_STORAGE, "3.27", "/volumes/detail?all_tenants=1", "volumes")
    }

    /// All attachments of all projects.
    pub fn attachments(&self) -> Result<Vec<Attachment>, CloudError> {
        self.list(BLOCK_STORAGE, "3.27", "/attachments/detail?all_tenants=1", "attachments")
    }

    /// All instances of all projects.
    pub fn servers(&self) -> Result<Vec<Server>, CloudError> {
        self.list(COMPUTE, "2.79", "/servers/detail?all_tenants=1", "servers")
    }

    /// The volumes of an instance, as Nova maps them. `expected` is how many its list has: Nova cuts a long answer
    /// off without a link to the rest.
    pub fn volumes_of(&self, server: &str, expected: usize) -> Result<Vec<NovaAttachment>, CloudError> {
        let mut rows: Vec<NovaAttachment> = Vec::new();
        loop {
            let path = format!("/servers/{}/os-volume_attachments?offset={}", in_path(server)?, rows.len());
            let found = self.page_of_attachments(&path)?;
            let before = rows.len();
            for row in found {
                if !rows.iter().any(|other| other.volume == row.volume) {
                    rows.push(row);
                }
            }
            // Without further rows the list has grown shorter meanwhile, or the offset is not heeded.
            if rows.len() >= expected || rows.len() == before {
                return Ok(rows);
            }
        }
    }

    fn page_of_attachments(&self, path: &str) -> Result<Vec<NovaAttachment>, CloudError> {
        #[derive(Deserialize)]
        struct Rows {
            #[serde(rename = "volumeAttachments")]
            rows: Vec<NovaAttachment>,
        }
        if !self.old_compute.get() {
            match self.read::<Rows>(COMPUTE, "2.89", path) {
                Err(CloudError::Status { status: 406, .. }) => self.old_compute.set(true),
                done => return Ok(done?.rows),
            }
        }
        Ok(self.read::<Rows>(COMPUTE, "2.79", path)?.rows)
    }

    /// Whether Nova says which attachment of Cinder it means: from microversion 2.89 on.
    pub fn knows_attachment_ids(&self) -> bool {
        !self.old_compute.get()
    }

    /// Cinder's services.
    pub fn volume_services(&self) -> Result<Vec<Service>, CloudError> {
        #[derive(Deserialize)]
        struct Rows {
            services: Vec<Service>,
        }
        Ok(self.read::<Rows>(BLOCK_STORAGE, "3.27", "/os-services")?.services)
    }

    /// Nova's services.
    pub fn compute_services(&self) -> Result<Vec<Service>, CloudError> {
        #[derive(Deserialize)]
        struct Rows {
            services: Vec<Service>,
        }
        Ok(self.read::<Rows>(COMPUTE, "2.79", "/os-services")?.services)
    }

    /// The projects that the user may see.
    pub fn projects(&self) -> Result<Vec<Project>, CloudError> {
        #[derive(Deserialize)]
        struct Rows {
            projects: Vec<Project>,
        }
        let url = format!("{}/projects", self.settings.auth_url);
        let answer = self.attempt(&Method::GET, &url, None, None)?;
        Ok(understood::<Rows>(&format!("GET {url}"), &answer.body)?.projects)
    }

    fn log_in(&self) -> Result<(), CloudError> {
        let url = format!("{}/auth/tokens", self.settings.auth_url);
        let what = format!("POST {url}");
        let body = self.settings.auth_body().to_string().into_bytes();
        // A token that was made and whose answer was lost does no harm: a log-in is repeated as reads are.
        let answer = self.repeated(&what, || request(&Method::POST, &url, None, None, Some(&body)))?;
        match answer.status {
            200 | 201 => {}
            401 | 403 => {
                let message = self.message(&answer);
                let who = self.settings.who();
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
        *self.roles.borrow_mut() = body.roles.into_iter().map(|role| role.name).collect();
        Ok(())
    }

    /// The address of a service.
    fn endpoint(&self, service: ServiceKind) -> Result<String, CloudError> {
        if let Some(url) = self.settings.endpoints.get(service.name) {
            return Ok(url.clone());
        }
        let catalogue = self.catalogue.borrow();
        let settings = &self.settings;
        let mut has = BTreeSet::new();
        for kind in service.kinds {
            let mut fit = Vec::new();
            for one in catalogue.iter().filter(|one| one.kind == *kind).flat_map(|one| &one.endpoints) {
                let region = one.region_id.as_ref().or(one.region.as_ref()).map_or("", String::as_str);
                let interface = one.interface.trim_end_matches("URL");
                has.insert(format!("{} in {}", shown::text(interface), shown::text(region)));
                let is_region = settings
                    .region
                    .as_ref()
                    .is_none_or(|wanted| one.region.as_ref() == Some(wanted) || one.region_id.as_ref() == Some(wanted));
                if is_region && interface == settings.interface {
                    fit.push((region, &one.url));
                }
            }
            let regions: BTreeSet<&str> = fit.iter().map(|(region, _)| *region).collect();
            if regions.len() > 1 {
                let regions: Vec<String> = regions.into_iter().map(shown::text).collect();
                return Err(CloudError::WhichRegion { service: service.name, regions: regions.join(", ") });
            }
            if let Some((_, url)) = fit.first() {
                return address(url).map_err(|why| CloudError::NotUnderstood {
                    what: format!("the catalogue's endpoint of {}", service.name),
                    why: why.to_owned(),
                });
            }
        }
        let region =
            settings.region.as_ref().map_or_else(String::new, |region| format!(" in region {}", shown::text(region)));
        let has = if has.is_empty() { "nothing".to_owned() } else { has.into_iter().collect::<Vec<_>>().join(", ") };
        let interface = settings.interface.clone();
        Err(CloudError::NoEndpoint { url: settings.auth_url.clone(), service: service.name, interface, region, has })
    }

    /// Reads all pages of a list. Only the query of a link to the next page is used: its host may be wrong behind a
    /// proxy, or hostile.
    pub(super) fn list<T: DeserializeOwned + Row>(
        &self,
        service: ServiceKind,
        version: &str,
        path: &str,
        key: &str,
    ) -> Result<Vec<T>, CloudError> {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let endpoint = self.endpoint(service)?;
        let mut query = format!("{query}&limit={}", self.limits.page);
        let mut asked = BTreeSet::new();
        let mut ids = BTreeSet::new();
        let mut rows: Vec<T> = Vec::new();
        loop {
            let url = format!("{endpoint}{path}?{query}");
            let what = format!("GET {}", shown::text(&url));
            let endless = |why: String| CloudError::Endless { what: what.clone(), why };
            if !asked.insert(query.clone()) {
                return Err(endless("a page leads back to itself".to_owned()));
            }
            if asked.len() > MOST_PAGES {
                return Err(endless(format!("it has more than {MOST_PAGES} pages")));
            }
            let answer = self.attempt(&Method::GET, &url, Some((service, version)), None)?;
            let (found, next) =
                page::<T>(&answer.body, key).map_err(|why| CloudError::NotUnderstood { what: what.clone(), why })?;
            drop(answer);
            let mut is_new = false;
            for row in found {
                // What moves between two pages while they are read comes twice.
                if ids.insert(row.id().to_owned()) {
                    rows.push(row);
                    is_new = true;
                }
            }
            if rows.len() > MOST_ROWS {
                return Err(endless(format!("it has more than {MOST_ROWS} rows")));
            }
            let Some(next) = next else { return Ok(rows) };
            if !is_new {
                return Err(endless("a page has nothing new and leads to another one".to_owned()));
            }
            let next =
                next.split_once('?').map(|(_, next)| next).filter(|next| next.bytes().all(|b| b.is_ascii_graphic()));
            next.ok_or_else(|| endless("a page leads to an address without a query".to_owned()))?
                .clone_into(&mut query);
        }
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
    fn attempt(
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
        self.http.send(request, self.until.get()).map_err(|failure| self.no_answer(what, failure))
    }

    fn repeated(
        &self,
        what: &str,
        request: impl Fn() -> Result<Request<Vec<u8>>, CloudError>,
    ) -> Result<Answer, CloudError> {
        let mut pause = self.limits.pause;
        for attempt in 1.. {
            let is_last = attempt == MOST_ATTEMPTS;
            let wait = match self.http.send(request()?, self.until.get()) {
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
            Failure::TooLong => CloudError::TooLong { what, limit_bytes: Http::limit_bytes() },
            Failure::Broken(why) | Failure::Final(why) => {
                CloudError::NoAnswer { what, why: self.without_secrets(&shown::text(&why)) }
            }
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
        let text = self.settings.secret().hide_in(text);
        self.token.borrow().as_ref().map_or(text.clone(), |token| token.hide_in(&text))
    }
}

/// A row of a list.
pub(super) trait Row {
    fn id(&self) -> &str;
}

impl Row for Volume {
    fn id(&self) -> &str {
        &self.id
    }
}

impl Row for Server {
    fn id(&self) -> &str {
        &self.id
    }
}

impl Row for Attachment {
    fn id(&self) -> &str {
        &self.id
    }
}

fn request(
    method: &Method,
    url: &str,
    token: Option<&Secret>,
    version: Option<(ServiceKind, &str)>,
    body: Option<&[u8]>,
) -> Result<Request<Vec<u8>>, CloudError> {
    let mut made = Request::builder().method(method).uri(url).header("Accept", "application/json");
    if let Some(token) = token {
        made = made.header("X-Auth-Token", token.reveal());
    }
    if let Some((service, version)) = version {
        made = made.header("OpenStack-API-Version", format!("{} {version}", service.header));
        if service == COMPUTE {
            // Nova before 2.27 knows this one alone.
            made = made.header("X-OpenStack-Nova-API-Version", version);
        }
    }
    if body.is_some() {
        made = made.header("Content-Type", "application/json");
    }
    made.body(body.unwrap_or_default().to_vec()).map_err(|_| CloudError::NotUnderstood {
        // The cause may quote a header, and a token is one.
        what: format!("{method} {}", shown::text(url)),
        why: "the address or the token has characters that HTTP does not allow".to_owned(),
    })
}

/// The seconds of a `Retry-After`. A date is not heeded: the pause grows by itself.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get("retry-after")?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

pub(super) fn understood<T: DeserializeOwned>(what: &str, body: &[u8]) -> Result<T, CloudError> {
    serde_json::from_slice(body)
        .map_err(|error| CloudError::NotUnderstood { what: shown::text(what), why: shown::text(&error.to_string()) })
}

/// The rows of a page, and the link to the next one.
fn page<T: DeserializeOwned>(body: &[u8], key: &str) -> Result<(Vec<T>, Option<String>), String> {
    // Parts of the answer, not yet read: rows go from its bytes into their own types.
    let parts: std::collections::BTreeMap<String, &serde_json::value::RawValue> =
        serde_json::from_slice(body).map_err(|error| shown::text(&error.to_string()))?;
    let of = |key: &str| parts.get(key).map(|part| part.get());
    let rows = of(key).ok_or_else(|| format!("it has no `{key}`"))?;
    let rows = serde_json::from_str(rows).map_err(|error| format!("`{key}`: {}", shown::text(&error.to_string())))?;
    let links: Vec<Link> = match of(&format!("{key}_links")) {
        Some(links) => serde_json::from_str::<Option<Vec<Link>>>(links)
            .map_err(|error| format!("`{key}_links`: {}", shown::text(&error.to_string())))?
            .unwrap_or_default(),
        None => Vec::new(),
    };
    Ok((rows, links.into_iter().find(|link| link.rel == "next").map(|link| link.href)))
}

/// An id that can stand in a path: it came in an answer.
pub(super) fn in_path(id: &str) -> Result<&str, CloudError> {
    let is_id = !id.is_empty() && id.len() <= 64 && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if is_id {
        return Ok(id);
    }
    let what = "an instance's id".to_owned();
    Err(CloudError::NotUnderstood { what, why: format!("{:?} is no UUID", shown::text(id)) })
}
