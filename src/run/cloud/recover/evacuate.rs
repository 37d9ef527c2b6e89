//! The verb `cloud evacuate`: recreates the instances of a lost compute host on others, each once, through the API.

mod plan;
mod report;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use chrono::{DateTime, Local, Utc};

use self::plan::decide;
use super::error::RecoverError;
use super::journal::{Earlier, Header, Journal, Line, put_away, read};
use super::look::Looker;
use super::observe::observe;
use super::report::Outcome;
use super::seen::{Asked, COMPUTE_BINARY, EVACUATE, Seen, task};
use super::situation::{SAME_OUTAGE, default_journal, header};
use super::steps::{Fate, GRACE, fate};
use crate::config::OpenStackOptions;
use crate::error::with_causes;
use crate::openstack::Session;
use crate::outside::Cancel;
use crate::run::cloud::collect;
use crate::store::Destination;
use crate::store::catalog::{BackupState, list_volume};

pub use self::plan::{EvacuationPlan, Kept, VolumeBackup};
pub use self::report::{Evacuated, EvacuationReport};

/// Options of an evacuation.
#[derive(Debug)]
pub struct EvacuateOptions {
    /// The cloud.
    pub openstack: OpenStackOptions,
    /// Where the backups are.
    pub destination: Option<Destination>,
    /// The lost compute host.
    pub host: String,
    /// The host that gets the instances; the scheduler chooses if `None`.
    pub to: Option<String>,
    /// Whether the instances' own disks lie on storage that all compute hosts share.
    pub shared_disks: bool,
    /// The journal; a file in `/var/lib/volbak/recover` if `None`.
    pub journal: Option<PathBuf>,
    /// The pause between two instances.
    pub pause: Duration,
    /// How long one instance may take.
    pub patience: Duration,
    /// The wish to stop.
    pub cancel: Cancel,
}

struct Begun {
    session: Session,
    journal: PathBuf,
    header: Header,
    earlier: Earlier,
    /// The journal of a loss that is over.
    over: Option<Earlier>,
    doubts: Vec<String>,
    stops: Vec<String>,
}

fn begin(options: &EvacuateOptions, now: DateTime<Utc>) -> Result<Begun, RecoverError> {
    if !options.openstack.enabled {
        return Err(RecoverError::NoCloud);
    }
    let (session, doubts) = collect::open(&options.openstack)?;
    let mut header = header(&session, now);
    header.of = format!("evacuation of {}", options.host);
    let journal =
        options.journal.clone().unwrap_or_else(|| default_journal(&format!("{} {}", header.cloud, header.of)));
    let mut earlier = read(&journal, &header)?;
    let mut over = None;
    if earlier.is_complete() {
        // That loss is over; this is another one.
        over = Some(std::mem::take(&mut earlier));
    }
    let stops = too_old(&earlier, &journal, now).into_iter().collect();
    Ok(Begun { session, journal, header, earlier, over, doubts, stops })
}

/// A journal that was not completed, and not written to for long, says nothing about instances that came back to a host which was
/// lost again.
fn too_old(earlier: &Earlier, journal: &Path, now: DateTime<Utc>) -> Option<String> {
    let last = earlier.last().filter(|last| now - *last > SAME_OUTAGE)?;
    Some(format!(
        "the journal {} is of an evacuation of this host that was not completed, and was written to last at {}: name another \
         one with --journal, and what was asked for then is asked for again",
        journal.display(),
        last.with_timezone(&Local).format("%Y-%m-%d %H:%M:%S")
    ))
}

/// Makes the plan. Nothing is changed.
pub fn plan(options: &EvacuateOptions, now: DateTime<Utc>) -> Result<(EvacuationPlan, Vec<String>), RecoverError> {
    let begun = begin(options, now)?;
    let seen = observe(&begun.session, now)?;
    Ok((begun.planned(options, &seen), begun.doubts))
}

impl Begun {
    fn planned(&self, options: &EvacuateOptions, seen: &Seen) -> EvacuationPlan {
        let backup = |lv: &str| newest_backup(options.destination.as_ref()?, lv);
        let (to, asked) = (options.to.as_deref(), asked(&self.earlier));
        let mut plan = decide(seen, &options.host, to, options.shared_disks, &asked, &backup);
        plan.stops.extend(self.stops.iter().cloned());
        plan
    }
}

/// What was asked for, but for instances that were seen on another host: one that is here again came back since.
fn asked(earlier: &Earlier) -> Asked {
    let mut asked = Asked::new();
    for line in &earlier.lines {
        match line {
            Line::Evacuate { instance, at, known } => drop(asked.insert(instance.clone(), (known.clone(), *at))),
            Line::Evacuated { instance, .. } => drop(asked.remove(instance)),
            _ => {}
        }
    }
    asked
}

fn newest_backup(destination: &Destination, lv: &str) -> Option<String> {
    let directory = destination.existing_volume_directory(lv).ok()??;
    let mut entries = list_volume(&*directory, lv).ok()?;
    entries.retain(|entry| matches!(entry.state, BackupState::Complete { .. }));
    entries.pop().map(|entry| entry.stem)
}

/// Makes the plan, and carries it out. `save` gets the plan before anything is changed.
pub fn apply(
    options: &EvacuateOptions,
    now: impl Fn() -> DateTime<Utc>,
    save: impl FnOnce(&EvacuationPlan, &Path) -> Result<(), RecoverError>,
) -> Result<EvacuationReport, RecoverError> {
    let (started_at, began) = (now(), Instant::now());
    let begun = begin(options, started_at)?;
    let seen = observe(&begun.session, started_at)?;
    let plan = begun.planned(options, &seen);
    if !plan.stops.is_empty() {
        return Err(RecoverError::Stopped(plan.stops.join("; ")));
    }
    save(&plan, &begun.journal.with_extension("plan.json"))?;
    let mut report = EvacuationReport::new(&plan, started_at, &begun.earlier);
    report.doubts.clone_from(&begun.doubts);
    if !plan.instances.is_empty() || begun.earlier.header.is_some() {
        if let Some(over) = &begun.over {
            put_away(&begun.journal, over)?;
        }
        let mut journal = Journal::open(&begun.journal, &begun.header)?;
        if begun.earlier.header.is_some() && *journal.earlier() != begun.earlier {
            return Err(RecoverError::Locked(begun.journal.clone()));
        }
        let looker =
            Looker { session: &begun.session, cancel: &options.cancel, patience: options.patience, map: &seen.map };
        if let Err(error) = carry_out(options, &plan, &seen, &looker, &mut journal, &now, &mut report) {
            journal.note_end(&error, now());
            report.aborted = Some(with_causes(&error));
        } else {
            // One that Nova was asked for, and gave up, is not asked for again: its journal stays.
            let asked_before = asked(&begun.earlier);
            let is_given_up = plan.kept.iter().any(|one| asked_before.contains_key(&one.instance.id));
            let are_all_done = report.instances.iter().all(|one| one.outcome == Outcome::Done);
            let (is_done, at) = (are_all_done && !is_given_up, now());
            journal.write(if is_done { Line::Complete { at } } else { Line::Ended { at } })?;
        }
    }
    report.duration_seconds = began.elapsed().as_secs();
    Ok(report)
}

fn carry_out(
    options: &EvacuateOptions,
    plan: &EvacuationPlan,
    seen: &Seen,
    looker: &Looker<'_>,
    journal: &mut Journal,
    now: &impl Fn() -> DateTime<Utc>,
    report: &mut EvacuationReport,
) -> Result<(), RecoverError> {
    if plan.force_down {
        let service = seen.services.iter().find(|one| one.binary == COMPUTE_BINARY && one.host == options.host);
        let id = service.and_then(|service| service.id.as_deref()).ok_or_else(|| {
            RecoverError::Stopped(format!("Nova does not say the UUID of nova-compute on {}", options.host))
        })?;
        looker.session.renew_deadline();
        looker.session.force_down(id)?;
        report.forced_down = true;
    }
    for (at, instance) in plan.instances.iter().enumerate() {
        if options.cancel.is_cancelled() {
            return Err(RecoverError::Cancelled);
        }
        if at > 0 {
            sleep(options.pause);
        }
        let refused = ask(options, &instance.id, looker, journal, now)?;
        let outcome = if refused.is_some() { Outcome::Failed } else { Outcome::NotDone };
        report.instances.push(Evacuated {
            instance: instance.clone(),
            outcome,
            host: None,
            what: refused.unwrap_or_default(),
        });
    }
    for one in report.instances.iter_mut().filter(|one| one.outcome == Outcome::NotDone) {
        let id = one.instance.id.clone();
        let mut last = None;
        let is_away = looker.until(options.patience, || {
            let found = looker.instance(&id)?.0;
            let is_over = task(&found).is_none();
            last = Some(found);
            Ok(is_over
                && last
                    .as_ref()
                    .is_some_and(|one| one.host.as_deref() != Some(options.host.as_str()) || one.status == "ERROR"))
        })?;
        let Some(found) = last else { continue };
        one.host.clone_from(&found.host);
        if is_away && found.status != "ERROR" {
            one.outcome = Outcome::Done;
            journal.write(Line::Evacuated { instance: id, at: now() })?;
        } else {
            one.outcome = Outcome::Failed;
            one.what = format!(
                "its status is {}, and it is on {}: `openstack server event list {id}`",
                found.status,
                found.host.as_deref().unwrap_or("no host")
            );
        }
    }
    Ok(())
}

/// Asks Nova for one instance, unless it was asked. Returns why it refuses.
fn ask(
    options: &EvacuateOptions,
    id: &str,
    looker: &Looker<'_>,
    journal: &mut Journal,
    now: &impl Fn() -> DateTime<Utc>,
) -> Result<Option<String>, RecoverError> {
    let requests = |looker: &Looker<'_>| -> Result<BTreeSet<String>, RecoverError> {
        let (_, actions) = looker.instance(id)?;
        Ok(actions.into_iter().filter(|one| one.action == EVACUATE).map(|one| one.request).collect())
    };
    looker.session.renew_deadline();
    if let Some((known, at)) = asked(journal.earlier()).remove(id) {
        // What an earlier call asked for may still be on its way.
        let left = (at + GRACE - now()).to_std().unwrap_or(Duration::ZERO).min(GRACE);
        if looker.until(left, || Ok(requests(looker)?.iter().any(|request| !known.contains(request))))? {
            return Ok(None);
        }
    }
    let (found, _) = looker.instance(id)?;
    if found.host.as_deref() != Some(options.host.as_str()) {
        return Ok(None);
    }
    if let Some(task) = task(&found) {
        return Ok(Some(format!("Nova is still working on it ({task})")));
    }
    journal.write(Line::Evacuate { instance: id.to_owned(), at: now(), known: requests(looker)? })?;
    match looker.session.evacuate(id, options.to.as_deref()).map_err(fate) {
        Ok(()) => Ok(None),
        Err(Fate::Refused(why)) => Ok(Some(why)),
        Err(Fate::Unknown(error)) => Err(error),
    }
}
