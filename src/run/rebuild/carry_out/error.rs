//! Errors that end the execution of a plan.

use std::io;

use crate::reader::kernel::device_map::DeviceMapError;
use crate::reader::kernel::mounted::MountError;
use crate::run::restore::RestoreError;

/// Why a plan was not completed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CarryOutError {
    /// Writing failed.
    #[error("{what}")]
    Io {
        /// The operation.
        what: String,
        /// The cause.
        source: io::Error,
    },
    /// A tool could not be run, or failed.
    #[error("{region}: `{command}` failed: {said}")]
    Tool {
        /// The region.
        region: String,
        /// The command as typed in a shell.
        command: String,
        /// Its output.
        said: String,
    },
    /// The extents of a volume could not be joined.
    #[error("{region}: its pieces cannot be put together")]
    Pieces {
        /// The region.
        region: String,
        /// The cause.
        source: DeviceMapError,
    },
    /// The new filesystem cannot be mounted.
    #[error("{region}: the new filesystem cannot be mounted")]
    Mount {
        /// The region.
        region: String,
        /// The cause.
        source: MountError,
    },
    /// The files could not be restored.
    #[error("{region}: its files could not be restored")]
    Files {
        /// The region.
        region: String,
        /// The cause.
        source: RestoreError,
    },
    /// The operation was cancelled.
    #[error("stopped")]
    Stopped,
}

/// The output and exit status of a failed tool.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct ToolFailure(pub(super) String);

impl ToolFailure {
    /// Whether the tool found the requested UUID on another device, recognised by the words of mkfs.btrfs and
    /// btrfstune.
    pub(super) fn is_uuid_taken(&self) -> bool {
        ["non-unique UUID", "is not unique"].iter().any(|words| self.0.contains(words))
    }
}

/// Adds the operation to an I/O error; an interruption becomes a cancellation.
pub(super) fn io_error(what: impl Into<String>) -> impl FnOnce(io::Error) -> CarryOutError {
    let what = what.into();
    move |source| match source.kind() {
        io::ErrorKind::Interrupted => CarryOutError::Stopped,
        _ => CarryOutError::Io { what, source },
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::process::Command;

    use super::ToolFailure;
    use crate::reader::kernel::loop_device::LoopDevice;
    use crate::units::ByteRange;

    #[test]
    fn a_uuid_on_another_device_is_recognised_in_the_tools_output() {
        const UUID: &str = "5b0c5f7e-64a8-4b7e-9d4b-3f1d1c0a2e61";
        let dir = tempfile::tempdir().unwrap();
        let image = |name: &str| {
            let path = dir.path().join(name);
            File::create(&path).unwrap().set_len(128 << 20).unwrap();
            path
        };
        let run = |program: &str, args: &[&str]| {
            // A cache of its own: libblkid takes what the cache has of a device that another test probed a moment ago.
            let cache = tempfile::NamedTempFile::new_in(dir.path()).unwrap();
            let output =
                Command::new(program).args(args).env("LC_ALL", "C").env("BLKID_FILE", cache.path()).output().unwrap();
            (output.status.success(), ToolFailure(String::from_utf8_lossy(&output.stderr).into_owned()))
        };
        let (there, new) = (image("there"), image("new"));
        let (there, new) = (there.to_str().unwrap(), new.to_str().unwrap());
        assert!(run("mkfs.btrfs", &["-q", "-U", UUID, there]).0);
        assert!(run("mkfs.btrfs", &["-q", new]).0);
        let file = File::options().read(true).write(true).open(there).unwrap();
        let attached = LoopDevice::attach(&file, ByteRange::new(0, 128 << 20), false).unwrap();
        for (program, args) in
            [("mkfs.btrfs", ["-q", "-f", "-U", UUID, new]), ("btrfstune", ["-f", "-f", "-M", UUID, new])]
        {
            let (is_ok, failure) = run(program, &args);
            assert!(!is_ok && failure.is_uuid_taken(), "{program}: {failure}");
        }
        drop(attached);
        assert!(!ToolFailure("ERROR: no valid Btrfs found".to_owned()).is_uuid_taken());
    }
}
