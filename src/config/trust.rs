//! Checks that only root can change the config and the files that it names.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::mistake::ConfigError;
use super::options::HookOptions;
use super::whole::Config;
use crate::mail::{PasswordSource, Transport};
use crate::notify::Channel;
use crate::outside::programs::files_run_by;
use crate::outside::trust::changeable;
use crate::store::readable_credentials;

impl Config {
    /// Refuses a file that other users can change if it names programs to run or secrets to use.
    pub(super) fn check_who_can_change(&mut self, path: &Path) -> Result<(), ConfigError> {
        // A pipe from the caller, `--config <(…)` or /dev/stdin, has no path of its own.
        if ["/dev/fd", "/dev/stdin", "/proc/self/fd"].iter().any(|own| path.starts_with(own)) {
            return Ok(());
        }
        let found = changeable(path).map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        let powers = self.powers();
        match found {
            Some(changeable) if !powers.is_empty() => {
                Err(ConfigError::Changeable { path: path.to_owned(), powers, changeable })
            }
            found => {
                self.changeable = found;
                Ok(())
            }
        }
    }

    /// The powers that write access to the config gives.
    fn powers(&self) -> Vec<&'static str> {
        let mut powers = Vec::new();
        if self.hook_commands().next().is_some() {
            powers.push("runs hooks");
        }
        if self.enable_mysql_dump && !self.dumps.instances.is_empty() {
            powers.push("runs ssh with a key");
        }
        match &self.mail.transport {
            _ if !self.enable_mail_notification => {}
            Transport::Sendmail { .. } => powers.push("runs a mail program"),
            Transport::Smtp(server) if server.login.is_some() => powers.push("sends a password"),
            Transport::Smtp(_) | Transport::File { .. } => {}
        }
        if self.notify.iter().any(|notify| !notify.channel.files().is_empty()) {
            powers.push("sends tokens");
        }
        powers
    }

    /// Each hook, as an argument list.
    pub fn hook_commands(&self) -> impl Iterator<Item = &Vec<String>> {
        let general = self.hooks.before_snapshot.iter().chain(&self.hooks.after_snapshot);
        let of_volumes = self.volumes.iter().flat_map(|one| [&one.before_snapshot, &one.after_snapshot]);
        let notices = self.notify.iter().filter_map(|notify| match &notify.channel {
            Channel::Command(command) => Some(command),
            _ => None,
        });
        general.chain(&self.after_run).chain(of_volumes.flatten().flatten()).chain(notices)
    }

    /// Files named in the config that other users can change: hooks, the mail program, and files with passwords,
    /// keys or certificates. Missing files are ignored.
    pub fn distrusted_files(&self) -> Vec<String> {
        let mut files: Vec<(&str, PathBuf)> = Vec::new();
        for command in self.hook_commands() {
            files.extend(files_of_hook(command).into_iter().map(|file| ("the hook", file)));
        }
        if self.enable_mail_notification {
            match &self.mail.transport {
                Transport::Sendmail { program } => files.push(("the mail program", program.clone())),
                Transport::Smtp(server) => {
                    if let Some((_, PasswordSource::File(path))) = &server.login {
                        files.push(("the password file", path.clone()));
                    }
                    files.extend(server.ca_file.iter().map(|path| ("the file of certificates", path.clone())));
                }
                Transport::File { .. } => {}
            }
        }
        if self.enable_mysql_dump {
            files.extend(self.dumps.known_hosts.iter().map(|path| ("the file of known hosts", path.clone())));
            let keys = self.dumps.instances.iter().filter_map(|instance| instance.key.as_ref());
            files.extend(keys.map(|path| ("the key", path.clone())));
        }
        let store =
            [("the file of certificates", &self.store.ca_file), ("the credentials file", &self.store.credentials_file)];
        files.extend(store.into_iter().filter_map(|(role, path)| Some((role, path.clone()?))));
        for path in self.notify.iter().flat_map(|notify| notify.channel.files()) {
            files.push(("the file for a notification", path.clone()));
        }
        let mut found: Vec<String> = files.iter().filter_map(|(role, file)| distrust(role, file)).collect();
        found.sort();
        found.dedup();
        found
    }

    /// Files with the credentials of the destinations that every user of this host can read, a sentence each. A file with a
    /// password of its own is refused; one of credentials may be shared with other programs.
    pub(crate) fn readable_credentials(&self) -> Vec<String> {
        let destinations = self.copy.to.iter().chain([&self.backup_destination]);
        let mut found: Vec<String> =
            destinations.flat_map(|destination| readable_credentials(destination, &self.store)).collect();
        found.sort();
        found.dedup();
        found
    }
}

impl HookOptions {
    /// Why one of the hooks is not run.
    pub fn distrusted(&self) -> Option<String> {
        self.before_snapshot.iter().chain(&self.after_snapshot).find_map(|command| distrusted_hook(command))
    }
}

/// Why a hook is not run: other users can change its program, or the script given to its program.
pub fn distrusted_hook(command: &[String]) -> Option<String> {
    files_of_hook(command).iter().find_map(|file| distrust("the hook", file))
}

fn files_of_hook(command: &[String]) -> Vec<PathBuf> {
    let argv: Vec<OsString> = command.iter().map(OsString::from).collect();
    files_run_by(&argv)
}

/// Why this file is not trusted; `None` also if it is missing.
pub fn distrust(role: &str, file: &Path) -> Option<String> {
    let found = changeable(file).ok()??;
    Some(format!("{role} {} is refused, since {found}", file.display()))
}
