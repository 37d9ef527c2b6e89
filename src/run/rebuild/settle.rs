//! Adapts a plan to this machine's tools before anything is written: a call that mkfs here would refuse is replaced
//! by one that it accepts, and the plan lists the difference.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use rustix::fs::MemfdFlags;

use super::features::without_unknown_features;
use super::makefs::call::ToolCall;
use super::plan::{DiskPlan, MakeStep, Step};
use crate::outside::RunCommand;
use crate::shown;

/// Why a tool of this machine would fail.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(super) enum ToolRefusal {
    /// It cannot be run.
    #[error("{0}")]
    NotRun(io::Error),
    /// It refuses the call.
    #[error("{program}: {said}")]
    Said {
        /// Its name.
        program: &'static str,
        /// The first line of its standard error.
        said: String,
    },
}

/// Adapts each step. The error lists what cannot be made here at all.
pub(super) fn settle(plan: &mut DiskPlan, commands: &dyn RunCommand) -> Result<(), Vec<String>> {
    let mut refusals = Vec::new();
    for step in &mut plan.steps {
        if let Step::Make(made) = step
            && let Err(why) = settle_step(made, commands)
        {
            refusals.push(format!("{}: {why}", shown::path(made.region.as_bytes())));
        }
    }
    if refusals.is_empty() { Ok(()) } else { Err(refusals) }
}

fn settle_step(step: &mut MakeStep, commands: &dyn RunCommand) -> Result<(), ToolRefusal> {
    let unknown = without_unknown_features(&mut step.make, commands);
    if !unknown.is_empty() {
        let program = step.make.program;
        step.differs.push(format!("made without {}, which {program} here does not know", unknown.join(", ")));
    }
    let otherwise = step.otherwise.take();
    if step.make.program != "mkfs.xfs" {
        return Ok(());
    }
    let Err(said) = tried(&mut step.make, step.size_bytes, commands) else { return Ok(()) };
    let Some((mut other, what)) = otherwise else { return Err(said) };
    without_unknown_features(&mut other, commands);
    tried(&mut other, step.size_bytes, commands)?;
    step.differs.push(format!("{what} ({said})"));
    step.make = other;
    Ok(())
}

/// Tests mkfs.xfs with `-N`, which writes nothing, on a sparse file of the same size.
fn tried(call: &mut ToolCall, size_bytes: u64, commands: &dyn RunCommand) -> Result<(), ToolRefusal> {
    let file = rustix::fs::memfd_create("volbak-mkfs", MemfdFlags::CLOEXEC).map(File::from);
    let Ok(file) = file.and_then(|file| rustix::fs::ftruncate(&file, size_bytes).map(|()| file)) else {
        // A real problem will show when it is made.
        return Ok(());
    };
    let path = OsString::from(format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd()));
    let run = |call: &ToolCall| {
        let args: Vec<OsString> =
            std::iter::once("-N".into()).chain(call.args.iter().cloned()).chain([path.clone()]).collect();
        let output = commands.run(call.program, &args).map_err(ToolRefusal::NotRun)?;
        let text = String::from_utf8_lossy(&output.stderr);
        // The rest is the usage text.
        let first = text.lines().next().unwrap_or_default().chars().take(300).collect::<String>();
        if output.status.success() {
            Ok(())
        } else {
            Err(ToolRefusal::Said { program: call.program, said: shown::text(&first) })
        }
    };
    let first = run(call);
    // xfsprogs before 6.0 lacks this option, and accepts the call without it.
    let unsupported = call.args.iter().position(|arg| arg == "--unsupported");
    let (Err(said), Some(at)) = (&first, unsupported) else { return first };
    if !said.to_string().contains("--unsupported") {
        return first;
    }
    call.args.remove(at);
    run(call)
}
