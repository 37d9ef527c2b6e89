//! What `--level auto` does at destinations of several speeds, against fixed levels.
//!
//!     cargo run --release --example level_auto -- DIRECTORY [MB-A-SECOND…]
//!
//! The destination takes so many MB a second and keeps nothing. Without any: one of no limit.

use std::error::Error;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::thread;
use std::time::{Duration, Instant};

use volbak::Silent;
use volbak::archive::level::CompressionLevel;
use volbak::archive::members::{ArchiveFile, Outputs};
use volbak::archive::write::{ArchiveWriter, WriteOptions, WrittenArchive};
use volbak::reader::exclude::Excludes;
use volbak::reader::kernel::tree::TreeWalk;
use volbak::reader::{Found, FsReader};

/// Takes what it is given in so many seconds a byte.
struct Slow {
    seconds_a_byte: f64,
    free_at: Instant,
}

impl ArchiveFile for Slow {}

impl Write for Slow {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let now = Instant::now();
        let takes =
            Duration::from_secs_f64(self.seconds_a_byte * f64::from(u32::try_from(buf.len()).unwrap_or(u32::MAX)));
        self.free_at = self.free_at.max(now) + takes;
        thread::sleep(self.free_at - now);
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn archive(directory: &str, level: CompressionLevel, seconds_a_byte: f64) -> Result<WrittenArchive, Box<dyn Error>> {
    let threads = thread::available_parallelism()?.get();
    let options = WriteOptions::new(level, threads);
    let outputs = Outputs {
        archive: Box::new(Slow { seconds_a_byte, free_at: Instant::now() }),
        index: Box::new(io::sink()),
        segments: None,
    };
    let mut writer = ArchiveWriter::new(outputs, &options, &Silent)?;
    let mut walk = TreeWalk::new(OwnedFd::from(File::open(directory)?), Excludes::new::<&str>(&[])?, None);
    while let Some(found) = walk.next_found() {
        if let Found::Entry(entry) = found {
            writer.append(entry)?;
        }
    }
    Ok(writer.finish()?)
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((directory, speeds)) = arguments.split_first() else {
        return Err("usage: level_auto DIRECTORY [MB-A-SECOND…]".into());
    };
    let mut limits = Vec::new();
    for speed in speeds {
        limits.push((format!("{speed} MB/s"), 1e-6 / speed.parse::<f64>()?));
    }
    if limits.is_empty() {
        limits.push(("no limit".to_owned(), 0.0));
    }
    println!("| destination | level | seconds | MB | levels used |\n| --- | --- | ---: | ---: | --- |");
    for (shown, seconds_a_byte) in limits {
        let levels = [1, 3, 6, 9].map(|level| (level.to_string(), CompressionLevel::Fixed(level)));
        for (name, level) in
            levels.into_iter().chain([("auto".to_owned(), CompressionLevel::Auto { lowest: 1, highest: 9 })])
        {
            let began = Instant::now();
            let written = archive(directory, level, seconds_a_byte)?.members;
            let used = (0..).zip(written.levels).filter(|(_, members)| *members > 0);
            let used: Vec<String> = used.map(|(level, members): (i32, u64)| format!("{level}: {members}")).collect();
            let megabytes = written.totals.archive_bytes / 1_000_000;
            let seconds = began.elapsed().as_secs_f64();
            println!("| {shown} | {name} | {seconds:.1} | {megabytes} | {} |", used.join(", "));
        }
    }
    Ok(())
}
