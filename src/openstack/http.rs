//! One request and its answer, over ureq and rustls: bounded in time and in length, without redirects.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ureq::Agent;
use ureq::config::AutoHeaderValue;
use ureq::http::{HeaderMap, Request};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, TlsProvider, parse_pem};

use super::error::CloudError;

/// A longer answer is not read: pages keep honest ones far below.
const MAX_ANSWER_BYTES: u64 = 16 << 20;
const MAX_CA_BYTES: u64 = 4 << 20;

/// Sends requests.
#[derive(Debug)]
pub(super) struct Http {
    agent: Agent,
}

/// An answer, whatever its status.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Failure {
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
    pub(super) fn new(ca_file: Option<&Path>) -> Result<Self, CloudError> {
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .root_certs(RootCerts::Specific(Arc::new(authorities(ca_file)?)))
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .build();
        let config = Agent::config_builder()
            .http_status_as_error(false)
            // A token is for the service that it was sent to.
            .max_redirects(0)
            .tls_config(tls)
            .user_agent(AutoHeaderValue::from(concat!("volbak/", env!("CARGO_PKG_VERSION"))))
            .max_idle_age(Duration::from_secs(10))
            .build();
        Ok(Self { agent: Agent::new_with_config(config) })
    }

    /// Sends a request, and reads the answer to its end, by `until`.
    pub(super) fn send(&self, request: Request<Vec<u8>>, until: Instant) -> Result<Answer, Failure> {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Failure::Late);
        }
        let (parts, body) = request.into_parts();
        let answer = if body.is_empty() {
            let request =
                self.agent.configure_request(Request::from_parts(parts, ())).timeout_global(Some(left)).build();
            self.agent.run(request)
        } else {
            let request =
                self.agent.configure_request(Request::from_parts(parts, body)).timeout_global(Some(left)).build();
            self.agent.run(request)
        };
        let (parts, mut body) = answer.map_err(failure)?.into_parts();
        let body = body.with_config().limit(MAX_ANSWER_BYTES).read_to_vec().map_err(failure)?;
        Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, body })
    }

    /// The most bytes of an answer.
    pub(super) fn limit_bytes() -> u64 {
        MAX_ANSWER_BYTES
    }
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

fn authorities(ca_file: Option<&Path>) -> Result<Vec<Certificate<'static>>, CloudError> {
    let Some(path) = ca_file else {
        let found = rustls_native_certs::load_native_certs();
        return Ok(found.certs.iter().map(|one| Certificate::from_der(one.as_ref()).to_owned()).collect());
    };
    let wrong = |what: String| CloudError::File { path: path.to_owned(), what };
    let unreadable = |source| CloudError::Unreadable { path: path.to_owned(), source };
    let metadata = fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() || metadata.len() > MAX_CA_BYTES {
        return Err(wrong("it is no file with certificates".to_owned()));
    }
    let text = fs::read(path).map_err(unreadable)?;
    let mut certificates = Vec::new();
    for item in parse_pem(&text) {
        match item {
            Ok(PemItem::Certificate(certificate)) => certificates.push(certificate.to_owned()),
            Ok(_) => {}
            Err(error) => return Err(wrong(format!("a certificate in it is damaged: {error}"))),
        }
    }
    if certificates.is_empty() {
        return Err(wrong("it holds no certificate in PEM form".to_owned()));
    }
    Ok(certificates)
}
