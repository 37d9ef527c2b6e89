//! What a shell offers for the word at the cursor: volumes, and the dates of their backups. The scripts that
//! `volbak completions` prints call this verb; verbs and options they know themselves.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use clap::{Arg, Command, CommandFactory};
use volbak::error::ExitClass;
use volbak::run::completion::{KnownNames, is_plain};
use volbak::source::volumes_by_links;

use super::args::Cli;
use super::output::print_as_it_is;
use super::place::{Where, from_home};

/// A share that does not answer is not waited for.
const LONGEST: Duration = Duration::from_secs(1);

/// What a word names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Named {
    /// `VOLUME` or `VOLUME@DATE`.
    Backup,
    /// The same, and then `:PATH`.
    BackupAndPath,
    /// A volume with backups.
    Volume,
    /// The same, and then `:PATH`.
    VolumeAndPath,
    /// A volume of this host.
    OfHost,
    /// A volume of this host, or a backup.
    OfHostOrBackup,
}

/// The word at the cursor.
#[derive(Debug, Default)]
struct Wanted {
    named: Option<Named>,
    /// What stands before the name in its word: `--parent=`.
    before: String,
    typed: String,
    destination: Option<PathBuf>,
    config: Option<PathBuf>,
}

/// Prints a candidate a line, with a space behind it unless more may follow. Errors are not printed: they would appear in the
/// line that is being typed. `Failed` if there is nothing to offer.
pub(crate) fn print_candidates(words: &[String]) -> ExitClass {
    let (sender, receiver) = mpsc::channel();
    let words = words.to_vec();
    // The thread ends with the process.
    thread::spawn(move || sender.send(candidates(&words)));
    let found = receiver.recv_timeout(LONGEST).unwrap_or_default();
    if found.is_empty() {
        return ExitClass::Failed;
    }
    match print_as_it_is(&(found.join("\n") + "\n")) {
        Ok(()) => ExitClass::Well,
        Err(_) => ExitClass::Failed,
    }
}

fn candidates(words: &[String]) -> Vec<String> {
    let mut program = Cli::command();
    program.build();
    let wanted = wanted(&program, words);
    let Some(named) = wanted.as_ref().and_then(|wanted| wanted.named) else { return Vec::new() };
    let wanted = wanted.unwrap_or_default();
    let typed = wanted.typed.as_str();
    let names = || {
        let place =
            Where { destination: wanted.destination.clone(), config: wanted.config.clone(), ..Where::default() };
        place.place_for_completion().and_then(|place| place.known_names())
    };
    let mut found = match named {
        Named::OfHost | Named::OfHostOrBackup => of_host(typed),
        _ => Vec::new(),
    };
    let backups = |behind_volume: &str, behind_date: &str| {
        names().map(|names| backups(&names, typed, behind_volume, behind_date)).unwrap_or_default()
    };
    found.extend(match named {
        Named::OfHost => Vec::new(),
        Named::Volume => {
            let volumes = names().map(|names| names.volumes(typed)).unwrap_or_default();
            volumes.into_iter().map(|name| format!("{name} ")).collect()
        }
        Named::VolumeAndPath => {
            let volumes = names().map(|names| names.volumes(typed)).unwrap_or_default();
            volumes.into_iter().map(|name| format!("{name}:")).collect()
        }
        Named::Backup | Named::OfHostOrBackup => backups("", " "),
        Named::BackupAndPath => backups("", ":"),
    });
    let mut offered = BTreeSet::new();
    found.retain(|name| offered.insert(name.trim_end().to_owned()));
    found.into_iter().map(|name| format!("{}{name}", wanted.before)).collect()
}

/// Volumes, and dates once a volume is written out.
fn backups(names: &KnownNames, typed: &str, behind_volume: &str, behind_date: &str) -> Vec<String> {
    let mut found = Vec::new();
    for volume in names.volumes(typed) {
        if volume == typed {
            found.push(format!("{volume}@"));
        }
        found.push(format!("{volume}{behind_volume}"));
    }
    if let Some((volume, date)) = typed.rsplit_once('@') {
        let dates = names.dates(volume, date);
        found.extend(dates.into_iter().map(|date| format!("{volume}@{date}{behind_date}")));
    }
    found
}

/// Volumes by their names, or `VG/LV` where that is being typed or the name alone is ambiguous.
fn of_host(typed: &str) -> Vec<String> {
    let volumes = volumes_by_links(std::path::Path::new("/dev"));
    let of_name = |name: &str| volumes.iter().filter(|(_, other)| other == name).take(2).count();
    let shown = volumes.iter().map(|(group, name)| {
        let is_full = typed.contains('/') || of_name(name) > 1;
        (is_plain(group) && is_plain(name)).then(|| if is_full { format!("{group}/{name}") } else { name.clone() })
    });
    shown.flatten().filter(|name| name.starts_with(typed)).map(|name| format!("{name} ")).collect()
}

/// What the last word is to name, as the arguments of the verb say.
fn wanted(program: &Command, words: &[String]) -> Option<Wanted> {
    let (last, before) = words.split_last()?;
    let (mut command, mut verb) = (program, "");
    let mut wanted = Wanted::default();
    let mut waits: Option<&Arg> = None;
    let (mut positionals, mut only_positionals) = (0, false);
    for word in before.iter().skip(1) {
        if let Some(option) = waits.take() {
            wanted.note(option, word);
        } else if word == "--" {
            only_positionals = true;
        } else if let Some(long) = word.strip_prefix("--").filter(|_| !only_positionals) {
            let (name, value) = long.split_once('=').map_or((long, None), |(name, value)| (name, Some(value)));
            let option = option_of(command, name)?;
            match value {
                Some(value) => wanted.note(option, value),
                None if option.get_action().takes_values() && !option.is_require_equals_set() => waits = Some(option),
                None => {}
            }
        } else if word.starts_with('-') && word.len() > 1 && !only_positionals {
            // No short option takes a value.
        } else if let Some(below) = command.find_subcommand(word).filter(|_| positionals == 0) {
            (command, verb) = (below, below.get_name());
        } else {
            positionals += 1;
        }
    }
    let argument = if let Some(option) = waits {
        option
    } else if let Some((name, value)) = last.strip_prefix("--").and_then(|long| long.split_once('='))
        && !only_positionals
    {
        wanted.before = format!("--{name}=");
        value.clone_into(&mut wanted.typed);
        option_of(command, name)?
    } else if last.starts_with('-') && !only_positionals {
        return None;
    } else {
        positional(command, positionals)?
    };
    if wanted.before.is_empty() {
        wanted.typed.clone_from(last);
    }
    wanted.named = named(verb, value_name(argument)?, positionals);
    Some(wanted)
}

impl Wanted {
    fn note(&mut self, option: &Arg, value: &str) {
        // The shell expands it when the line is entered.
        let path = from_home(value);
        match option.get_long() {
            Some("destination") => self.destination = Some(path),
            Some("config") => self.config = Some(path),
            _ => {}
        }
    }
}

fn option_of<'a>(command: &'a Command, name: &str) -> Option<&'a Arg> {
    let has_name = |arg: &&Arg| arg.get_long_and_visible_aliases().is_some_and(|names| names.contains(&name));
    command.get_arguments().find(has_name)
}

fn positional(command: &Command, at: usize) -> Option<&Arg> {
    let all: Vec<&Arg> = command.get_positionals().collect();
    let is_repeated = |arg: &&&Arg| arg.get_num_args().is_some_and(|count| count.max_values() > 1);
    all.get(at).or_else(|| all.last().filter(is_repeated)).copied()
}

/// Each verb with an option whose value is completed here.
pub(super) fn options_with_names() -> Vec<(String, String)> {
    let mut program = Cli::command();
    program.build();
    let mut found = Vec::new();
    for verb in program.get_subcommands() {
        for arg in verb.get_arguments() {
            let name = value_name(arg).and_then(|value| named(verb.get_name(), value, 0));
            if let (Some(_), Some(long)) = (name, arg.get_long()) {
                found.push((verb.get_name().to_owned(), long.to_owned()));
            }
        }
    }
    found
}

fn value_name(arg: &Arg) -> Option<&str> {
    Some(arg.get_value_names()?.first()?.as_str())
}

/// By the name of the value in the help.
fn named(verb: &str, value_name: &str, position: usize) -> Option<Named> {
    let is_of_cloud = verb == "sessions";
    Some(match (verb, value_name) {
        ("export", "SOURCE") => Named::OfHostOrBackup,
        ("run", "VOLUME") | (_, "SOURCE") => Named::OfHost,
        (_, "VOLUME" | "VOLUME|GROUP|GROUP@DATE") if !is_of_cloud => Named::Volume,
        (_, "[VOLUME:]PATH") => Named::VolumeAndPath,
        (_, "BACKUP:PATH") => Named::BackupAndPath,
        (_, "BACKUP" | "BEFORE" | "AFTER" | "VOLUME@DATE|GROUP@DATE") => Named::Backup,
        (_, "[BACKUP] DIR") if position == 0 => Named::Backup,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use clap::{Command, CommandFactory};

    use super::{Cli, Named, named, value_name, wanted};

    fn program() -> Command {
        let mut program = Cli::command();
        program.build();
        program
    }

    /// Each argument that is completed by the verb, so that a new one is not forgotten.
    #[test]
    fn arguments_that_name_backups_are_known() {
        fn collect(command: &Command, verbs: &str, found: &mut Vec<String>) {
            for arg in command.get_arguments() {
                let verb = verbs.rsplit(' ').next().unwrap_or_default();
                if let Some(named) = value_name(arg).and_then(|name| named(verb, name, 0)) {
                    found.push(format!("{verbs} {}: {named:?}", arg.get_id()));
                }
            }
            for below in command.get_subcommands() {
                collect(below, format!("{verbs} {}", below.get_name()).trim_start(), found);
            }
        }
        let mut found = Vec::new();
        collect(&program(), "", &mut found);
        found.retain(|line| !line.starts_with("mount"));
        let right = [
            "inspect source: OfHost",
            "snapshot sources: OfHost",
            "snapshot parent: Backup",
            "list volumes: Volume",
            "verify backups: Backup",
            "restore backup: Backup",
            "copy backups: Backup",
            "export source: OfHostOrBackup",
            "browse backup: Backup",
            "cat file: BackupAndPath",
            "diff before: Backup",
            "diff after: Backup",
            "find volumes: Volume",
            "log path: VolumeAndPath",
            "log volumes: Volume",
            "run only: OfHost",
            "protect backup: Backup",
            "unprotect backup: Backup",
            "remove backups: Backup",
            "accept volume: Volume",
            "prune names: Volume",
            "config expect volume: Volume",
        ];
        assert_eq!(found, right);
    }

    #[test]
    fn the_word_at_the_cursor_is_found() {
        let program = program();
        let of = |line: &str| {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            let found = wanted(&program, &words)?;
            let destination = found.destination.map(|path| path.display().to_string()).unwrap_or_default();
            Some((found.named?, found.typed, destination))
        };
        let found = |named, typed: &str, destination: &str| Some((named, typed.to_owned(), destination.to_owned()));
        assert_eq!(of("volbak restore vol"), found(Named::Backup, "vol", ""));
        assert_eq!(of("volbak -q restore --from /b --overwrite v@2"), found(Named::Backup, "v@2", "/b"));
        assert_eq!(of("volbak verify --destination=/b a b "), found(Named::Backup, "", "/b"));
        assert_eq!(of("volbak snapshot --to /b --parent=v"), found(Named::Backup, "v", "/b"));
        assert_eq!(of("volbak snapshot --parent v"), found(Named::Backup, "v", ""));
        assert_eq!(of("volbak run --only v"), found(Named::OfHost, "v", ""));
        assert_eq!(of("volbak config expect v"), found(Named::Volume, "v", ""));
        assert_eq!(of("volbak verify -- -v"), found(Named::Backup, "-v", ""));
        assert_eq!(of("volbak export vg/"), found(Named::OfHostOrBackup, "vg/", ""));
        assert_eq!(of("volbak diff a b"), found(Named::Backup, "b", ""));
        for other in [
            "volbak",
            "volbak rest",
            "volbak restore --",
            "volbak restore vol-1 other",
            "volbak restore --to ",
            "volbak restore --no-such-option v",
            "volbak restore vol-1 --path=x",
            "volbak mount a b",
            "volbak cloud sessions --close v",
            "volbak help restore",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
