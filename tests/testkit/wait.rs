//! Waiting for a condition, up to a limit that only a failure reaches; and processes that do not outlive their test.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

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
