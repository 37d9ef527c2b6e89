//! `volbak list`.

use std::path::Path;

use clap::Args;
use volbak::error::ExitClass;
use volbak::outside::{Clock, SystemClock};
use volbak::run::locate::called_in_cloud;
use volbak::run::sets::sets_of;
use volbak::run::unsigned::{PlainBackups, Seen, is_expected};
use volbak::store::catalog;

use super::output::{Listed, print, print_as_it_is, print_json, shown_catalog};
use super::place::{Place, UsageError, Where};
use super::terminal;

pub(crate) const LIST_EXAMPLES: &str = "\
Examples:
  volbak list                        all backups of the config's destination
  volbak list volume-0000001a
  volbak list --problems             backups that are partial, bad or damaged, or that have problems
  volbak list /backups";

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Volumes [default: all], a group whose sets are to be listed, or the path of the destination
    #[arg(value_name = "VOLUME")]
    volumes: Vec<String>,
    #[command(flatten)]
    place: Where,
    /// List only backups that are partial, bad or damaged, or that have problems
    #[arg(long)]
    problems: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl ListArgs {
    /// The destination and the selected volumes. A single name is the destination if it contains a `/`, or if it is a
    /// directory and no volume has that name.
    fn wanted(&self) -> anyhow::Result<(Place, Vec<String>)> {
        let as_destination = |path: &str| Ok((self.place.at(path).place()?, Vec::new()));
        let alone = match &self.volumes[..] {
            [alone] if self.place.destination.is_none() => Some(alone),
            _ => None,
        };
        if let Some(path) = alone.filter(|path| path.contains('/') || *path == ".") {
            return as_destination(path);
        }
        let directory = alone.filter(|path| Path::new(path).is_dir());
        match (self.place.place(), directory) {
            (Err(_), Some(path)) => as_destination(path),
            (Err(error), None) => Err(error.into()),
            (Ok(place), Some(path)) => match place.open()?.existing_volume_directory(path)? {
                Some(_) => Ok((place, self.volumes.clone())),
                None => as_destination(path),
            },
            (Ok(place), None) => {
                let volumes = self.volumes_of(&place)?;
                Ok((place, volumes))
            }
        }
    }

    /// The volumes by the names of their directories. A display name of the cloud may stand for several.
    fn volumes_of(&self, place: &Place) -> anyhow::Result<Vec<String>> {
        let destination = place.open()?;
        let mut found = Vec::new();
        let mut unknown = Vec::new();
        for name in &self.volumes {
            if destination.existing_volume_directory(name)?.is_some() {
                found.push(name.clone());
                continue;
            }
            let called = called_in_cloud(&destination, name);
            if called.is_empty() {
                unknown.push(volbak::shown::text(name));
            }
            found.extend(called);
        }
        if !unknown.is_empty() {
            let names = unknown.join(", ");
            return Err(UsageError(format!("{} has no backups of {names}", place.root.display())).into());
        }
        Ok(found)
    }
}

/// The sets of a group, by its name.
fn list_sets(args: &ListArgs) -> anyhow::Result<Option<ExitClass>> {
    let [group] = &args.volumes[..] else { return Ok(None) };
    let Ok(place) = args.place.place() else { return Ok(None) };
    if group.contains('/') || group.starts_with('.') || Path::new(group).is_dir() {
        return Ok(None);
    }
    let destination = place.open()?;
    if destination.existing_volume_directory(group)?.is_some() {
        return Ok(None);
    }
    let mut sets = sets_of(&destination, group, SystemClock.now())?;
    if sets.is_empty() {
        return Ok(None);
    }
    sets.retain(|set| !args.problems || !set.is_whole());
    if args.json {
        let sets: Vec<serde_json::Value> = sets
            .iter()
            .map(|set| {
                let archives: Vec<String> =
                    set.backups.iter().map(|(_, files)| files.archive_path().display().to_string()).collect();
                serde_json::json!({
                    "name": set.name, "whole": set.is_whole(), "lacking": set.lacking, "notices": set.notes, "archives": archives
                })
            })
            .collect();
        print_json(&serde_json::json!({ "sets": sets }))?;
        return Ok(Some(ExitClass::Well));
    }
    let mut text = String::new();
    for set in &sets {
        text.push_str(&format!("{}  {}\n", set.name, if set.is_whole() { "whole" } else { "partial" }));
        for (_, files) in &set.backups {
            text.push_str(&format!("  {}\n", files.stem()));
        }
        for lacking in &set.lacking {
            text.push_str(&format!("  lacking: {}\n", volbak::shown::text(lacking)));
        }
        for note in &set.notes {
            text.push_str(&format!("  note: {}\n", volbak::shown::text(note)));
        }
    }
    print(&text)?;
    Ok(Some(ExitClass::Well))
}

pub(crate) fn list(args: &ListArgs) -> anyhow::Result<ExitClass> {
    if let Some(class) = list_sets(args)? {
        return Ok(class);
    }
    let (place, volumes) = args.wanted()?;
    let destination = place.open()?.surveyed(&volumes)?;
    let mut names = destination.volume_names()?;
    names.retain(|name| volumes.is_empty() || volumes.contains(name));
    let mut listed: Vec<Listed> =
        catalog::volumes(&destination, &names, if args.json { Listed::new } else { Listed::for_text })?
            .into_iter()
            .flat_map(|volume| volume.backups)
            .collect();
    let plain = PlainBackups::of(
        listed.iter().filter_map(|listed| Seen::of(&listed.entry)),
        is_expected(place.config.as_ref()),
    );
    listed.retain(|listed| !args.problems || listed.has_problems());
    if args.json {
        print_json(&serde_json::json!({ "backups": listed, "notices": plain.lines().collect::<Vec<_>>() }))?;
    } else {
        print_as_it_is(&shown_catalog(&listed, terminal::screen()))?;
        plain.lines().try_for_each(|line| print(&format!("{line}\n")))?;
    }
    Ok(ExitClass::Well)
}
