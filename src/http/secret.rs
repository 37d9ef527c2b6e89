//! Passwords and tokens: never shown.

use std::fmt;

/// A password, an application credential's secret, or a token.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }

    /// `text` with each occurrence of the secret replaced: a server may repeat in an answer what it was sent.
    pub(crate) fn hide_in(&self, text: &str) -> String {
        // Hiding a secret of two letters would garble every message, and hides little.
        if self.0.len() < 3 { text.to_owned() } else { text.replace(&self.0, "…") }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}
