//! A real sshd for a test, on an address of this machine.

use std::fs;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::Command;
use std::thread;

/// Starts an sshd for each connection to `address` (`ADDRESS:PORT`), as inetd does. Returns the port.
pub fn serve_ssh(address: &str, config: String, log: PathBuf) -> u16 {
    let listener = TcpListener::bind(address).unwrap();
    let port = listener.local_addr().unwrap().port();
    // The thread ends with the program: it waits for a connection that may never come.
    thread::spawn(move || {
        for stream in listener.incoming() {
            let socket = OwnedFd::from(stream.unwrap());
            let mut sshd = Command::new("/usr/sbin/sshd");
            sshd.args(["-i", "-e", "-f", &config]).stderr(fs::File::create(&log).unwrap());
            let mut sshd = sshd.stdin(socket.try_clone().unwrap()).stdout(socket).spawn().unwrap();
            thread::spawn(move || sshd.wait());
        }
    });
    port
}
