//! The commands for a region's content.

use super::call::ToolCall;

/// The commands that make a filesystem, and its differences.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Maker {
    /// The call.
    pub call: ToolCall,
    /// Calls after the files are restored.
    pub finish: Vec<ToolCall>,
    /// Remarks, one line each.
    pub remarks: Vec<String>,
    /// Differences that cannot be avoided, one line each: the plan and the result list them, and the result is then
    /// not complete.
    pub differs: Vec<String>,
    /// A replacement for `call` if this machine cannot run it, and the difference it makes.
    pub otherwise: Option<(ToolCall, String)>,
    /// Calls after the filesystem is made, before it is mounted.
    pub after: Vec<ToolCall>,
}

/// Additions for one kind of filesystem.
#[derive(Debug, Default)]
pub(super) struct Made {
    pub(super) differs: Vec<String>,
    pub(super) otherwise: Option<(ToolCall, String)>,
    pub(super) after: Vec<ToolCall>,
}
