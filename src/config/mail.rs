//! The table `[mail]`.

use std::path::PathBuf;

use super::PASSWORD_VARIABLE;
use super::mistake::Place;
use super::options::{MailOptions, MailTls, MailTransport, MailWhen, PasswordSource};
use super::reading::Section;
use super::sections::{YEARS_100, address, seconds};

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
        TransportWord::Smtp => smtp,
        TransportWord::Sendmail => {
            MailTransport::Sendmail { program: program.unwrap_or_else(|| PathBuf::from("/usr/sbin/sendmail")) }
        }
        TransportWord::File => {
            if is_on && directory.is_none() && section.place("file_directory") == Place::Nowhere {
                section.reading.mistake(
                    &section.place("transport"),
                    "mails go to files, and no directory for them is set",
                    "add file_directory = \"/var/spool/volbak/mails\" to [mail]",
                );
            }
            MailTransport::File { directory: directory.unwrap_or_default() }
        }
    };
    MailOptions {
        when: section
            .choice("when", &[("always", MailWhen::Always), ("on-problem", MailWhen::OnProblem)])
            .unwrap_or(MailWhen::Always),
        from: section.text("from", "volbak@example.com").and_then(|text| {
            address(&text).map_err(|right| section.reading.mistake(&section.place("from"), "no address", right)).ok()
        }),
        transport,
        deadline: seconds(section, "deadline_seconds", 3600, 60),
        spool_dir: section.path("spool_dir", "/var/spool/volbak").unwrap_or_else(|| "/var/spool/volbak".into()),
        spool_max_mails: section.number("spool_max_mails", 0, 10_000).unwrap_or(30),
        spool_max_days: section.number("spool_max_days", 1, YEARS_100).unwrap_or(7),
    }
}

fn smtp(section: &Section<'_>, is_needed: bool) -> MailTransport {
    let reading = section.reading;
    let host = section.text("smtp_host", "mail.example.com");
    let port = section.number("smtp_port", 1, 65_535).and_then(|port| u16::try_from(port).ok());
    let tls = section
        .choice("tls", &[("tls", MailTls::Tls), ("starttls", MailTls::StartTls), ("none", MailTls::None)])
        .unwrap_or(MailTls::StartTls);
    let user = section.text("user", "volbak");
    let file = section.path("password_file", "/etc/volbak/mail.password");
    let ca_file = section.path("ca_file", "/etc/volbak/mail-ca.pem");
    let password = if reading.environment("mail", "password").is_some() {
        Some(PasswordSource::Environment(PASSWORD_VARIABLE.to_owned()))
    } else {
        file.map(PasswordSource::File)
    };
    if is_needed {
        if host.is_none() && section.place("smtp_host") == Place::Nowhere {
            let right = "add smtp_host = \"mail.example.com\" to [mail], or transport = \"sendmail\"";
            reading.mistake(&Place::Nowhere, "mail is switched on, and no mail server is named", right);
        }
        if user.is_some() && password.is_none() && section.place("password_file") == Place::Nowhere {
            let right = format!("add password_file to [mail], or set {PASSWORD_VARIABLE} in the environment");
            reading.mistake(&section.place("user"), "there is a user and no password", right);
        }
        if user.is_none() && section.place("password_file") != Place::Nowhere {
            let what = "there is a password and no user";
            reading.mistake(&section.place("password_file"), what, "add user = \"volbak\" to [mail]");
        }
        let is_here = host.as_deref().is_some_and(|host| ["localhost", "127.0.0.1", "::1"].contains(&host));
        if user.is_some() && tls == MailTls::None && !is_here {
            let what = "the password would cross the network unprotected";
            reading.mistake(&section.place("tls"), what, "write tls = \"starttls\" or \"tls\"");
        }
    }
    MailTransport::Smtp { host: host.unwrap_or_default(), port, tls, user, password, ca_file }
}
