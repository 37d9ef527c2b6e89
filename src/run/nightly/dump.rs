//! Database dumps of a night: each instance once, before the first of its volumes.

use std::collections::BTreeMap;

use crate::config::{Config, DumpInstance};
use crate::events::{Event, Problem, Severity};
use crate::report::Dump;
use crate::run::backup::BackupWorld;
use crate::run::dumps::dump;

/// The dumps of a night.
pub(super) struct Dumps<'a> {
    config: &'a Config,
    world: &'a BackupWorld,
    done: BTreeMap<String, (Dump, Option<String>)>,
}

impl<'a> Dumps<'a> {
    pub(super) fn new(config: &'a Config, world: &'a BackupWorld) -> Self {
        Self { config, world, done: BTreeMap::new() }
    }

    /// The result of the dump that this volume waits for, made now if necessary; and its problem.
    pub(super) fn before(&mut self, group: &str, volume: &str) -> (Dump, Option<Problem>) {
        let Some(instance) = self.config.dump_for(group, volume) else { return (Dump::NotConfigured, None) };
        if !self.config.enable_mysql_dump {
            return (Dump::Disabled, None);
        }
        let (dump, trouble) = self.of(instance);
        (dump, trouble.map(|what| Problem::new(Severity::Warning, "dump", what)))
    }

    /// Makes the dumps that no volume waits for. Failures are problems of the whole run.
    pub(super) fn all_without_volumes(&mut self, is_waited_for: impl Fn(&str) -> bool, tell: impl Fn(Problem)) {
        if !self.config.enable_mysql_dump {
            return;
        }
        let config = self.config;
        for instance in config.dumps.instances.iter().filter(|instance| !is_waited_for(&instance.name)) {
            if self.world.cancel.is_cancelled() {
                return;
            }
            let (dump, trouble) = self.of(instance);
            if let Dump::Failed(why) = dump {
                tell(Problem::new(Severity::Error, "dump", why));
            }
            if let Some(what) = trouble {
                tell(Problem::new(Severity::Warning, "dump", what));
            }
        }
    }

    fn of(&mut self, instance: &DumpInstance) -> (Dump, Option<String>) {
        if let Some((dump, _)) = self.done.get(&instance.name) {
            // Its problem was reported with the first volume.
            return (dump.clone(), None);
        }
        let step = format!("dumping the databases of {}", instance.name);
        self.world.observer.on_event(&Event::Step { step });
        let made = dump(instance, &self.config.dumps, &*self.world.clock, &self.world.cancel);
        let outcome = match made {
            Ok(made) => (Dump::Done, made.trouble),
            Err(why) => (Dump::Failed(why.to_string()), None),
        };
        self.done.insert(instance.name.clone(), outcome.clone());
        outcome
    }
}
