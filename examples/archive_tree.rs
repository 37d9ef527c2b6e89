//! Archives a directory tree with the library alone: no snapshot, no destination, no manifest.
//!
//!     cargo run --release --example archive_tree -- DIRECTORY ARCHIVE.tar.gz INDEX [LEVEL]

use std::error::Error;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use volbak::archive::level::CompressionLevel;
use volbak::archive::members::Outputs;
use volbak::archive::write::{ArchiveWriter, WriteOptions};
use volbak::events::{Event, Observer};
use volbak::reader::exclude::Excludes;
use volbak::reader::kernel::tree::TreeWalk;
use volbak::reader::{Found, FsReader};

/// Prints the problems.
struct Problems;

impl Observer for Problems {
    fn on_event(&self, event: &Event) {
        if let Event::Problem(problem) = event {
            eprintln!("{problem}");
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, directory, archive, index, rest @ ..] = arguments.as_slice() else {
        return Err("usage: archive_tree DIRECTORY ARCHIVE.tar.gz INDEX [LEVEL]".into());
    };
    let options = WriteOptions {
        level: CompressionLevel::Fixed(rest.first().map_or(Ok(6), |level| level.parse())?),
        threads: std::thread::available_parallelism()?.get(),
        stop: Arc::new(|| false),
    };
    let outputs = Outputs { archive: Box::new(File::create_new(archive)?), index: Box::new(File::create_new(index)?) };
    let mut writer = ArchiveWriter::new(outputs, &options, &Problems)?;
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
