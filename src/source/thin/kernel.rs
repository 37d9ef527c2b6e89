//! Device-mapper's tables and states of thin devices and pools
//! (Documentation/admin-guide/device-mapper/thin-provisioning.rst), asked with dmsetup.

use std::ffi::OsString;

use super::error::ThinError;
use crate::outside::RunCommand;
use crate::source::device::{DeviceNumber, dm_uuid};
use crate::source::error::SourceError;
use crate::source::lvm::{failed, words};

/// A thin device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Thin {
    pub(super) pool: DeviceNumber,
    pub(super) id: u64,
}

/// A thin pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pool {
    pub(super) metadata: DeviceNumber,
    pub(super) chunk_bytes: u64,
}

/// The table of a thin device.
pub(super) fn thin_of(commands: &dyn RunCommand, device: DeviceNumber) -> Result<Thin, ThinError> {
    parse_thin(&dmsetup(commands, &["table"], device, &[])?)
}

/// The table of a pool.
pub(super) fn pool_of(commands: &dyn RunCommand, device: DeviceNumber) -> Result<Pool, ThinError> {
    parse_pool(&dmsetup(commands, &["table"], device, &[])?)
}

/// The block of the pool's metadata in which its reserved metadata snapshot is. Fails if the pool is not in its usual state.
pub(super) fn held_root_of(commands: &dyn RunCommand, device: DeviceNumber) -> Result<Option<u64>, ThinError> {
    parse_status(&dmsetup(commands, &["status"], device, &[])?)
}

/// Sends a message to a pool.
pub(super) fn message(commands: &dyn RunCommand, device: DeviceNumber, message: &str) -> Result<(), ThinError> {
    dmsetup(commands, &["message"], device, &["0", message]).map(drop)
}

/// LVM's UUIDs of the group and the pool, from those of the pool's device.
pub(super) fn pool_uuid_of(device: DeviceNumber) -> Result<String, ThinError> {
    let uuid = dm_uuid(device).and_then(|uuid| parse_pool_uuid(&uuid).map(str::to_owned));
    uuid.ok_or_else(|| ThinError::Unexpected("the pool's device is not one of LVM's".to_owned()))
}

/// The UUIDs in that of a pool's device, which LVM calls `LVM-`, group, pool, `-tpool`.
pub(super) fn parse_pool_uuid(uuid: &str) -> Option<&str> {
    let uuid = uuid.strip_prefix("LVM-")?.strip_suffix("-tpool")?;
    (uuid.len() == 64 && uuid.bytes().all(|byte| byte.is_ascii_alphanumeric())).then_some(uuid)
}

fn dmsetup(
    commands: &dyn RunCommand,
    command: &[&str],
    device: DeviceNumber,
    more: &[&str],
) -> Result<String, ThinError> {
    let (major, minor) = (device.major.to_string(), device.minor.to_string());
    let args: Vec<OsString> = words(&[command, &["-j", &major, "-m", &minor], more].concat());
    let output = commands.run("dmsetup", &args);
    let not_run = |source| SourceError::NotRun { program: "dmsetup".to_owned(), package: "dmsetup", source };
    let output = output.map_err(not_run)?;
    if !output.status.success() {
        return Err(failed("dmsetup", &args, &output).into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The fields behind the type of the only target of a table or state, which begins at sector 0.
fn only_target<'a>(text: &'a str, target: &str) -> Option<Vec<&'a str>> {
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let (line, None) = (lines.next()?, lines.next()) else { return None };
    let mut fields = line.split_ascii_whitespace();
    let is_whole = fields.next()? == "0" && fields.next()?.bytes().all(|byte| byte.is_ascii_digit());
    (is_whole && fields.next()? == target).then(|| fields.collect())
}

/// `POOL ID [EXTERNAL ORIGIN]`.
fn parse_thin(text: &str) -> Result<Thin, ThinError> {
    let wrong = || ThinError::Unexpected("the snapshot's table is not that of a thin volume".to_owned());
    match only_target(text, "thin").ok_or_else(wrong)?[..] {
        [pool, id] => {
            Ok(Thin { pool: DeviceNumber::parse(pool).ok_or_else(wrong)?, id: id.parse().map_err(|_| wrong())? })
        }
        [_, _, _] => Err(ThinError::ExternalOrigin),
        _ => Err(wrong()),
    }
}

/// `METADATA DATA CHUNK_SECTORS …`.
fn parse_pool(text: &str) -> Result<Pool, ThinError> {
    const SECTOR_BYTES: u64 = 512;
    // 64 KiB to 1 GiB, in steps of 64 KiB.
    const STEP_SECTORS: u64 = 128;
    const MAX_SECTORS: u64 = 2 << 20;
    let wrong = || ThinError::Unexpected("the pool's table is not that of a thin pool".to_owned());
    let fields = only_target(text, "thin-pool").ok_or_else(wrong)?;
    let [metadata, _, sectors, ..] = fields[..] else { return Err(wrong()) };
    let sectors: u64 = sectors.parse().map_err(|_| wrong())?;
    if sectors == 0 || !sectors.is_multiple_of(STEP_SECTORS) || sectors > MAX_SECTORS {
        return Err(wrong());
    }
    Ok(Pool { metadata: DeviceNumber::parse(metadata).ok_or_else(wrong)?, chunk_bytes: sectors * SECTOR_BYTES })
}

/// `TRANSACTION METADATA DATA HELD_ROOT MODE … NEEDS_CHECK …`.
fn parse_status(text: &str) -> Result<Option<u64>, ThinError> {
    let wrong = || ThinError::Unexpected("the pool's state is not that of a thin pool".to_owned());
    let fields = only_target(text, "thin-pool").ok_or_else(wrong)?;
    if let ["Fail" | "Error"] = fields[..] {
        return Err(ThinError::Pool("has failed"));
    }
    let [_, _, _, held_root, mode, _, _, needs_check, ..] = fields[..] else { return Err(wrong()) };
    if needs_check != "-" {
        return Err(ThinError::Pool("needs a check (thin_check)"));
    }
    if mode != "rw" {
        return Err(ThinError::Pool("cannot be written to, or is full"));
    }
    if held_root == "-" { Ok(None) } else { held_root.parse().map(Some).map_err(|_| wrong()) }
}

#[cfg(test)]
mod tests {
    use super::{Pool, Thin, parse_pool, parse_pool_uuid, parse_status, parse_thin};
    use crate::source::device::DeviceNumber;
    use crate::source::thin::error::ThinError;

    #[test]
    fn tables_are_those_of_one_thin_device_in_a_pool() {
        let number = |major, minor| DeviceNumber { major, minor };
        assert_eq!(parse_thin("0 614400 thin 254:2 2\n").unwrap(), Thin { pool: number(254, 2), id: 2 });
        assert!(matches!(parse_thin("0 614400 thin 254:2 2 254:9\n"), Err(ThinError::ExternalOrigin)));
        for wrong in [
            "",
            "0 614400 linear 254:2 2",
            "8 614400 thin 254:2 2",
            "0 614400 thin 254:2",
            "0 614400 thin 254:2 2\n614400 8 thin 254:2 3\n",
            "0 614400 thin /dev/x 2",
            "0 614400 thin 254:2 -1",
            "0 614400 thin 254:2 2 3 4",
        ] {
            assert!(matches!(parse_thin(wrong), Err(ThinError::Unexpected(_))), "{wrong:?}");
        }
        let pool = "0 2097152 thin-pool 254:0 254:1 128 0 0 \n";
        assert_eq!(parse_pool(pool).unwrap(), Pool { metadata: number(254, 0), chunk_bytes: 64 << 10 });
        for sectors in ["0", "127", "64", "2097280", "x"] {
            assert!(parse_pool(&pool.replace("128", sectors)).is_err(), "{sectors}");
        }
    }

    #[test]
    fn only_a_pool_in_its_usual_state_is_asked() {
        let line = "0 2097152 thin-pool 2 116/1024 321/16384 29 rw no_discard_passdown queue_if_no_space - 256 \n";
        assert_eq!(parse_status(line).unwrap(), Some(29));
        assert_eq!(parse_status(&line.replace(" 29 ", " - ")).unwrap(), None);
        for (from, to) in [(" rw ", " ro "), (" rw ", " out_of_data_space "), (" - ", " needs_check ")] {
            assert!(matches!(parse_status(&line.replace(from, to)), Err(ThinError::Pool(_))), "{to}");
        }
        assert!(matches!(parse_status("0 2097152 thin-pool Fail\n"), Err(ThinError::Pool(_))));
        for wrong in ["", "0 8 thin-pool 2 1/2 1/2", &line.replace(" 29 ", " x ")] {
            assert!(matches!(parse_status(wrong), Err(ThinError::Unexpected(_))), "{wrong:?}");
        }
        let uuid = "0m9XSvgGuYchZhFSSnBb38slgIkieiI9uyp433ANY7PhriLMV7u8tQv2zupdN3be";
        assert_eq!(parse_pool_uuid(&format!("LVM-{uuid}-tpool")), Some(uuid));
        assert_eq!(parse_pool_uuid(&format!("LVM-{uuid}-pool")), None);
        assert_eq!(parse_pool_uuid(&format!("LVM-{}/-tpool", &uuid[1..])), None);
    }
}
