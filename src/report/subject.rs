//! The subject line: the outcome first, so that a mail program can filter on it.

use super::facts::{Abort, RunReport, RunVerdict};
use crate::shown::{self, counted};

pub(super) fn subject(report: &RunReport) -> String {
    let host = shown::text(&report.host);
    let (done, all) = (report.backed_up(), report.volumes.len());
    let failed = all - done;
    let all = counted(all as u64, "volume", "volumes");
    let took = format!("{} h {} m", report.duration_seconds / 3600, report.duration_seconds / 60 % 60);
    let why = match &report.aborted {
        None => String::new(),
        Some(Abort::NotMounted) => ", the backup volume is not mounted".to_owned(),
        Some(Abort::Other(why)) => format!(", aborted: {}", shown::text(why)),
    };
    match report.verdict() {
        RunVerdict::Good => format!("volbak {host}: {done} of {all} backed up in {took}"),
        RunVerdict::Problems => format!("volbak {host}: PROBLEMS, {done} of {all} backed up in {took}"),
        RunVerdict::Failed if failed == 0 => format!("volbak {host}: FAILED{why}"),
        RunVerdict::Failed => {
            let late = match report.volumes.iter().filter(|volume| volume.out_of_time).count() {
                0 => String::new(),
                late => format!(", {late} not backed up in time"),
            };
            format!("volbak {host}: FAILED {failed} of {all}{late}{why}")
        }
    }
}
