//! One request and its answer, over ureq and rustls: bounded in time and in length, without redirects. The clients of
//! OpenStack and of object stores are built on it.

pub(crate) mod files;
mod secret;
#[cfg(feature = "s3")]
mod slowed;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

#[cfg(feature = "s3")]
use ureq::SendBody;
use ureq::config::AutoHeaderValue;
use ureq::http::{HeaderMap, Method, Request};
use ureq::tls::{RootCerts, TlsConfig, TlsProvider};
use ureq::{Agent, AsSendBody, Proxy};

use self::files::{FileError, authorities};
pub(crate) use self::secret::Secret;
#[cfg(feature = "s3")]
use self::slowed::Slowed;
#[cfg(feature = "s3")]
use crate::outside::rate::Rate;

/// Sends requests.
#[derive(Debug)]
pub(crate) struct Http {
    agent: Agent,
}

/// An answer, whatever its status.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The time is over.
    Late,
    /// The connection could not be made, or broke: another attempt may succeed.
    Broken(String),
    /// Another attempt would fail, too.
    Final(String),
    TooLong,
}

impl Http {
    /// With the authorities in `ca_file`, or those of the system.
    pub(crate) fn new(ca_file: Option<&Path>) -> Result<Self, FileError> {
        let tls = Self::tls(ca_file)?;
        Ok(Self { agent: Self::agent(tls, Proxy::try_from_env()) })
    }

    /// As [`Self::new`]; requests go through this proxy, an address like `http://proxy.example.com:3128`, and not through
    /// that of the environment.
    #[cfg(feature = "s3")]
    pub(crate) fn through(proxy: Proxy, ca_file: Option<&Path>) -> Result<Self, FileError> {
        Ok(Self { agent: Self::agent(Self::tls(ca_file)?, Some(proxy)) })
    }

    fn tls(ca_file: Option<&Path>) -> Result<TlsConfig, FileError> {
        Ok(TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .root_certs(RootCerts::Specific(Arc::new(authorities(ca_file)?)))
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .build())
    }

    fn agent(tls: TlsConfig, proxy: Option<Proxy>) -> Agent {
        let config = Agent::config_builder()
            .proxy(proxy)
            .http_status_as_error(false)
            // A token is for the service that it was sent to.
            .max_redirects(0)
            .tls_config(tls)
            .user_agent(AutoHeaderValue::from(concat!("volbak/", env!("CARGO_PKG_VERSION"))))
            .max_idle_age(Duration::from_secs(10))
            .build();
        Agent::new_with_config(config)
    }

    /// Sends a request, and reads the answer to its end, by `until`. An answer longer than `limit_bytes` is not read.
    pub(crate) fn send(
        &self,
        request: Request<()>,
        body: &[u8],
        limit_bytes: u64,
        until: Instant,
    ) -> Result<Answer, Failure> {
        if body.is_empty() && request.method() != Method::PUT && request.method() != Method::POST {
            return self.exchange(request, limit_bytes, until);
        }
        // An empty body has a length, too: servers answer 411 without one.
        self.exchange(request.map(|()| body), limit_bytes, until)
    }

    /// As [`Self::send`]; the body is sent no faster than `rate`.
    #[cfg(feature = "s3")]
    pub(crate) fn send_slowly(
        &self,
        mut request: Request<()>,
        body: &[u8],
        rate: &Rate,
        limit_bytes: u64,
        until: Instant,
    ) -> Result<Answer, Failure> {
        request.headers_mut().insert("content-length", body.len().into());
        let mut slowed = Slowed::new(body, rate);
        self.exchange(request.map(|()| SendBody::from_reader(&mut slowed)), limit_bytes, until)
    }

    fn exchange(&self, request: Request<impl AsSendBody>, limit_bytes: u64, until: Instant) -> Result<Answer, Failure> {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Failure::Late);
        }
        let request = self.agent.configure_request(request).timeout_global(Some(left)).build();
        let (parts, mut body) = self.agent.run(request).map_err(failure)?.into_parts();
        let body = body.with_config().limit(limit_bytes).read_to_vec().map_err(failure)?;
        Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, body })
    }
}

/// The address of a service, without a slash at its end. It may hold no password, no query and no fragment.
pub(crate) fn address(url: &str) -> Result<String, &'static str> {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    let rest = rest.ok_or("an address begins with http:// or https://")?;
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if host.contains('@') {
        return Err("an address holds no user and no password; write them where credentials belong");
    }
    if host.is_empty() || !url.bytes().all(|byte| byte.is_ascii_graphic()) || url.contains(['?', '#']) {
        return Err("an address is like https://cloud.example.com:5000/v3");
    }
    Ok(url.trim_end_matches('/').to_owned())
}

/// The seconds of a `Retry-After`. A date is not heeded: the pause grows by itself.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get("retry-after")?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

fn failure(error: ureq::Error) -> Failure {
    match error {
        ureq::Error::Timeout(_) => Failure::Late,
        ureq::Error::BodyExceedsLimit(_) => Failure::TooLong,
        ureq::Error::Io(error) => io_failure(error),
        ureq::Error::HostNotFound => Failure::Broken("the name of the host cannot be resolved".to_owned()),
        ureq::Error::ConnectionFailed => Failure::Broken("the connection failed".to_owned()),
        ureq::Error::Protocol(error) => Failure::Broken(format!("the answer breaks HTTP: {error}")),
        other => Failure::Final(other.to_string()),
    }
}

fn io_failure(error: io::Error) -> Failure {
    let (kind, text) = (error.kind(), error.to_string());
    // The body's reader wraps its errors.
    if let Some(inner) = error.into_inner()
        && let Ok(inner) = inner.downcast::<ureq::Error>()
    {
        return failure(*inner);
    }
    match kind {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Failure::Late,
        // A certificate that is not trusted comes this way, too.
        io::ErrorKind::InvalidData => Failure::Final(text),
        _ => Failure::Broken(text),
    }
}
