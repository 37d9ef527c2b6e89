//! Checks all backups of a repository without reading their archives, and prints those that are not whole.
//!
//!     cargo run --example check_all -- REPOSITORY

use std::error::Error;

use volbak::{CheckLevel, Repository, Silent, Verdict, VerifyOptions};

fn main() -> Result<(), Box<dyn Error>> {
    let repository = std::env::args().nth(1).ok_or("usage: check_all REPOSITORY")?;
    let options = VerifyOptions::at(CheckLevel::Quick);
    let backups = Repository::open(repository)?.backups()?;
    let mut wrong = 0;
    for backup in &backups {
        let report = backup.verify(&options, &Silent)?;
        if report.verdict != Verdict::Good || !backup.is_whole() {
            wrong += 1;
            println!("{}", backup.name());
            report.findings.iter().for_each(|finding| println!("  {}", finding.what));
            backup.notes().iter().for_each(|note| println!("  {note}"));
        }
    }
    println!("{wrong} of {} backups are not whole", backups.len());
    Ok(())
}
