//! A server on 127.0.0.1 that answers as a test says: with a recorded answer, or with what no honest server sends.

use std::collections::BTreeMap;
use std::io::{BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::testkit::http::Request;
use crate::testkit::tls::server_config;

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    /// With its query.
    pub(crate) path: String,
    /// Names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
    /// The same, as it came.
    #[allow(dead_code, reason = "for tests/objects")]
    pub(crate) bytes: Vec<u8>,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// What to send.
pub(crate) enum Reply {
    /// A whole answer.
    Json(u16, String),
    /// With further header lines.
    With(u16, Vec<String>, String),
    /// These bytes, and then the end.
    Raw(Vec<u8>),
    /// A header, and then these bytes one by one with a pause between two.
    Drip(Vec<u8>, Duration),
    /// A header without a length, and then zeros until the client goes.
    Endless,
    /// Nothing; the connection stays open.
    Hang,
    /// The end, at once.
    Close,
}

pub(crate) struct Server {
    pub(crate) url: String,
    pub(crate) asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    /// `answer` gets each request and the server's own address.
    pub(crate) fn start(answer: impl Fn(&Asked, &str) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_with(None, answer)
    }

    /// The same as `https://localhost:PORT`, with this certificate.
    #[allow(dead_code, reason = "for tests/objects")]
    pub(crate) fn start_tls(
        certificate: &Path,
        answer: impl Fn(&Asked, &str) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::start_with(Some(certificate), answer)
    }

    fn start_with(certificate: Option<&Path>, answer: impl Fn(&Asked, &str) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let tls = certificate.map(server_config);
        let url = url_of(&listener, tls.is_some());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (answer, all, base) = (Arc::new(answer), Arc::clone(&asked), url.clone());
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (answer, all, base) = (Arc::clone(&answer), Arc::clone(&all), base.clone());
                let tls = tls.clone();
                thread::spawn(move || {
                    let stream = stream.unwrap();
                    let _ = stream.set_nodelay(true);
                    // A client that goes away is an everyday matter here.
                    let _ = match tls {
                        None => serve(stream, &*answer, &all, &base),
                        Some(tls) => serve(over_tls(stream, tls), &*answer, &all, &base),
                    };
                });
            }
        });
        Self { url, asked }
    }

    /// `METHOD path` of each request so far.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.asked.lock().unwrap().iter().map(|asked| format!("{} {}", asked.method, asked.path)).collect()
    }
}

/// The address of a server: a certificate names `localhost`.
pub(crate) fn url_of(listener: &TcpListener, is_tls: bool) -> String {
    let address = listener.local_addr().unwrap();
    if is_tls { format!("https://localhost:{}", address.port()) } else { format!("http://{address}") }
}

/// A connection of a TLS server.
pub(crate) fn over_tls(
    stream: TcpStream,
    tls: Arc<rustls::ServerConfig>,
) -> rustls::StreamOwned<rustls::ServerConnection, TcpStream> {
    rustls::StreamOwned::new(rustls::ServerConnection::new(tls).unwrap(), stream)
}

fn serve<S: Read + Write>(
    stream: S,
    answer: &(dyn Fn(&Asked, &str) -> Reply + Send + Sync),
    all: &Mutex<Vec<Asked>>,
    base: &str,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    while let Some(Request { method, target: path, headers, body: bytes }) = Request::read(&mut reader)? {
        let body = String::from_utf8_lossy(&bytes).into_owned();
        let asked = Asked { method, path, headers, body, bytes };
        all.lock().unwrap().push(asked.clone());
        let stream = reader.get_mut();
        match answer(&asked, base) {
            Reply::Json(status, body) => send(stream, status, &[], &body)?,
            Reply::With(status, lines, body) => send(stream, status, &lines, &body)?,
            Reply::Raw(bytes) => return stream.write_all(&bytes).and_then(|()| stream.flush()),
            Reply::Drip(bytes, pause) => {
                write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", bytes.len())?;
                for byte in bytes {
                    stream.write_all(&[byte])?;
                    thread::sleep(pause);
                }
            }
            Reply::Endless => {
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n[")?;
                loop {
                    stream.write_all(&vec![b' '; 65536])?;
                }
            }
            Reply::Hang => {
                // Until the client goes.
                reader.read_to_end(&mut Vec::new())?;
                return Ok(());
            }
            Reply::Close => return Ok(()),
        }
    }
    Ok(())
}

fn send(stream: &mut impl Write, status: u16, lines: &[String], body: &str) -> std::io::Result<()> {
    let mut lines = lines.join("\r\n");
    lines.push_str(if lines.is_empty() { "" } else { "\r\n" });
    let head = format!(
        "HTTP/1.1 {status} Status\r\nContent-Length: {}\r\nContent-Type: application/json\r\n{lines}\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes())?;
    stream.flush()
}

/// Keystone's answer to a log-in: the services lie under `base`.
pub(crate) fn token(base: &str, token: &str) -> Reply {
    let endpoint = |path: &str| {
        format!(r#"[{{"interface": "public", "region": "R1", "region_id": "R1", "url": "{base}{path}"}}]"#)
    };
    let body = format!(
        r#"{{"token": {{"roles": [{{"name": "admin"}}], "catalog": [
            {{"type": "volumev3", "name": "cinderv3", "endpoints": {}}},
            {{"type": "compute", "name": "nova", "endpoints": {}}}]}}}}"#,
        endpoint("/volume/v3/p1"),
        endpoint("/compute/v2.1")
    );
    Reply::With(201, vec![format!("X-Subject-Token: {token}")], body)
}
