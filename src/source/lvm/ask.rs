//! Queries to lvs and vgs.

use super::facts::{LvFacts, VgFacts};
use super::output::{parse_lvs, parse_vgs, tags_in};
use super::run::{run_tool, words};
use crate::outside::RunCommand;
use crate::source::error::SourceError;

/// The fields requested from lvs. None is a segment field, which would make lvs print a volume once per segment.
const LV_FIELDS: &str = "lv_name,vg_name,lv_uuid,vg_uuid,lv_size,lv_attr,lv_layout,lv_role,lv_tags,lv_permissions,\
    pool_lv,origin,lv_merging,lv_health_status,lv_snapshot_invalid,data_percent,metadata_percent,\
    lv_device_open,lv_kernel_major,lv_kernel_minor,lv_path,lv_dm_path,thin_id";

const VG_FIELDS: &str = "vg_name,vg_uuid,vg_extent_size,vg_free_count";

/// Options of lvs and vgs besides [`SETTINGS`]. `-qq` keeps messages for people, such as the advice to prune the
/// metadata archive, off standard output.
const REPORT: [&str; 6] = ["-qq", "--reportformat", "json", "--units", "b", "--nosuffix"];

/// The volumes to query.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Which<'a> {
    /// All volumes.
    All,
    /// The volumes of one group.
    Group(&'a str),
    /// One volume of a group by its UUID, and the pool of this name in the same group. Neither needs to exist.
    Volume { vg: &'a str, uuid: &'a str, pool: Option<&'a str> },
}

/// Queries lvs, including hidden volumes.
pub(crate) fn lvs(commands: &dyn RunCommand, which: Which<'_>) -> Result<Vec<LvFacts>, SourceError> {
    let mut args = words(&REPORT);
    args.extend(words(&["-a", "-o", LV_FIELDS]));
    match which {
        Which::All => {}
        Which::Group(vg) => args.push(vg.into()),
        Which::Volume { vg, uuid, pool } => {
            let mut selection = format!("lv_uuid={uuid}");
            if let Some(pool) = pool {
                selection = format!("{selection} || lv_name={pool}");
            }
            args.extend(words(&["-S", &selection, vg]));
        }
    }
    let stdout = run_tool(commands, "lvs", &args)?;
    parse_lvs(&stdout).map_err(|error| error.of("lvs", &args))
}

/// Whether a volume still exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    Gone,
    /// It exists, with these tags; `None` if the tags could not be parsed.
    There {
        tags: Option<Vec<String>>,
    },
}

/// Asks lvs whether a volume still exists. Invalid output still proves absence if the volume's UUID is not in it.
pub(crate) fn presence(commands: &dyn RunCommand, vg: &str, uuid: &str) -> Result<Presence, SourceError> {
    let mut args = words(&REPORT);
    args.extend(words(&["-a", "-o", "lv_uuid,lv_tags", "-S", &format!("lv_uuid={uuid}"), vg]));
    let stdout = run_tool(commands, "lvs", &args)?;
    if !String::from_utf8_lossy(&stdout).contains(uuid) {
        return Ok(Presence::Gone);
    }
    Ok(Presence::There { tags: tags_in(&stdout, uuid) })
}

/// Queries vgs for one group.
pub(crate) fn vg(commands: &dyn RunCommand, name: &str) -> Result<VgFacts, SourceError> {
    let mut args = words(&REPORT);
    args.extend(words(&["-o", VG_FIELDS, name]));
    let stdout = run_tool(commands, "vgs", &args)?;
    let groups = parse_vgs(&stdout).map_err(|error| error.of("vgs", &args))?;
    let found = groups.into_iter().find(|group| group.name == name);
    found.ok_or_else(|| SourceError::output("vgs", &args, format!("it does not name the group {name}")))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::io;
    use std::process::ExitStatus;

    use super::{Presence, presence};
    use crate::outside::{CommandOutput, RunCommand};

    /// A fake lvs that prints this text.
    struct Prints(&'static str);

    impl RunCommand for Prints {
        fn run(&self, _: &str, args: &[OsString]) -> io::Result<CommandOutput> {
            assert_eq!(args[0], "--config");
            Ok(CommandOutput { status: ExitStatus::default(), stdout: self.0.into(), stderr: Vec::new() })
        }
    }

    #[test]
    fn that_a_volume_is_gone_is_known_from_any_output() {
        let asked = |printed| presence(&Prints(printed), "vg0", "Yd7GO3-x").unwrap();
        let there = |tags: &[&str]| Presence::There { tags: Some(tags.iter().map(|tag| (*tag).to_owned()).collect()) };
        assert_eq!(asked(r#"{"report":[{"lv":[]}]}"#), Presence::Gone);
        assert_eq!(asked("Consider pruning"), Presence::Gone);
        assert_eq!(
            asked(r#"{"report":[{"lv":[{"lv_uuid":"Yd7GO3-x","lv_tags":"volbak,a"}]}]}"#),
            there(&["volbak", "a"])
        );
        assert_eq!(asked("LVM2_LV_UUID='Yd7GO3-x'"), Presence::There { tags: None });
    }
}
