//! Renders a [`RunReport`] as text, as HTML and as a subject line. All functions are pure; even the time is an argument.
//!
//! The text follows the documented format line by line (a golden test checks it), since scripts parse it. The HTML part has
//! the same facts and more. Reports are stored as JSON in the destination, so that they can be shown and mailed again.

mod changes;
mod chart;
mod escape;
mod facts;
pub mod fleet;
mod html;
mod metrics;
mod render;
mod size;
mod standing;
mod stored;
mod style;
mod subject;
pub mod table;
mod text;
mod verification;
mod worth;

pub use facts::{Abort, CopyFacts, Dump, GoneReport, Outcome, Past, RunReport, RunVerdict, Usage, VolumeReport};
pub use render::Rendered;
pub use size::{df_percent, du_size, shown_duration};
pub use standing::{RunFacts, RunStanding, Standing, VolumeStanding};
pub use stored::{FORMAT_VERSION, ReportError};
pub use style::{MAX_PROBLEMS_SHOWN, Style};
#[cfg(feature = "openstack")]
pub(crate) use text::RULE;
pub use verification::{CheckLevel, Verification};
pub use worth::VolumeWorth;

#[cfg(test)]
mod tests;
