//! Runs the config's commands around a snapshot.

use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use super::backup::{AroundError, AroundFreeze};
use super::child::{ChildError, ChildProgram, run};
use crate::config::{Config, HookOptions, distrusted_hook};
use crate::outside::{Cancel, shown_command};

/// The hooks of one volume.
#[derive(Debug)]
pub(super) struct Hooks {
    pub(super) options: HookOptions,
    pub(super) group: String,
    pub(super) volume: String,
    pub(super) cancel: Cancel,
}

/// The config's commands around the snapshot of this volume; `None` without any.
pub fn around(options: &HookOptions, group: &str, volume: &str, cancel: &Cancel) -> Option<Arc<dyn AroundFreeze>> {
    Hooks::new(options, group, volume, cancel).map(|hooks| Arc::new(hooks) as Arc<dyn AroundFreeze>)
}

impl AroundFreeze for Hooks {
    fn before(&self) -> Result<(), AroundError> {
        // Checks the commands after the snapshot, too: an instance must not be frozen if it cannot be thawed.
        if let Some(why) = self.options.distrusted() {
            return Err(HookError::Distrusted(why).into());
        }
        // Polled between commands, and by each command while it runs.
        for command in &self.options.before_snapshot {
            self.one(command, "before", None, "", Some(&self.cancel))?;
        }
        Ok(())
    }

    /// Runs all commands, even if earlier ones failed or the run is cancelled, since a frozen instance must be
    /// thawed.
    fn after(&self, snapshot: Option<&str>, is_frozen: bool) -> Result<(), AroundError> {
        let outcome = if is_frozen { "ok" } else { "failed" };
        let failed: Vec<HookError> = self
            .options
            .after_snapshot
            .iter()
            .filter_map(|command| self.one(command, "after", snapshot, outcome, None).err())
            .collect();
        if failed.is_empty() { Ok(()) } else { Err(HookError::Several(failed).into()) }
    }

    fn freeze_limit(&self) -> Duration {
        self.options.freeze_limit
    }
}

/// Why a hook failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HookError {
    /// Other users can change it, so it was not run.
    #[error("{0}")]
    Distrusted(String),
    /// It could not be started, or failed.
    #[error("the hook {program} failed: {error}")]
    Failed {
        /// The command as typed in a shell.
        program: String,
        /// The cause.
        error: ChildError,
    },
    /// Several failed.
    #[error("{}", listed(.0))]
    Several(Vec<HookError>),
}

/// Runs the commands of `after_run`; returns the failures. The environment has the outcome, the report's file and its
/// subject.
pub(super) fn after_run(config: &Config, outcome: &str, report: &str, subject: &str) -> Vec<HookError> {
    let environment = [
        ("VOLBAK_PHASE", "after_run".to_owned()),
        ("VOLBAK_OUTCOME", outcome.to_owned()),
        ("VOLBAK_REPORT", report.to_owned()),
        ("VOLBAK_SUBJECT", subject.to_owned()),
    ];
    let one = |command: &Vec<String>| run_hook(command, &environment, config.hooks.timeout, None).err();
    config.after_run.iter().filter_map(one).collect()
}

/// Runs one command of the config.
fn run_hook(
    command: &[String],
    environment: &[(&str, String)],
    timeout: Duration,
    cancel: Option<&Cancel>,
) -> Result<(), HookError> {
    if let Some(why) = distrusted_hook(command) {
        return Err(HookError::Distrusted(why));
    }
    let argv: Vec<OsString> = command.iter().map(OsString::from).collect();
    let job = ChildProgram { argv: &argv, environment, input: b"", timeout, cancel };
    let program = argv.first().map_or_else(String::new, |program| shown_command(&program.to_string_lossy(), &[]));
    run(&job).map(drop).map_err(|error| HookError::Failed { program, error })
}

fn listed(errors: &[HookError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

impl Hooks {
    /// `None` if there is nothing to run.
    pub(super) fn new(options: &HookOptions, group: &str, volume: &str, cancel: &Cancel) -> Option<Self> {
        let is_empty = options.before_snapshot.is_empty() && options.after_snapshot.is_empty();
        (!is_empty).then(|| Self {
            options: options.clone(),
            group: group.to_owned(),
            volume: volume.to_owned(),
            cancel: cancel.clone(),
        })
    }

    fn one(
        &self,
        command: &[String],
        phase: &str,
        snapshot: Option<&str>,
        outcome: &str,
        cancel: Option<&Cancel>,
    ) -> Result<(), HookError> {
        let environment = [
            ("VOLBAK_GROUP", self.group.clone()),
            ("VOLBAK_VOLUME", self.volume.clone()),
            ("VOLBAK_SNAPSHOT", snapshot.unwrap_or_default().to_owned()),
            ("VOLBAK_PHASE", phase.to_owned()),
            ("VOLBAK_OUTCOME", outcome.to_owned()),
        ];
        run_hook(command, &environment, self.options.timeout, cancel)
    }
}

#[cfg(test)]
mod tests {

    use super::Hooks;
    use crate::config::HookOptions;
    use crate::outside::Cancel;
    use crate::outside::for_tests::program;
    use crate::run::backup::AroundFreeze;

    fn command(script: &str) -> Vec<String> {
        ["/bin/sh", "-c", script].map(str::to_owned).to_vec()
    }

    #[test]
    fn a_hook_that_others_can_change_is_not_run_nor_is_one_before_it() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let (log, script) = (dir.path().join("log"), dir.path().join("thaw"));
        program(&script, &format!("echo thaw >>{}", log.display()));
        let says = |word: &str| command(&format!("echo {word} >>{}", log.display()));
        let thaw = script.to_str().unwrap().to_owned();
        for thaw in [vec![thaw.clone()], vec!["/bin/sh".to_owned(), "-e".to_owned(), thaw]] {
            let options = HookOptions {
                before_snapshot: vec![says("freeze")],
                after_snapshot: vec![thaw, says("after")],
                ..HookOptions::default()
            };
            let hooks = Hooks::new(&options, "g", "v", &Cancel::default()).unwrap();
            std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o777)).unwrap();
            let refused = hooks.before().unwrap_err().to_string();
            assert!(refused.contains("thaw") && refused.contains("others can write"), "{refused}");
            assert!(!log.exists(), "nothing ran");
            assert!(hooks.after(None, false).unwrap_err().to_string().contains("others can write"));
            assert_eq!(std::fs::read_to_string(&log).unwrap(), "after\n", "the other one runs");
            std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
            hooks.before().unwrap();
            hooks.after(Some("g/v-volbak"), true).unwrap();
            assert_eq!(std::fs::read_to_string(&log).unwrap(), "after\nfreeze\nthaw\nafter\n");
            std::fs::remove_file(&log).unwrap();
        }
    }

    #[test]
    fn hooks_run_in_order_with_their_environment() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let says = |word: &str| {
            command(&format!(
                "echo {word} $VOLBAK_PHASE $VOLBAK_GROUP/$VOLBAK_VOLUME s=$VOLBAK_SNAPSHOT $VOLBAK_OUTCOME >>{}",
                log.display()
            ))
        };
        let options = HookOptions {
            before_snapshot: vec![says("one"), command("echo no >&2; exit 3"), says("two")],
            after_snapshot: vec![command("exit 4"), says("three")],
            ..HookOptions::default()
        };
        let cancel = Cancel::default();
        let hooks = Hooks::new(&options, "g", "v", &cancel).unwrap();
        let failed = hooks.before().unwrap_err().to_string();
        assert!(failed.contains("/bin/sh") && failed.contains("no"), "{failed}");
        cancel.flag().store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(hooks.after(None, false).is_err());
        assert!(hooks.after(Some("g/v-volbak"), true).is_err());
        assert_eq!(
            std::fs::read_to_string(log).unwrap(),
            "one before g/v s=\nthree after g/v s= failed\nthree after g/v s=g/v-volbak ok\n"
        );
        let none = HookOptions::default();
        assert!(Hooks::new(&none, "g", "v", &cancel).is_none());
    }
}
