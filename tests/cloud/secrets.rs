//! No secret shows in an output, a log, a file or an argument: of a night that asks the cloud, whose mail server is down
//! and whose webhook fails, and of the verbs after it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use crate::map::{cloud, clouds_yaml, recorded};
use crate::server::{Reply, Server};
use crate::testkit::stand_in::{Did, Host};

/// Of the cloud: what is in clouds.yaml, and the token for it.
const CLOUD: [&str; 2] = ["geheim-4711", "gAAAA-token"];
const MAIL: &str = "mail-geheim-1";
const HEADER: &str = "header-geheim-2";
const IN_URL: &str = "url-geheim-3";
/// In the environment, as a person has it who sourced his openrc.
const OF_SHELL: &str = "shell-geheim-4";

/// Files that may hold them: what the administrator wrote.
const SOURCES: [&str; 4] = ["clouds.yaml", "mail.password", "header", "url"];

fn source(host: &Host, name: &str, text: &str) -> String {
    let path = host.at(name);
    fs::write(&path, format!("{text}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path.display().to_string()
}

fn assert_shows_none(what: &str, bytes: &[u8]) {
    for secret in CLOUD.into_iter().chain([MAIL, HEADER, IN_URL, OF_SHELL]) {
        let is_there = bytes.windows(secret.len()).any(|found| found == secret.as_bytes());
        assert!(!is_there, "{secret} in {what}: {}", String::from_utf8_lossy(bytes));
    }
}

/// The number of files below the directory, none of which has a secret.
fn files_without_secrets(directory: &Path) -> usize {
    let mut files = 0;
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if entry.file_type().unwrap().is_dir() {
            files += files_without_secrets(&path);
        } else if entry.file_type().unwrap().is_file() && !SOURCES.iter().any(|source| path.ends_with(source)) {
            assert_shows_none(&path.display().to_string(), &fs::read(&path).unwrap());
            files += 1;
        }
    }
    files
}

/// Runs a verb under strace, which writes the arguments of all processes.
fn traced(host: &Host, arguments: &[&str]) -> Did {
    let program = host.program(arguments);
    let mut command = Command::new("strace");
    command
        .args(["-f", "--seccomp-bpf", "-qq", "-e", "trace=execve", "-e", "signal=none", "-s", "100000", "-o"])
        .arg(host.at("calls"));
    command.arg(program.get_program()).args(program.get_args()).arg("--config").arg(host.at("volbak.toml"));
    for (name, value) in program.get_envs() {
        command.env(name, value.unwrap());
    }
    command.env("OS_PASSWORD", OF_SHELL).env("AWS_SECRET_ACCESS_KEY", OF_SHELL);
    let did = Did::from(command.output().unwrap());
    let calls = fs::read(host.at("calls")).unwrap();
    assert!(String::from_utf8_lossy(&calls).contains("execve("), "{did:?}");
    assert_shows_none("the arguments of a process", &calls);
    assert_shows_none(&format!("the output of {arguments:?}"), did.stdout.as_bytes());
    assert_shows_none(&format!("the errors of {arguments:?}"), did.stderr.as_bytes());
    did
}

#[test]
fn no_secret_is_shown_or_kept() {
    let server = cloud(&Arc::new(Mutex::new(recorded())));
    // It sends back what it was sent.
    let webhook = Server::start(|asked, _| Reply::Json(500, format!("no: {} {:?}", asked.path, asked.headers)));
    let host = Host::new("");
    let clouds = clouds_yaml(&host.at(""), &server.url);
    let password = source(&host, "mail.password", MAIL);
    let header = source(&host, "header", &format!("Bearer {HEADER}"));
    let url = source(&host, "url", &format!("{}/hook/{IN_URL}", webhook.url));
    host.write_config(
        "volbak.toml",
        &format!(
            "enable_mail_notification = true\nemail_recipient = ['a@example.com']\n\
             [openstack]\ncloud = 'test'\nclouds_file = '{clouds}'\nhost = 'storage-1'\n\
             [mail]\nsmtp_host = '127.0.0.1'\nsmtp_port = 1\ntls = 'none'\nuser = 'u'\npassword_file = '{password}'\n\
             spool_dir = '{spool}'\ndeadline_seconds = 5\n\
             [[notify]]\nkind = 'webhook'\nurl_file = '{url}'\nheaders = {{ Authorization = '{header}' }}\n\
             on = ['start', 'ok', 'warning', 'failure']\ndeadline_seconds = 5\n",
            spool = host.at("spool").display()
        ),
    );
    let name = "volume-ec20e4b2-6eca-4ccf-9d1c-9d8275246906";
    host.add_ext4(name);
    let verbs: [&[&str]; 13] = [
        &["run", "--verbose", "--log", "json"],
        &["run", "--verbose"],
        &["cloud", "map"],
        &["cloud", "map", "--json"],
        &["doctor"],
        &["doctor", "--json"],
        &["config", "check", "--json"],
        &["list", "--json"],
        &["status", "--json"],
        &["report"],
        &["notify", "test", "webhook"],
        &["verify", name],
        &["--version", "--verbose"],
    ];
    for verb in verbs {
        let did = traced(&host, verb);
        println!("{verb:?} ended with {}", did.status);
        assert!(did.status != 2 && !(did.stdout.is_empty() && did.stderr.is_empty()), "{verb:?}: {did:?}");
    }
    // They were used.
    let asked = webhook.asked.lock().unwrap().clone();
    assert!(asked.iter().any(|asked| asked.path.contains(IN_URL) && format!("{asked:?}").contains(HEADER)));
    assert!(server.asked.lock().unwrap().iter().any(|asked| asked.body.contains(CLOUD[0])));
    assert!(fs::read_dir(host.at("spool")).unwrap().count() > 0, "mails and messages are kept");
    assert!(files_without_secrets(&host.at("")) > 20);
}
