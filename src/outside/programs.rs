//! Starts other programs. All children of volbak start here, independent of the login environment: programs are
//! found with cron's short `PATH` or without any, and no child gets volbak's secrets.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Debian's directories of programs. cron's `PATH` is `/usr/bin:/bin`, but LVM's tools are in `/usr/sbin`.
const STANDARD_DIRECTORIES: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// The prefix of volbak's own variables.
const OWN_PREFIX: &[u8] = b"VOLBAK_";

/// Parts of names of variables that hold secrets, in capitals.
const SECRET_WORDS: [&str; 9] =
    ["PASSWORD", "PASSWD", "PASSPHRASE", "SECRET", "TOKEN", "CREDENTIAL", "APIKEY", "API_KEY", "ACCESS_KEY"];

/// Prefixes of variables from which volbak takes the credentials of object stores and clouds: AWS's, OpenStack's, and those
/// of Swift's own authentication.
const CREDENTIAL_PREFIXES: [&str; 3] = ["AWS_", "OS_", "ST_"];

/// Variables of LVM and device-mapper that change the behaviour or output of their tools. `LVM_SYSTEM_DIR`, which
/// selects lvm.conf, is the host's choice and is kept.
const LVM_VARIABLES: [&str; 11] = [
    "LVM_COMMAND_PROFILE",
    "LVM_OUT_FD",
    "LVM_ERR_FD",
    "LVM_REPORT_FD",
    "LVM_VG_NAME",
    "LVM_EXPECTED_EXIT_STATUS",
    "LVM_LOG_FILE_EPOCH",
    "LVM_LOG_FILE_MAX_LINES",
    "LVM_LOG_FILE_UNLINK_STATUS",
    "DM_DEFAULT_NAME_MANGLING_MODE",
    "DM_ABORT_ON_INTERNAL_ERRORS",
];

/// The purpose of a child, which decides the environment it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Child {
    /// A tool that volbak chose (LVM's, mkfs): everything except secrets and variables that change its output.
    Tool,
    /// A program that the administrator chose (a hook, ssh, a mail program): everything except volbak's own variables and
    /// the secrets of the stores and clouds that volbak logs in to.
    Chosen,
}

/// A command for `program` with the environment of such a child; the caller adds arguments and descriptors.
///
/// A bare name is searched in the absolute directories of `PATH`, and then in Debian's standard directories. If it
/// is missing, the error lists the directories searched.
pub fn command(program: &OsStr, child: Child) -> io::Result<Command> {
    let path = env::var_os("PATH");
    let mut command = Command::new(find(program, path.as_deref())?);
    command.env("PATH", whole_path(path.as_deref()));
    for (name, _) in env::vars_os().filter(|(name, _)| is_withheld(name, child)) {
        command.env_remove(name);
    }
    if child == Child::Tool {
        // LVM warns of descriptors that cron, a shell or a test left open.
        command.env("LC_ALL", "C").env("LVM_SUPPRESS_FD_WARNINGS", "1");
    }
    Ok(command)
}

/// Whether the program exists.
pub fn is_installed(program: &str) -> bool {
    find(OsStr::new(program), env::var_os("PATH").as_deref()).is_ok()
}

/// The program's file. A name with a slash is already a path.
fn find(program: &OsStr, path: Option<&OsStr>) -> io::Result<PathBuf> {
    if program.as_bytes().contains(&b'/') {
        return Ok(program.into());
    }
    let mut not_executable = None;
    let searched = directories(path);
    for directory in &searched {
        let file = directory.join(program);
        if !std::fs::metadata(&file).is_ok_and(|metadata| metadata.is_file()) {
            continue;
        }
        if rustix::fs::access(&file, rustix::fs::Access::EXEC_OK).is_ok() {
            return Ok(file);
        }
        not_executable.get_or_insert(file);
    }
    if let Some(file) = not_executable {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("{} is not executable", file.display())));
    }
    let searched: Vec<String> = searched.iter().map(|directory| directory.display().to_string()).collect();
    Err(io::Error::new(io::ErrorKind::NotFound, format!("it is not in {}", searched.join(", "))))
}

/// The directories to search: those of `PATH` that are absolute, since a relative one would depend on the working
/// directory, and missing standard ones.
fn directories(path: Option<&OsStr>) -> Vec<PathBuf> {
    let given = env::split_paths(path.unwrap_or_default());
    let standard = STANDARD_DIRECTORIES.iter().map(PathBuf::from);
    let mut directories: Vec<PathBuf> = Vec::new();
    for directory in given.filter(|directory| directory.is_absolute()).chain(standard) {
        if !directories.contains(&directory) {
            directories.push(directory);
        }
    }
    directories
}

fn whole_path(path: Option<&OsStr>) -> OsString {
    // Directories split from a PATH contain no colon.
    env::join_paths(directories(path)).unwrap_or_else(|_| STANDARD_DIRECTORIES.join(":").into())
}

fn is_withheld(name: &OsStr, child: Child) -> bool {
    if name.as_bytes().starts_with(OWN_PREFIX) {
        return true;
    }
    let name = name.to_string_lossy().to_ascii_uppercase();
    let is_secret = SECRET_WORDS.iter().any(|word| name.contains(word)) || name.ends_with("_PWD") || name == "ST_KEY";
    match child {
        Child::Tool => is_secret || LVM_VARIABLES.contains(&name.as_str()),
        // The path of a file with secrets is none.
        Child::Chosen => {
            is_secret && !name.ends_with("_FILE") && CREDENTIAL_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        }
    }
}

/// Programs that run a script given as their first argument.
const INTERPRETERS: [&str; 9] = ["sh", "bash", "dash", "ash", "ksh", "zsh", "perl", "env", "python3"];

/// The files that running `argv` executes: the program, and the script given to a shell or interpreter. Missing
/// files are left out.
pub fn files_run_by(argv: &[OsString]) -> Vec<PathBuf> {
    let Some(program) = argv.first().and_then(|program| find(program, env::var_os("PATH").as_deref()).ok()) else {
        return Vec::new();
    };
    let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let script = argv.iter().skip(1).find(|word| !word.as_bytes().starts_with(b"-")).map(PathBuf::from);
    let is_interpreter = INTERPRETERS.contains(&name.as_str()) || name.starts_with("python");
    let script = script.filter(|script| is_interpreter && script.is_absolute());
    std::iter::once(program).chain(script).filter(|file| Path::new(file).is_file()).collect()
}

#[cfg(test)]
mod tests {
    use std::ffi::{OsStr, OsString};
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use super::{Child, command, directories, files_run_by, find, is_installed, is_withheld};

    #[test]
    fn programs_are_found_without_a_logins_path() {
        for path in [None, Some(""), Some("/usr/bin:/bin"), Some("/no/such:relative:.")] {
            let found = find(OsStr::new("mke2fs"), path.map(OsStr::new)).unwrap();
            assert!(found.ends_with("sbin/mke2fs"), "{}", found.display());
        }
        let error = find(OsStr::new("volbak-no-such-program"), Some(OsStr::new("/opt/x:/usr/bin"))).unwrap_err();
        assert!(error.to_string().starts_with("it is not in /opt/x, /usr/bin, /usr/local/sbin"), "{error}");
        assert!(is_installed("mke2fs") && !is_installed("volbak-no-such-program"));
        assert_eq!(find(OsStr::new("./x"), None).unwrap(), PathBuf::from("./x"));
    }

    #[test]
    fn a_path_of_the_callers_comes_first_and_relative_ones_are_left_out() {
        let found = directories(Some(OsStr::new(".:/opt/x::bin:/usr/sbin")));
        assert_eq!(found[..2], [PathBuf::from("/opt/x"), PathBuf::from("/usr/sbin")]);
        assert!(found.iter().all(|directory| directory.is_absolute()));
        assert_eq!(found.iter().filter(|directory| directory.ends_with("usr/sbin")).count(), 1);
    }

    #[test]
    fn a_file_that_cannot_be_run_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("volbak-plain-file");
        fs::write(&file, "").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        let error = find(OsStr::new("volbak-plain-file"), Some(directory.path().as_os_str())).unwrap_err();
        assert!(error.to_string().contains("is not executable"), "{error}");
    }

    #[test]
    fn secrets_stay_here() {
        let withheld = |name: &str, child| is_withheld(OsStr::new(name), child);
        for child in [Child::Tool, Child::Chosen] {
            assert!(withheld("VOLBAK_MAIL__PASSWORD", child) && withheld("VOLBAK_NOTIFY__URL", child));
            for kept in ["PATH", "HOME", "LANG", "TZ", "LVM_SYSTEM_DIR", "https_proxy", "PWD", "DM_DISABLE_UDEV"] {
                assert!(!withheld(kept, child), "{kept}");
            }
        }
        for name in ["MYSQL_PWD", "api_token", "LVM_COMMAND_PROFILE"] {
            assert!(withheld(name, Child::Tool) && !withheld(name, Child::Chosen), "{name}");
        }
        for name in
            ["OS_PASSWORD", "OS_APPLICATION_CREDENTIAL_SECRET", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "ST_KEY"]
        {
            assert!(withheld(name, Child::Tool) && withheld(name, Child::Chosen), "{name}");
        }
        for name in ["OS_AUTH_URL", "OS_CLOUD", "AWS_SHARED_CREDENTIALS_FILE", "AWS_REGION", "ST_AUTH"] {
            assert!(!withheld(name, Child::Chosen), "{name}");
        }
    }

    #[test]
    fn a_child_has_the_whole_path() {
        let output =
            command(OsStr::new("sh"), Child::Tool).unwrap().args(["-c", "echo $PATH $LC_ALL"]).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.contains("/usr/sbin") && said.ends_with(" C\n"), "{said}");
    }

    #[test]
    fn the_script_of_a_shell_is_run_too() {
        let words = |text: &str| text.split(' ').map(OsString::from).collect::<Vec<_>>();
        let passwd = PathBuf::from("/etc/passwd");
        assert_eq!(files_run_by(&words("/bin/sh -e /etc/passwd /etc/group")), [PathBuf::from("/bin/sh"), passwd]);
        assert_eq!(files_run_by(&words("/bin/cat /etc/passwd")), [PathBuf::from("/bin/cat")]);
        assert!(files_run_by(&words("/no/such /etc/passwd")).is_empty());
    }
}
