//! Carries a plan out: a small loop over its steps.

use std::collections::BTreeSet;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use super::decide::decide;
use super::error::RecoverError;
use super::inside;
use super::journal::{Journal, Line, put_away};
use super::look::Looker;
use super::plan::{Action, Named, Phase, Plan};
use super::report::{Outcome, RecoverReport, StepResult};
use super::seen::{Seen, task};
use super::steps::{Ended, Fate, GRACE, carry_out, fate, in_time};
use super::{Begun, RecoverOptions, begin, observe, situation};
use crate::outside::SystemCommands;

/// A plan is a few kilobytes; a larger file is none.
const MAX_PLAN_BYTES: u64 = 64 << 20;

/// Makes the plan, and carries it out. `save` gets the plan before anything is changed; `now` says the time.
pub fn apply(
    options: &RecoverOptions,
    now: impl Fn() -> DateTime<Utc>,
    save: impl FnOnce(&Plan, &Path) -> Result<(), RecoverError>,
    progress: &dyn Fn(&StepResult),
) -> Result<RecoverReport, RecoverError> {
    let (started_at, began) = (now(), Instant::now());
    let begun = begin(options, started_at)?;
    let first = observe::observe(&begun.session, started_at)?;
    let looker = |map| Looker { session: &begun.session, cancel: &options.cancel, patience: options.patience, map };
    // What stops everything stops before the wait.
    stopped(&begun.decide(options, &first)?)?;
    looker(&first.map).settle(options.settle)?;
    let seen = observe::observe(&begun.session, now())?;
    let plan = begun.decide(options, &seen)?;
    stopped(&plan)?;
    if let Some(path) = &options.seen_plan {
        compare(path, &plan)?;
    }
    save(&plan, &begun.journal_path.with_extension("plan.json"))?;
    let mut report = RecoverReport {
        cloud: plan.cloud.clone(),
        started_at,
        duration_seconds: 0,
        was_resumed: false,
        was_interrupted: false,
        steps: Vec::new(),
        aborted: None,
        left: Vec::new(),
        unclear: plan.unclear.clone(),
        notes: plan.notes.clone(),
        doubts: begun.doubts.clone(),
    };
    let is_begun = begun.earlier.header.is_some() && !begun.situation.is_new;
    let is_left = is_begun && !begun.earlier.is_complete();
    if !plan.steps.is_empty() || is_left {
        report.was_resumed = is_left;
        report.was_interrupted = is_left && begun.earlier.is_cut_off();
        let mut journal = open_journal(&begun, started_at)?;
        let mut run = Run { options, begun: &begun, looker: looker(&seen.map), now: &now, progress, last: None };
        if let Err(error) = run.steps(&plan, &mut journal, &mut report.steps) {
            journal.note_end(&error, now());
            report.aborted = Some(crate::error::with_causes(&error));
        } else {
            let begun = Begun { past: journal.earlier().past(), ..begun };
            let seen = observe::observe(&begun.session, now())?;
            let again = begun.decide(options, &seen)?;
            let is_done = again.is_right() && plan.instance.is_none();
            let at = now();
            journal.write(if is_done { Line::Complete { at } } else { Line::Ended { at } })?;
            (report.left, report.unclear, report.notes) = (again.steps, again.unclear, again.notes);
        }
    }
    report.duration_seconds = began.elapsed().as_secs();
    Ok(report)
}

fn stopped(plan: &Plan) -> Result<(), RecoverError> {
    if plan.stops.is_empty() { Ok(()) } else { Err(RecoverError::Stopped(plan.stops.join("; "))) }
}

fn open_journal(begun: &Begun, now: DateTime<Utc>) -> Result<Journal, RecoverError> {
    if begun.situation.is_new {
        put_away(&begun.journal_path, &begun.earlier)?;
    }
    let mut header = situation::header(&begun.session, now);
    header.outage = begun.situation.outage;
    header.saved_map = begun.situation.saved.as_ref().map(|map| map.taken_at);
    let journal = Journal::open(&begun.journal_path, &header)?;
    if begun.earlier.header.is_some() && !begun.situation.is_new && *journal.earlier() != begun.earlier {
        // Another call wrote to it since it was read.
        return Err(RecoverError::Locked(begun.journal_path.clone()));
    }
    Ok(journal)
}

/// Whether nothing is in the plan that was not in the one that was seen before.
fn compare(path: &Path, plan: &Plan) -> Result<(), RecoverError> {
    let unreadable = |source| RecoverError::PlanFile { path: path.to_owned(), source };
    let wrong = |what: String| RecoverError::Plan { path: path.to_owned(), what };
    let len = std::fs::metadata(path).map_err(unreadable)?.len();
    if len > MAX_PLAN_BYTES {
        return Err(wrong("it is no plan: it is too long".to_owned()));
    }
    let before = Plan::from_bytes(&std::fs::read(path).map_err(unreadable)?)
        .map_err(|what| wrong(format!("it is no plan: {what}")))?;
    if before.cloud != plan.cloud {
        return Err(wrong(format!("it is of the cloud {}, and this is {}", before.cloud, plan.cloud)));
    }
    let new: Vec<String> = plan
        .steps
        .iter()
        .filter(|step| !before.steps.iter().any(|seen| seen.action.is_same(&step.action)))
        .map(|step| step.action.to_string())
        .collect();
    if new.is_empty() {
        return Ok(());
    }
    let what = format!("nothing was changed: the cloud is not as it was; what is not in the plan: {}", new.join("; "));
    Err(wrong(what))
}

/// The steps under way.
struct Run<'a, N> {
    options: &'a RecoverOptions,
    begun: &'a Begun,
    looker: Looker<'a>,
    now: &'a N,
    progress: &'a dyn Fn(&StepResult),
    /// When the last step began.
    last: Option<Instant>,
}

impl<N: Fn() -> DateTime<Utc>> Run<'_, N> {
    fn steps(&mut self, plan: &Plan, journal: &mut Journal, results: &mut Vec<StepResult>) -> Result<(), RecoverError> {
        let past = journal.earlier().past();
        for step in &plan.steps {
            if let Action::Attach { volume, instance, device } = &step.action
                && !past.wanted.contains_key(&(volume.id.clone(), instance.id.clone()))
            {
                let (volume, instance) = (volume.id.clone(), instance.id.clone());
                journal.write(Line::Wanted { volume, instance, device: device.clone() })?;
            }
        }
        let mut restarted: Vec<usize> = Vec::new();
        for step in &plan.steps {
            if !matches!(step.action, Action::Restart { .. }) {
                self.started(&mut restarted, results)?;
            }
            if self.options.cancel.is_cancelled() {
                return Err(RecoverError::Cancelled);
            }
            let (outcome, what) = self.step(&step.action, journal)?;
            let result = StepResult { action: step.action.clone(), outcome, what };
            (self.progress)(&result);
            if matches!(step.action, Action::Restart { .. }) && result.outcome == Outcome::Done {
                restarted.push(results.len());
            }
            results.push(result);
        }
        self.started(&mut restarted, results)
    }

    /// Waits until what was restarted has started. Some hang at boot until their volume is there: that is no failure here.
    fn started(&self, restarted: &mut Vec<usize>, results: &mut [StepResult]) -> Result<(), RecoverError> {
        for at in restarted.drain(..) {
            let Some(result) = results.get_mut(at) else { continue };
            let Some(id) = result.action.instance().map(|instance| instance.id.clone()) else { continue };
            if !self.looker.idle(&id)? {
                result.outcome = Outcome::Failed;
                result.what = format!("Nova is still working on it after {} s", self.options.patience.as_secs());
            } else if self.begun.session.server(&id)?.status == "ERROR" {
                result.outcome = Outcome::Failed;
                "its status is ERROR: see the log of nova-compute".clone_into(&mut result.what);
            }
        }
        Ok(())
    }

    /// One step: decided again, announced, carried out, and seen to be done.
    fn step(&mut self, action: &Action, journal: &mut Journal) -> Result<(Outcome, String), RecoverError> {
        if matches!(action, Action::Restart { .. })
            && let Some(refused) = self.ready(action, journal)?
        {
            return Ok(refused);
        }
        if let (Action::RebootInside { instance, address }, Some(user)) = (action, &self.options.inside) {
            journal.write(Line::Begin { step: action.clone(), at: (self.now)(), known: BTreeSet::new() })?;
            return Ok(match inside::reboot(user, address, &instance.id, &SystemCommands) {
                Ok(()) => (Outcome::Done, String::new()),
                Err(what) => (Outcome::Failed, what),
            });
        }
        let seen = self.looker.at(action, (self.now)())?;
        match self.again(action, &seen, journal)? {
            Again::Due => {}
            Again::AlreadySo => {
                journal.write(Line::Done { step: action.clone(), at: (self.now)() })?;
                return Ok((Outcome::AlreadySo, String::new()));
            }
            Again::Changed(what) => return Ok((Outcome::NotDone, what)),
        }
        self.pace();
        let ended = if let Action::Restart { instance } = action {
            self.restart(action, &instance.id, journal)?
        } else {
            journal.write(Line::Begin { step: action.clone(), at: (self.now)(), known: BTreeSet::new() })?;
            carry_out(action, &self.looker)?
        };
        match ended {
            Ended::Done => {
                journal.write(Line::Done { step: action.clone(), at: (self.now)() })?;
                Ok((Outcome::Done, String::new()))
            }
            Ended::Failed(what) => Ok((Outcome::Failed, what)),
        }
    }

    /// The documented pause between two steps.
    fn pace(&mut self) {
        if let Some(last) = self.last {
            sleep(self.options.pause.saturating_sub(last.elapsed()));
        }
        self.last = Some(Instant::now());
    }

    /// Decides again about what the step is about, by a fresh look.
    fn again(&self, action: &Action, seen: &Seen, journal: &Journal) -> Result<Again, RecoverError> {
        let past = journal.earlier().past();
        let only =
            if action.volume().is_none() { action.instance().map(|instance| instance.id.as_str()) } else { None };
        let mut plan = decide(seen, &self.begun.wish(self.options, only, &past));
        // The look was at one thing: that others are not there says nothing.
        plan.steps.retain(|step| match action.volume() {
            Some(volume) => step.action.volume().is_some_and(|other| other.id == volume.id),
            None => step.action.volume().is_none(),
        });
        stopped(&plan)?;
        if plan.steps.iter().any(|step| step.action.is_same(action)) {
            // A volume that still has to be cleaned is not attached.
            let is_dirty = plan.steps.iter().any(|step| step.action.phase() == Phase::Clean);
            return Ok(if is_dirty && matches!(action, Action::Attach { .. }) {
                Again::Changed("the step before it was not done".to_owned())
            } else {
                Again::Due
            });
        }
        let id = action.volume().or(action.instance()).map(|named| named.id.as_str());
        let is_about = |other: Option<&Named>| other.map(|named| named.id.as_str()) == id;
        let unclear =
            plan.unclear.iter().find(|finding| is_about(finding.volume.as_ref().or(finding.instance.as_ref())));
        if let Some(finding) = unclear {
            return Ok(Again::Changed(finding.what.clone()));
        }
        match plan.steps.iter().find(|step| step.action.phase() == action.phase()) {
            Some(step) => Ok(Again::Changed(format!("it changed meanwhile; now: {}", step.action))),
            None => Ok(Again::AlreadySo),
        }
    }

    /// Before a restart: what Nova is at has to end, and what an earlier call asked for may still be on its way.
    fn ready(&self, action: &Action, journal: &Journal) -> Result<Option<(Outcome, String)>, RecoverError> {
        let Some(instance) = action.instance() else { return Ok(None) };
        let past = journal.earlier().past();
        if let Some(restart) = past.restarts.get(&instance.id).filter(|restart| !restart.is_done) {
            let left = restart.at.and_then(|at| (at + GRACE - (self.now)()).to_std().ok()).unwrap_or(Duration::ZERO);
            let left = left.min(GRACE);
            self.looker.until(left, || {
                let (_, actions) = self.looker.instance(&instance.id)?;
                Ok(restart.was_seen(&actions))
            })?;
        }
        if self.looker.idle(&instance.id)? {
            return Ok(None);
        }
        let found = self.looker.instance(&instance.id)?.0;
        let what = format!(
            "Nova is still working on it ({}): a second reboot would be carried out, too. If this stays so, its compute service was \
             killed as it began: `openstack server set --state active {}`, and recover again",
            task(&found).unwrap_or("?"),
            instance.id
        );
        Ok(Some((Outcome::NotDone, what)))
    }

    /// Asks for the reboot, once, and waits until Nova has it in its list.
    fn restart(&self, action: &Action, id: &str, journal: &mut Journal) -> Result<Ended, RecoverError> {
        let known = self.looker.reboots(id)?;
        journal.write(Line::Begin { step: action.clone(), at: (self.now)(), known: known.clone() })?;
        match self.begun.session.reboot_hard(id).map_err(fate) {
            Ok(()) => {}
            Err(Fate::Refused(why)) => return Ok(Ended::Failed(why)),
            Err(Fate::Unknown(error)) => return Err(error),
        }
        in_time(&self.looker, self.looker.patience, "Nova does not list the reboot", || {
            Ok(self.looker.reboots(id)?.iter().any(|request| !known.contains(request)))
        })
    }
}

/// What a second decision says about a step.
enum Again {
    Due,
    AlreadySo,
    Changed(String),
}
