//! What unit tests need of the system: programs that can be run, a port at which nothing listens.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Command;

use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket};

/// Makes a shell script that can be run as a program. A child writes it: the kernel runs no file that is open for writing, and a
/// child that another test has just forked would have this process' descriptor of it until its exec.
pub(crate) fn program(path: &Path, script: &str) {
    let write = "printf '#!/bin/sh\\n%s\\n' \"$2\" >\"$1\"; chmod 755 \"$1\"";
    let status = Command::new("sh").args(["-ec", write, "sh"]).arg(path).arg(script).status().unwrap();
    assert!(status.success(), "{}: {status}", path.display());
}

/// A port of 127.0.0.1 at which nothing listens, and which is no other test's as long as this is there.
pub(crate) struct ClosedPort(OwnedFd);

impl ClosedPort {
    pub(crate) fn new() -> Self {
        let held = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        bind(&held, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).unwrap();
        Self(held)
    }

    pub(crate) fn number(&self) -> u16 {
        SocketAddrV4::try_from(getsockname(&self.0).unwrap()).unwrap().port()
    }
}
