//! Checks of the network: the mail server, and instances whose databases are dumped.

use std::path::Path;
use std::time::Duration;

use super::finding::{Add, Answer};
use crate::config::Config;
use crate::error::with_causes;
use crate::mail::{self, PasswordSource, Transport};
use crate::notify::{self, Channel, NotifyError};
use crate::outside::host;
use crate::run::dumps::{DumpError, try_instance};
use crate::shown::counted;

/// The time limit of each check.
const TRY_LIMIT: Duration = Duration::from_secs(20);

pub(super) fn about_mail(config: &Config, add: &mut Add<'_>) {
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
                None => add(
                    "mail",
                    Answer::Good,
                    format!(
                        "to {to} through {}, \
                         which accepts the connection and the login",
                        server.host
                    ),
                ),
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

/// Why the password is unusable; its value is not examined.
fn unusable(password: &PasswordSource) -> Option<String> {
    match password {
        // Includes the file's mode.
        PasswordSource::File(_) => password.check().err().map(|error| format!("the password's file {error}")),
        PasswordSource::Environment(name) => {
            std::env::var_os(name).is_none().then(|| format!("the variable {name} is not set"))
        }
    }
}

/// What would be sent where, and whether the server is there. Nothing is sent.
pub(super) fn notices(config: &Config, add: &mut Add<'_>) {
    // In parallel: one that hangs must not delay the others.
    let tried: Vec<_> = std::thread::scope(|scope| {
        let tries =
            config.notify.iter().map(|one| scope.spawn(|| notify::try_server(one, one.deadline.min(TRY_LIMIT))));
        let tries: Vec<_> = tries.collect();
        tries.into_iter().map(|one| one.join().unwrap_or(Err(NotifyError::NotBuilt))).collect()
    });
    for (one, tried) in config.notify.iter().zip(tried) {
        let events: Vec<&str> = one.on.iter().map(|event| event.word()).collect();
        let on = format!("{} ({}): {}", one.name, one.channel.word(), events.join(", "));
        match (&one.channel, tried) {
            (Channel::Command(command), _) => {
                let program = command.first().map(String::as_str).unwrap_or_default();
                let (answer, is) = if Path::new(program).is_file() {
                    (Answer::Good, "")
                } else {
                    (Answer::Bad, ", which is not there")
                };
                add("notify", answer, format!("{on}, by {program}{is}"));
            }
            (_, Ok(host)) => {
                let host = host.unwrap_or_default();
                add("notify", Answer::Good, format!("{on}, to {host}, which accepts the connection"));
            }
            (_, Err(error)) => add("notify", Answer::Doubtful, format!("{on}: {error}")),
        }
    }
}

pub(super) fn dumps(config: &Config, add: &mut Add<'_>) {
    if !config.enable_mysql_dump {
        return;
    }
    let files = config.dumps.known_hosts.iter().chain(config.dumps.instances.iter().filter_map(|one| one.key.as_ref()));
    for file in files.filter(|file| !file.is_file()) {
        add("dumps", Answer::Bad, format!("{} is not there", file.display()));
    }
    // In parallel: one that hangs must not delay the others.
    let tried: Vec<Result<(), DumpError>> = std::thread::scope(|scope| {
        let limit = (config.dumps.connect_timeout + Duration::from_secs(5)).min(TRY_LIMIT);
        let tries = config
            .dumps
            .instances
            .iter()
            .map(|instance| scope.spawn(move || try_instance(instance, &config.dumps, limit)));
        let tries: Vec<_> = tries.collect();
        tries.into_iter().map(|one| one.join().unwrap_or(Err(DumpError::NotTried))).collect()
    });
    let reached = tried.iter().filter(|one| one.is_ok()).count();
    add(
        "dumps",
        Answer::Good,
        format!("{reached} of {} can be reached and dumped", counted(tried.len() as u64, "instance", "instances")),
    );
    for what in tried.into_iter().filter_map(Result::err) {
        add("dumps", Answer::Bad, what.to_string());
    }
}
