//! A real TLS server with a private authority.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use volbak::error::with_causes;
use volbak::openstack::{CloudSettings, Limits, Session, Sources};

use crate::client::variables;
use crate::testkit::tls::{authority, server_config};

/// Answers each log-in; returns its port.
fn keystone(certificate: &Path) -> u16 {
    let config = server_config(certificate);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(connection) = rustls::ServerConnection::new(Arc::clone(&config)) else { continue };
            let mut tls = rustls::StreamOwned::new(connection, stream.unwrap());
            // A client that does not trust this server ends here.
            let mut asked = Vec::new();
            let mut buffer = [0; 4096];
            while !String::from_utf8_lossy(&asked).contains("very secret") {
                match tls.read(&mut buffer) {
                    Ok(count) if count > 0 => asked.extend_from_slice(&buffer[..count]),
                    _ => break,
                }
            }
            let body = r#"{"token": {"catalog": [], "roles": [{"name": "admin"}]}}"#;
            let answer = format!(
                "HTTP/1.1 201 Created\r\nX-Subject-Token: t\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
            let _gone = tls.write_all(answer.as_bytes()).and_then(|()| tls.flush());
        }
    });
    port
}

fn open(url: &str, ca_file: Option<&Path>) -> Result<Session, String> {
    let mut sources = Sources { ca_file: ca_file.map(Path::to_owned), ..variables(url) };
    sources.environment.insert("OS_PASSWORD".to_owned(), "very secret".to_owned());
    let limits = Limits { deadline: Duration::from_secs(60), pause: Duration::from_millis(1), ..Limits::default() };
    CloudSettings::find(&sources)
        .and_then(|settings| Session::open(settings, limits))
        .map_err(|error| with_causes(&error))
}

#[test]
fn a_private_authority_is_trusted_where_it_is_named_and_for_its_own_name_alone() {
    let folder = tempfile::tempdir().unwrap();
    let ours = authority(folder.path(), "ours", "DNS:localhost");
    let other = authority(folder.path(), "other", "DNS:localhost");
    let port = keystone(&ours);
    let url = format!("https://localhost:{port}");
    assert!(open(&url, Some(&ours)).unwrap().is_admin());

    for (url, ca_file, says) in [
        (url.clone(), Some(&*other), "certificate"),
        // That of the system does not know it.
        (url, None, "certificate"),
        // Another name than the certificate's.
        (format!("https://127.0.0.1:{port}"), Some(&*ours), "not valid for"),
    ] {
        let began = Instant::now();
        let said = open(&url, ca_file).err().unwrap();
        assert!(said.contains(says) && said.contains(&url), "{said}");
        assert!(!said.contains("secret"), "{said}");
        // Another attempt would fail, too.
        assert!(began.elapsed() < Duration::from_secs(30), "{said}");
    }
    fs::write(folder.path().join("empty.pem"), "").unwrap();
    let said = open("https://localhost:1", Some(&folder.path().join("empty.pem"))).err().unwrap();
    assert!(said.contains("no certificate"), "{said}");
}
