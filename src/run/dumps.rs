//! Database dumps inside instances through the system's ssh. Dumps are made, compressed and kept in the instance,
//! so that the backup of its volume includes them.
//!
//! No secret is transmitted: ssh reads its key from a file, and the database program reads its password from a file
//! inside the instance. The host key is always checked, and ssh never prompts (`BatchMode`).

use std::ffi::OsString;
use std::time::Duration;

use chrono::{Local, NaiveDateTime, TimeZone, Utc};

use super::child::{ChildError, ChildProgram, run};
use crate::config::{DumpInstance, DumpKind, DumpOptions, distrust};
use crate::outside::{Cancel, Clock};
use crate::store::retention::{BackupFacts, Now, Occasion, Policy, plan};

const DUMP_SCRIPT: &str = include_str!("dumps/dump.sh");
const REMOVE_SCRIPT: &str = include_str!("dumps/remove.sh");
const TRY_SCRIPT: &str = "for program in gzip \"$1\"; do\n\
    command -v \"$program\" >/dev/null || { echo \"it has no $program\" >&2; exit 1; }\ndone\n\
    [ -z \"$2\" ] || [ -r \"$2\" ] || { echo \"$2 cannot be read\" >&2; exit 1; }\n";
const SUFFIX: &str = ".sql.gz";
const TIME_FORMAT: &str = "%Y-%m-%d_%H%M%S";
/// The time limit for removing files.
const REMOVAL_TIMEOUT: Duration = Duration::from_secs(60);

/// Why a dump failed; the text is one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(super) enum DumpError {
    /// Other users can change a file that ssh relies on.
    #[error("{instance}: {why}")]
    Distrusted { instance: String, why: String },
    /// ssh, or the dump inside the instance, failed.
    #[error("{instance}: {error}")]
    Failed { instance: String, error: ChildError },
    /// A test without a dump failed.
    #[error("{instance} ({host}): {error}")]
    Unreachable { instance: String, host: String, error: ChildError },
    /// The thread of the test ended.
    #[error("the dump could not be tested: its thread ended")]
    NotTried,
}

/// A finished dump.
#[derive(Debug, Default)]
pub(super) struct DumpMade {
    /// Old dumps that were removed.
    pub(super) removed: Vec<String>,
    /// Why old dumps could not be removed.
    pub(super) trouble: Option<String>,
}

/// Dumps the databases of one instance, and removes its old dumps by the retention rules of backups.
pub(super) fn dump(
    instance: &DumpInstance,
    options: &DumpOptions,
    clock: &dyn Clock,
    cancel: &Cancel,
) -> Result<DumpMade, DumpError> {
    let files = options.known_hosts.iter().map(|file| ("the file of known hosts", file));
    let files = files.chain(instance.key.iter().map(|file| ("the key", file)));
    if let Some(why) = files.into_iter().find_map(|(role, file)| distrust(role, file)) {
        return Err(DumpError::Distrusted { instance: instance.name.clone(), why });
    }
    let now = clock.now();
    let prefix = prefix_of(instance);
    let name = format!("{prefix}{}{SUFFIX}", now.with_timezone(&Local).format(TIME_FORMAT));
    let kind = match instance.kind {
        DumpKind::Mysql => "mysql",
        DumpKind::Mariadb => "mariadb",
        DumpKind::Postgresql => "postgresql",
    };
    let defaults = instance.defaults_file.as_deref().unwrap_or_default();
    let arguments = [kind, &instance.directory, &name, defaults, &prefix];
    let said = ssh(instance, options, &arguments, DUMP_SCRIPT, options.timeout, cancel)
        .map_err(|error| DumpError::Failed { instance: instance.name.clone(), error })?;
    let names = String::from_utf8_lossy(&said);

    let mut made = DumpMade::default();
    let old = old_dumps(&names, &name, &prefix, options.retention_days, super::prune::now(now));
    if !old.is_empty() {
        let arguments: Vec<&str> =
            std::iter::once(instance.directory.as_str()).chain(old.iter().map(String::as_str)).collect();
        match ssh(instance, options, &arguments, REMOVE_SCRIPT, REMOVAL_TIMEOUT, cancel) {
            Ok(_) => made.removed = old,
            Err(error) => made.trouble = Some(format!("{}: old dumps were not removed: {error}", instance.name)),
        }
    }
    Ok(made)
}

/// The prefix of an instance's dump names. No other instance shares it, since the name ends at the date.
fn prefix_of(instance: &DumpInstance) -> String {
    let plain: String =
        instance.name.chars().map(|c| if c.is_ascii_alphanumeric() || ".-".contains(c) { c } else { '_' }).collect();
    format!("volbak-{plain}-")
}

/// The listed dumps to remove, now that `new` exists.
fn old_dumps(listed: &str, new: &str, prefix: &str, retention_days: u32, now: Now) -> Vec<String> {
    let dumps: Vec<BackupFacts> = listed
        .lines()
        .filter_map(|name| {
            let time = name.strip_prefix(prefix)?.strip_suffix(SUFFIX)?;
            let time = NaiveDateTime::parse_from_str(time, TIME_FORMAT).ok()?;
            let taken_at = Local.from_local_datetime(&time).earliest().map_or_else(|| time.and_utc(), |t| t.to_utc());
            Some(BackupFacts::new(name.to_owned(), taken_at.with_timezone(&Utc), time.date()))
        })
        .collect();
    let plan = plan(prefix, &dumps, &Policy::days(retention_days), now, Occasion::Published(new));
    plan.removals().map(str::to_owned).collect()
}

/// Tests a dump of an instance without making one: the host key, our key, the dump program and the credentials'
/// file. Ends within `limit`.
pub(super) fn try_instance(instance: &DumpInstance, options: &DumpOptions, limit: Duration) -> Result<(), DumpError> {
    let program = match instance.kind {
        DumpKind::Mysql => "mysqldump",
        DumpKind::Mariadb => "mariadb-dump",
        DumpKind::Postgresql => "pg_dumpall",
    };
    let options = DumpOptions { connect_timeout: options.connect_timeout.min(limit), ..options.clone() };
    let arguments = [program, instance.defaults_file.as_deref().unwrap_or_default()];
    ssh(instance, &options, &arguments, TRY_SCRIPT, limit, &Cancel::default())
        .map(drop)
        .map_err(|error| DumpError::Unreachable { instance: instance.name.clone(), host: instance.host.clone(), error })
}

fn ssh(
    instance: &DumpInstance,
    options: &DumpOptions,
    arguments: &[&str],
    script: &str,
    timeout: Duration,
    cancel: &Cancel,
) -> Result<Vec<u8>, ChildError> {
    let argv = ssh_arguments(instance, options, arguments);
    run(&ChildProgram {
        argv: &argv,
        environment: &[("LC_ALL", "C".to_owned())],
        input: script.as_bytes(),
        timeout,
        cancel: Some(cancel),
    })
}

/// The complete arguments; the script is passed on standard input.
fn ssh_arguments(instance: &DumpInstance, options: &DumpOptions, arguments: &[&str]) -> Vec<OsString> {
    let mut argv: Vec<OsString> = vec!["ssh".into(), "-T".into()];
    let mut option = |text: String| argv.extend(["-o".into(), OsString::from(text)]);
    option("BatchMode=yes".to_owned());
    option("StrictHostKeyChecking=yes".to_owned());
    option("UpdateHostKeys=no".to_owned());
    if let Some(known_hosts) = &options.known_hosts {
        option(format!("UserKnownHostsFile=\"{}\"", known_hosts.display()));
        option("GlobalKnownHostsFile=/dev/null".to_owned());
    }
    option(format!("ConnectTimeout={}", options.connect_timeout.as_secs()));
    // A dead connection is noticed after a minute instead of the whole timeout.
    option("ServerAliveInterval=15".to_owned());
    option("ServerAliveCountMax=4".to_owned());
    option("ClearAllForwardings=yes".to_owned());
    option("ForwardAgent=no".to_owned());
    option("ForwardX11=no".to_owned());
    option("PermitLocalCommand=no".to_owned());
    option("ControlPath=none".to_owned());
    option("EscapeChar=none".to_owned());
    option(format!("Port={}", instance.port));
    option(format!("User={}", instance.user));
    if let Some(key) = &instance.key {
        option("IdentitiesOnly=yes".to_owned());
        argv.extend(["-i".into(), key.clone().into_os_string()]);
    }
    let words: Vec<String> = arguments.iter().map(|argument| quoted(argument)).collect();
    argv.extend(["--".into(), OsString::from(&instance.host), format!("exec sh -s -- {}", words.join(" ")).into()]);
    argv
}

/// Quotes a text as one shell word.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use chrono::{Local, TimeZone};

    use super::{old_dumps, quoted};
    use crate::run::prune::now;

    #[test]
    fn words_reach_the_other_shell_as_they_are() {
        for text in ["a b", "it's", "", "$(touch /x)", "a\nb", "`x`;\"&*"] {
            let output = Command::new("sh").args(["-c", &format!("printf %s {}", quoted(text))]).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), text);
        }
    }

    #[test]
    fn old_dumps_go_by_their_dates_and_others_stay() {
        let at = Local.with_ymd_and_hms(2026, 11, 20, 1, 0, 0).unwrap().to_utc();
        let listed = "volbak-db-2026-11-01_010000.sql.gz\nvolbak-db-2026-11-12_010000.sql.gz\n\
            volbak-db-2026-11-13_010000.sql.gz\nvolbak-db-old-2026-11-01_010000.sql.gz\nvolbak-db-x.sql.gz\n\
            volbak-db-2026-11-20_010000.sql.gz\n../volbak-db-2026-11-02_010000.sql.gz\n";
        let old = |new| old_dumps(listed, new, "volbak-db-", 7, now(at));
        assert_eq!(
            old("volbak-db-2026-11-20_010000.sql.gz"),
            ["volbak-db-2026-11-01_010000.sql.gz", "volbak-db-2026-11-12_010000.sql.gz"]
        );
        assert!(old("volbak-db-2026-11-21_010000.sql.gz").is_empty(), "the new one is not among them");
    }

    #[test]
    fn the_scripts_are_shell() {
        for script in [super::DUMP_SCRIPT, super::REMOVE_SCRIPT, super::TRY_SCRIPT] {
            let output = Command::new("sh").args(["-n", "-c", script]).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
    }
}
