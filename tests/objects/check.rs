//! `store check`: the verb, as it ends without a store.

use std::process::{Command, Output};

use crate::client::SECRET;
use crate::server::{Reply, Server};

pub(crate) fn volbak(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_volbak"));
    command.args(args);
    command
}

pub(crate) fn status(output: &Output) -> (i32, String) {
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.code().unwrap(), text)
}

fn check(url: &str, destination: &str) -> (i32, String) {
    let mut command = volbak(&["store", "check", destination]);
    command.env_clear().envs([
        ("AWS_ENDPOINT_URL", url),
        ("AWS_ACCESS_KEY_ID", "KEY"),
        ("AWS_SECRET_ACCESS_KEY", SECRET),
    ]);
    status(&command.output().unwrap())
}

#[test]
fn a_store_that_refuses_everything_is_an_error() {
    let refusal = "<Error><Code>NoSuchBucket</Code><Message>none</Message></Error>";
    let server = Server::start(move |_, _| Reply::Json(404, refusal.to_owned()));
    let (code, text) = check(&server.url, "s3://backups/host-1");
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("NoSuchBucket") && text.contains("create the bucket"), "{text}");
    assert!(!text.contains(SECRET), "{text}");
}

#[test]
fn what_is_no_store_is_an_error() {
    for (destination, words) in [
        ("/BACKUPS", "it does not begin with s3://"),
        ("s3://x", "the bucket's name"),
        ("s3://backups/../x", "a part of the prefix"),
    ] {
        let (code, text) = check("http://127.0.0.1:9", destination);
        assert!(code == 1 && text.contains(words), "{code} {text}");
    }
    let output = volbak(&["store", "check", "s3://backups"]).env_clear().output().unwrap();
    let (code, text) = status(&output);
    assert!(code == 1 && text.contains("credentials_file"), "{code} {text}");
}

#[test]
fn the_config_says_where_the_store_is() {
    let dir = tempfile::tempdir().unwrap();
    let (config, keys) = (dir.path().join("volbak.toml"), dir.path().join("keys"));
    std::fs::write(&keys, format!("[night]\naws_access_key_id = KEY\naws_secret_access_key = {SECRET}\n")).unwrap();
    let refusal = "<Error><Code>AccessDenied</Code></Error>";
    let server = Server::start(move |_, _| Reply::Json(403, refusal.to_owned()));
    let text = format!(
        "backup_destination = \"s3://backups/host-1\"\n[store]\nendpoint = \"{}\"\nregion = \"r-7\"\nprofile = \"night\"\n\
         credentials_file = \"{}\"\n",
        server.url,
        keys.display()
    );
    std::fs::write(&config, text).unwrap();
    let output = volbak(&["store", "check", "--config"]).arg(&config).env_clear().output().unwrap();
    let (code, text) = status(&output);
    assert!(code == 1 && text.contains("PutObject s3://backups/host-1/.volbak/probe/"), "{code} {text}");
    let asked = server.asked.lock().unwrap();
    assert!(asked[0].path.contains("%2Fr-7%2Fs3"), "{}", asked[0].path);

    drop(asked);

    // Other verbs ask the same store.
    let output = volbak(&["list", "--config"]).arg(&config).env_clear().output().unwrap();
    let (code, text) = status(&output);
    assert!(code == 1 && text.contains("AccessDenied") && !text.contains(SECRET), "{code} {text}");
}
