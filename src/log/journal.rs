//! The native protocol of systemd's journal. Sources: systemd's `docs/JOURNAL_NATIVE_PROTOCOL.md`, and
//! systemd.exec(5) for `JOURNAL_STREAM`. Why volbak has its own implementation: docs/decisions/0041.

use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fstat, memfd_create};
use rustix::io::Errno;
use rustix::net::sockopt::set_socket_send_buffer_size_force;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, sendmsg_addr, sendto};

/// The journal's socket.
pub const SOCKET: &str = "/run/systemd/journal/socket";

/// The buffer size of sd_journal_send(3); the kernel allows it for root only.
const SEND_BUFFER_BYTES: usize = 8 << 20;

/// A connection to the journal.
#[derive(Debug)]
pub struct Journal {
    socket: UnixDatagram,
    address: SocketAddrUnix,
}

impl Journal {
    /// Connects to the socket at `path`, which need not exist yet. Waits up to `patience` when it is full.
    pub fn new(path: &Path, patience: Duration) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(patience))?;
        // On failure the default size remains, and larger entries go by memfd.
        let _ = set_socket_send_buffer_size_force(&socket, SEND_BUFFER_BYTES);
        Ok(Self { socket, address: SocketAddrUnix::new(path)? })
    }

    /// Sends one entry, completely or not at all. `is_patient`: wait if the socket is full.
    pub fn send(&self, fields: &[(String, String)], is_patient: bool) -> io::Result<()> {
        let mut flags = SendFlags::NOSIGNAL;
        flags.set(SendFlags::DONTWAIT, !is_patient);
        let entry = encoded(fields);
        match sendto(&self.socket, &entry, flags, &self.address) {
            Ok(_) => Ok(()),
            Err(Errno::MSGSIZE | Errno::NOBUFS) => self.send_by_memfd(&entry, flags),
            Err(error) => Err(error.into()),
        }
    }

    /// Sends an entry that exceeds a datagram: an empty datagram with the descriptor of a sealed memfd.
    fn send_by_memfd(&self, entry: &[u8], flags: SendFlags) -> io::Result<()> {
        // Without MFD_NOEXEC_SEAL: journals before systemd 254 reject its additional seal.
        let memfd = memfd_create("volbak-log", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        let mut memfd = File::from(memfd);
        memfd.write_all(entry)?;
        fcntl_add_seals(&memfd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL)?;
        let descriptors = [memfd.as_fd()];
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
            return Err(Errno::NOBUFS.into());
        }
        sendmsg_addr(&self.socket, &self.address, &[] as &[IoSlice<'_>], &mut control, flags)?;
        Ok(())
    }
}

/// Encodes an entry: `NAME=value` and a newline; for a value with a newline: the name, a newline, the value's
/// length in 64 bits (little endian), the value, and a newline. So a value cannot start a field.
fn encoded(fields: &[(String, String)]) -> Vec<u8> {
    let mut entry = Vec::new();
    for (name, value) in fields {
        entry.extend_from_slice(name.as_bytes());
        if value.contains('\n') {
            entry.push(b'\n');
            entry.extend_from_slice(&(value.len() as u64).to_le_bytes());
        } else {
            entry.push(b'=');
        }
        entry.extend_from_slice(value.as_bytes());
        entry.push(b'\n');
    }
    entry
}

/// The system service of this process, from `/proc/self/cgroup` (cgroups(7)). The journal looks this up itself when
/// it reads an entry, but finds nothing if the process has ended by then.
pub fn unit_of(cgroups: &str) -> Option<&str> {
    let path = cgroups.lines().find_map(|line| {
        let (hierarchy, path) = line.split_once(':')?.1.split_once(':')?;
        (hierarchy.is_empty() || hierarchy == "name=systemd")
            .then_some(path)
            .filter(|path| path.starts_with("/system.slice/"))
    })?;
    path.split('/').find(|part| part.ends_with(".service"))
}

/// Whether `descriptor` is the journal stream named in `JOURNAL_STREAM`: device and inode in decimal, separated by
/// a colon.
pub fn is_journal_stream(variable: &str, descriptor: BorrowedFd<'_>) -> bool {
    let Some((device, inode)) = variable.split_once(':') else { return false };
    let (Ok(device), Ok(inode)) = (device.parse::<u64>(), inode.parse::<u64>()) else { return false };
    fstat(descriptor).is_ok_and(|stat| (stat.st_dev, stat.st_ino) == (device, inode))
}
