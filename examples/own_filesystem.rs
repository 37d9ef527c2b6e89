//! Archives a filesystem that volbak does not know: here a few files in memory, read through `Filesystem`.
//!
//!     cargo run --example own_filesystem -- ARCHIVE.tar.gz INDEX

use std::error::Error;
use std::fs::File;
use std::io;
use std::sync::Arc;

use volbak::Silent;
use volbak::facts::ByteRange;
use volbak::options::CompressionLevel;
use volbak::reading::{
    ArchiveWriter, Entry, EntryKind, Excludes, FileContent, Filesystem, Found, FsReader, Metadata, NotReleased,
    Outputs, WriteOptions,
};

/// Files by name, all in the root directory.
struct InMemory(Vec<(&'static str, Arc<[u8]>)>);

impl Filesystem for InMemory {
    fn reader(&self) -> &'static str {
        "memory"
    }

    fn walk(&self, excludes: Excludes) -> io::Result<Box<dyn FsReader + Send>> {
        let metadata = Metadata { mode: 0o755, nlink: 2, ino: 1, ..Metadata::default() };
        let mut entries = vec![Entry { path: Vec::new(), kind: EntryKind::Directory, metadata, xattrs: Vec::new() }];
        for (ino, (name, bytes)) in (2..).zip(&self.0) {
            if excludes.leaves_out(name.as_bytes(), false) {
                continue;
            }
            let metadata = Metadata { mode: 0o644, nlink: 1, ino, size: bytes.len() as u64, ..Metadata::default() };
            let kind = EntryKind::File(Box::new(Bytes(Arc::clone(bytes))));
            entries.push(Entry { path: name.as_bytes().to_vec(), kind, metadata, xattrs: Vec::new() });
        }
        Ok(Box::new(Walk(entries.into_iter())))
    }

    fn for_each_root_name(&self, with: &mut dyn FnMut(&[u8])) {
        self.0.iter().for_each(|(name, _)| with(name.as_bytes()));
    }

    fn used_bytes(&self) -> io::Result<u64> {
        Ok(self.0.iter().map(|(_, bytes)| bytes.len() as u64).sum())
    }

    fn finish(self: Box<Self>) -> Result<(), NotReleased> {
        Ok(())
    }
}

struct Walk(std::vec::IntoIter<Entry>);

impl FsReader for Walk {
    fn next_found(&mut self) -> Option<Found> {
        self.0.next().map(Found::Entry)
    }
}

struct Bytes(Arc<[u8]>);

impl FileContent for Bytes {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|offset| self.0.get(offset..)).unwrap_or_default();
        let len = rest.len().min(buf.len());
        buf[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    fn next_data(&self, from: u64) -> io::Result<Option<ByteRange>> {
        let len = self.0.len() as u64;
        Ok((from < len).then(|| ByteRange::new(from, len - from)))
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, archive, index] = arguments.as_slice() else {
        return Err("usage: own_filesystem ARCHIVE.tar.gz INDEX".into());
    };
    let filesystem = Box::new(InMemory(vec![("hello", (*b"hello\n").into()), ("zeros", vec![0; 1 << 20].into())]));
    let outputs = Outputs {
        archive: Box::new(File::create_new(archive)?),
        index: Box::new(File::create_new(index)?),
        segments: None,
    };
    let options = WriteOptions::new(CompressionLevel::Fixed(6), 2);
    let mut writer = ArchiveWriter::new(outputs, &options, &Silent)?;
    let mut walk = filesystem.walk(Excludes::nothing())?;
    while let Some(found) = walk.next_found() {
        match found {
            Found::Entry(entry) => writer.append(entry)?,
            Found::Problem(problem) | Found::Sealed(problem) => eprintln!("{problem}"),
        }
    }
    println!("{} files archived", writer.finish()?.counts.files);
    drop(walk);
    Ok(filesystem.finish()?)
}
