//! Checks that this host can do what the config asks for, before the first night and to diagnose problems.

use chrono::{DateTime, Utc};

use crate::config::Config;
use crate::outside::RunCommand;

mod clock;
mod destination;
mod encryption;
mod finding;
mod host;
mod network;
mod schedule;
mod volumes;

pub use finding::{Answer, Finding};

use finding::Add;

/// Runs all checks. Changes nothing.
pub fn examine(config: &Config, commands: &dyn RunCommand, now: DateTime<Utc>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut add = |about, answer, what: String| findings.push(Finding { about, answer, what });
    host::privileges(&mut add);
    host::trust(config, &mut add);
    clock::clock(now, commands, &mut add);
    host::modules(&mut add);
    host::programs(config, commands, &mut add);
    let listed = if config.enable_lvmsnapshots { volumes::volumes(config, commands, now, &mut add) } else { None };
    let shelves = destination::destination(config, now, &mut add);
    if let Some(listed) = listed {
        volumes::empty_groups(config, &listed, &shelves, &mut add);
    }
    encryption::encryption(config, &shelves, &mut add);
    network::about_mail(config, &mut add);
    network::notices(config, &mut add);
    network::dumps(config, &mut add);
    schedule::schedule(&mut add);
    not_tried(config, &mut add);
    findings
}

/// What can still fail at night.
fn not_tried(config: &Config, add: &mut Add<'_>) {
    let mut add = |what: &str| add("not tried", Answer::NotTried, what.to_owned());
    if config.enable_lvmsnapshots {
        add("taking a snapshot and reading a volume: `volbak run --test` does both, for the smallest volume");
    }
    add("writing to the destination");
    if config.hook_commands().next().is_some() {
        add("the hooks");
    }
    if config.enable_mail_notification {
        add("sending a mail: `volbak report --send` does");
    }
    if !config.notify.is_empty() {
        add("sending a notice: `volbak notify test` does");
    }
    if config.rehearse.enabled {
        add("a rehearsal: `volbak run --rehearse` makes one");
    }
    if config.enable_mysql_dump {
        add("a dump: the database itself may refuse it");
    }
}
