//! Delivers a mail through a transport, before a deadline.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use lettre::SmtpTransport;
use lettre::Transport as _;
use lettre::address::Envelope;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{self, Certificate, CertificateStore, TlsParameters};
use lettre::transport::smtp::extension::ClientId;

use super::compose::{Mail, address};
use super::error::MailError;
use super::settings::{Settings, SmtpServer, Tls, Transport, as_domain};
use crate::outside::programs;
use crate::outside::spool;
use crate::outside::trust::changeable;

/// Polling interval for the end of a program.
const POLL: Duration = Duration::from_millis(20);

/// The recipients that were not sent a mail, and the reasons.
pub(super) struct Undelivered {
    pub(super) to: Vec<String>,
    /// The recipient, or `mail` for all of them. At least one.
    pub(super) errors: Vec<(String, MailError)>,
}

/// Sends to all recipients at once. If the server refuses, sends to each recipient alone, so that one wrong address does not
/// keep the mail from the others.
pub(super) fn to_all(
    settings: &Settings,
    mail: &Mail,
    ends: Instant,
    queued: DateTime<Utc>,
) -> Result<(), Undelivered> {
    let Err(error) = once(settings, mail, ends, queued) else { return Ok(()) };
    if mail.to.len() < 2 || !error.is_refusal() {
        return Err(Undelivered { to: mail.to.clone(), errors: vec![("mail".to_owned(), error)] });
    }
    let mut undelivered = Undelivered { to: Vec::new(), errors: Vec::new() };
    for recipient in &mail.to {
        if let Err(error) = once(settings, &mail.only_to(vec![recipient.clone()]), ends, queued) {
            undelivered.to.push(recipient.clone());
            undelivered.errors.push((recipient.clone(), error));
        }
    }
    if undelivered.to.is_empty() { Ok(()) } else { Err(undelivered) }
}

fn once(settings: &Settings, mail: &Mail, ends: Instant, queued: DateTime<Utc>) -> Result<(), MailError> {
    let late = || MailError::Deadline { seconds: settings.deadline.as_secs() };
    let left = ends.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(late());
    }
    match &settings.transport {
        Transport::Smtp(server) => {
            let transport = smtp(server, &settings.host, left)?;
            let to = mail.to.iter().map(|recipient| address(recipient)).collect::<Result<Vec<_>, _>>()?;
            let envelope = Envelope::new(Some(address(&mail.from)?), to).map_err(MailError::Compose)?;
            let message = mail.message.clone();
            within(left, move || transport.send_raw(&envelope, &message))?
                .ok_or_else(late)?
                .map(|_| ())
                .map_err(|source| MailError::Smtp { server: server.shown(), source })
        }
        Transport::Sendmail { program } => sendmail(program, mail, ends, late),
        Transport::File { directory } => {
            let io = |source| MailError::Io { path: directory.clone(), source };
            spool::make_directory(directory).map_err(io)?;
            spool::write_new(directory, &spool::new_name(queued, "eml"), &mail.message).map_err(io)
        }
    }
}

/// All steps before the mail itself.
pub(super) fn try_server(server: &SmtpServer, own_name: &str, limit: Duration) -> Result<(), MailError> {
    let transport = smtp(server, own_name, limit)?;
    let late = || MailError::Deadline { seconds: limit.as_secs() };
    let answered = within(limit, move || transport.test_connection())?
        .ok_or_else(late)?
        .map_err(|source| MailError::Smtp { server: server.shown(), source })?;
    if answered { Ok(()) } else { Err(MailError::Hung { server: server.shown() }) }
}

/// Runs `work` on a thread of its own, and waits for it until the deadline. A late thread is abandoned: it ends with the
/// timeout of its connection, or with the process.
fn within<T: Send + 'static>(
    left: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<Option<T>, MailError> {
    let (done, result) = mpsc::channel();
    thread::Builder::new()
        .name("mail".to_owned())
        .spawn(move || {
            // The receiver is gone if the thread is late.
            let _ = done.send(work());
        })
        .map_err(MailError::NoThread)?;
    Ok(result.recv_timeout(left).ok())
}

impl SmtpServer {
    fn port(&self) -> u16 {
        self.port.unwrap_or(match self.tls {
            Tls::Immediate => 465,
            Tls::StartTls => 587,
            Tls::None => 25,
        })
    }

    fn shown(&self) -> String {
        format!("{}:{}", self.host, self.port())
    }
}

fn smtp(server: &SmtpServer, own_name: &str, timeout: Duration) -> Result<SmtpTransport, MailError> {
    let security = match server.tls {
        Tls::None => client::Tls::None,
        Tls::StartTls => client::Tls::Required(tls_parameters(server)?),
        Tls::Immediate => client::Tls::Wrapper(tls_parameters(server)?),
    };
    let mut builder = SmtpTransport::builder_dangerous(&server.host)
        .port(server.port())
        .tls(security)
        .hello_name(ClientId::Domain(as_domain(own_name)))
        .timeout(Some(timeout));
    if let Some((user, password)) = &server.login {
        builder = builder.credentials(Credentials::new(user.clone(), password.fetch()?.reveal().to_owned()));
    }
    Ok(builder.build())
}

fn tls_parameters(server: &SmtpServer) -> Result<TlsParameters, MailError> {
    let mut builder = TlsParameters::builder(server.host.clone());
    if let Some(path) = &server.ca_file {
        let wrong = |why: String| MailError::Certificate { path: path.to_owned(), why };
        // A user who can change the certificate can choose the server that gets the password.
        if let Some(found) = changeable(path).map_err(|error| wrong(error.to_string()))? {
            return Err(wrong(found.to_string()));
        }
        let pem = fs::read(path).map_err(|error| wrong(error.to_string()))?;
        if !pem.windows(11).any(|window| window == b"-----BEGIN ") {
            return Err(wrong("the file contains no PEM".to_owned()));
        }
        let certificate = Certificate::from_pem(&pem).map_err(|error| wrong(error.to_string()))?;
        builder = builder.certificate_store(CertificateStore::None).add_root_certificate(certificate);
    }
    builder.build().map_err(|source| MailError::Smtp { server: server.shown(), source })
}

/// Runs sendmail, with `-i`, so that a line with a single dot does not end the mail, and the recipients after `--`.
fn sendmail(program: &Path, mail: &Mail, ends: Instant, late: impl Fn() -> MailError) -> Result<(), MailError> {
    let io = |source| MailError::Io { path: program.to_owned(), source };
    if let Some(found) = changeable(program).map_err(io)? {
        return Err(io(std::io::Error::new(std::io::ErrorKind::PermissionDenied, format!("not run: {found}"))));
    }
    let mut child = programs::command(program.as_os_str(), programs::Child::Chosen)
        .map_err(io)?
        .args(["-i", "-f", &mail.from, "--"])
        .args(&mail.to)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(io)?;
    // Each pipe has a thread of its own, so that a program that neither reads nor writes cannot block this one.
    let stderr = match pipes(&mut child, with_newlines(&mail.message)) {
        Ok(stderr) => stderr,
        Err(error) => {
            // The error to report is that no thread could be started.
            let _ = child.kill().and_then(|()| child.wait());
            return Err(io(error));
        }
    };
    let Some(status) = wait_until(&mut child, ends).map_err(io)? else {
        return Err(late());
    };
    if status.success() {
        return Ok(());
    }
    let stderr = stderr.recv_timeout(Duration::from_secs(1)).unwrap_or_default();
    let stderr = String::from_utf8_lossy(&stderr).trim().replace('\n', "; ");
    Err(MailError::Program { program: program.to_owned(), status, stderr })
}

/// Writes the mail to the program and reads its standard error, on one thread each.
fn pipes(child: &mut Child, message: Vec<u8>) -> std::io::Result<mpsc::Receiver<Vec<u8>>> {
    let start = |name: &str| thread::Builder::new().name(name.to_owned());
    if let Some(mut stdin) = child.stdin.take() {
        start("mail-input").spawn(move || stdin.write_all(&message))?;
    }
    let (said, stderr) = mpsc::channel();
    if let Some(pipe) = child.stderr.take() {
        start("mail-output").spawn(move || {
            let mut bytes = Vec::new();
            let _ = pipe.take(1000).read_to_end(&mut bytes);
            said.send(bytes)
        })?;
    }
    Ok(stderr)
}

/// Waits for the program to end. At `ends` it is killed, and the result is `None`.
fn wait_until(child: &mut Child, ends: Instant) -> std::io::Result<Option<std::process::ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= ends {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(POLL);
    }
}

/// Replaces CRLF by LF: a local program expects the line ends of this host.
fn with_newlines(message: &[u8]) -> Vec<u8> {
    let mut lines = Vec::with_capacity(message.len());
    for (at, byte) in message.iter().enumerate() {
        if *byte != b'\r' || message.get(at + 1) != Some(&b'\n') {
            lines.push(*byte);
        }
    }
    lines
}
