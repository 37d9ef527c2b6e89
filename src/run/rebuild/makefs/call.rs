//! Builds the call of a program, argument by argument.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use serde::Serialize;

/// A program and its arguments; the device is appended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ToolCall {
    /// Its name.
    pub program: &'static str,
    /// Its arguments.
    #[serde(serialize_with = "as_text")]
    pub args: Vec<OsString>,
}

fn as_text<S: serde::Serializer>(args: &[OsString], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(args.iter().map(|arg| arg.to_string_lossy()))
}

#[derive(Default)]
pub(super) struct Arguments(pub(super) Vec<OsString>);

impl Arguments {
    pub(super) fn flags(&mut self, flags: &[&str]) {
        self.0.extend(flags.iter().map(OsString::from));
    }

    pub(super) fn pair(&mut self, option: &str, value: impl Into<OsString>) {
        self.0.push(option.into());
        self.0.push(value.into());
    }

    pub(super) fn label(&mut self, option: &str, label: Option<Vec<u8>>) {
        if let Some(label) = label {
            self.pair(option, OsString::from_vec(label));
        }
    }
}
