//! Memory limits of this process. A failed allocation aborts a Rust program, and some libraries panic. Where a
//! limit is set (`ulimit -v`, LimitAS=), the required memory is therefore tested in advance, and its lack reported.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use rustix::process::{Resource, getrlimit};

/// Fails with `OutOfMemory` if the limits of this process do not allow this number of additional bytes. Never fails
/// without limits: then the kernel manages the host's memory.
pub fn require(bytes: usize) -> io::Result<()> {
    if getrlimit(Resource::As).current.is_none() && getrlimit(Resource::Data).current.is_none() {
        return Ok(());
    }
    // Freed at once, and never touched.
    Vec::<u8>::new().try_reserve_exact(bytes).map_err(|_| io::ErrorKind::OutOfMemory.into())
}

/// The result of `make`, which allocates about this number of bytes and panics on failure.
pub fn made<T>(bytes: usize, make: impl FnOnce() -> T) -> io::Result<T> {
    require(bytes)?;
    catch_unwind(AssertUnwindSafe(make)).map_err(|_| io::ErrorKind::OutOfMemory.into())
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::{made, require};

    #[test]
    fn a_panic_of_a_library_is_an_error() {
        require(1 << 20).unwrap();
        assert_eq!(made(1, || 7).unwrap(), 7);
        let failed = made(1, || panic!("a test's own: returned NULL: out of memory"));
        let error: io::Error = failed.map(|(): ()| ()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
    }
}
