//! Waiting for a condition, up to a limit that only a failure reaches; and processes that do not outlive their test.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use chrono::{Local, Utc};
use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket};

use super::guest::sh;

/// On a machine that is busy with other things, what takes a moment takes a minute.
const LIMIT: Duration = Duration::from_secs(180);

/// Returns when it is so, and fails the test when that takes too long.
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !is_so() {
        assert!(Instant::now() < end, "not so after {} seconds: {what}", LIMIT.as_secs());
        sleep(Duration::from_millis(20));
    }
}

/// Fails unless no loop device shows a file at or below this path. The kernel detaches one a moment after its last user has
/// gone: it unmounts later for a process that was killed, and a child of another test may hold a descriptor until it execs.
pub fn assert_no_loop_device(path: &Path) {
    let shows = |shown: &str| Path::new(shown.trim_end_matches(" (deleted)")).starts_with(path);
    wait_until(&format!("no loop device shows {}", path.display()), || {
        !sh("losetup -ln -O BACK-FILE").lines().any(|shown| shows(shown.trim()))
    });
}

/// Waits, when midnight is near, here or in UTC: what a test makes now, and calls today's later, is of one day.
pub fn day_that_lasts() {
    let dates = |later: u64| {
        let at = Utc::now() + Duration::from_secs(later);
        (at.date_naive(), at.with_timezone(&Local).date_naive())
    };
    wait_until("the next day", || dates(0) == dates(120));
}

/// What `attempt` gives of the moment that it is for. One that came too late gives nothing, and there is another: how fast a
/// program comes to that moment, and when its test looks at it, is the machine's.
pub fn met<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + LIMIT;
    loop {
        if let Some(result) = attempt() {
            return result;
        }
        assert!(Instant::now() < end, "in {} seconds no attempt came in time: {what}", LIMIT.as_secs());
    }
}

/// A port of 127.0.0.1 at which nothing listens, and which is no other test's as long as this is there.
pub struct ClosedPort(OwnedFd);

impl ClosedPort {
    pub fn new() -> Self {
        let held = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        bind(&held, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).unwrap();
        Self(held)
    }

    pub fn number(&self) -> u16 {
        SocketAddrV4::try_from(getsockname(&self.0).unwrap()).unwrap().port()
    }
}

/// A process that is killed when it goes out of scope.
pub struct Killed(pub Child);

impl Killed {
    /// One that does nothing but have this open.
    pub fn holding(file: File) -> Self {
        Self(Command::new("sleep").arg("infinity").stdin(Stdio::from(file)).spawn().unwrap())
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
