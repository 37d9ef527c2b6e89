//! `volbak mount`.

use std::path::Path;
use std::sync::Arc;

use clap::Args;
use volbak::error::ExitClass;
use volbak::log::{Kind, Line, Severity};
use volbak::run::mount::{MountOptions, Mounted, mount};
use volbak::store::{Backup, is_in_object_store};

use super::log;
use super::place::{UsageError, Where};
use super::progress::{Progress, Verbosity};
use super::proof::cancel;

pub(crate) const MOUNT_EXAMPLES: &str = "\
Examples:
  volbak mount /mnt/backups                  all backups: /mnt/backups/VOLUME/DATE/…
  volbak mount vol-1@yesterday /mnt/vol-1    one backup
  volbak mount s3://BUCKET/PREFIX /mnt       all backups in an object store
  umount /mnt/backups                        ends the mount, as Ctrl-C does";

#[derive(Debug, Args)]
pub(crate) struct MountArgs {
    /// The backup (`VOLUME[@DATE]` or the path of its archive), or a destination [default: all backups of the
    /// destination]
    #[arg(value_name = "[BACKUP] DIR", num_args = 1..=2, required = true)]
    names: Vec<String>,
    #[command(flatten)]
    place: Where,
    /// Allow access by other users, where the modes of the files permit it
    #[arg(long)]
    allow_other: bool,
}

/// As for `list`: a directory, given with a `/`, or no volume has that name. The working directory may be the destination, in
/// which each volume is a directory. In an object store, everything but an archive.
fn is_destination(args: &MountArgs, what: &str) -> bool {
    if args.place.destination.is_none() && is_in_object_store(Path::new(what)) {
        return Backup::of_archive(Path::new(what)).is_none();
    }
    let is_volume = || {
        let destination = args.place.place().ok().and_then(|place| place.open().ok());
        destination.is_some_and(|destination| matches!(destination.existing_volume_directory(what), Ok(Some(_))))
    };
    let is_directory = args.place.destination.is_none() && Path::new(what).is_dir();
    is_directory && (what.contains('/') || what == "." || !is_volume())
}

pub(crate) fn mount_backups(args: &MountArgs, verbosity: Verbosity) -> anyhow::Result<ExitClass> {
    let cancel = cancel()?;
    let (what, directory) = match args.names.as_slice() {
        [directory] => (None, directory),
        [what, directory] => (Some(what.as_str()), directory),
        _ => return Err(UsageError("a backup and a directory are expected".to_owned()).into()),
    };
    let mounted = match what {
        None => Mounted::Destination(args.place.place()?.open()?),
        Some(what) if is_destination(args, what) => Mounted::Destination(args.place.at(what).place()?.open()?),
        Some(what) => Mounted::Backup(args.place.find(what)?),
    };
    let shown = match &mounted {
        Mounted::Destination(destination) => format!("the backups in {}", destination.root().display()),
        Mounted::Backup(backup) => backup.stem().to_owned(),
    };
    let mut options = MountOptions::default();
    options.allow_other = args.allow_other;
    let ready = || {
        if verbosity != Verbosity::Quiet {
            log::write(Line::new(
                Severity::Info,
                Kind::Message,
                format!("{shown}: mounted on {directory}; `umount {directory}` or Ctrl-C ends it"),
            ));
        }
    };
    mount(mounted, Path::new(directory), options, Arc::new(Progress::new(verbosity)), &cancel, ready)?;
    Ok(ExitClass::Well)
}
