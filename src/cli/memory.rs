//! A limit of this process's address space (`ulimit -v`, LimitAS=).

use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Resource, getrlimit};

/// mallopt(3), M_ARENA_MAX.
const ARENAS: &str = "MALLOC_ARENA_MAX";

/// Restarts this program with a single malloc arena if its address space is limited. glibc reserves 64 MiB for the arena of
/// each thread and uses little of it; under a limit, the buffers then lack address space. glibc reads the number of arenas
/// only when a process starts.
pub(crate) fn spare_address_space() {
    if getrlimit(Resource::As).current.is_none() || std::env::var_os(ARENAS).is_some() {
        return;
    }
    let Ok(program) = std::env::current_exe() else { return };
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_else(|| "volbak".into());
    // Returns only on failure; this process then continues unchanged.
    let _ = Command::new(program).arg0(name).args(arguments).env(ARENAS, "1").exec();
}
