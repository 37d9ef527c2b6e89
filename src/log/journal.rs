//! The native protocol of systemd's journal. Source: systemd's `docs/JOURNAL_NATIVE_PROTOCOL.md`, and for `JOURNAL_STREAM`
//! systemd.exec(5). Why our own: docs/decisions/0041.

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

/// Where the journal listens.
pub const SOCKET: &str = "/run/systemd/journal/socket";

/// As much as sd_journal_send(3) asks for; the kernel gives it to root alone.
const SEND_BUFFER_BYTES: usize = 8 << 20;

/// A way to the journal.
#[derive(Debug)]
pub struct Journal {
    socket: UnixDatagram,
    address: SocketAddrUnix,
}

impl Journal {
    /// Entries go to the socket at `path`, which need not be there yet. A full one is waited for as long as `patience`.
    pub fn new(path: &Path, patience: Duration) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(patience))?;
        // Without it the usual size holds, and what is larger goes by a memfd.
        let _ = set_socket_send_buffer_size_force(&socket, SEND_BUFFER_BYTES);
        Ok(Self { socket, address: SocketAddrUnix::new(path)? })
    }

    /// Sends one entry, all of it or nothing. `is_patient`: whether to wait at a full socket.
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

    /// An entry that is too large for a datagram: the datagram is empty, and brings the descriptor of a sealed memfd.
    fn send_by_memfd(&self, entry: &[u8], flags: SendFlags) -> io::Result<()> {
        // Not MFD_NOEXEC_SEAL: its seal is one more than journals before systemd 254 take.
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

/// The entry: `NAME=value` and a newline, or, for a value with a newline in it, the name, a newline, the value's length in 64
/// bits (little endian), the value, and a newline. So no value can begin a field.
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

/// The service of the system's that this process runs in, as `/proc/self/cgroup` has it (cgroups(7)). The journal looks that up
/// itself when it reads an entry, and finds nothing for a process that has ended by then.
pub fn unit_of(cgroups: &str) -> Option<&str> {
    let path = cgroups.lines().find_map(|line| {
        let (hierarchy, path) = line.split_once(':')?.1.split_once(':')?;
        (hierarchy.is_empty() || hierarchy == "name=systemd")
            .then_some(path)
            .filter(|path| path.starts_with("/system.slice/"))
    })?;
    path.split('/').find(|part| part.ends_with(".service"))
}

/// Whether `descriptor` is the stream to the journal that systemd said in `JOURNAL_STREAM`: its device and its inode, in
/// decimal, a colon between them.
pub fn is_journal_stream(variable: &str, descriptor: BorrowedFd<'_>) -> bool {
    let Some((device, inode)) = variable.split_once(':') else { return false };
    let (Ok(device), Ok(inode)) = (device.parse::<u64>(), inode.parse::<u64>()) else { return false };
    fstat(descriptor).is_ok_and(|stat| (stat.st_dev, stat.st_ino) == (device, inode))
}
