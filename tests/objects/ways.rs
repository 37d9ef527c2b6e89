//! Promise: requests go the way and at the rate that the config or the environment says.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::storing::Storing;
use crate::verbs::{Place, disk};

/// The name of the store that only the proxy knows.
const HIDDEN: &str = "store.invalid:80";

/// A proxy that knows CONNECT, and where to find [`HIDDEN`].
struct Proxy {
    url: String,
    connections: Arc<AtomicUsize>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    fn start(store: &Storing) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let proxy = Self { url, connections: Arc::default(), asked: Arc::default() };
        let (connections, asked) = (Arc::clone(&proxy.connections), Arc::clone(&proxy.asked));
        let behind = store.url.strip_prefix("http://").unwrap().to_owned();
        thread::spawn(move || {
            for stream in listener.incoming() {
                connections.fetch_add(1, Ordering::SeqCst);
                let (asked, behind) = (Arc::clone(&asked), behind.clone());
                thread::spawn(move || relay(stream.unwrap(), &behind, &asked).ok());
            }
        });
        proxy
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

fn relay(mut client: TcpStream, behind: &str, asked: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
    }
    let target = first.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next()).unwrap_or_default().to_owned();
    asked.lock().unwrap().push(target.clone());
    if target != HIDDEN && target != behind {
        return client.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");
    }
    let mut server = TcpStream::connect(behind)?;
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
    let (mut back, mut answers) = (client.try_clone()?, server.try_clone()?);
    thread::spawn(move || {
        let _ = std::io::copy(&mut answers, &mut back);
        back.shutdown(Shutdown::Both).ok();
    });
    std::io::copy(&mut reader, &mut server)?;
    server.shutdown(Shutdown::Write)
}

/// Adds lines to the table of the store, which is the last one.
fn add(place: &Place, lines: &str) {
    let path = place.host.at("volbak.toml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(path, format!("{text}{lines}\n")).unwrap();
}

#[test]
fn a_store_behind_a_proxy_is_reached_through_it() {
    let server = Storing::start();
    let proxy = Proxy::start(&server);
    let place = Place::in_process(&server, "");
    let image = disk(&place.host, "vol", 9);
    let config = fs::read_to_string(place.host.at("volbak.toml")).unwrap();
    fs::write(place.host.at("volbak.toml"), config.replace(&server.url, "http://store.invalid")).unwrap();
    add(&place, &format!("proxy = '{}'", proxy.url));
    place.good(&["snapshot", &image]);
    assert!(!proxy.asked.lock().unwrap().is_empty());
    assert!(proxy.asked.lock().unwrap().iter().all(|target| target == HIDDEN), "{:?}", proxy.asked);
    assert_eq!(place.good(&["cat", "vol:hostname"]), "vol\n");
    assert_eq!(place.whole_backups("vol").len(), 1);
    add(&place, "deadline_seconds = 1");
    fs::write(
        place.host.at("volbak.toml"),
        fs::read_to_string(place.host.at("volbak.toml")).unwrap().replace(&proxy.url, "http://127.0.0.1:9"),
    )
    .unwrap();
    let did = place.verb(&["list"]);
    assert!(did.status == 1 && did.stderr.contains("Connection refused"), "{did:?}");
    let config = fs::read_to_string(place.host.at("volbak.toml")).unwrap();
    fs::write(place.host.at("volbak.toml"), config.replace("http://127.0.0.1:9", "proxy.example.com")).unwrap();
    let did = place.verb(&["list"]);
    assert!(did.status == 2 && did.stderr.contains("proxy"), "{did:?}");
}

#[test]
fn the_environment_names_a_proxy_and_hosts_without_one() {
    let server = Storing::start();
    let proxy = Proxy::start(&server);
    let place = Place::in_process(&server, "");
    let image = disk(&place.host, "vol", 1);
    place.good(&["snapshot", &image]);
    let list = |without: &str| {
        let mut program = place.host.program(&["list"]);
        program.arg("--config").arg(place.host.at("volbak.toml"));
        program.env("HTTP_PROXY", &proxy.url).env("NO_PROXY", without);
        let output = program.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    list("127.0.0.1");
    assert_eq!(proxy.connections(), 0);
    list("other.example.com");
    assert!(proxy.connections() > 0);
}

#[test]
fn uploads_keep_their_rate() {
    let server = Storing::start();
    let place = Place::in_process(&server, "");
    let image = disk(&place.host, "vol", 10);
    add(&place, "upload_rate_limit = '4M'");
    let began = Instant::now();
    place.good(&["snapshot", &image]);
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(2400), "10 MiB in {took:?} at 4 MB/s");
    assert_eq!(place.whole_backups("vol").len(), 1);
}
