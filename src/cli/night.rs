//! The verbs that need a config.

use anyhow::Context;
use clap::CommandFactory;
use clap::error::ErrorKind;
use serde_json::json;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use volbak::config::{Config, ConfigError, Mistake};
use volbak::error::ExitClass;
use volbak::log::{Kind, Line};
use volbak::notify::Notice;
use volbak::outside::host;
use volbak::outside::{Cancel, Clock, SystemClock, SystemCommands};
use volbak::report::RunReport;
use volbak::report::table::{Screen, Tint};
use volbak::run::doctor::{Answer, Finding, examine};
use volbak::run::expected::as_config;
use volbak::run::named::NamedError;
use volbak::run::nightly::{DryRun, NightError, NightOptions, dry_run, run};
use volbak::run::prune::{Kept, Shelf};
use volbak::run::status::{Limits, room, status};
use volbak::run::{accept, notices, protect, reports};
use volbak::shown;

use super::args::Cli;
use super::log;
use super::night_args::{
    AcceptArgs, ConfigCommand, ConfigPath, DoctorArgs, NightCommand, NotifyCommand, ProtectArgs, ReportArgs, RunArgs,
    StatusArgs,
};
use super::output::{after_printing, as_json, print, print_as_it_is, print_in_time, print_json, shown_error};
use super::place::{self, UsageError, Where, volume_called};
use super::progress::Verbosity;
use super::world::world;
use super::{named_file, prune, remove, terminal};

/// Exit status UNKNOWN of Nagios.
const UNKNOWN: u8 = 3;

/// Carries out the verb, and returns the exit status.
pub(crate) fn carry_out(command: &NightCommand, verbosity: Verbosity) -> anyhow::Result<u8> {
    let class = match command {
        NightCommand::Run(args) => night(args, verbosity)?,
        NightCommand::Report(args) => report(args)?,
        NightCommand::Status(args) => return Ok(shown_status(args)),
        NightCommand::Protect(args) => set_protected(args, true)?,
        NightCommand::Unprotect(args) => set_protected(args, false)?,
        NightCommand::Remove(args) => remove::remove_backups(args)?,
        NightCommand::Prune(args) => prune::prune(args, verbosity)?,
        NightCommand::Accept(args) => accept(args)?,
        NightCommand::Doctor(args) => doctor(args)?,
        NightCommand::Notify(NotifyCommand::Test { place, name, json }) => test_notices(place, name.as_deref(), *json)?,
        NightCommand::Config(ConfigCommand::Init) => {
            print_as_it_is(Config::example())?;
            ExitClass::Well
        }
        NightCommand::Config(ConfigCommand::Expect { config, volume }) => expect(config, volume)?,
        NightCommand::Config(ConfigCommand::Check { config, json: true }) => check_as_json(config)?,
        NightCommand::Config(ConfigCommand::Check { config: path, json: false }) => match load(path) {
            Some(config) => checked(path, &config)?,
            None => ExitClass::Usage,
        },
    };
    Ok(class.status())
}

/// Prints the config lines that declare the contents found by a volume's last backup as intended.
fn expect(path: &ConfigPath, volume: &str) -> anyhow::Result<ExitClass> {
    let Some(config) = load(path) else { return Ok(ExitClass::Usage) };
    let destination = config.open_destination()?;
    let name = volume_called(&destination, volume)?;
    let is_name = !name.is_empty() && !name.starts_with('.');
    let shelf = if is_name { Shelf::read(&destination, &name, &Kept::of(&destination)?)? } else { None };
    let Some(newest) = shelf.as_ref().and_then(|shelf| shelf.newest_usable(SystemClock.now())) else {
        log::error(&format!("{} has no complete backup of {volume:?}", config.backup_destination.display()));
        return Ok(ExitClass::Usage);
    };
    print(&as_config(newest, &config))?;
    Ok(ExitClass::Well)
}

/// Reports on a config that was read without mistakes: files that other users can change, or none.
fn checked(path: &ConfigPath, config: &Config) -> anyhow::Result<ExitClass> {
    let distrusted = config.distrusted_files();
    if distrusted.is_empty() {
        print(&format!("{} is valid\n", path.path.display()))?;
        return Ok(if config.changeable.is_some() { ExitClass::WithProblems } else { ExitClass::Well });
    }
    for what in distrusted {
        log::error(&format!("{}: {what}", path.path.display()));
    }
    Ok(ExitClass::Usage)
}

/// Prints all mistakes of the config, and the files that are not trusted, as JSON.
fn check_as_json(path: &ConfigPath) -> anyhow::Result<ExitClass> {
    let (mistakes, config) = match Config::load(&path.path, std::env::vars_os()) {
        Ok(config) => (Vec::new(), Some(config)),
        Err(ConfigError::Wrong { mistakes, .. }) => {
            let one = |one: &Mistake| json!({ "place": one.place.to_string(), "what": one.what, "right": one.right });
            (mistakes.iter().map(one).collect(), None)
        }
        Err(error) => {
            let what = format!("{:#}", anyhow::Error::new(error));
            (vec![json!({ "place": path.path.display().to_string(), "what": what, "right": "" })], None)
        }
    };
    let distrusted = config.as_ref().map(Config::distrusted_files).unwrap_or_default();
    let changeable = config.as_ref().and_then(|config| config.changeable.as_ref()).map(ToString::to_string);
    let is_valid = mistakes.is_empty() && distrusted.is_empty();
    let class = match (is_valid, &changeable) {
        (false, _) => ExitClass::Usage,
        (true, Some(_)) => ExitClass::WithProblems,
        (true, None) => ExitClass::Well,
    };
    print_json(&json!({
        "path": path.path.display().to_string(), "valid": is_valid, "mistakes": mistakes,
        "distrusted_files": distrusted, "changeable": changeable,
    }))?;
    Ok(class)
}

/// A report with its result and its subject line.
fn report_as_json(report: &RunReport) -> serde_json::Value {
    json!({ "verdict": report.verdict(), "subject": report.subject(), "report": report })
}

/// The config, or `None` after its mistakes were printed.
fn load(path: &ConfigPath) -> Option<Config> {
    place::load(&path.path).map_err(|error| log::error(&error.to_string())).ok()
}

fn dry_run_as_json(found: &DryRun) -> serde_json::Value {
    json!({
        "back_up": found.back_up, "left_out": found.left_out, "gone": found.gone,
        "volumes": found.retention.volumes(), "brake": found.retention.brake(),
    })
}

fn night(args: &RunArgs, verbosity: Verbosity) -> anyhow::Result<ExitClass> {
    let Some(config) = load(&args.config) else { return Ok(ExitClass::Usage) };
    let mut options = NightOptions::default();
    options.only.clone_from(&args.only);
    options.test = args.test;
    options.force = args.force;
    options.rehearse = args.rehearse;
    options.run_id = Some(log::run_id().to_owned());
    let cancel = Cancel::default();
    if !args.dry_run {
        signal_hook::flag::register_conditional_shutdown(SIGINT, 130, cancel.flag())?;
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, cancel.flag())?;
        }
    }
    let (progress, world) = world(verbosity, cancel);
    let outcome = if args.dry_run {
        dry_run(&config, &options, &world).map(|found| {
            let printed = if args.json { as_json(dry_run_as_json(&found)) } else { found.text() };
            (ExitClass::Well, Some(printed))
        })
    } else {
        run(&config, &options, &world).map(|outcome| {
            let printed =
                if args.json { Some(as_json(report_as_json(&outcome.report))) } else { outcome.printed.clone() };
            (outcome.class(), printed)
        })
    };
    progress.done();
    match outcome {
        Ok((class, printed)) if args.dry_run => {
            print(&printed.unwrap_or_default())?;
            Ok(class)
        }
        Ok((class, printed)) => {
            let done = "the run is over, and `volbak report` shows its report";
            Ok(after_printing(print_in_time(&printed.unwrap_or_default()), done, class))
        }
        Err(error) => {
            let class = NightError::class(&error);
            log::error(&shown_error(&anyhow::Error::new(error)));
            Ok(class)
        }
    }
}

fn report(args: &ReportArgs) -> anyhow::Result<ExitClass> {
    let config = args.place.config()?;
    let destination = config.open_destination()?;
    let report = reports::load(&destination, args.date)?;
    let style = config.report.style;
    let mut class = ExitClass::Well;
    if let Some(path) = &args.html {
        // The report has names of volumes and hosts, which other users must not see.
        named_file::write(path, report.render(style).html.as_bytes(), 0o600)
            .with_context(|| path.display().to_string())?;
    }
    if args.send {
        if !config.enable_mail_notification {
            log::error("mail is disabled: set enable_mail_notification = true");
            return Ok(ExitClass::Usage);
        }
        for problem in reports::send_again(&report, &config, SystemClock.now()) {
            log::write(Line::new(problem.severity.into(), Kind::Message, problem.to_string()).with_problem(&problem));
            class = ExitClass::WithProblems;
        }
    }
    if args.json {
        print_json(&report_as_json(&report))?;
    } else if args.html.is_none() && !args.send {
        print(&report.text(style))?;
    }
    Ok(class)
}

fn shown_status(args: &StatusArgs) -> u8 {
    if args.warning > args.critical {
        let (warning, critical) = (args.warning, args.critical);
        let what = format!("--warning {warning} is above --critical {critical}: there could be no warning\n");
        log::exit_with_usage(&Cli::command().error(ErrorKind::ValueValidation, what))
    }
    let limits = Limits { warning_hours: args.warning, critical_hours: args.critical };
    let unknown = |what: String| {
        // Monitoring systems read standard output; other programs expect JSON if they asked for it.
        let _ = if args.json {
            let reasons = json!([{ "level": "UNKNOWN", "what": what }]);
            print_json(&json!({
                "level": "UNKNOWN", "reasons": reasons, "notices": [], "last_run": null,
                "room": null, "volumes": [],
            }))
        } else {
            print(&format!("VOLBAK UNKNOWN - {what}\n"))
        };
        UNKNOWN
    };
    let config = match args.place.config() {
        Ok(config) => config,
        Err(error) => return unknown(error.to_string()),
    };
    let status = match status(&config, limits, SystemClock.now()) {
        Ok(mut status) => {
            if args.json || args.nagios {
                status.room = room(&config);
            }
            status
        }
        Err(error) => return unknown(format!("{:#}", anyhow::Error::new(error))),
    };
    let printed = match (args.json, args.nagios) {
        (true, _) => print_json(&status),
        (false, true) => print(&status.nagios(limits)),
        (false, false) => print_as_it_is(&status.text_on(terminal::screen())),
    };
    printed.map_or(UNKNOWN, |()| status.level.status())
}

fn set_protected(args: &ProtectArgs, protect: bool) -> anyhow::Result<ExitClass> {
    let config = args.place.config()?;
    let destination = config.open_destination()?;
    let mut stems = Vec::new();
    for spec in &args.place.members_of(&args.backup)? {
        match protect::set(&destination, spec, protect, &SystemClock) {
            Ok(stem) => stems.push(stem),
            Err(NamedError::Store(error)) => return Err(error.into()),
            Err(error) => {
                log::error(&error.to_string());
                return Ok(ExitClass::Usage);
            }
        }
    }
    let now = if protect { "protected" } else { "no longer protected" };
    let done = stems.iter().map(|stem| format!("{stem} is {now}")).collect::<Vec<_>>().join("\n");
    let printed = if args.json {
        print_json(&json!({ "backups": stems, "protected": protect }))
    } else {
        print(&format!("{done}\n"))
    };
    Ok(after_printing(printed, &done, ExitClass::Well))
}

fn accept(args: &AcceptArgs) -> anyhow::Result<ExitClass> {
    let config = args.place.config()?;
    let destination = config.open_destination()?;
    let volume = volume_called(&destination, &args.volume)?;
    let accepted = match accept::accept(&destination, &volume, &SystemClock) {
        Ok(accepted) => accepted,
        Err(accept::AcceptError::Store(error)) => return Err(error.into()),
        Err(error) => return Err(UsageError(error.to_string()).into()),
    };
    let lines: Vec<String> = accepted
        .iter()
        .map(|pin| format!("accepted: {}: {}; {} is no longer pinned", pin.changed, pin.what, pin.kept))
        .collect();
    let done = lines.join("\n");
    let printed = if args.json {
        print_json(&json!({ "volume": volume, "accepted": accepted }))
    } else {
        print(&format!("{done}\n"))
    };
    Ok(after_printing(printed, &done, ExitClass::Well))
}

/// Sends a test through each `[[notify]]`, and says which arrived.
fn test_notices(place: &Where, name: Option<&str>, as_json: bool) -> anyhow::Result<ExitClass> {
    let config = place.config()?;
    let chosen: Vec<_> = config.notify.iter().filter(|one| name.is_none_or(|name| one.name == name)).collect();
    if chosen.is_empty() {
        let names: Vec<&str> = config.notify.iter().map(|one| one.name.as_str()).collect();
        let known = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        let what =
            name.map_or_else(|| "nothing to test".to_owned(), |name| format!("no notification is named {name:?}"));
        return Err(
            UsageError(format!("{what}: the config has {known}; see [[notify]] in `volbak config init`")).into()
        );
    }
    let now = SystemClock.now().with_timezone(&chrono::Local).fixed_offset();
    let notice = Notice::test(&host::name(), now, &config.backup_destination.display().to_string());
    let mut class = ExitClass::Well;
    let mut facts = Vec::new();
    for (one, sent) in notices::test(&chosen, &notice) {
        let error = sent.err().map(|error| error.to_string());
        facts.push(json!({ "name": one.name, "kind": one.channel.word(), "sent": error.is_none(), "error": error }));
        match error {
            None if as_json => {}
            None => print(&format!("{} ({}): sent\n", one.name, one.channel.word()))?,
            Some(error) => {
                log::error(&format!("{} ({}): not sent: {error}", one.name, one.channel.word()));
                class = ExitClass::Failed;
            }
        }
    }
    if as_json {
        print_json(&json!({ "notifications": facts }))?;
    }
    Ok(class)
}

fn doctor(args: &DoctorArgs) -> anyhow::Result<ExitClass> {
    let config = args.place.config()?;
    let mut findings = examine(&config, &SystemCommands, SystemClock.now());
    #[cfg(feature = "s3")]
    findings.extend(volbak::run::store_check::intruder_findings(&config, SystemClock.now()));
    if args.json {
        print_json(&json!({ "findings": findings }))?;
    } else {
        let screen = terminal::screen();
        let lines: String = findings.iter().map(|finding| shown_finding(finding, screen) + "\n").collect();
        print_as_it_is(&lines)?;
    }
    Ok(match findings.iter().map(|finding| finding.answer).max() {
        Some(Answer::Bad) => ExitClass::Failed,
        Some(Answer::Doubtful) => ExitClass::WithProblems,
        _ => ExitClass::Well,
    })
}

/// A line with its mark in colour.
fn shown_finding(finding: &Finding, screen: Screen) -> String {
    let tint = match finding.answer {
        Answer::NotTried => Tint::Plain,
        Answer::Good => Tint::Good,
        Answer::Doubtful => Tint::Doubtful,
        Answer::Bad => Tint::Bad,
    };
    let line = finding.to_string();
    let (mark, rest) = line.split_at_checked(3).unwrap_or((&line, ""));
    format!("{}{}", screen.tinted(mark, tint), shown::lines(rest))
}
