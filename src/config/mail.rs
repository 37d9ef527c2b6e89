//! The table `[mail]`.

use std::path::PathBuf;

use super::kinds::{YEARS_100, address, seconds};
use super::mistake::Location;
use super::options::{MailOptions, MailWhen};
use super::section::Section;
use crate::mail::{PasswordSource, SmtpServer, SpoolSettings, Tls, Transport};

/// The variable that holds the mail server's password.
pub const PASSWORD_VARIABLE: &str = "VOLBAK_MAIL__PASSWORD";

#[derive(Clone, Copy, PartialEq)]
enum TransportWord {
    Smtp,
    Sendmail,
    File,
}

pub(super) fn read(section: &Section<'_>, is_on: bool) -> MailOptions {
    let word = section
        .choice(
            "transport",
            &[("smtp", TransportWord::Smtp), ("sendmail", TransportWord::Sendmail), ("file", TransportWord::File)],
        )
        .unwrap_or(TransportWord::Smtp);
    let smtp = smtp(section, is_on && word == TransportWord::Smtp);
    let program = section.path("sendmail_program", "/usr/sbin/sendmail");
    let directory = section.path("file_directory", "/var/spool/volbak/mails");
    let transport = match word {
        TransportWord::Smtp => Transport::Smtp(smtp),
        TransportWord::Sendmail => {
            Transport::Sendmail { program: program.unwrap_or_else(|| PathBuf::from("/usr/sbin/sendmail")) }
        }
        TransportWord::File => {
            if is_on && directory.is_none() && section.place("file_directory") == Location::Nowhere {
                section.reading.mistake(
                    &section.place("transport"),
                    "mails go to files, and no directory for them is set",
                    "add file_directory = \"/var/spool/volbak/mails\" to [mail]",
                );
            }
            Transport::File { directory: directory.unwrap_or_default() }
        }
    };
    let usual = MailOptions::default();
    let max_mails = section.number("spool_max_mails", 0, 10_000).and_then(|count| usize::try_from(count).ok());
    MailOptions {
        when: section
            .choice("when", &[("always", MailWhen::Always), ("on-problem", MailWhen::OnProblem)])
            .unwrap_or(usual.when),
        from: section.text("from", "volbak@example.com").and_then(|text| {
            let wrong = |right: &dyn ToString| {
                section.reading.mistake(&section.place("from"), "no address", right.to_string());
            };
            address(&text).map_err(|right| wrong(&right)).ok()
        }),
        transport,
        deadline: seconds(section, "deadline_seconds", 3600).unwrap_or(usual.deadline),
        spool: SpoolSettings {
            directory: section.path("spool_dir", "/var/spool/volbak").unwrap_or(usual.spool.directory),
            max_mails: max_mails.unwrap_or(usual.spool.max_mails),
            max_days: section.number("spool_max_days", 1, YEARS_100).unwrap_or(usual.spool.max_days),
        },
    }
}

fn smtp(section: &Section<'_>, is_needed: bool) -> SmtpServer {
    let reading = section.reading;
    let host = section.text("smtp_host", "mail.example.com");
    let port = section.number("smtp_port", 1, 65_535).and_then(|port| u16::try_from(port).ok());
    let tls = section
        .choice("tls", &[("tls", Tls::Immediate), ("starttls", Tls::StartTls), ("none", Tls::None)])
        .unwrap_or_default();
    let user = section.text("user", "volbak");
    let file = section.path("password_file", "/etc/volbak/mail.password");
    let ca_file = section.path("ca_file", "/etc/volbak/mail-ca.pem");
    let password = if reading.environment("mail", "password").is_some() {
        Some(PasswordSource::Environment(PASSWORD_VARIABLE.to_owned()))
    } else {
        file.map(PasswordSource::File)
    };
    if is_needed {
        if host.is_none() && section.place("smtp_host") == Location::Nowhere {
            let right = "add smtp_host = \"mail.example.com\" to [mail], or transport = \"sendmail\"";
            reading.mistake(&Location::Nowhere, "mail is switched on, and no mail server is named", right);
        }
        if user.is_some() && password.is_none() && section.place("password_file") == Location::Nowhere {
            let right = format!("add password_file to [mail], or set {PASSWORD_VARIABLE} in the environment");
            reading.mistake(&section.place("user"), "there is a user and no password", right);
        }
        if user.is_none() && section.place("password_file") != Location::Nowhere {
            let what = "there is a password and no user";
            reading.mistake(&section.place("password_file"), what, "add user = \"volbak\" to [mail]");
        }
        let is_here = host.as_deref().is_some_and(|host| ["localhost", "127.0.0.1", "::1"].contains(&host));
        if user.is_some() && tls == Tls::None && !is_here {
            let what = "the password would cross the network unprotected";
            reading.mistake(&section.place("tls"), what, "write tls = \"starttls\" or \"tls\"");
        }
    }
    SmtpServer { host: host.unwrap_or_default(), port, tls, login: user.zip(password), ca_file }
}
