//! Lists the backups of a repository, or the files of one backup, or prints one file.
//!
//!     cargo run --example list_and_read -- REPOSITORY [BACKUP [PATH]]

use std::error::Error;
use std::io::{self, Write};

use volbak::Repository;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let mut out = io::stdout().lock();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [_, repository] => {
            for backup in Repository::open(repository)?.backups()? {
                let date = backup.taken_at().map_or_else(|| "-".to_owned(), |date| date.to_rfc3339());
                writeln!(out, "{date}  {}", backup.name())?;
            }
        }
        [_, repository, backup] => {
            for entry in Repository::open(repository)?.find(backup)?.entries()? {
                let entry = entry?;
                writeln!(out, "{} {:>12}  {}", entry.kind, entry.size, entry.path)?;
            }
        }
        [_, repository, backup, path] => {
            Repository::open(repository)?.find(backup)?.read(path, &mut out)?;
        }
        _ => return Err("usage: list_and_read REPOSITORY [BACKUP [PATH]]".into()),
    }
    Ok(())
}
