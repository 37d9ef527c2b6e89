//! Backs up a disk image and verifies the backup.
//!
//!     cargo run --example back_up_image -- IMAGE REPOSITORY

use std::error::Error;
use std::sync::Arc;

use volbak::{BackupOptions, Event, Observer, Repository, Verdict, VerifyOptions};

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
    let [_, image, repository] = arguments.as_slice() else {
        return Err("usage: back_up_image IMAGE REPOSITORY".into());
    };
    let repository = Repository::open(repository)?;
    let backup = repository.back_up(image, &BackupOptions::default(), Arc::new(Problems))?;
    let report = backup.verify(&VerifyOptions::default(), &Problems)?;
    println!("{}: {:?}, {} entries", backup.archive_path().display(), report.verdict, report.entries);
    if report.verdict == Verdict::Good { Ok(()) } else { Err("the backup is not good".into()) }
}
