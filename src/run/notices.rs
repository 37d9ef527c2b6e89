//! Sends the notices of a run, and those that earlier runs could not send. Each `[[notify]]` has a thread and a deadline of
//! its own, so that a server that hangs delays neither the run nor the other notices.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::child::{ChildProgram, run};
use crate::config::{Config, distrusted_hook};
use crate::events::{Problem, Severity};
use crate::mail::SpoolSettings;
use crate::notify::{self, Channel, Notice, NotifyError, NotifyOptions};
use crate::outside::shown_command;
use crate::outside::spool::{self, Spool};

/// The time that a thread has beyond its deadline, before it is abandoned.
const GRACE: Duration = Duration::from_secs(5);

/// Notices of the start that are being sent.
#[derive(Debug, Default)]
pub struct Notices(BTreeMap<String, Receiver<Result<(), NotifyError>>>);

/// A notice in the spool.
#[derive(Serialize, Deserialize)]
struct Waiting {
    /// The name of its `[[notify]]`.
    notify: String,
    notice: Notice,
}

/// Notices that wait, with their files, by the name of their `[[notify]]`.
type ByName = BTreeMap<String, Vec<(PathBuf, Notice)>>;

/// A step of the work of one `[[notify]]`.
enum Step {
    Failed(NotifyError),
    /// The end of the run is sent.
    EndSent,
    /// This notice of the spool is sent.
    WaitingSent(PathBuf),
    /// Nothing is left to do.
    Finished,
}

/// What one `[[notify]]` did.
#[derive(Default)]
struct Done {
    failures: Vec<NotifyError>,
    is_end_sent: bool,
    sent: Vec<PathBuf>,
}

impl Notices {
    /// Begins to send the start of a run. Waits for nothing.
    pub fn start(config: &Config, notice: &Notice) -> Self {
        let wanted = config.notify.iter().filter(|notify| notify.wants(notice.event));
        Self(wanted.map(|notify| (notify.name.clone(), in_background(notify, notice.clone()))).collect())
    }

    /// Sends the end of a run, then what waits. Returns the problems.
    pub fn finish(mut self, config: &Config, notice: &Notice, is_whole: bool, now: DateTime<Utc>) -> Vec<Problem> {
        let mut problems = Vec::new();
        let (mut waiting, problem_of_spool) = waiting(config, now);
        problems.extend(problem_of_spool);
        let threads: Vec<_> = config
            .notify
            .iter()
            .map(|notify| {
                let started = self.0.remove(&notify.name);
                let waiting = waiting.remove(&notify.name).unwrap_or_default();
                // A run of a few volumes says nothing about the night that the check watches.
                let is_wanted = notify.wants(notice.event) && (is_whole || !is_check(notify));
                let (sender, done) = channel();
                let (own, notice) = (notify.clone(), is_wanted.then(|| notice.clone()));
                let thread = thread::Builder::new()
                    .name("notify".to_owned())
                    .spawn(move || carry_out(&own, started, notice.as_ref(), waiting, &sender));
                (notify, is_wanted, thread.map(|_| done))
            })
            .collect();
        let began = Instant::now();
        for (at, (notify, is_wanted, thread)) in (0_i64..).zip(threads) {
            let done = match thread {
                // The start, the end, what waits, and the last of these have a deadline each.
                Ok(steps) => Done::of(&steps, began + notify.deadline * 4 + GRACE * 2, notify),
                Err(error) => Done { failures: vec![no_thread(notify, &error)], ..Done::default() },
            };
            let tell = |what: String| Problem::new(Severity::Warning, format!("notify {}", notify.name), what);
            problems.extend(done.failures.iter().map(|error| tell(error.to_string())));
            for path in done.sent {
                if let Err(error) = fs::remove_file(&path) {
                    problems.push(tell(format!("{}: {error}", path.display())));
                }
            }
            if is_wanted && !done.is_end_sent && notify.keeps(notice.event) {
                let one = Waiting { notify: notify.name.clone(), notice: notice.clone() };
                // Two notices of one moment have two names.
                let kept = serde_json::to_vec(&one)
                    .map_err(std::io::Error::from)
                    .and_then(|bytes| of(&config.mail.spool).put(&bytes, now + chrono::Duration::nanoseconds(at)));
                problems
                    .extend(kept.err().map(|error| tell(format!("the notice is not kept for the next run: {error}"))));
            }
        }
        problems
    }
}

impl Done {
    /// What is done until this moment. What was sent by then is not sent again, even if the thread is abandoned.
    fn of(steps: &Receiver<Step>, until: Instant, notify: &NotifyOptions) -> Self {
        let mut done = Self::default();
        loop {
            match steps.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(Step::Failed(error)) => done.failures.push(error),
                Ok(Step::EndSent) => done.is_end_sent = true,
                Ok(Step::WaitingSent(path)) => done.sent.push(path),
                Ok(Step::Finished) => return done,
                Err(_) => {
                    done.failures.push(late(notify));
                    return done;
                }
            }
        }
    }
}

/// Sends a test to each of these at the same time, without the spool. The results are in their order.
pub fn test<'a>(
    targets: &[&'a NotifyOptions],
    notice: &Notice,
) -> impl Iterator<Item = (&'a NotifyOptions, Result<(), NotifyError>)> + use<'a> {
    let began = Instant::now();
    let started: Vec<_> = targets.iter().map(|notify| (*notify, in_background(notify, notice.clone()))).collect();
    started.into_iter().map(move |(notify, done)| {
        let left = (notify.deadline + GRACE).saturating_sub(began.elapsed());
        (notify, done.recv_timeout(left).unwrap_or_else(|_| Err(late(notify))))
    })
}

fn is_check(notify: &NotifyOptions) -> bool {
    matches!(notify.channel, Channel::Healthchecks(_))
}

fn of(settings: &SpoolSettings) -> Spool<'_> {
    Spool {
        directory: &settings.directory,
        kind: "notice",
        max_messages: settings.max_mails,
        max_days: settings.max_days,
    }
}

fn in_background(notify: &NotifyOptions, notice: Notice) -> Receiver<Result<(), NotifyError>> {
    let (sender, done) = channel();
    let own = notify.clone();
    let failed = sender.clone();
    let thread = thread::Builder::new().name("notify".to_owned()).spawn(move || {
        let _ = sender.send(send(&own, &notice));
    });
    if let Err(error) = thread {
        // The receiver is in this function, and there.
        let _ = failed.send(Err(no_thread(notify, &error)));
    }
    done
}

/// Waits for the start, so that a server gets the events in their order; then sends the end, then what waits. Of that, none is
/// begun after a deadline: a slow server gets the rest after the next run.
fn carry_out(
    notify: &NotifyOptions,
    started: Option<Receiver<Result<(), NotifyError>>>,
    notice: Option<&Notice>,
    waiting: Vec<(PathBuf, Notice)>,
    steps: &Sender<Step>,
) {
    // The receiver is gone if this thread is late.
    let tell = |step: Step| drop(steps.send(step));
    if let Some(started) = started {
        let result = started.recv_timeout(notify.deadline + GRACE).unwrap_or_else(|_| Err(late(notify)));
        if let Err(error) = result {
            tell(Step::Failed(error));
        }
    }
    let mut is_silent = false;
    match notice.map(|notice| send(notify, notice)) {
        Some(Ok(())) => tell(Step::EndSent),
        Some(Err(error)) => {
            is_silent = error.is_silence();
            tell(Step::Failed(error));
        }
        None => {}
    }
    let until = Instant::now() + notify.deadline;
    for (path, notice) in waiting {
        if is_silent || Instant::now() >= until {
            break;
        }
        match send(notify, &notice) {
            Ok(()) => tell(Step::WaitingSent(path)),
            Err(error) => {
                tell(Step::Failed(error));
                break;
            }
        }
    }
    tell(Step::Finished);
}

/// The notices in the spool, by the name of their `[[notify]]`. One that no `[[notify]]` waits for is dropped.
fn waiting(config: &Config, now: DateTime<Utc>) -> (ByName, Vec<Problem>) {
    let tell = |what: String| Problem::new(Severity::Warning, "notify spool", what);
    // Without notices, a user that cannot read the spool has none in it.
    if config.notify.is_empty() && fs::read_dir(&config.mail.spool.directory).is_err() {
        return (BTreeMap::new(), Vec::new());
    }
    // This drops those that are too old.
    let listed = of(&config.mail.spool).list(now);
    let mut problems: Vec<Problem> = listed.problems.into_iter().map(tell).collect();
    // Another config may send them.
    if config.notify.is_empty() {
        return (BTreeMap::new(), problems);
    }
    let mut waiting: ByName = BTreeMap::new();
    for (path, _) in listed.waiting {
        let read = spool::read(&path).and_then(|bytes| Ok(serde_json::from_slice::<Waiting>(&bytes)?));
        let why = match read {
            Ok(one) if config.notify.iter().any(|notify| notify.name == one.notify) => {
                waiting.entry(one.notify).or_default().push((path, one.notice));
                continue;
            }
            Ok(one) => format!("the config has no [[notify]] named {:?} any more", one.notify),
            Err(error) => format!("it is no notice spooled by volbak: {error}"),
        };
        let dropped = fs::remove_file(&path).map_or_else(|error| error.to_string(), |()| "dropped".to_owned());
        problems.push(tell(format!("{}: {dropped}: {why}", path.display())));
    }
    (waiting, problems)
}

fn send(notify: &NotifyOptions, notice: &Notice) -> Result<(), NotifyError> {
    match &notify.channel {
        Channel::Command(command) => run_command(command, notify.deadline, notice),
        _ => notify::send(notify, notice),
    }
}

fn run_command(command: &[String], timeout: Duration, notice: &Notice) -> Result<(), NotifyError> {
    let program = command.first().map_or_else(String::new, |program| shown_command(program, &[]));
    let wrong = |why: String| NotifyError::Command { program: program.clone(), why };
    if let Some(why) = distrusted_hook(command) {
        return Err(wrong(why));
    }
    let argv: Vec<OsString> = command.iter().map(OsString::from).collect();
    let input = serde_json::to_vec(notice).map_err(|error| wrong(error.to_string()))?;
    let environment = [
        ("VOLBAK_PHASE", "notify".to_owned()),
        ("VOLBAK_OUTCOME", notice.event.word().to_owned()),
        ("VOLBAK_SUBJECT", notice.subject.clone()),
    ];
    let job = ChildProgram { argv: &argv, environment: &environment, input: &input, timeout, cancel: None };
    run(&job).map(drop).map_err(|error| wrong(error.to_string()))
}

fn late(notify: &NotifyOptions) -> NotifyError {
    NotifyError::Deadline {
        host: notify.channel.word().to_owned(),
        seconds: notify.deadline.as_secs(),
        last: String::new(),
    }
}

fn no_thread(notify: &NotifyOptions, error: &std::io::Error) -> NotifyError {
    NotifyError::NoAnswer {
        host: notify.channel.word().to_owned(),
        why: format!("no thread could be started: {error}"),
    }
}
