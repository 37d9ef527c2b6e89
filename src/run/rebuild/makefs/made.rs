//! What a region's content is made with.

use super::call::ToolCall;

/// A filesystem's maker, and what it could not be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Maker {
    /// The call.
    pub call: ToolCall,
    /// Called when the files are in.
    pub finish: Vec<ToolCall>,
    /// What is worth knowing, one line each.
    pub remarks: Vec<String>,
    /// What cannot be made as it was, one line each: the plan says it, and so does the result, which is not complete then.
    pub differs: Vec<String>,
    /// Called in place of `call` where that cannot be done here, and what is other than it was then.
    pub otherwise: Option<(ToolCall, String)>,
    /// Called when the filesystem is made, before it is mounted.
    pub after: Vec<ToolCall>,
}

/// What a kind of filesystem adds to its maker.
#[derive(Debug, Default)]
pub(super) struct Made {
    pub(super) differs: Vec<String>,
    pub(super) otherwise: Option<(ToolCall, String)>,
    pub(super) after: Vec<ToolCall>,
}
