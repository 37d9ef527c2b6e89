//! Restores symbolic links, devices and fifos, which get their final name at once.

use std::os::fd::BorrowedFd;

use rustix::fs::{FileType, Mode};
use rustix::io::Errno;

use super::error::{DIRECTORY_IN_THE_WAY, in_words};
use super::putter::{Outcome, Putter};
use crate::entry::DeviceNumber;
use crate::run::restore::attributes::{Attributes, named_in};
use crate::run::restore::options::Existing;
use crate::run::restore::tree::stat_here;

impl Putter {
    pub(super) fn put_symlink(&mut self, name: &[u8], target: &[u8], attributes: &Attributes) -> Outcome {
        if target.is_empty() {
            return Outcome::Failed("not restored: its target is empty".to_owned());
        }
        if target.contains(&0) {
            return Outcome::Failed("not restored: its target holds a zero byte".to_owned());
        }
        let same = |putter: &Self| {
            let here = putter.tree.here()?;
            Ok(rustix::fs::readlinkat(here, name, Vec::new()).is_ok_and(|is| is.as_bytes() == target))
        };
        self.put_other(name, attributes, true, same, |here| rustix::fs::symlinkat(target, here, name))
    }

    /// Why devices are not created, if they are not.
    pub(super) fn refuses_devices(&self) -> Option<Outcome> {
        if !self.options.devices {
            return Some(Outcome::LeftOut("is a device; devices are created only with --devices".to_owned()));
        }
        if !self.restorer.is_root() {
            return Some(Outcome::LeftOut("is a device, which only root can make".to_owned()));
        }
        None
    }

    pub(super) fn put_special(
        &mut self,
        name: &[u8],
        file_type: FileType,
        number: DeviceNumber,
        attributes: &Attributes,
    ) -> Outcome {
        let device = rustix::fs::makedev(number.major, number.minor);
        let same = |putter: &Self| {
            let facts = stat_here(putter.tree.here()?, name)?;
            Ok(facts.is_some_and(|facts| {
                FileType::from_raw_mode(facts.st_mode) == file_type
                    && (file_type == FileType::Fifo || facts.st_rdev == device)
            }))
        };
        let mode = Mode::RUSR | Mode::WUSR;
        self.put_other(name, attributes, false, same, |here| rustix::fs::mknodat(here, name, file_type, mode, device))
    }

    /// Creates an entry other than a file or directory, under its final name.
    fn put_other(
        &mut self,
        name: &[u8],
        attributes: &Attributes,
        is_symlink: bool,
        same: impl Fn(&Self) -> Result<bool, Errno>,
        make: impl Fn(BorrowedFd<'_>) -> Result<(), Errno>,
    ) -> Outcome {
        let was_there = (|| {
            let here = self.tree.here()?;
            let made = make(here);
            if made == Err(Errno::EXIST) {
                self.tree.check_own_name(name)?;
            } else {
                self.tree.note_name(name);
            }
            match made {
                Err(Errno::EXIST) if self.options.existing == Existing::Resume && same(self)? => Ok(Some(true)),
                Err(Errno::EXIST) if self.options.existing == Existing::Overwrite => {
                    self.remove_other(name)?;
                    make(here).map(|()| Some(false))
                }
                Err(Errno::EXIST) => Ok(None),
                result => result.map(|()| Some(false)),
            }
        })();
        let was_there = match was_there {
            Ok(Some(was_there)) => was_there,
            Ok(None) if self.is_directory(name) => return Outcome::Failed(DIRECTORY_IN_THE_WAY.to_owned()),
            Ok(None) => return self.in_the_way(),
            Err(error) => return Outcome::refused(Some(error), format!("it cannot be made: {}", in_words(error))),
        };
        let here = match self.tree.here() {
            Ok(here) => here,
            Err(error) => return Outcome::Failed(in_words(error)),
        };
        if self.tree.gives_acl() && !is_symlink {
            // The archive's own ACL, if any, is set with the attributes.
            let _ = rustix::fs::lremovexattr(named_in(here, name), "system.posix_acl_access");
        }
        match attributes.set_named(here, name, is_symlink, &mut self.restorer) {
            Ok(()) if was_there => Outcome::Present,
            Ok(()) => Outcome::Restored,
            Err(error) => Outcome::Failed(error.to_string()),
        }
    }
}
