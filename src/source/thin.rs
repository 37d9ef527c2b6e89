//! What a thin pool's metadata says about a snapshot: the data block of each of its chunks, and since when it is there.
//! `docs/decisions/0054-thin-changes.md` and `0058-unread-members.md` say what may be concluded from that.
//!
//! The metadata is read from the pool's metadata snapshot, of which there is one at a time: [`reserve`] takes and
//! releases it, [`kernel`] asks device-mapper, [`dump`] parses the output of `thin_dump`.

mod dump;
mod error;
mod kernel;
mod mark;
mod reserve;

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub(crate) use self::dump::MappedRun;
use self::dump::{Expected, read_dump};
pub(crate) use self::error::ThinError;
use self::kernel::{pool_of, pool_uuid_of, thin_of};
pub(crate) use self::reserve::release_left;
use self::reserve::{Reserved, Settled};
use crate::outside::{Cancel, RunCommand};
use crate::source::device::{DeviceNumber, dm_uuid, written_sectors};
use crate::source::error::SourceError;
use crate::source::lvm::{failed, words};

/// Where the marks of reserved metadata snapshots are. A reservation outlives a restart of the host, so the marks do, too.
pub(crate) const MARKS: &str = "/var/lib/volbak/thin";
const SECTOR_BYTES: u64 = 512;

/// A thin snapshot, as its pool knows it.
pub(crate) struct ThinSnapshot {
    pub(crate) commands: Arc<dyn RunCommand>,
    /// Its device.
    pub(crate) device: DeviceNumber,
    /// The UUID that its device has.
    pub(crate) dm_uuid: String,
    /// The UUID of the volume that it shows, and the number of that volume in the pool.
    pub(crate) volume_uuid: String,
    pub(crate) volume_thin_id: Option<u64>,
}

/// The pool, and its history up to a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PoolFacts {
    /// LVM's UUIDs of the group and the pool.
    pub(crate) pool_uuid: String,
    /// The UUID of the volume.
    pub(crate) volume_uuid: String,
    /// The volume's number in the pool.
    pub(crate) thin_id: u64,
    /// The boot of the host.
    pub(crate) boot_id: String,
    /// The kernel's number of the pool's device, which no other device has in this boot: the same number means that the
    /// kernel has had the pool open all the time.
    pub(crate) disk_sequence: u64,
    /// LVM's transaction.
    pub(crate) transaction: u64,
    /// The pool's counter of snapshots, its "time".
    pub(crate) counter: u64,
    /// The counter when the snapshot was taken.
    pub(crate) created: u64,
    /// The length of a chunk.
    pub(crate) chunk_bytes: u64,
}

/// A mapping that was read.
pub(crate) struct ReadMapping {
    pub(crate) facts: PoolFacts,
    /// A metadata snapshot that an interrupted run had left was released first.
    pub(crate) has_released_left: bool,
    /// The metadata snapshot could not be released.
    pub(crate) not_released: Option<ThinError>,
}

impl ThinSnapshot {
    /// What was written to the snapshot itself and discarded from it; `None` if the kernel does not tell.
    pub(crate) fn written(&self) -> Option<(u64, u64)> {
        written_sectors(self.device)
    }

    /// Reads the mapping. `take` gets the length of a chunk, and each run of chunks, ascending.
    ///
    /// Fails if anything is not as expected. The metadata snapshot is released in any case.
    pub(crate) fn read_mapping(
        &self,
        cancel: &Cancel,
        take: &mut dyn FnMut(u64, MappedRun) -> io::Result<()>,
    ) -> Result<ReadMapping, ThinError> {
        let commands = &*self.commands;
        if dm_uuid(self.device).as_ref() != Some(&self.dm_uuid) {
            return Err(ThinError::Unexpected("the snapshot's device is not the one of its UUID".to_owned()));
        }
        let volume_thin_id =
            self.volume_thin_id.ok_or_else(|| ThinError::Unexpected("lvs does not say its number".to_owned()))?;
        let thin = thin_of(commands, self.device)?;
        let pool_uuid = pool_uuid_of(thin.pool)?;
        let pool = pool_of(commands, thin.pool)?;
        let unread = |what| move |error| ThinError::Kernel { what, source: error };
        let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").map_err(unread("the boot"))?;
        let disk_sequence = fs::read_to_string(thin.pool.sysfs().join("diskseq")).map_err(unread("diskseq"))?;
        let disk_sequence = disk_sequence.trim().parse();
        let disk_sequence = disk_sequence.map_err(|_| ThinError::Unexpected("diskseq is no number".to_owned()))?;
        let metadata = node_of(pool.metadata)?;
        let expected = Expected { thin_id: thin.id, chunk_sectors: pool.chunk_bytes / SECTOR_BYTES };
        let mut take = |run| take(pool.chunk_bytes, run);
        let (reserved, settled) = Reserved::take(commands, thin.pool, &pool_uuid, Path::new(MARKS), cancel)?;
        let read = dump_of(commands, &metadata, &expected, cancel, &mut take);
        let not_released = reserved.release().err();
        let dumped = read?;
        Ok(ReadMapping {
            facts: PoolFacts {
                pool_uuid,
                volume_uuid: self.volume_uuid.clone(),
                thin_id: volume_thin_id,
                boot_id: boot_id.trim().to_owned(),
                disk_sequence,
                transaction: dumped.transaction,
                counter: dumped.counter,
                created: dumped.created,
                chunk_bytes: pool.chunk_bytes,
            },
            has_released_left: settled == Settled::ReleasedOurs,
            not_released,
        })
    }
}

/// The node that the kernel makes for a device (devtmpfs).
fn node_of(device: DeviceNumber) -> Result<PathBuf, ThinError> {
    let link = fs::canonicalize(device.sysfs())
        .map_err(|source| ThinError::Kernel { what: "the device of the pool's metadata", source })?;
    Ok(Path::new("/dev").join(link.file_name().unwrap_or_default()))
}

/// Runs `thin_dump` for one device of the pool, and parses its output while it runs.
fn dump_of(
    commands: &dyn RunCommand,
    metadata: &Path,
    expected: &Expected,
    cancel: &Cancel,
    take: &mut dyn FnMut(MappedRun) -> io::Result<()>,
) -> Result<dump::Dumped, ThinError> {
    let mut args: Vec<OsString> = words(&["-m", "--dev-id", &expected.thin_id.to_string()]);
    args.push(metadata.into());
    let mut parsed = None;
    let output = commands.stream("thin_dump", &args, &mut |stdout| {
        let result = read_dump(stdout, expected, cancel, take);
        let is_read = result.is_ok();
        parsed = Some(result);
        is_read
    });
    let output = output.map_err(|source| SourceError::NotRun {
        program: "thin_dump".to_owned(),
        package: "thin-provisioning-tools",
        source,
    })?;
    match (parsed, output.status.code()) {
        (Some(Ok(dumped)), Some(0)) => Ok(dumped),
        // It ended by itself, or was ended since its output is wrong.
        (Some(Err(error)), Some(0) | None) => Err(error),
        _ => Err(failed("thin_dump", &args, &output).into()),
    }
}
