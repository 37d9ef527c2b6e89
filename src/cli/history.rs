//! `volbak find` and `volbak log`.

use std::io::{self, Write};

use chrono::{DateTime, Local, NaiveDate, NaiveTime, Utc};
use clap::Args;
use volbak::error::{ExitClass, with_causes};
use volbak::run::history::{
    Appearance, HistoryError, NotSearched, PathHistory, PathPattern, Step, Version, VolumeHistory, history,
};
use volbak::shown::counted;
use volbak::store::Destination;
use volbak::units::ByteLen;

use super::log;
use super::night_args::day;
use super::output::{Output, table};
use super::place::{UsageError, Where};
use super::proof::{cancel, say_when_interrupted, shown};

pub(crate) const FIND_EXAMPLES: &str = "\
Examples:
  volbak find nginx.conf                     any file of that name, in all volumes
  volbak find '*.sql' --volume vol-1 --since '30 days ago'
  volbak find 'etc/**/*.conf' --json         a path from the root of the filesystem";

pub(crate) const LOG_EXAMPLES: &str = "\
Examples:
  volbak log vol-1:etc/hosts
  volbak log etc/hosts --volume vol-1 --volume vol-2
  volbak cat vol-1@20_11_2026:etc/hosts      one of the versions";

/// The begin of the JSON, with the number of its format (docs/json.md).
const JSON_HEAD: &str = "{\n  \"format\": 1,\n  \"volumes\": [";

/// The backups to search.
#[derive(Debug, Args)]
pub(crate) struct SearchedArgs {
    /// Only this volume; may be repeated [default: all]
    #[arg(long = "volume", value_name = "VOLUME")]
    volumes: Vec<String>,
    /// Only backups from this day on: 2026-11-20, 20_11_2026, today, yesterday, or "3 days ago"
    #[arg(long, value_name = "DAY", value_parser = day)]
    since: Option<NaiveDate>,
    #[command(flatten)]
    place: Where,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct FindArgs {
    /// A name (`hosts`, `*.conf`), or with a `/` a path from the root of the filesystem or the archive (`etc/**/*.conf`).
    /// `*` and `?` do not match a `/`, `**` does
    pattern: String,
    /// Treat upper and lower case as equal
    #[arg(short, long)]
    ignore_case: bool,
    #[command(flatten)]
    searched: SearchedArgs,
}

#[derive(Debug, Args)]
pub(crate) struct LogArgs {
    /// The path of one file or directory, as `browse` prints it
    #[arg(value_name = "[VOLUME:]PATH")]
    path: String,
    #[command(flatten)]
    searched: SearchedArgs,
}

pub(crate) fn find(args: &FindArgs) -> anyhow::Result<ExitClass> {
    say_when_interrupted()?;
    let pattern = PathPattern::glob(&args.pattern, args.ignore_case).map_err(|error| UsageError(error.to_string()))?;
    let destination = args.searched.place.place()?.open()?;
    search(&destination, &args.searched, args.searched.volumes.clone(), &pattern, &args.pattern, shown_find)
}

pub(crate) fn log_of(args: &LogArgs) -> anyhow::Result<ExitClass> {
    say_when_interrupted()?;
    let destination = args.searched.place.place()?.open()?;
    let mut volumes = args.searched.volumes.clone();
    let mut path = args.path.as_str();
    // A path may contain a colon.
    if let Some((volume, behind)) = path.split_once(':')
        && volumes.is_empty()
        && destination.existing_volume_directory(volume)?.is_some()
    {
        volumes.push(volume.to_owned());
        path = behind;
    }
    search(&destination, &args.searched, volumes, &PathPattern::exact(path), path, shown_log)
}

/// Searches the volumes and prints what was found. Nothing found is an error, as for a path that `cat` does not find.
fn search(
    destination: &Destination,
    args: &SearchedArgs,
    mut volumes: Vec<String>,
    pattern: &PathPattern,
    wanted: &str,
    show: fn(&VolumeHistory) -> String,
) -> anyhow::Result<ExitClass> {
    let cancel = cancel()?;
    for volume in &volumes {
        if destination.existing_volume_directory(volume)?.is_none() {
            return Err(UsageError(format!("{} has no backups of {volume}", destination.root().display())).into());
        }
    }
    if volumes.is_empty() {
        volumes = destination.volume_names()?;
    }
    let since = args.since.map(start_of);
    let mut out = Found::new(args.json, show);
    let mut class = ExitClass::Well;
    for volume in volumes {
        let of_volume = match history(destination, &volume, pattern, since, &cancel) {
            Ok(of_volume) => of_volume,
            // The other volumes are searched all the same.
            Err(HistoryError::Store(error)) => {
                let not_searched = vec![NotSearched { backup: volume.clone(), why: with_causes(&error) }];
                VolumeHistory { volume: volume.clone(), not_searched, ..VolumeHistory::default() }
            }
            Err(error) => return Err(error.into()),
        };
        for not_searched in &of_volume.not_searched {
            class = ExitClass::WithProblems;
            log::warning(&format!("{} is not searched: {}", not_searched.backup, not_searched.why));
        }
        if of_volume.images > 0 {
            let images = counted(of_volume.images as u64, "image backup", "image backups");
            log::warning(&format!("{volume}: {images} not searched: `volbak browse` lists the files of one"));
        }
        match out.add(&of_volume) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(class),
            added => added?,
        }
    }
    let (searched, has_paths) = (out.searched, out.has_paths);
    match out.end() {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error.into()),
        _ => {}
    }
    if !has_paths {
        let searched = counted(searched, "backup", "backups");
        anyhow::bail!("nothing matches {} in {searched}", volbak::shown::text(wanted));
    }
    Ok(class)
}

/// What was found, printed volume by volume: that of a large destination would not fit into memory.
struct Found {
    out: Output,
    is_json: bool,
    show: fn(&VolumeHistory) -> String,
    volumes: u64,
    searched: u64,
    has_paths: bool,
}

impl Found {
    fn new(is_json: bool, show: fn(&VolumeHistory) -> String) -> Self {
        Self { out: Output::new(), is_json, show, volumes: 0, searched: 0, has_paths: false }
    }

    fn add(&mut self, of_volume: &VolumeHistory) -> io::Result<()> {
        let mut out = io::BufWriter::new(&mut self.out);
        if self.is_json {
            let before = if self.volumes == 0 { JSON_HEAD } else { "," };
            write!(out, "{before}\n    ")?;
            serde_json::to_writer(&mut out, of_volume)?;
        } else if !of_volume.paths.is_empty() {
            let before = if self.has_paths { "\n" } else { "" };
            write!(out, "{before}{}", volbak::shown::lines(&(self.show)(of_volume)))?;
        }
        self.volumes += 1;
        self.searched += of_volume.searched as u64;
        self.has_paths |= !of_volume.paths.is_empty();
        out.flush()
    }

    fn end(mut self) -> io::Result<()> {
        if self.is_json {
            let before = if self.volumes == 0 { JSON_HEAD } else { "" };
            write!(self.out, "{before}\n  ]\n}}\n")?;
        }
        self.out.flush()
    }
}

/// The first moment of a day of the local calendar. Where a clock change skips midnight, it is the first hour that exists.
fn start_of(day: NaiveDate) -> DateTime<Utc> {
    let mut hours = (0..24).filter_map(|hour| NaiveTime::from_hms_opt(hour, 0, 0));
    let first = hours.find_map(|time| day.and_time(time).and_local_timezone(Local).earliest());
    first.map_or_else(|| day.and_time(NaiveTime::MIN).and_utc(), |local| local.with_timezone(&Utc))
}

/// A line for each path: its versions and the backups that have it.
fn shown_find(found: &VolumeHistory) -> String {
    let mut rows = Vec::new();
    for PathHistory { path, versions, gone } in &found.paths {
        let (Some(first), Some(last)) = (versions.first(), versions.last()) else { continue };
        let count = counted(versions.len() as u64, "version", "versions");
        let (first, last_backup) = (&first.first.backup, &last.last.backup);
        let there = if first == last_backup { first.clone() } else { format!("{first} to {last_backup}") };
        let until =
            gone.as_ref().map_or_else(|| "still there".to_owned(), |gone| format!("gone since {}", shown_gone(gone)));
        rows.push(vec![size_of(last), count, there, until, shown(path)]);
    }
    format!("{}: {} searched\n{}", found.volume, counted(found.searched as u64, "backup", "backups"), table(&rows))
}

/// A line for each version.
fn shown_log(found: &VolumeHistory) -> String {
    let mut text = String::new();
    for PathHistory { path, versions, gone } in &found.paths {
        text.push_str(&format!("{}: {}\n", found.volume, shown(path)));
        let mut rows = vec![["FIRST", "LAST", "BACKUPS", "SIZE", "SHA-256", "WHAT"].map(str::to_owned).to_vec()];
        for version in versions {
            let what = match version.step {
                Step::Oldest => "in the oldest backup searched",
                Step::Appeared => "appeared",
                Step::Returned => "was there again",
                Step::Content => "content changed",
                Step::Attributes => "attributes changed",
            };
            let damaged = if version.damaged { ", parts could not be read" } else { "" };
            rows.push(vec![
                version.first.backup.clone(),
                version.last.backup.clone(),
                version.backups.to_string(),
                size_of(version),
                version.sha256.as_deref().map_or("-", |digest| &digest[..16]).to_owned(),
                format!("{what}{damaged}"),
            ]);
        }
        if let Some(gone) = gone {
            let mut row = vec!["-".to_owned(); 5];
            row[0].clone_from(&gone.backup);
            row.push(if gone.partial { "not in this backup, which is partial" } else { "gone" }.to_owned());
            rows.push(row);
        }
        text.push_str(&table(&rows));
    }
    text
}

fn shown_gone(gone: &Appearance) -> String {
    if gone.partial { format!("{} (partial)", gone.backup) } else { gone.backup.clone() }
}

fn size_of(version: &Version) -> String {
    match version.kind {
        'f' | 's' | 'i' | 'h' => ByteLen(version.size).to_string(),
        'd' => "directory".to_owned(),
        'l' => "link".to_owned(),
        'p' => "fifo".to_owned(),
        '=' => "socket".to_owned(),
        _ => "device".to_owned(),
    }
}
