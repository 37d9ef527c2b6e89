//! mkfs.xfs(8).

use std::ffi::OsString;

use super::call::{Arguments, ToolCall};
use super::error::MakeError;
use super::made::Made;
use super::names::has;
use crate::field::is_uuid;
use crate::layout::{MadeWith, XfsMade};
use crate::shown;
use crate::units::ByteLen;

/// Below this size, with a shorter log, or with a single allocation group, mkfs.xfs requires `--unsupported`.
const SUPPORTED_BYTES: u64 = 300 << 20;
const SUPPORTED_LOG_BYTES: u64 = 64 << 20;
/// The unit of stripes.
const SECTOR_BYTES: u64 = 512;
/// The minimum and default extent size of a realtime section.
const REALTIME_EXTENT_BYTES: u64 = 4096;

/// The features that have an option of mkfs.xfs.
const KNOWN_FEATURES: &[&str] = &[
    "crc",
    "finobt",
    "rmapbt",
    "reflink",
    "inobtcount",
    "bigtime",
    "metadir",
    "ftype",
    "sparse",
    "nrext64",
    "exchange",
    "parent",
];

/// `shrunk`: it becomes smaller than before, so mkfs chooses its allocation groups and log.
pub(super) fn xfs(
    made: &MadeWith,
    (size_bytes, shrunk): (u64, bool),
    uuid: &str,
    label: Option<&[u8]>,
    more: &mut Made,
) -> Result<Vec<OsString>, MakeError> {
    for feature in made.features.iter().filter(|name| !KNOWN_FEATURES.contains(&name.as_str())) {
        more.differs.push(format!("its feature {} is not known here: it is made without", shown::text(feature)));
    }
    let own = made.xfs.as_deref();
    let mut made_uuid = uuid;
    if let Some(inside) = own.and_then(|own| own.metadata_uuid.as_deref()).filter(|inside| *inside != uuid) {
        if !is_uuid(inside) {
            return Err(MakeError::MetadataUuid(inside.to_owned()));
        }
        made_uuid = inside;
        more.after.push(call("xfs_admin", &["-U", uuid]));
    }
    if let Some(own) = own {
        if own.inode_percent_max == 0 {
            // mkfs.xfs takes 0 as its default; xfs_growfs requires a mount.
            more.after.push(call("xfs_db", &["-x", "-c", "sb 0", "-c", "write -d imax_pct 0"]));
        }
        if !own.quotas.is_empty() {
            let names: Vec<String> = own.quotas.iter().take(8).map(|name| shown::text(name)).collect();
            more.differs.push(format!(
                "it had quotas ({}): the guest's mount options bring their accounting back; their limits are not in a \
                 backup and have to be set again",
                names.join(", ")
            ));
        }
    }
    let arguments = |with_geometry: bool| -> Result<Vec<OsString>, MakeError> {
        let mut args = Arguments::default();
        args.flags(&["-q", "-f"]);
        args.label("-L", label.map(<[u8]>::to_vec));
        general(made, made_uuid, &mut args)?;
        let mut is_supported = size_bytes >= SUPPORTED_BYTES;
        if let Some(own) = own {
            geometry(own, has(made, "crc"), with_geometry, &mut args);
            is_supported &= !with_geometry || (own.log_bytes >= SUPPORTED_LOG_BYTES && own.groups > 1);
        }
        if !is_supported {
            args.flags(&["--unsupported"]);
        }
        Ok(args.0)
    };
    if own.is_some_and(|own| !shrunk && own.group_bytes > 0) {
        let own_choice = arguments(false)?;
        let (groups, group, log) = own.map_or((0, 0, 0), |own| (own.groups, own.group_bytes, own.log_bytes));
        let what = format!(
            "its {groups} allocation groups of {} and its log of {} cannot be made, and mkfs.xfs chooses others",
            ByteLen(group),
            ByteLen(log)
        );
        more.otherwise = Some((ToolCall { program: "mkfs.xfs", args: own_choice }, what));
        return arguments(true);
    }
    arguments(false)
}

fn call(program: &'static str, args: &[&str]) -> ToolCall {
    ToolCall { program, args: args.iter().map(OsString::from).collect() }
}

fn general(made: &MadeWith, uuid: &str, args: &mut Arguments) -> Result<(), MakeError> {
    let on = |feature: &str| u8::from(has(made, feature));
    if made.features.is_empty() && made.xfs.is_none() {
        args.pair("-m", format!("uuid={uuid}"));
    } else if has(made, "crc") {
        let flags = ["finobt", "rmapbt", "reflink", "inobtcount", "bigtime", "metadir"]
            .map(|feature| format!("{feature}={}", on(feature)))
            .join(",");
        args.pair("-m", format!("uuid={uuid},crc=1,{flags}"));
    } else {
        args.pair("-m", format!("uuid={uuid},crc=0,finobt=0"));
    }
    let own = made.xfs.as_deref();
    for (option, value) in [
        ("-b", made.block_bytes),
        ("-s", made.sector_bytes),
        ("-i", made.inode_bytes),
        ("-n", made.directory_block_bytes),
    ] {
        let Some(bytes) = value else { continue };
        if !bytes.is_power_of_two() {
            return Err(MakeError::Size { what: size_in_words(option), bytes });
        }
        let mut value = format!("size={bytes}");
        if option == "-i" {
            if let Some(percent) = own.map(|own| own.inode_percent_max).filter(|percent| (1..=100).contains(percent)) {
                value.push_str(&format!(",maxpct={percent}"));
            }
            if has(made, "crc") {
                let (sparse, nrext64, exchange) = (on("sparse"), on("nrext64"), on("exchange"));
                value.push_str(&format!(",sparse={sparse},nrext64={nrext64},exchange={exchange}"));
            } else if let Some(own) = own {
                let project_id_32bit = u8::from(own.project_id_32bit);
                value.push_str(&format!(",attr={},projid32bit={project_id_32bit}", own.attr_version.min(2)));
            }
        }
        if option == "-n" {
            if own.is_some_and(|own| own.case_insensitive) {
                value.push_str(",version=ci");
            }
            if has(made, "crc") {
                value.push_str(&format!(",parent={}", on("parent")));
            } else if !made.features.is_empty() || own.is_some() {
                value.push_str(&format!(",ftype={}", on("ftype")));
            }
        }
        args.pair(option, value);
    }
    Ok(())
}

fn size_in_words(option: &str) -> &'static str {
    match option {
        "-b" => "block",
        "-s" => "sector",
        "-i" => "inode",
        _ => "directory block",
    }
}

fn geometry(own: &XfsMade, has_crc: bool, with_geometry: bool, args: &mut Arguments) {
    let mut data = match (own.stripe_unit_bytes / SECTOR_BYTES, own.stripe_width_bytes / SECTOR_BYTES) {
        // Overrides the geometry reported by the target.
        (0, _) => "noalign".to_owned(),
        (unit, width) => format!("sunit={unit},swidth={width}"),
    };
    let mut log = vec!["internal".to_owned()];
    if with_geometry {
        data.push_str(&format!(",agsize={}", own.group_bytes));
        log.push(format!("size={}", own.log_bytes));
        log.push(format!("agnum={}", own.log_group));
    }
    args.pair("-d", data);
    if !has_crc {
        log.push(format!("version={}", own.log_version.clamp(1, 2)));
        log.push(format!("lazy-count={}", u8::from(own.lazy_count)));
    }
    if own.log_stripe_unit_bytes > 0 && own.log_version > 1 {
        log.push(format!("su={}", own.log_stripe_unit_bytes));
    }
    args.pair("-l", log.join(","));
    if with_geometry && own.realtime_extent_bytes > REALTIME_EXTENT_BYTES {
        args.pair("-r", format!("extsize={}", own.realtime_extent_bytes));
    }
}
