//! Runs programs named in the config, such as hooks and dumps, with a time limit, in a process group that is ended
//! as a whole.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::outside::{Cancel, programs};

const POLL: Duration = Duration::from_millis(20);
/// The time between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(2);
/// The maximum output to keep; all of it is read.
const KEPT_BYTES: usize = 256 << 10;

/// A program to run.
pub(super) struct ChildProgram<'a> {
    pub(super) argv: &'a [OsString],
    /// Additional environment variables.
    pub(super) environment: &'a [(&'a str, String)],
    /// Its standard input.
    pub(super) input: &'a [u8],
    pub(super) timeout: Duration,
    /// Set if the run may be cancelled.
    pub(super) cancel: Option<&'a Cancel>,
}

/// Why a program failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum ChildError {
    /// It could not be started.
    NotStarted(io::Error),
    /// It failed, with this output.
    Failed(ExitStatus, String),
    /// It exceeded its time limit and was killed.
    TimedOut(Duration),
    /// The operation was cancelled.
    Cancelled,
}

impl std::error::Error for ChildError {}

impl fmt::Display for ChildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotStarted(error) => write!(f, "it could not be started: {error}"),
            Self::Failed(status, said) if said.is_empty() => write!(f, "{status}"),
            Self::Failed(status, said) => write!(f, "{status}: {said}"),
            Self::TimedOut(timeout) => write!(f, "it was killed, having taken more than {} s", timeout.as_secs()),
            Self::Cancelled => f.write_str("it was ended, since the run was stopped"),
        }
    }
}

/// Runs the program and returns the end of its standard output. It has its own process group, which is ended as a
/// whole. Of volbak's own variables it gets only those of the job.
pub(super) fn run(job: &ChildProgram<'_>) -> Result<Vec<u8>, ChildError> {
    let program = job.argv.first().map_or(OsStr::new(""), OsString::as_os_str);
    let mut child = programs::command(program, programs::Child::Chosen)
        .map_err(ChildError::NotStarted)?
        .args(job.argv.iter().skip(1))
        .envs(job.environment.iter().map(|(name, value)| (name, value)))
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(ChildError::NotStarted)?;
    let (stdout, stderr) = match pipes(&mut child, job.input) {
        Ok(pipes) => pipes,
        Err(error) => {
            end(&mut child);
            return Err(ChildError::NotStarted(error));
        }
    };
    let ended = wait(&mut child, job);
    let text = |pipe: Option<Receiver<Vec<u8>>>| {
        // A child left running may keep the pipe open forever.
        pipe.and_then(|pipe| pipe.recv_timeout(Duration::from_secs(1)).ok()).unwrap_or_default()
    };
    let status = ended?;
    if status.success() {
        return Ok(text(stdout));
    }
    let said = String::from_utf8_lossy(&text(stderr)).into_owned();
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = lines[lines.len().saturating_sub(5)..].join("; ");
    Err(ChildError::Failed(status, last.chars().map(|c| if c.is_control() { ' ' } else { c }).take(600).collect()))
}

type Drained = Option<Receiver<Vec<u8>>>;

/// Starts a thread for each pipe: a program that reads no input or writes a lot must not block the run. Fails if a
/// thread cannot be started.
fn pipes(child: &mut Child, input: &[u8]) -> io::Result<(Drained, Drained)> {
    if let Some(mut stdin) = child.stdin.take() {
        let input = input.to_vec();
        // A program may ignore its input.
        start("input", move || drop(stdin.write_all(&input)))?;
    }
    Ok((child.stdout.take().map(drain).transpose()?, child.stderr.take().map(drain).transpose()?))
}

fn start(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name(name.to_owned()).spawn(work).map(drop)
}

fn drain(mut pipe: impl Read + Send + 'static) -> io::Result<Receiver<Vec<u8>>> {
    let (done, result) = mpsc::channel();
    start("output", move || {
        let mut kept = Vec::new();
        let mut buffer = [0; 8192];
        while let Ok(read @ 1..) = pipe.read(&mut buffer) {
            kept.extend_from_slice(&buffer[..read]);
            if kept.len() > 2 * KEPT_BYTES {
                kept.drain(..kept.len() - KEPT_BYTES);
            }
        }
        // The receiver is gone after the timeout.
        let _ = done.send(kept);
    })?;
    Ok(result)
}

fn wait(child: &mut Child, job: &ChildProgram<'_>) -> Result<ExitStatus, ChildError> {
    let ends = Instant::now() + job.timeout;
    loop {
        if let Some(status) = child.try_wait().map_err(ChildError::NotStarted)? {
            return Ok(status);
        }
        let why = if Instant::now() >= ends {
            ChildError::TimedOut(job.timeout)
        } else if job.cancel.is_some_and(Cancel::is_cancelled) {
            ChildError::Cancelled
        } else {
            thread::sleep(POLL);
            continue;
        };
        end(child);
        return Err(why);
    }
}

/// Ends the program and its children, SIGTERM first.
fn end(child: &mut Child) {
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let signal = |signal| {
        // ESRCH: the group has ended.
        let _ = group.map(|group| kill_process_group(group, signal));
    };
    signal(Signal::TERM);
    let ends = Instant::now() + GRACE;
    while Instant::now() < ends && !matches!(child.try_wait(), Ok(Some(_))) {
        thread::sleep(POLL);
    }
    // Also if the program itself has ended: its children may still run.
    signal(Signal::KILL);
    // After SIGKILL only the kernel can delay the end.
    let _ = child.wait();
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::time::{Duration, Instant};

    use super::{ChildError, ChildProgram, run};
    use crate::outside::Cancel;

    fn shell(script: &str, timeout: Duration, cancel: Option<&Cancel>) -> Result<String, ChildError> {
        let argv: Vec<OsString> = ["/bin/sh", "-c", script].map(OsString::from).to_vec();
        let environment = [("VOLBAK_VOLUME", "vol 1".to_owned())];
        run(&ChildProgram { argv: &argv, environment: &environment, input: b"input\n", timeout, cancel })
            .map(|stdout| String::from_utf8(stdout).unwrap())
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn input_and_output_of_a_program_are_passed() {
        assert_eq!(shell("read x; echo \"$x $VOLBAK_VOLUME\"", LONG, None).unwrap(), "input vol 1\n");
        let Err(ChildError::Failed(status, said)) = shell("echo out; echo why >&2; exit 7", LONG, None) else {
            panic!()
        };
        assert_eq!((status.code(), said.as_str()), (Some(7), "why"));
        let missing = run(&ChildProgram {
            argv: &["/no/such".into()],
            environment: &[],
            input: b"",
            timeout: LONG,
            cancel: None,
        });
        assert!(matches!(missing, Err(ChildError::NotStarted(_))));
    }

    #[test]
    fn a_program_over_its_time_limit_is_killed_with_all_children() {
        let started = Instant::now();
        let dir = tempfile::tempdir().unwrap();
        let pid_file = dir.path().join("pid");
        let script = format!("trap '' TERM; sleep 1000 & echo $! >{}; wait; wait; sleep 1000", pid_file.display());
        // On a busy machine it may not have begun by then.
        let pid = [1, 8, 64].into_iter().find_map(|times| {
            let outcome = shell(&script, Duration::from_millis(500 * times), None);
            assert!(matches!(outcome, Err(ChildError::TimedOut(_))), "{outcome:?}");
            std::fs::read_to_string(&pid_file).ok().filter(|pid| pid.ends_with('\n'))
        });
        let pid = pid.expect("it had half a minute to begin");
        assert!(started.elapsed() < Duration::from_secs(200));
        // A killed process may need a moment to disappear.
        loop {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
            if stat.is_empty() || stat.contains(") Z ") {
                break;
            }
            assert!(started.elapsed() < Duration::from_secs(300), "its child lives on: {stat}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    #[test]
    fn a_wish_to_stop_ends_it_and_a_great_deal_of_output_does_not_block_it() {
        let cancel = Cancel::default();
        cancel.flag().store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(matches!(shell("sleep 1000", LONG, Some(&cancel)), Err(ChildError::Cancelled)));
        assert!(shell("head -c 3000000 /dev/zero; echo >&2", LONG, None).unwrap().len() < 600_000);
    }
}
