//! Promise: at a terminal tables fit its width and problems are coloured; a pipe gets every column and no colour.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::testkit::guest::sh;

const VOLUME: &str = "volume-0f8fad5b-d9cb-469f-a165-70867728950e";

/// A destination with a whole backup, and one whose archive was cut.
fn destination() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in [VOLUME, "cut"] {
        let image = dir.path().join(format!("{name}.img"));
        sh(&format!("mke2fs -q -t ext4 {} 4M", image.display()));
        let made = volbak(dir.path()).arg("-q").arg("snapshot").arg(&image).output().unwrap();
        assert!(made.status.success(), "{made:?}");
    }
    let folder = dir.path().join("backups/cut");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let archive = files.into_iter().find(|path| path.display().to_string().ends_with(".tar.gz")).unwrap();
    fs::File::options().write(true).open(archive).unwrap().set_len(10).unwrap();
    dir
}

fn volbak(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_volbak"));
    fs::create_dir_all(dir.join("backups")).unwrap();
    command.env_remove("NO_COLOR").env_remove("COLUMNS").env("VOLBAK_BACKUP_DESTINATION", dir.join("backups"));
    command
}

/// What a terminal of this width gets.
fn at_terminal(dir: &Path, columns: usize, environment: &str, arguments: &str) -> String {
    let program = env!("CARGO_BIN_EXE_volbak");
    let mut script = Command::new("script");
    let line = format!("stty cols {columns}; {environment} {program} {arguments}");
    script.args(["-qec", &line, "/dev/null"]).stdin(std::process::Stdio::null());
    script.env_remove("NO_COLOR").env_remove("COLUMNS").env("TERM", "xterm");
    script.env("VOLBAK_BACKUP_DESTINATION", dir.join("backups"));
    let shown = String::from_utf8(script.output().unwrap().stdout).unwrap();
    shown.replace('\r', "")
}

fn piped(dir: &Path, arguments: &[&str]) -> String {
    String::from_utf8(volbak(dir).args(arguments).output().unwrap().stdout).unwrap()
}

#[test]
fn tables_fit_the_terminal_and_pipes_get_all() {
    let dir = destination();
    let in_pipe = piped(dir.path(), &["list"]);
    assert!(in_pipe.lines().all(|line| line.starts_with("VOLUME") || line.contains(VOLUME) || line.contains("cut")));
    let all = ["VOLUME", "DATE", "SIZE", "ENTRIES", "PROBLEMS", "STATE", "VERIFIED", "BACKUP"];
    let head = |text: &str| text.lines().next().unwrap().split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(head(&in_pipe), all);
    for (columns, names) in [
        (40, vec!["VOLUME", "DATE", "STATE"]),
        (80, vec!["VOLUME", "DATE", "SIZE", "ENTRIES", "PROBLEMS", "STATE", "VERIFIED"]),
        (200, all.to_vec()),
    ] {
        let shown = at_terminal(dir.path(), columns, "", "--color never list");
        assert_eq!(head(&shown), names, "{shown}");
        let widest = shown.lines().map(|line| line.chars().count()).max().unwrap();
        assert!(widest <= columns, "{widest} in {columns}: {shown}");
        assert!(shown.contains("DAMAGED") || shown.contains("DAMA"), "{shown}");
    }
    let wide = at_terminal(dir.path(), 400, "", "--color never list");
    assert_eq!(wide, in_pipe, "what fits is not changed");
    // COLUMNS counts more than the terminal's own size.
    let shown = at_terminal(dir.path(), 200, "COLUMNS=40", "--color never list");
    assert_eq!(head(&shown), ["VOLUME", "DATE", "STATE"]);
    // So does the status, which monitoring systems read in full.
    let shown = at_terminal(dir.path(), 40, "", "--color never status");
    assert!(shown.lines().any(|line| line.starts_with("VOLUME") && line.chars().count() <= 40), "{shown}");
    assert!(piped(dir.path(), &["status"]).contains("LAST BACKUP"));
}

#[test]
fn colours_are_for_terminals_and_can_be_refused() {
    let dir = destination();
    for (verb, coloured) in [
        ("list", ["\u{1b}[32mwhole\u{1b}[0m", "\u{1b}[31mDAMAGED"]),
        ("status", ["VOLBAK \u{1b}[3", "\u{1b}[32mwhole\u{1b}[0m"]),
        ("doctor", ["\u{1b}[32mok ", "\u{1b}[0m"]),
    ] {
        let shown = at_terminal(dir.path(), 200, "", verb);
        assert!(coloured.iter().all(|part| shown.contains(part)), "{verb}: {shown:?}");
        for (environment, option) in [("NO_COLOR=1", ""), ("TERM=dumb", ""), ("", "--color never")] {
            let shown = at_terminal(dir.path(), 200, environment, &format!("{option} {verb}"));
            assert!(!shown.contains('\u{1b}') && !shown.is_empty(), "{environment} {option} {verb}: {shown:?}");
        }
        assert!(at_terminal(dir.path(), 200, "NO_COLOR=", verb).contains('\u{1b}'), "an empty NO_COLOR is none");
        assert!(!piped(dir.path(), &[verb]).contains('\u{1b}'), "{verb}");
        assert!(piped(dir.path(), &["--color", "always", verb]).contains('\u{1b}'), "{verb}");
    }
}
