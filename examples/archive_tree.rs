//! Archives a directory tree with the library alone: no snapshot, no destination, no manifest.
//!
//!     cargo run --release --example archive_tree -- DIRECTORY ARCHIVE.tar.gz INDEX [LEVEL]

use std::error::Error;
use std::fs::File;
use std::os::fd::OwnedFd;

use volbak::Silent;
use volbak::archive::level::CompressionLevel;
use volbak::archive::members::Outputs;
use volbak::archive::write::{ArchiveWriter, WriteOptions};
use volbak::reader::exclude::Excludes;
use volbak::reader::kernel::tree::TreeWalk;
use volbak::reader::{Found, FsReader};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, directory, archive, index, rest @ ..] = arguments.as_slice() else {
        return Err("usage: archive_tree DIRECTORY ARCHIVE.tar.gz INDEX [LEVEL]".into());
    };
    let level = CompressionLevel::Fixed(rest.first().map_or(Ok(6), |level| level.parse())?);
    let options = WriteOptions::new(level, std::thread::available_parallelism()?.get());
    let outputs = Outputs {
        archive: Box::new(File::create_new(archive)?),
        index: Box::new(File::create_new(index)?),
        segments: None,
    };
    let mut writer = ArchiveWriter::new(outputs, &options, &Silent)?;
    let mut walk = TreeWalk::new(OwnedFd::from(File::open(directory)?), Excludes::new::<&str>(&[])?, None);
    while let Some(found) = walk.next_found() {
        match found {
            Found::Entry(entry) => writer.append(entry)?,
            Found::Problem(problem) | Found::Sealed(problem) => eprintln!("{problem}"),
        }
    }
    let written = writer.finish()?;
    println!("{:#?}", written.counts);
    println!("{:?}", written.members.totals);
    Ok(())
}
