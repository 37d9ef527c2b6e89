//! Whether this host can do what the config wants: looked at before the first night, and when something is odd.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, TimeZone, Utc};
use serde::Serialize;

use super::dumps::try_instance;
use super::prune::Shelf;
use crate::config::Config;
use crate::error::with_causes;
use crate::mail::{self, PasswordSource, Transport};
use crate::outside::{RunCommand, host};
use crate::source::{self, Volumes};
use crate::store::catalog::BackupState;
use crate::store::local::Destination;
use crate::store::presence::is_on_mount;
use crate::units::ByteLen;

mod schedule;

/// No try at the network takes longer.
const TRY_LIMIT: Duration = Duration::from_secs(20);

/// How an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// It was not tried.
    #[serde(rename = "not tried")]
    NotTried,
    /// As it should be.
    Good,
    /// It will work, but somebody should look.
    Doubtful,
    /// A night would fail.
    Bad,
}

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// What it is about.
    pub about: &'static str,
    /// How it is.
    pub answer: Answer,
    /// What was seen, one line.
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = match self.answer {
            Answer::NotTried => "-  ",
            Answer::Good => "ok ",
            Answer::Doubtful => "?  ",
            Answer::Bad => "BAD",
        };
        write!(f, "{mark} {:<12} {}", self.about, self.what)
    }
}

/// Looks at everything. Changes nothing.
pub fn examine(config: &Config, commands: &dyn RunCommand, now: DateTime<Utc>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut add = |about, answer, what: String| findings.push(Finding { about, answer, what });
    privileges(&mut add);
    trust(config, &mut add);
    clock(now, &mut add);
    modules(&mut add);
    programs(config, commands, &mut add);
    if config.enable_lvmsnapshots {
        volumes(config, commands, &mut add);
    }
    destination(config, now, &mut add);
    about_mail(config, &mut add);
    dumps(config, &mut add);
    schedule::schedule(&mut add);
    not_tried(config, &mut add);
    findings
}

/// What could go wrong at night all the same.
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
    if config.enable_mysql_dump {
        add("a dump: the database itself may refuse it");
    }
}

type Add<'a> = dyn FnMut(&'static str, Answer, String) + 'a;

fn privileges(add: &mut Add<'_>) {
    if rustix::process::geteuid().is_root() {
        add("user", Answer::Good, "root".to_owned());
    } else {
        add("user", Answer::Bad, "not root: neither LVM nor what the kernel reads can be used".to_owned());
    }
}

/// Whether others can change the config, or files that it names.
fn trust(config: &Config, add: &mut Add<'_>) {
    if let Some(found) = &config.changeable {
        add("config", Answer::Doubtful, found.to_string());
    }
    let distrusted = config.distrusted_files();
    if config.changeable.is_none() && distrusted.is_empty() {
        add("config", Answer::Good, "it, and the files that it names, are root's alone to change".to_owned());
    }
    for what in distrusted {
        add("config", Answer::Bad, what);
    }
}

fn clock(now: DateTime<Utc>, add: &mut Add<'_>) {
    // Before this there was no volbak.
    let earliest = Utc.with_ymd_and_hms(2026, 1, 1, 0, 0, 0).single().unwrap_or(DateTime::UNIX_EPOCH);
    let local = now.with_timezone(&chrono::Local).format("%Y-%m-%d %H:%M:%S %:z");
    if now < earliest {
        add("clock", Answer::Bad, format!("it says {local}: backups would get wrong dates"));
        return;
    }
    // Set by systemd-timesyncd, chrony and ntpd alike (adjtimex(2), STA_UNSYNC); without systemd the file is not there.
    let synced = Path::new("/run/systemd/timesync/synchronized").exists() || Path::new("/run/chrony").exists();
    if synced {
        add("clock", Answer::Good, format!("{local}, kept in step by a time server"));
    } else {
        add("clock", Answer::Doubtful, format!("{local}; neither timesyncd nor chrony seems to keep it in step"));
    }
}

fn modules(add: &mut Add<'_>) {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let version: Vec<u32> = release.split(['.', '-']).take(2).filter_map(|part| part.parse().ok()).collect();
    if version.as_slice() < [5, 8].as_slice() {
        add("kernel", Answer::Bad, format!("{release}: 5.8 or later is needed to read filesystems"));
    } else {
        add("kernel", Answer::Good, release.clone());
    }
    let devices = fs::read_to_string("/proc/devices").unwrap_or_default();
    for (device, module) in [("device-mapper", "dm-mod"), ("loop", "loop")] {
        let is_loaded = devices.lines().any(|line| line.split_whitespace().nth(1) == Some(device));
        let (answer, what) = module_state(is_loaded, module, &release);
        add("kernel", answer, what);
    }
    let filesystems = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let missing: Vec<&str> = ["ext4", "xfs", "btrfs", "vfat"]
        .into_iter()
        .filter(|fs| {
            let is_loaded = filesystems.lines().any(|line| line.split_whitespace().last() == Some(fs));
            !is_loaded && !has_module(fs, &release)
        })
        .collect();
    if missing.is_empty() {
        add("kernel", Answer::Good, "reads ext4, xfs, btrfs and vfat".to_owned());
    } else {
        // volbak needs no driver for nearly all of them.
        let shown = |fs| if fs == "ext4" { "ext4 with uncommon features" } else { fs };
        let missing: Vec<&str> = missing.into_iter().map(shown).collect();
        let what = format!("cannot read {}: volumes with those are kept as raw images", missing.join(", "));
        add("kernel", Answer::Doubtful, what);
    }
}

fn module_state(is_loaded: bool, module: &str, release: &str) -> (Answer, String) {
    if is_loaded {
        (Answer::Good, format!("{module} is there"))
    } else if has_module(module, release) {
        (Answer::Doubtful, format!("{module} is not loaded; it is loaded when it is needed, or by modprobe {module}"))
    } else {
        (Answer::Bad, format!("{module} is not there, neither built in nor as a module"))
    }
}

fn has_module(module: &str, release: &str) -> bool {
    let directory = Path::new("/lib/modules").join(release);
    ["modules.dep", "modules.builtin"].into_iter().any(|list| {
        let text = fs::read_to_string(directory.join(list)).unwrap_or_default();
        text.lines().any(|line| {
            let path = line.split(':').next().unwrap_or_default();
            path.rsplit('/').next().is_some_and(|file| file.split(".ko").next() == Some(module))
        })
    })
}

fn programs(config: &Config, commands: &dyn RunCommand, add: &mut Add<'_>) {
    let mut wanted: Vec<(&str, &str, &str)> = Vec::new();
    if config.enable_lvmsnapshots {
        wanted.extend([("lvs", "--version", "lvm2"), ("dmsetup", "--version", "dmsetup")]);
    }
    if config.ionice.is_some() {
        wanted.push(("ionice", "--version", "util-linux"));
    }
    if config.enable_mysql_dump {
        wanted.push(("ssh", "-V", "openssh-client"));
    }
    for (program, argument, package) in wanted {
        match commands.run(program, &[OsString::from(argument)]) {
            Ok(_) => add("programs", Answer::Good, format!("{program} is there")),
            Err(error) => {
                let what = format!("{program} cannot be run ({error}); on Debian: apt-get install {package}");
                add("programs", Answer::Bad, what);
            }
        }
    }
    let hooks = config.hooks.before_snapshot.iter().chain(&config.hooks.after_snapshot);
    let of_volumes =
        config.volumes.iter().flat_map(|volume| volume.before_snapshot.iter().chain(&volume.after_snapshot).flatten());
    for program in hooks.chain(of_volumes).filter_map(|argv| argv.first()) {
        if !Path::new(program).is_file() {
            add("hooks", Answer::Bad, format!("{program} is not there"));
        }
    }
}

fn volumes(config: &Config, commands: &dyn RunCommand, add: &mut Add<'_>) {
    let listed = match source::list_volumes(&[], commands) {
        Ok(everything) => super::nightly::in_groups(&everything, config),
        Err(error) => {
            add("volumes", Answer::Bad, with_causes(&error));
            return;
        }
    };
    let selection = super::nightly::selected_names(config, &listed);
    match selection.len() {
        0 => add("volumes", Answer::Bad, format!("none to back up in {}", config.volume_groups.join(", "))),
        count => add("volumes", Answer::Good, format!("{count} to back up: {}", shortened(&selection))),
    }
    for group in &listed.empty_groups {
        add("volumes", Answer::Doubtful, format!("the group {group} is not there, or has no volumes"));
    }
    inactive(&listed, add);
    room(config, &listed, commands, add);
    let ours = listed.volumes.iter().filter(|volume| volume.is_ours());
    for volume in ours {
        let name = volume.facts.full_name();
        add("snapshots", Answer::Doubtful, format!("{name} is there: a run is on, or left it, or was told to keep it"));
    }
}

/// A volume that is not active cannot be backed up.
fn inactive(listed: &Volumes, add: &mut Add<'_>) {
    let mut groups: Vec<&String> = listed.volumes.iter().map(|volume| &volume.facts.vg).collect();
    groups.sort();
    groups.dedup();
    for group in groups {
        let of_group = || listed.volumes.iter().filter(|volume| volume.facts.vg == *group);
        let count = of_group().filter(|volume| matches!(volume.refusal, Some(source::Refusal::Inactive))).count();
        if count > 0 {
            let all = of_group().count();
            let what =
                format!("{group}: {count} of its {all} volumes are not active; vgchange -ay {group} makes them so");
            add("volumes", Answer::Bad, what);
        }
    }
}

/// Whether each group has room for a snapshot of its largest thick volume.
fn room(config: &Config, listed: &Volumes, commands: &dyn RunCommand, add: &mut Add<'_>) {
    let mut groups: Vec<&String> = listed.volumes.iter().map(|volume| &volume.facts.vg).collect();
    groups.dedup();
    for group in groups {
        let thick = |volume: &&source::ListedVolume| {
            volume.facts.vg == **group && volume.refusal.is_none() && !volume.facts.is_thin()
        };
        let sized = listed.volumes.iter().filter(thick).map(|volume| {
            let options = config.for_volume(group, &volume.facts.lv);
            (source::snapshot_bytes(volume.facts.size_bytes, options.snapshot.snapshot_size), volume)
        });
        let Some((needed, volume)) = sized.max_by_key(|(needed, _)| *needed) else { continue };
        let name = volume.facts.full_name();
        match source::free_bytes(group, commands) {
            Ok(free) if free >= needed => {
                let what =
                    format!("{group} has {} free; the largest snapshot needs {}", ByteLen(free), ByteLen(needed));
                add("room", Answer::Good, what);
            }
            Ok(free) => {
                let what = format!(
                    "{group} has {} free, and a snapshot of {name} needs {}: set a smaller snapshot_max_size",
                    ByteLen(free),
                    ByteLen(needed)
                );
                add("room", Answer::Bad, what);
            }
            Err(error) => add("room", Answer::Bad, with_causes(&error)),
        }
    }
}

fn destination(config: &Config, now: DateTime<Utc>, add: &mut Add<'_>) {
    let path = &config.backup_destination;
    let destination = match Destination::open(path) {
        Ok(destination) => destination,
        Err(error) => {
            add("destination", Answer::Bad, with_causes(&error));
            return;
        }
    };
    match is_on_mount(path) {
        Ok(true) => add("destination", Answer::Good, format!("{} is on a mounted filesystem", path.display())),
        Ok(false) if config.require_mount => {
            let what = format!("neither {} nor a directory above it is a mount point", path.display());
            add("destination", Answer::Bad, what);
            return;
        }
        Ok(false) => add("destination", Answer::Good, format!("{} is there (require_mount is off)", path.display())),
        Err(error) => add("destination", Answer::Bad, with_causes(&error)),
    }
    if rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_err() {
        add("destination", Answer::Bad, format!("{} cannot be written to", path.display()));
    }
    match (Shelf::all(&destination), destination.free_space()) {
        (Ok(shelves), Ok(free)) => backups(&shelves, free.0, now, add),
        (Err(error), _) | (_, Err(error)) => add("destination", Answer::Bad, with_causes(&error)),
    }
}

fn backups(shelves: &[Shelf], free_bytes: u64, now: DateTime<Utc>, add: &mut Add<'_>) {
    let next_bytes: u64 = shelves.iter().filter_map(Shelf::newest).map(|newest| newest.sizes.archive_bytes).sum();
    let answer = if free_bytes < next_bytes { Answer::Doubtful } else { Answer::Good };
    let what = format!("{} free; the last backups of all volumes have {}", ByteLen(free_bytes), ByteLen(next_bytes));
    add("destination", answer, what);
    let count = |wanted: fn(&BackupState) -> bool| {
        shelves.iter().flat_map(|shelf| &shelf.entries).filter(|entry| wanted(&entry.state)).count()
    };
    let damaged = count(|state| matches!(state, BackupState::Damaged { .. }));
    if damaged > 0 {
        add("backups", Answer::Doubtful, format!("{damaged} are damaged; see volbak list"));
    }
    let foreign = count(|state| matches!(state, BackupState::WithoutManifest));
    if foreign > 0 {
        let what = format!("{foreign} archives have no manifest (another program's); they are never removed");
        add("backups", Answer::Doubtful, what);
    }
    let in_the_future = shelves.iter().filter_map(Shelf::newest).filter(|newest| newest.started_at > now).count();
    if in_the_future > 0 {
        add("backups", Answer::Doubtful, format!("the newest of {in_the_future} volumes are dated in the future"));
    }
}

fn about_mail(config: &Config, add: &mut Add<'_>) {
    if !config.enable_mail_notification {
        add("mail", Answer::Good, "switched off: the report goes to standard output".to_owned());
        return;
    }
    let to = config.email_recipient.join(", ");
    match &config.mail.transport {
        Transport::Smtp(server) => {
            let problem = server.login.as_ref().and_then(|(_, password)| unusable(password));
            let problem = problem.or_else(|| {
                let tried = mail::try_server(&config.mail_settings(&host::name()), config.mail.deadline.min(TRY_LIMIT));
                tried.and_then(Result::err).map(|error| with_causes(&error))
            });
            match problem {
                Some(what) => add("mail", Answer::Bad, what),
                None => add("mail", Answer::Good, format!("to {to} by {}, which answers and lets us in", server.host)),
            }
        }
        Transport::Sendmail { program } if !program.is_file() => {
            add("mail", Answer::Bad, format!("{} is not there", program.display()));
        }
        Transport::Sendmail { program } => {
            add("mail", Answer::Good, format!("to {to} by {}", program.display()));
        }
        Transport::File { directory } => add("mail", Answer::Good, format!("as files in {}", directory.display())),
    }
}

/// Why there is no password to be had; the password itself is not looked at.
fn unusable(password: &PasswordSource) -> Option<String> {
    match password {
        // Its mode counts, too.
        PasswordSource::File(_) => password.check().err().map(|error| format!("the password's file {error}")),
        PasswordSource::Environment(name) => {
            std::env::var_os(name).is_none().then(|| format!("the variable {name} is not set"))
        }
    }
}

fn dumps(config: &Config, add: &mut Add<'_>) {
    if !config.enable_mysql_dump {
        return;
    }
    let files = config.dumps.known_hosts.iter().chain(config.dumps.instances.iter().filter_map(|one| one.key.as_ref()));
    for file in files.filter(|file| !file.is_file()) {
        add("dumps", Answer::Bad, format!("{} is not there", file.display()));
    }
    // All at once: one that hangs must not keep the others waiting.
    let tried: Vec<Result<(), String>> = std::thread::scope(|scope| {
        let limit = (config.dumps.connect_timeout + Duration::from_secs(5)).min(TRY_LIMIT);
        let tries = config
            .dumps
            .instances
            .iter()
            .map(|instance| scope.spawn(move || try_instance(instance, &config.dumps, limit)));
        let tries: Vec<_> = tries.collect();
        tries.into_iter().map(|one| one.join().unwrap_or_else(|_| Err("it could not be tried".to_owned()))).collect()
    });
    let reached = tried.iter().filter(|one| one.is_ok()).count();
    add("dumps", Answer::Good, format!("{reached} of {} instances can be reached and dumped", tried.len()));
    for what in tried.into_iter().filter_map(Result::err) {
        add("dumps", Answer::Bad, what);
    }
}

fn shortened(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let mut shown = names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        shown.push_str(", …");
    }
    shown
}
