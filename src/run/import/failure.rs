//! What became of a target to which not all of a disk was written, and what to do next.

use std::io;

use super::error::ImportError;
use crate::image::copy::CopyError;

/// A target that is written to.
pub(super) struct Unfinished<'a> {
    /// Its name.
    pub(super) target: &'a str,
    /// Whether it is a device; an image that is not finished has no name.
    pub(super) is_device: bool,
    /// Whether its first and last bytes are zeros, as far as is known.
    pub(super) is_cleared: bool,
    /// What the disk comes from: `raw`, `qcow2`, `image backup`.
    pub(super) form: &'a str,
}

impl Unfinished<'_> {
    pub(super) fn because(&self, error: CopyError) -> ImportError {
        let next = match &error {
            CopyError::Write(error) if !self.is_device && error.kind() == io::ErrorKind::StorageFull => {
                "make room, or choose another place"
            }
            CopyError::Write(_) if self.is_device => "`dmesg` says what is wrong with the device; choose another one",
            CopyError::Write(_) => "choose another place",
            CopyError::Read { .. } | CopyError::Runs(_) if self.form == "image backup" => {
                "`volbak verify` says what is damaged; choose another backup"
            }
            CopyError::Read { .. } | CopyError::Runs(_) if self.form == "raw" => {
                "`volbak snapshot --image` keeps what can be read of it, and `volbak restore` writes that"
            }
            CopyError::Read { .. } | CopyError::Runs(_) => "`qemu-img convert --salvage` copies what can be read",
            CopyError::Thread(_) | CopyError::Stopped => "repeat it",
        };
        ImportError::Unfinished(self.with(next), error)
    }

    pub(super) fn read_back(&self) -> impl Fn(io::Error) -> ImportError {
        let what = self.with(self.for_another());
        move |error| ImportError::ReadBack(what.clone(), error)
    }

    pub(super) fn different(&self) -> ImportError {
        ImportError::Different(self.with(self.for_another()))
    }

    fn for_another(&self) -> &'static str {
        if self.is_device {
            "make sure that nothing else writes to it, or choose another device"
        } else {
            "choose another place"
        }
    }

    fn with(&self, next: &str) -> String {
        let became = match (self.is_device, self.is_cleared) {
            (false, _) => "no image was made",
            (true, true) => "there is no usable disk on it, and its first sectors are zeros",
            (true, false) => "there is no usable disk on it, although it may look like one",
        };
        format!("{}: {became}; {next}", self.target)
    }
}
