//! How a token of Swift is got: from Keystone, or by Swift's own v1 log-in.

use std::time::{Duration, Instant};

use ureq::http::Request;

use crate::http::{Answer, Failure, Http, Secret, address};
use crate::objects::error::ObjectError;
use crate::openstack::{CloudError, CloudSettings, Limits, object_store};
use crate::shown;

/// A log-in has so much time at most.
const LOGIN_TIME: Duration = Duration::from_secs(60);
const MAX_ANSWER_BYTES: u64 = 1 << 20;

/// Who uses Swift.
#[derive(Clone, Debug)]
pub(in crate::objects) enum SwiftLogin {
    /// A user or an application credential of Keystone.
    Keystone(Box<CloudSettings>),
    /// A user of Swift itself: `X-Auth-User` and `X-Auth-Key`.
    V1 { url: String, user: String, key: Secret },
}

/// A token, and the address of the account.
#[derive(Clone, Debug)]
pub(super) struct Access {
    pub(super) token: Secret,
    pub(super) url: String,
}

impl SwiftLogin {
    /// Where it logs in.
    pub(in crate::objects) fn url(&self) -> &str {
        match self {
            Self::Keystone(cloud) => &cloud.auth_url,
            Self::V1 { url, .. } => url,
        }
    }

    pub(super) fn without_secrets(&self, text: &str) -> String {
        match self {
            // Keystone's answers stay within its client.
            Self::Keystone(_) => text.to_owned(),
            Self::V1 { key, .. } => key.hide_in(text),
        }
    }

    /// Logs in by `until`.
    pub(super) fn log_in(&self, http: Http, until: Instant) -> Result<Access, ObjectError> {
        let until = Instant::now().checked_add(LOGIN_TIME).map_or(until, |own| own.min(until));
        match self {
            Self::Keystone(cloud) => {
                let deadline = until.saturating_duration_since(Instant::now());
                let found = object_store(cloud, http, Limits { deadline, ..Limits::default() });
                let found = found.map_err(|error| of_cloud(error, cloud))?;
                Ok(Access { token: found.token, url: found.url })
            }
            Self::V1 { url, user, key } => {
                let request =
                    Request::builder().uri(url).header("x-auth-user", user).header("x-auth-key", key.reveal());
                let request = request.body(()).map_err(|_| ObjectError::Settings {
                    place: format!("the log-in at {url}"),
                    what: "the user or the key has characters that HTTP does not allow".to_owned(),
                })?;
                let answer = http.send(request, b"", MAX_ANSWER_BYTES, until);
                let answer = answer.map_err(|failure| self.failed(failure))?;
                self.understood(&answer)
            }
        }
    }

    fn failed(&self, failure: Failure) -> ObjectError {
        let (what, endpoint) = (format!("GET {}", self.url()), self.url().to_owned());
        match failure {
            Failure::TooLong => ObjectError::TooLong { what, limit_bytes: MAX_ANSWER_BYTES },
            Failure::Late => ObjectError::NoAnswer { what, why: "no answer in time".to_owned(), endpoint },
            Failure::Broken(why) => {
                ObjectError::NoAnswer { what, why: shown::text(&self.without_secrets(&why)), endpoint }
            }
            Failure::Final(why) => {
                ObjectError::LogIn { why: format!("{what}: {}", shown::text(&self.without_secrets(&why))) }
            }
        }
    }

    fn understood(&self, answer: &Answer) -> Result<Access, ObjectError> {
        let what = format!("GET {}", self.url());
        match answer.status {
            200..=299 => {}
            401 | 403 => {
                let Self::V1 { url, user, .. } = self else { unreachable!("Keystone's answers are read elsewhere") };
                let (user, status) = (shown::text(user), answer.status);
                let why = format!(
                    "{url} refuses the user {user} (status {status}); check ST_USER and ST_KEY, or the file of credentials"
                );
                return Err(ObjectError::LogIn { why });
            }
            status => {
                let hint =
                    "; it is the address of Swift's v1 log-in that is asked, like https://swift.example.com/auth/v1.0";
                return Err(ObjectError::Status { what, status, code: String::new(), message: String::new(), hint });
            }
        }
        let header = |name: &str| {
            answer.headers.get(name).and_then(|value| value.to_str().ok()).filter(|value| !value.is_empty())
        };
        let missing = |name: &str| ObjectError::NotUnderstood { what: what.clone(), why: format!("it has no {name}") };
        let token =
            header("x-auth-token").or_else(|| header("x-storage-token")).ok_or_else(|| missing("X-Auth-Token"))?;
        let url = header("x-storage-url").ok_or_else(|| missing("X-Storage-Url"))?;
        let url = address(url).map_err(|why| ObjectError::NotUnderstood {
            what: what.clone(),
            why: format!("its X-Storage-Url: {why}"),
        })?;
        Ok(Access { token: Secret::new(token), url })
    }
}

/// An error of Keystone's client, with what may pass told apart from what will not.
fn of_cloud(error: CloudError, cloud: &CloudSettings) -> ObjectError {
    let endpoint = cloud.auth_url.clone();
    match error {
        CloudError::NoAnswer { what, why } => ObjectError::NoAnswer { what, why, endpoint },
        CloudError::Deadline { what, .. } => {
            ObjectError::NoAnswer { what, why: "no answer in time".to_owned(), endpoint }
        }
        CloudError::Status { what, status, message, hint } => {
            ObjectError::Status { what, status, code: String::new(), message, hint }
        }
        other => ObjectError::LogIn { why: other.to_string() },
    }
}
