//! The owners and groups that a restore maps to others.

use clap::Args;
use volbak::error::ExitClass;
use volbak::run::restore::dry_run::DryRun;
use volbak::run::restore::ids::{MappedUse, Mapping};
use volbak::run::restore::names::{IdWish, NameFiles};
use volbak::shown::counted;

use super::log;

#[derive(Debug, Args)]
pub(crate) struct OwnerArgs {
    /// Map the user OLD to NEW, also in ACLs: numbers, or ranges such as 1000-1999:101000-101999; may be repeated
    #[arg(long = "map-uid", value_name = "OLD:NEW")]
    uids: Vec<Mapping>,
    /// Map the group OLD to NEW, in the same way
    #[arg(long = "map-gid", value_name = "OLD:NEW")]
    gids: Vec<Mapping>,
    /// Map users and groups by name: from the numbers in etc/passwd and etc/group of the backup to those in these
    /// files. If the backup has no such files, or with --map-to, these are the files of the machine that was backed
    /// up. A disk needs both
    #[arg(long = "map-from", value_name = "PASSWD:GROUP")]
    old_names: Option<NameFiles>,
    /// The files with the new numbers for --map-from [default: those of this host, if the backup has none]
    #[arg(long = "map-to", value_name = "PASSWD:GROUP")]
    new_names: Option<NameFiles>,
}

impl OwnerArgs {
    /// What is to be mapped; mappings that contradict each other are wrong usage.
    pub(crate) fn wish(&self) -> Result<IdWish, ExitClass> {
        let mut wish = IdWish::default();
        wish.uids.clone_from(&self.uids);
        wish.gids.clone_from(&self.gids);
        wish.from.clone_from(&self.old_names);
        wish.to.clone_from(&self.new_names);
        match wish.numbers() {
            Ok(_) => Ok(wish),
            Err(error) => {
                log::error(&error.to_string());
                Err(ExitClass::Usage)
            }
        }
    }
}

/// The owners and groups of the entries that would be restored, and what becomes of them.
pub(crate) fn owners_as_text(found: &DryRun) -> String {
    let mut text = String::new();
    for (what, uses) in [("uid", &found.uids), ("gid", &found.gids)] {
        for MappedUse { old, new, used } in uses {
            let becomes = if old == new { "stays".to_owned() } else { format!("becomes {new}") };
            text.push_str(&format!("  {what} {old} {becomes}: {}", counted(used.entries, "entry", "entries")));
            if used.acl_entries > 0 {
                text.push_str(&format!(", {} in ACLs", used.acl_entries));
            }
            text.push('\n');
        }
    }
    if found.uncounted_owners > 0 {
        let owners = counted(found.uncounted_owners, "further owner or group is", "further owners and groups are");
        text.push_str(&format!("  {owners} not listed\n"));
    }
    for merged in &found.merged {
        text.push_str(&format!("  {merged}\n"));
    }
    text
}
