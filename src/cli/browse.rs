//! `volbak browse`.

mod preview;
mod screen;
mod walk;

use std::io::{self, Write};

use clap::Args;
use volbak::error::ExitClass;
use volbak::run::browse;
use volbak::run::sets::LocatedSet;
use volbak::store::Backup;

use super::log;
use super::output::Output;
use super::place::Where;
use super::progress::{Progress, Verbosity};
use super::proof::{cancel, ended, say_when_interrupted, shown};

#[derive(Debug, Args)]
pub(crate) struct BrowseArgs {
    /// VOLUME, VOLUME@DATE, VOLUME@DATE_HHMMSS, VOLUME@last, the path of an archive, or GROUP or GROUP@DATE (all
    /// volumes of a set; the paths then begin with the backup)
    backup: String,
    /// The directory in the backup to list, or to begin in
    #[arg(default_value = "")]
    path: String,
    #[command(flatten)]
    place: Where,
    /// Also list subdirectories
    #[arg(short, long)]
    recursive: bool,
    /// Print the directory, also at a terminal
    #[arg(short, long)]
    list: bool,
    /// Print JSON, one object per line
    #[arg(long)]
    json: bool,
}

impl BrowseArgs {
    fn is_walked(&self) -> bool {
        !(self.json || self.recursive || self.list) && screen::is_possible()
    }
}

pub(crate) fn browse(args: &BrowseArgs) -> anyhow::Result<ExitClass> {
    let is_walked = args.is_walked();
    if !is_walked {
        say_when_interrupted()?;
    }
    let mut out = io::BufWriter::new(Output::new());
    if let Some(set) = args.place.find_set(&args.backup)? {
        if is_walked {
            say_when_interrupted()?;
        }
        return browse_set(args, &set, out);
    }
    let files = args.place.find(&args.backup)?;
    if is_walked {
        return walk::walk(&files, &args.path);
    }
    let listed = list(args, &files, None, &mut out)?;
    ended(listed, out)
}

/// Lists one backup; `backup` comes before each path, as `cat` takes it.
fn list(
    args: &BrowseArgs,
    files: &Backup,
    backup: Option<&str>,
    out: &mut io::BufWriter<Output>,
) -> anyhow::Result<Result<u64, browse::BrowseError>> {
    let progress = Progress::new(Verbosity::Quiet);
    Ok(browse::list(files, &args.path, args.recursive, &cancel()?, &progress, |entry| {
        if args.json {
            let mut value = serde_json::to_value(&entry)?;
            if let (Some(backup), Some(fields)) = (backup, value.as_object_mut()) {
                fields.insert("backup".to_owned(), backup.into());
            }
            serde_json::to_writer(&mut *out, &value)?;
            writeln!(out)
        } else {
            let mark = if entry.damaged { '!' } else { ' ' };
            let backup = backup.map_or_else(String::new, |backup| format!("{backup}:"));
            writeln!(out, "{}{mark} {:>14} {backup}{}", entry.kind, entry.size, shown(&entry.path))
        }
    }))
}

/// Lists the members that have the path. Fails if none has it.
fn browse_set(args: &BrowseArgs, set: &LocatedSet, mut out: io::BufWriter<Output>) -> anyhow::Result<ExitClass> {
    let date = set.name.rsplit_once('@').map_or("last", |(_, date)| date);
    let mut without = Vec::new();
    for (volume, files) in &set.backups {
        match list(args, files, Some(&format!("{}@{date}", shown(volume))), &mut out)? {
            Ok(_) => {}
            Err(browse::BrowseError::Io { source, .. }) if source.kind() == io::ErrorKind::BrokenPipe => {
                drop(out.into_parts());
                return Ok(ExitClass::Well);
            }
            Err(error) => without.push((volume, error)),
        }
    }
    if without.len() == set.backups.len()
        && let Some((_, error)) = without.pop()
    {
        return Err(error.into());
    }
    // A member may well not have the path. What cannot be read is no answer.
    let has_failed = without.iter().any(|(_, error)| !matches!(error, browse::BrowseError::NotFound(_)));
    for (volume, error) in without {
        log::warning(&format!("{}: {error}", shown(volume)));
    }
    let is_well = set.is_whole() && !has_failed;
    ended(Ok(0), out).map(|class| if is_well { class } else { ExitClass::WithProblems })
}
