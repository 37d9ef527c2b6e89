//! Lowers the priority of this process and its children, to give way to the instances: niceness and I/O class.

use std::ffi::OsString;

use crate::config::{Config, IoNice};
use crate::events::{Problem, Severity};
use crate::outside::RunCommand;

/// Lowers the priority of this thread; later threads and programs inherit it, so call it first. Failures are
/// reported as problems.
pub(super) fn lower(config: &Config, commands: &dyn RunCommand) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut tell = |key: &str, what: String| problems.push(Problem::new(Severity::Warning, key, what));
    if let Some(nice) = config.nice {
        // The config allows only 0 to 19.
        let nice = i32::try_from(nice).unwrap_or(19);
        if let Err(error) = rustix::process::setpriority_process(None, nice) {
            tell("nice", format!("the niceness could not be set: {error}"));
        }
    }
    if let Some(ionice) = config.ionice {
        // rustix has no ioprio_set; util-linux, present on every Debian, has ionice.
        let outcome = commands.run("ionice", &ionice_arguments(ionice, std::process::id()));
        let failure = match outcome {
            Ok(output) if output.status.success() => None,
            Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            Err(error) => Some(error.to_string()),
        };
        if let Some(failure) = failure {
            tell("ionice", format!("the I/O class could not be set: {failure}"));
        }
    }
    problems
}

fn ionice_arguments(ionice: IoNice, process: u32) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = match ionice {
        IoNice::Idle => vec!["-c".into(), "3".into()],
        IoNice::BestEffort(level) => vec!["-c".into(), "2".into(), "-n".into(), level.to_string().into()],
    };
    arguments.extend(["-p".into(), process.to_string().into()]);
    arguments
}
