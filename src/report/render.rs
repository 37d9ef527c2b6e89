//! The forms of a report for people and for Prometheus.

use super::facts::RunReport;
use super::standing::Standing;
use super::style::Style;
use super::{html, metrics, subject, text};

/// A report as it is mailed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// The subject, one line: the outcome first, so that it can be filtered on.
    pub subject: String,
    /// The text, lines ended by `\n`.
    pub text: String,
    /// The same facts as an HTML page without remote content.
    pub html: String,
}

impl RunReport {
    /// Renders the report with subject, text and HTML.
    pub fn render(&self, style: Style) -> Rendered {
        Rendered { subject: self.subject(), text: text::text(self, style), html: html::html(self, style) }
    }

    /// The text alone.
    pub fn text(&self, style: Style) -> String {
        text::text(self, style)
    }

    /// The subject line alone.
    pub fn subject(&self) -> String {
        subject::subject(self)
    }

    /// The metrics of the run in the text format of Prometheus, for the textfile collector of the node exporter.
    /// `standing` has the records of all volumes; `before`, the previous file, replaces records that cannot be read.
    pub fn metrics(&self, standing: &Standing, before: Option<&str>) -> String {
        metrics::metrics(self, standing, before)
    }
}
