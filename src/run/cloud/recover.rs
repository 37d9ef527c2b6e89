//! The verb `cloud recover`: what was attached before a loss of power is attached again, and each instance is restarted once, in
//! the documented order and through the APIs.
//!
//! A plan is a pure function of what both sides say (`decide`). To carry it out, each step is decided again on a fresh look at
//! its volume or instance, is announced in the journal, is sent once, and is waited for. After `kill -9` the plan is made anew from
//! what the cloud says then; of the journal it needs what is wanted, and which restarts were asked for.

mod apply;
mod attachments;
mod decide;
mod draft;
mod error;
pub mod evacuate;
mod inside;
mod journal;
mod look;
mod missing;
mod observe;
mod options;
mod plan;
mod report;
mod restarts;
mod seen;
mod situation;
mod steps;
#[cfg(test)]
mod tests;
mod volumes;

use std::path::PathBuf;

use chrono::{DateTime, Utc};

use self::decide::decide;
use self::journal::Earlier;
use self::seen::{Past, Seen, Wish};
use self::situation::Situation;
use super::collect;
use crate::openstack::Session;

pub use self::apply::apply;
pub use self::error::RecoverError;
pub use self::options::RecoverOptions;
pub use self::plan::{Action, Finding, Named, Plan, Step};
pub use self::report::{Outcome, RecoverReport, StepResult};

/// A plan, and what is doubtful about the settings.
#[derive(Debug)]
pub struct Planned {
    /// The plan.
    pub plan: Plan,
    /// Where it is saved if no other place is named.
    pub default_file: PathBuf,
    /// What is doubtful.
    pub doubts: Vec<String>,
}

/// Makes the plan. Nothing is changed.
pub fn plan(options: &RecoverOptions, now: DateTime<Utc>) -> Result<Planned, RecoverError> {
    let begun = begin(options, now)?;
    let seen = observe::observe(&begun.session, now)?;
    let plan = begun.decide(options, &seen)?;
    Ok(Planned { plan, default_file: begun.journal_path.with_extension("plan.json"), doubts: begun.doubts })
}

/// A session whose user may recover, and what is known before the cloud is looked at.
struct Begun {
    session: Session,
    journal_path: PathBuf,
    earlier: Earlier,
    past: Past,
    situation: Situation,
    doubts: Vec<String>,
}

fn begin(options: &RecoverOptions, now: DateTime<Utc>) -> Result<Begun, RecoverError> {
    if !options.openstack.enabled {
        return Err(RecoverError::NoCloud);
    }
    let (session, mut doubts) = collect::open(&options.openstack)?;
    observe::services(&session)?;
    let header = situation::header(&session, now);
    let journal_path = options.journal.clone().unwrap_or_else(|| situation::default_journal(&header.cloud));
    let earlier = journal::read(&journal_path, &header)?;
    let situation = situation::find(options, &session, &earlier, now, &mut doubts)?;
    let past = if situation.is_new { Past::default() } else { earlier.past() };
    Ok(Begun { session, journal_path, earlier, past, situation, doubts })
}

impl Begun {
    fn decide(&self, options: &RecoverOptions, seen: &Seen) -> Result<Plan, RecoverError> {
        let saved = self.situation.saved.as_ref();
        let instance =
            options.instance.as_deref().map(|name| situation::instance(name, &seen.map, saved)).transpose()?;
        let mut plan = decide(seen, &self.wish(options, instance.as_deref(), &self.past));
        plan.stops.extend(self.situation.stops.iter().cloned());
        Ok(plan)
    }

    fn wish<'a>(&'a self, options: &RecoverOptions, instance: Option<&'a str>, past: &'a Past) -> Wish<'a> {
        Wish {
            instance,
            outage: self.situation.outage,
            saved: self.situation.saved.as_ref(),
            from_map: options.from_map.is_some(),
            past,
            inside: options.inside.is_some(),
        }
    }
}
