//! Runs volbak, and looks at what it left in a destination with the eyes of somebody who does not have it.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;

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
    let said = both_outputs(&output);
    assert_eq!(output.status.code(), Some(status), "volbak {}\n{said}", shown.join(" "));
    assert!(!said.contains("/proc/self/"), "a descriptor has no name: volbak {}\n{said}", shown.join(" "));
    said
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
    let is_archive = |file: &PathBuf| {
        let name = file.file_name().unwrap().to_str().unwrap();
        name.contains(".tar.") && !name.starts_with('.')
    };
    files_below(dest).into_iter().filter(is_archive).collect()
}

/// All that is no directory below a directory, in the order of the paths. No child process: in the lab each one takes long.
pub fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        let entries = match std::fs::read_dir(&directory) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            entries => entries.unwrap_or_else(|error| panic!("{}: {error}", directory.display())),
        };
        for entry in entries {
            let entry = entry.unwrap();
            let found = if entry.file_type().unwrap().is_dir() { &mut directories } else { &mut files };
            found.push(entry.path());
        }
    }
    files.sort();
    files
}

/// The file that belongs to an archive and has this suffix.
pub fn beside(archive: &Path, suffix: &str) -> PathBuf {
    let archive = archive.to_str().unwrap();
    let (stem, _) = archive.rsplit_once(".tar.").or_else(|| archive.rsplit_once(".img.")).unwrap();
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

/// Files that passed [`assert_all_good`], as they were then: path, inode, length, and the times of the last change in ns.
static GOOD: Mutex<BTreeSet<(PathBuf, [i128; 4])>> = Mutex::new(BTreeSet::new());

/// What tells whether a file was written to since.
fn as_it_is(file: &Path) -> (PathBuf, [i128; 4]) {
    let metadata = std::fs::metadata(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let nanos = |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
    let modified = nanos(metadata.mtime(), metadata.mtime_nsec());
    let changed = nanos(metadata.ctime(), metadata.ctime_nsec());
    (file.to_owned(), [metadata.ino().into(), metadata.len().into(), modified, changed])
}

/// Checks all that can be seen of a destination: each backup is complete, private, and passes `sha1sum -c`,
/// `tar tf` and a full verification with a second opinion; nothing else lies beside them. A backup that has passed in this process is
/// checked again only if one of its files was written to since.
pub fn assert_all_good(dest: &Path) {
    let mut good = GOOD.lock().unwrap();
    let mut passed = Vec::new();
    let mut arguments =
        vec!["-q".to_owned(), "verify".to_owned(), "--second-opinion".to_owned(), "--no-record".to_owned()];
    let mut script = String::new();
    for archive in archives(dest) {
        for file in files_of(&archive) {
            let metadata = std::fs::metadata(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            assert_eq!(metadata.permissions().mode() & 0o7777, 0o600, "{}", file.display());
        }
        let directory = archive.parent().unwrap();
        assert_eq!(std::fs::metadata(directory).unwrap().permissions().mode() & 0o7777, 0o700);
        let files: Vec<_> = files_of(&archive).iter().map(|file| as_it_is(file)).collect();
        if files.iter().all(|file| good.contains(file)) {
            continue;
        }
        passed.extend(files);
        script += &format!(
            "cd {}; sha1sum --strict --quiet -c {}; tar tf {} >/dev/null\n",
            quoted(directory),
            quoted(Path::new(beside(&archive, "checksum").file_name().unwrap())),
            quoted(&archive)
        );
        arguments.push(archive.to_str().unwrap().to_owned());
    }
    if !passed.is_empty() {
        sh(&script);
        run_expecting(0, &arguments);
        good.extend(passed);
    }
    assert_eq!(leftovers(dest), "", "nothing but complete backups");
}

/// What is in a destination and is not one of a complete backup's files, volbak's own records aside.
pub fn leftovers(dest: &Path) -> String {
    let all = files_below(dest);
    let names: BTreeSet<&PathBuf> = all.iter().collect();
    let complete: BTreeSet<PathBuf> = archives(dest)
        .iter()
        .filter(|archive| names.contains(&beside(archive, "manifest.json")))
        .flat_map(|archive| files_of(archive).into_iter().chain([beside(archive, VERIFIED)]))
        .collect();
    let all = all.iter().filter(|file| !complete.contains(*file)).map(|file| file.strip_prefix(dest).unwrap());
    // Files at the top belong to whoever made the destination.
    let left = all.filter(|file| file.components().count() > 1 && !file.starts_with(".volbak"));
    left.map(|file| format!("./{}", file.display())).collect::<Vec<_>>().join("\n")
}
