//! Recipients, for whom backups are encrypted, and identities, which decrypt them.

use std::collections::HashSet;
use std::fmt;
use std::io::{self, Read, Write};
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use age::x25519;
use age::{Decryptor, EncryptError, Encryptor};
use age_core::format::{FileKey, Stanza};

use super::error::KeyError;
use super::secret::read_secret;
use super::segment::{MAX_RECIPIENTS, STANZA};

/// The longest file of identities.
const MAX_FILE_BYTES: u64 = 64 << 10;

/// The recipients of a backup: each of them can decrypt it alone.
#[derive(Clone)]
pub struct Recipients {
    names: Vec<String>,
    keys: Arc<Vec<x25519::Recipient>>,
}

impl Recipients {
    /// Parses public keys, `age1…`.
    pub fn parse(names: &[String]) -> Result<Self, KeyError> {
        if names.is_empty() || names.len() > MAX_RECIPIENTS {
            return Err(KeyError::Number(names.len()));
        }
        let mut sorted: Vec<String> = Vec::new();
        let mut keys = Vec::new();
        for name in names {
            keys.push(x25519::Recipient::from_str(name).map_err(|_| KeyError::NotARecipient(name.clone()))?);
            if sorted.contains(name) {
                return Err(KeyError::Twice(name.clone()));
            }
            sorted.push(name.clone());
        }
        sorted.sort_unstable();
        Ok(Self { names: sorted, keys: Arc::new(keys) })
    }

    /// Their public keys, sorted.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Encrypts a member that holds `data_bytes` of data, to the start of `out`, and returns the segment's length.
    pub(crate) fn seal_member(&self, codec: &str, member: &[u8], data_bytes: usize, out: &mut Vec<u8>) -> usize {
        let lengths = Lengths { tag: format!("{STANZA}{codec}"), args: vec![member.len(), data_bytes] };
        let mut segment = std::mem::take(out);
        segment.clear();
        // Writing to memory does not fail, and these recipients can always be combined.
        let sealed = self.encryptor(Some(&lengths)).and_then(|encryptor| {
            let mut writer = encryptor.wrap_output(&mut segment)?;
            writer.write_all(member)?;
            writer.finish().map(drop)
        });
        let len = if sealed.is_ok() { segment.len() } else { 0 };
        *out = segment;
        len
    }

    /// Encrypts a short text.
    pub(crate) fn seal(&self, plain: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        self.seal_stream(plain, &mut out)?;
        Ok(out)
    }

    /// Encrypts all that `plain` yields.
    pub(crate) fn seal_stream(&self, mut plain: impl Read, out: impl Write) -> io::Result<()> {
        let mut writer = self.encryptor(None)?.wrap_output(out)?;
        io::copy(&mut plain, &mut writer)?;
        writer.finish()?.flush()
    }

    fn encryptor(&self, lengths: Option<&Lengths>) -> io::Result<Encryptor> {
        let first = lengths.into_iter().map(|lengths| lengths as &dyn age::Recipient);
        let keys = self.keys.iter().map(|key| key as &dyn age::Recipient);
        Encryptor::with_recipients(first.chain(keys)).map_err(io::Error::other)
    }
}

impl PartialEq for Recipients {
    fn eq(&self, other: &Self) -> bool {
        self.names == other.names
    }
}

impl Eq for Recipients {}

impl fmt::Debug for Recipients {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(&self.names).finish()
    }
}

/// A stanza of lengths, which wraps no key.
struct Lengths {
    tag: String,
    args: Vec<usize>,
}

impl age::Recipient for Lengths {
    fn wrap_file_key(&self, _: &FileKey) -> Result<(Vec<Stanza>, HashSet<String>), EncryptError> {
        let args = self.args.iter().map(usize::to_string).collect();
        Ok((vec![Stanza { tag: self.tag.clone(), args, body: Vec::new() }], HashSet::new()))
    }
}

/// Secret keys that decrypt backups.
pub struct Identities {
    keys: Vec<x25519::Identity>,
}

impl Identities {
    /// Reads a file as age-keygen writes it. Only its owner may be able to read it.
    pub fn from_file(path: &Path) -> Result<Self, KeyError> {
        let text = read_secret(path, MAX_FILE_BYTES)?;
        let mut keys = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let not_one = |_| KeyError::NotAnIdentity { path: path.to_owned(), line: number + 1 };
            keys.push(x25519::Identity::from_str(line).map_err(not_one)?);
        }
        if keys.is_empty() { Err(KeyError::NoIdentity(path.to_owned())) } else { Ok(Self { keys }) }
    }

    /// Their public keys.
    pub fn recipients(&self) -> Vec<String> {
        self.keys.iter().map(|key| key.to_public().to_string()).collect()
    }

    /// The start of an age file as a reader of its content; `None` if no identity fits, or its header is damaged.
    pub(super) fn open<R: io::BufRead>(&self, file: R) -> Option<age::stream::StreamReader<R>> {
        let decryptor = Decryptor::new_buffered(file).ok()?;
        decryptor.decrypt(self.keys.iter().map(|key| key as &dyn age::Identity)).ok()
    }

    /// Moves the keys of `other` here.
    pub(super) fn add(&mut self, other: Self) {
        self.keys.extend(other.keys);
    }

    /// No keys.
    pub(super) const fn none() -> Self {
        Self { keys: Vec::new() }
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

impl fmt::Debug for Identities {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Identities({})", self.keys.len())
    }
}
