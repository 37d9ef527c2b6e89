//! The iSCSI sessions of a compute node: which volume each one serves, who uses its disk, closing one of them, and why one does
//! not work. Everything is read from the kernel (`/sys/class/iscsi_session`, `/proc`); `iscsiadm` closes and asks.

mod close;
mod kernel;
mod reach;
mod uses;

pub use self::close::{CloseError, Closed, close};
pub use self::kernel::{Disk, Portal, Session, SessionsError};
pub use self::reach::{Fault, Reached, check};
pub use self::uses::{ListedSession, list};
