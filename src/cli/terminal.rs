//! What standard output is: a terminal with a width and colours, or a pipe that gets neither.

use std::io::{IsTerminal, stdout};
use std::sync::OnceLock;

use clap::ValueEnum;
use volbak::report::table::Screen;

static ASKED: OnceLock<ColourArg> = OnceLock::new();

/// When colours are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ColourArg {
    /// At a terminal, unless NO_COLOR is set
    #[default]
    Auto,
    /// Also in pipes and files
    Always,
    /// Not at all
    Never,
}

pub(crate) fn begin(asked: ColourArg) {
    let _ = ASKED.set(asked);
}

/// Standard output as text is to be made for it.
pub(crate) fn screen() -> Screen {
    let is_terminal = stdout().is_terminal();
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let has_colours = match ASKED.get().copied().unwrap_or_default() {
        ColourArg::Always => true,
        ColourArg::Never => false,
        // https://no-color.org
        ColourArg::Auto => {
            is_terminal && variable("NO_COLOR").is_none() && variable("TERM").is_none_or(|kind| kind != "dumb")
        }
    };
    let given = || variable("COLUMNS").and_then(|columns| columns.parse().ok());
    let size = || rustix::termios::tcgetwinsize(stdout()).ok().map(|size| usize::from(size.ws_col));
    let width = is_terminal.then(|| given().or_else(size).filter(|columns| *columns > 0)).flatten();
    Screen { width, has_colours }
}
