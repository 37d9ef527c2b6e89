//! The promise of `--log`: each line of a run reaches who reads it, as text, as JSON or as an entry of the journal, with
//! its fields; nothing that a tenant names can forge a field or a line; a journal that is full or gone loses none and stops no night.
//! Entries are decoded strictly, as systemd's JOURNAL_NATIVE_PROTOCOL.md has them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, IoSliceMut, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::Duration;

use rustix::fs::{SealFlags, fcntl_get_seals};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use volbak::log::{Format, Journal, Log};

mod journald;
mod program;
mod sending;

const PATIENCE: Duration = Duration::from_millis(200);

/// A journal: a socket at which a test listens.
struct Listener {
    directory: tempfile::TempDir,
    socket: UnixDatagram,
}

type Entry = BTreeMap<String, Vec<u8>>;

impl Listener {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(directory.path().join("socket")).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self { directory, socket }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    /// The bytes of the next entry, if one was sent, and whether it came in a memfd.
    fn datagram(&self) -> Option<(Vec<u8>, bool)> {
        let mut bytes = vec![0; 16 << 20];
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let got = recvmsg(&self.socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC).ok()?;
        let descriptors: Vec<OwnedFd> = control
            .drain()
            .flat_map(|message| match message {
                RecvAncillaryMessage::ScmRights(descriptors) => descriptors.collect(),
                _ => Vec::new(),
            })
            .collect();
        bytes.truncate(got.bytes);
        let Ok([memfd]) = <[OwnedFd; 1]>::try_from(descriptors) else { return Some((bytes, false)) };
        assert!(bytes.is_empty(), "either a payload or a descriptor");
        let all = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
        assert_eq!(fcntl_get_seals(&memfd).unwrap(), all, "older journals take exactly these");
        // Its offset is at the end, and a journal maps it from its start.
        let mut file = File::from(memfd);
        io::Seek::rewind(&mut file).unwrap();
        file.read_to_end(&mut bytes).unwrap();
        Some((bytes, true))
    }

    fn entries(&self) -> Vec<Entry> {
        std::iter::from_fn(|| self.datagram()).map(|(bytes, _)| decoded(&bytes)).collect()
    }

    fn log(&self, out: BorrowedFd<'static>) -> Log {
        let journal = Journal::new(&self.path(), PATIENCE).unwrap();
        Log::new(Format::Journal { journal, is_stream: false, unit: None }, "the-run".to_owned(), out, PATIENCE)
    }
}

/// The fields of an entry. Whatever the protocol does not allow fails.
fn decoded(mut entry: &[u8]) -> Entry {
    let mut fields = Entry::new();
    while !entry.is_empty() {
        let at = entry.iter().position(|byte| matches!(byte, b'=' | b'\n')).expect("a field's name ends");
        let (name, rest) = entry.split_at(at);
        let is_name = |byte: &u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || *byte == b'_';
        assert!(name.iter().all(is_name) && name[0].is_ascii_uppercase() && name.len() <= 64, "{name:?}");
        let (value, rest) = if rest[0] == b'=' {
            let end = rest.iter().position(|byte| *byte == b'\n').expect("a value ends");
            (&rest[1..end], &rest[end..])
        } else {
            let (length, rest) = rest[1..].split_first_chunk::<8>().expect("a length of 64 bits");
            rest.split_at(usize::try_from(u64::from_le_bytes(*length)).unwrap())
        };
        assert_eq!(rest[0], b'\n', "a field ends with a newline");
        let name = String::from_utf8(name.to_vec()).unwrap();
        assert!(fields.insert(name.clone(), value.to_vec()).is_none(), "{name} is there twice");
        entry = &rest[1..];
    }
    fields
}

fn field<'a>(entry: &'a Entry, name: &str) -> &'a str {
    entry.get(name).map_or("", |value| std::str::from_utf8(value).unwrap())
}

/// A file in place of standard error, for the life of the test's process.
fn out() -> (BorrowedFd<'static>, File) {
    let file = tempfile::tempfile().unwrap();
    let read = file.try_clone().unwrap();
    let leaked: &'static File = Box::leak(Box::new(file));
    (leaked.as_fd(), read)
}

fn text_of(mut file: File) -> String {
    io::Seek::rewind(&mut file).unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    text
}

const HOSTILE: [&str; 6] = [
    "a\nPRIORITY=0",
    "a\nMESSAGE\n\u{1}\0\0\0\0\0\0\0x\n",
    "\u{1b}[2J\u{1b}]0;owned\u{7}",
    "\u{202e}gnp.exe\u{200b}",
    "\0=\u{80}\u{9b}31m",
    "\",\"priority\":0,\"",
];
