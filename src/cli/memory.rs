//! A limit of this process's address space (`ulimit -v`, LimitAS=).

use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Resource, getrlimit};

/// mallopt(3), M_ARENA_MAX.
const ARENAS: &str = "MALLOC_ARENA_MAX";

/// Starts this program anew with a single arena when its address space is limited. glibc reserves 64 MiB for each arena, one
/// a thread, of which nearly all is never used; under a limit that takes from the buffers the room that they need. How many
/// arenas there are is only read when a process starts.
pub(crate) fn spare_address_space() {
    if getrlimit(Resource::As).current.is_none() || std::env::var_os(ARENAS).is_some() {
        return;
    }
    let Ok(program) = std::env::current_exe() else { return };
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_else(|| "volbak".into());
    // Returns only when it fails; then this process goes on as it is.
    let _ = Command::new(program).arg0(name).args(arguments).env(ARENAS, "1").exec();
}
