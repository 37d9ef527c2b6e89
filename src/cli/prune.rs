//! `volbak prune`.

use serde_json::json;
use volbak::error::ExitClass;
use volbak::outside::Cancel;
use volbak::run::nightly::{apply, forecast};

use super::night_args::PruneArgs;
use super::output::{print, print_json};
use super::place::{UsageError, volume_called};
use super::progress::Verbosity;
use super::world::world;

/// What a run would remove: of all volumes, or of those that are named.
pub(super) fn prune(args: &PruneArgs, verbosity: Verbosity) -> anyhow::Result<ExitClass> {
    let mut wanted = Vec::new();
    for name in &args.names {
        match args.place.find_set(name)? {
            Some(set) => wanted.extend(set.backups.into_iter().map(|(volume, files)| {
                // A group without a date stands for all sets of it.
                (volume, name.contains('@').then(|| files.stem().to_owned()))
            })),
            None => wanted.push((volume_called(args.place.opened()?, name)?, None)),
        }
    }
    if args.apply {
        return applied(args, &wanted, verbosity);
    }
    let found = forecast(&args.place.config()?, &wanted, &world(verbosity, Cancel::default()).1)?;
    if args.json {
        print_json(&json!({ "volumes": found.volumes(), "brake": found.brake() }))?;
    } else {
        print(&found.text())?;
    }
    Ok(ExitClass::Well)
}

/// Removes what retention does not keep, without a backup before.
fn applied(args: &PruneArgs, wanted: &[(String, Option<String>)], verbosity: Verbosity) -> anyhow::Result<ExitClass> {
    if wanted.iter().any(|(_, stem)| stem.is_some()) {
        return Err(
            UsageError("--apply takes volumes and groups; `volbak remove` removes single backups".to_owned()).into()
        );
    }
    let only: Vec<String> = wanted.iter().map(|(volume, _)| volume.clone()).collect();
    let done = apply(&args.place.config()?, &only, args.force, &world(verbosity, Cancel::default()).1)?;
    if args.json {
        print_json(&json!({ "removed": done.removed, "problems": done.problems }))?;
    } else {
        let removed = done.removed.iter().map(|archive| format!("removed {}\n", archive.display()));
        let said = done.problems.iter().map(|problem| format!("{}: {}\n", problem.location, problem.what));
        print(&removed.chain(said).collect::<String>())?;
    }
    Ok(if done.is_doubtful() { ExitClass::WithProblems } else { ExitClass::Well })
}
