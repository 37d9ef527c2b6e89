//! Runs LVM's tools with settings that make their output the same on every host.

use std::ffi::OsString;

use crate::outside::{CommandOutput, RunCommand, shown_command};
use crate::source::error::SourceError;

/// Settings that decide what LVM's tools print and whether they wait for one another, at the defaults of
/// lvm.conf(5). On the command line they override lvm.conf, lvmlocal.conf and profiles. A version of LVM that does
/// not know a setting ignores it, since `config/checks` is off.
const SETTINGS: &str = "config{checks=0 abort_on_errors=0} \
    log{report_command_log=0 command_names=0 prefix=\"  \" indent=0 verbose=0 silent=0 debug_output_fields=[] activation=0} \
    global{units=\"b\" suffix=0 si_unit_consistency=1 wait_for_locks=1} \
    report{output_format=\"json\" compact_output=0 compact_output_cols=\"\" aligned=0 buffered=1 headings=1 \
    separator=\" \" list_item_separator=\",\" prefixes=0 quoted=1 columns_as_rows=0 binary_values_as_numeric=0 \
    mark_hidden_devices=1 two_word_unknown_device=0}";

/// Runs one of LVM's tools with [`SETTINGS`] and returns its standard output. Warnings on standard error are
/// ignored if it succeeds.
pub(crate) fn run_tool(commands: &dyn RunCommand, program: &str, args: &[OsString]) -> Result<Vec<u8>, SourceError> {
    let all: Vec<OsString> = words(&["--config", SETTINGS]).into_iter().chain(args.iter().cloned()).collect();
    let output = commands.run(program, &all).map_err(|source| SourceError::NotRun {
        program: program.to_owned(),
        package: "lvm2",
        source,
    })?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(failed(program, args, &output))
}

/// The error of a tool that failed.
pub(crate) fn failed(program: &str, args: &[OsString], output: &CommandOutput) -> SourceError {
    SourceError::Command {
        command: shown_command(program, args),
        status: output.status.to_string(),
        stderr: shortened(&output.stderr),
    }
}

/// Converts the arguments of a command.
pub(crate) fn words(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}

/// A tool's standard error in one line of bounded length. Warnings come last, so that the error itself is not cut
/// off.
fn shortened(stderr: &[u8]) -> String {
    const MOST_CHARS: usize = 600;
    let text = String::from_utf8_lossy(stderr);
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
    let is_warning = |line: &&str| line.starts_with("WARNING");
    let ordered: Vec<&str> = lines().filter(|line| !is_warning(line)).chain(lines().filter(is_warning)).collect();
    let joined: String = ordered.join("; ").chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if joined.is_empty() {
        return "it said nothing".to_owned();
    }
    match joined.char_indices().nth(MOST_CHARS) {
        Some((end, _)) => format!("{} …", &joined[..end]),
        None => joined,
    }
}

#[cfg(test)]
mod tests {
    use super::shortened;

    #[test]
    fn the_error_comes_before_the_warnings() {
        let said = b"  WARNING: not backed up.\n  Volume group \"vg0\" has insufficient free space.\n\n";
        assert_eq!(shortened(said), "Volume group \"vg0\" has insufficient free space.; WARNING: not backed up.");
        assert_eq!(shortened(b""), "it said nothing");
        assert!(shortened(&vec![b'x'; 5000]).len() < 700);
    }
}
