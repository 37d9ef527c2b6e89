//! How reports are printed.

/// Maximum number of problems of one volume in the text.
pub const MAX_PROBLEMS_SHOWN: usize = 10;

/// How sizes are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Decimal separator of sizes.
    pub decimal_separator: char,
}

impl Default for Style {
    fn default() -> Self {
        Self { decimal_separator: ',' }
    }
}
