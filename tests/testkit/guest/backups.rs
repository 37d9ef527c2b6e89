//! Runs volbak, and looks at what it left in a destination with the eyes of somebody who does not have it.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use super::{both_outputs, quoted, sh};

/// The files beside the archive of a backup.
const SUFFIXES: [&str; 3] = ["checksum", "index", "manifest.json"];

/// What a verification keeps beside them.
const VERIFIED: &str = "verified.json";

/// The program under test with these arguments, not yet started.
pub fn volbak<A: AsRef<OsStr>>(arguments: &[A]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_volbak"));
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Runs volbak to its end.
pub fn run<A: AsRef<OsStr>>(arguments: &[A]) -> Output {
    volbak(arguments).output().unwrap()
}

/// Runs volbak, fails the test unless it ends with that status, and gives all that it said.
pub fn run_expecting<A: AsRef<OsStr>>(status: i32, arguments: &[A]) -> String {
    let output = run(arguments);
    let shown: Vec<_> = arguments.iter().map(|argument| argument.as_ref().to_string_lossy()).collect();
    assert_eq!(output.status.code(), Some(status), "volbak {}\n{}", shown.join(" "), both_outputs(&output));
    both_outputs(&output)
}

/// `volbak snapshot SOURCE --to DEST` with more arguments, which is to end well; gives the newest archive.
pub fn snapshot(source: &Path, dest: &Path, more: &[&str]) -> PathBuf {
    snapshot_expecting(0, source, dest, more)
}

/// The same, with the exit status that is expected.
pub fn snapshot_expecting(status: i32, source: &Path, dest: &Path, more: &[&str]) -> PathBuf {
    let before = archives(dest);
    let mut arguments = vec!["snapshot", source.to_str().unwrap(), "--to", dest.to_str().unwrap()];
    arguments.extend(more);
    let said = run_expecting(status, &arguments);
    let mut new = archives(dest);
    new.retain(|archive| !before.contains(archive));
    assert_eq!(new.len(), 1, "one new archive, not {new:?}:\n{said}");
    new.remove(0)
}

/// Every archive in a destination, in the order of their paths.
pub fn archives(dest: &Path) -> Vec<PathBuf> {
    if !dest.exists() {
        return Vec::new();
    }
    let found = sh(&format!("find {} -name '*.tar.*' -not -name '.*' | sort", quoted(dest)));
    found.lines().map(PathBuf::from).collect()
}

/// The file that belongs to an archive and has this suffix.
pub fn beside(archive: &Path, suffix: &str) -> PathBuf {
    let stem = archive.to_str().unwrap().rsplit_once(".tar.").unwrap().0;
    PathBuf::from(format!("{stem}.{suffix}"))
}

/// The files of a backup.
pub fn files_of(archive: &Path) -> Vec<PathBuf> {
    SUFFIXES.into_iter().map(|suffix| beside(archive, suffix)).chain([archive.to_owned()]).collect()
}

/// The archive's manifest.
pub fn manifest(archive: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(beside(archive, "manifest.json")).unwrap()).unwrap()
}

/// The manifest's problems as lines `SEVERITY WHERE: WHAT`.
pub fn problems(archive: &Path) -> Vec<String> {
    let manifest = manifest(archive);
    let field = |problem: &serde_json::Value, name: &str| problem[name].as_str().unwrap().to_owned();
    let problems = manifest["problems"].as_array().unwrap().iter();
    problems.map(|one| format!("{} {}: {}", field(one, "severity"), field(one, "where"), field(one, "what"))).collect()
}

/// Checks all that can be seen of a destination: each backup is complete, private, and passes `sha1sum -c`,
/// `tar tf` and a full verification with a second opinion; nothing else lies beside them.
pub fn assert_all_good(dest: &Path) {
    for archive in archives(dest) {
        for file in files_of(&archive) {
            let metadata = std::fs::metadata(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            assert_eq!(metadata.permissions().mode() & 0o7777, 0o600, "{}", file.display());
        }
        let directory = archive.parent().unwrap();
        assert_eq!(std::fs::metadata(directory).unwrap().permissions().mode() & 0o7777, 0o700);
        sh(&format!(
            "cd {}; sha1sum --strict --quiet -c {}; tar tf {} >/dev/null",
            quoted(directory),
            quoted(Path::new(beside(&archive, "checksum").file_name().unwrap())),
            quoted(&archive)
        ));
    }
    // One process for all: in the lab each one takes long to begin.
    let archives: Vec<String> = archives(dest).iter().map(|archive| archive.to_str().unwrap().to_owned()).collect();
    if !archives.is_empty() {
        let archives = archives.iter().map(String::as_str);
        run_expecting(
            0,
            &["-q", "verify", "--second-opinion", "--no-record"].into_iter().chain(archives).collect::<Vec<_>>(),
        );
    }
    assert_eq!(leftovers(dest), "", "nothing but complete backups");
}

/// What is in a destination and is not one of a complete backup's files, volbak's own records aside.
pub fn leftovers(dest: &Path) -> String {
    let all = sh(&format!("cd {} && find . -mindepth 2 -not -path './.volbak/*' -not -type d | sort", quoted(dest)));
    let complete: Vec<String> = archives(dest)
        .iter()
        .filter(|archive| beside(archive, "manifest.json").exists())
        .flat_map(|archive| files_of(archive).into_iter().chain([beside(archive, VERIFIED)]))
        .map(|file| format!("./{}", file.strip_prefix(dest).unwrap().display()))
        .collect();
    all.lines().filter(|line| !complete.iter().any(|file| file == line)).collect::<Vec<_>>().join("\n")
}
