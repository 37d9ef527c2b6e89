//! The serial console of a machine: text that a guest writes, of which nothing is believed but that it asks for a login.

use std::collections::VecDeque;

use crate::shown;

/// A longer line is cut.
const MAX_LINE_BYTES: usize = 400;
/// How Linux begins its last words.
const PANIC: &[u8] = b"Kernel panic - not syncing";
/// The prompt of the shell in UEFI's firmware, which is started when nothing else is.
const FIRMWARE_SHELL: &[u8] = b"Shell>";
/// The number of lines to keep for a message.
const KEPT_LINES: usize = 6;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Escape {
    #[default]
    None,
    /// After ESC.
    Begun,
    /// In a control sequence (ECMA-48, 5.4), which ends with a byte from 0x40 to 0x7e.
    Sequence,
}

/// What was read from a console.
#[derive(Debug, Default)]
pub(super) struct Console {
    line: Vec<u8>,
    last: VecDeque<String>,
    escape: Escape,
    has_prompt: bool,
    panicked: bool,
    /// The number of bytes that were taken, and what it was when a prompt was last looked for.
    taken: u64,
    looked_at: Option<u64>,
    /// Whether nothing had come since the look before the last one.
    rests: bool,
}

impl Console {
    /// Takes what the console wrote.
    pub(super) fn take(&mut self, bytes: &[u8]) {
        self.taken = self.taken.saturating_add(bytes.len() as u64);
        for &byte in bytes {
            match (self.escape, byte) {
                (_, 0x1b) => self.escape = Escape::Begun,
                (Escape::Begun, b'[') => self.escape = Escape::Sequence,
                (Escape::Begun, _) | (Escape::Sequence, 0x40..=0x7e) => self.escape = Escape::None,
                (Escape::None, b'\n' | b'\r') => self.end_line(),
                (Escape::None, _) if self.line.len() < MAX_LINE_BYTES => self.line.push(byte),
                // The rest of a sequence, or of a line that is cut.
                (Escape::Sequence | Escape::None, _) => {}
            }
        }
    }

    fn end_line(&mut self) {
        self.has_prompt |= is_prompt(&self.line);
        self.panicked |= is_panic(&self.line);
        let line = shown::bytes(self.line.trim_ascii());
        self.line.clear();
        if !line.is_empty() {
            if self.last.len() == KEPT_LINES {
                self.last.pop_front();
            }
            self.last.push_back(line);
        }
    }

    /// Whether it asks for a login: in a line that is whole, or in the last one if nothing has come since the last look.
    /// A line that begins like a prompt comes in pieces, too. After a panic nothing asks for a login.
    pub(super) fn asks_for_login(&mut self) -> bool {
        self.rests = self.looked_at.replace(self.taken) == Some(self.taken);
        !self.panicked() && (self.has_prompt || (self.rests && is_prompt(&self.line)))
    }

    /// Whether Linux said that it stopped for good.
    pub(super) fn panicked(&self) -> bool {
        self.panicked || is_panic(&self.line)
    }

    /// Whether the firmware waits for a command, since it had no system to start. Ask [`Self::asks_for_login`] before: a line may
    /// come in pieces.
    pub(super) fn is_in_firmware(&self) -> bool {
        self.rests && self.line.trim_ascii() == FIRMWARE_SHELL
    }

    /// Whether it said nothing at all.
    pub(super) fn is_silent(&self) -> bool {
        self.last.is_empty() && self.line.trim_ascii().is_empty()
    }

    /// The last lines, for a message.
    pub(super) fn last_lines(&self) -> String {
        let begun = shown::bytes(self.line.trim_ascii());
        let lines: Vec<&str> =
            self.last.iter().map(String::as_str).chain(Some(begun.as_str()).filter(|line| !line.is_empty())).collect();
        if lines.is_empty() {
            "its serial console said nothing (a Linux needs console=ttyS0 in its kernel's command line)".to_owned()
        } else {
            format!("its serial console said last: {}", lines.join(" | "))
        }
    }
}

/// What messages have before `login:`, and no host is called.
const MESSAGES: [&[u8]; 5] = [b"last", b"previous", b"failed", b"invalid", b"bad"];

/// `agetty` writes `HOST login: ` and waits, others `login: `; other messages may follow on the same console. More words
/// before it are those of a message.
fn is_prompt(line: &[u8]) -> bool {
    let before = line.trim_ascii().strip_suffix(b"login:").map(<[u8]>::trim_ascii);
    let is_message = |word: &[u8]| MESSAGES.iter().any(|message| word.eq_ignore_ascii_case(message));
    before.is_some_and(|before| !is_message(before) && !before.contains(&b' '))
}

fn is_panic(line: &[u8]) -> bool {
    line.windows(PANIC.len()).any(|words| words == PANIC)
}

#[cfg(test)]
mod tests {
    use super::{Console, KEPT_LINES, MAX_LINE_BYTES};

    fn of(text: &str) -> Console {
        let mut console = Console::default();
        // In pieces, as a pipe gives them.
        text.as_bytes().chunks(3).for_each(|piece| console.take(piece));
        console
    }

    #[test]
    fn a_prompt_is_found_and_what_looks_like_one_is_not() {
        for yes in [
            "\r\nDebian GNU/Linux 12 web ttyS0\r\n\r\nweb login: ",
            "login:",
            "\x1b[0;32m  OK  \x1b[0m] Started\r\n\x1b[1mweb login:\x1b[0m ",
            "web login: \r\n[   12.3] random: crng init done\r\n",
        ] {
            let mut console = of(yes);
            assert!([console.asks_for_login(), console.asks_for_login()].contains(&true), "{yes:?}");
        }
        for no in [
            "",
            "Last login: Mon",
            "Last login:",
            "Failed login:\r\n",
            "login: failed",
            "login:x",
            "systemd-logind.service",
            "[   12.3] pam: no way for a login:",
            "error: cannot open login:\r\n",
            "[    1.2] Kernel panic - not syncing: VFS\r\nlogin: ",
        ] {
            let mut console = of(no);
            assert_eq!([console.asks_for_login(), console.asks_for_login()], [false; 2], "{no:?}");
        }
    }

    #[test]
    fn a_line_that_is_not_yet_complete_is_no_prompt() {
        let mut console = Console::default();
        for piece in ["web login:", " refused", "\r\n", "login: ", "x\r\n"] {
            console.take(piece.as_bytes());
            assert!(!console.asks_for_login(), "{piece:?}");
        }
        console.take(b"web login: ");
        assert_eq!([console.asks_for_login(), console.asks_for_login()], [false, true]);
    }

    #[test]
    fn the_shell_of_the_firmware_is_no_system() {
        let mut console = of("\r\n\x1b[1m\x1b[33m\x1b[40mShell> \x1b[0m");
        assert_eq!(
            [(); 2].map(|()| (console.asks_for_login(), console.is_in_firmware())),
            [(false, false), (false, true)]
        );
        console.take(b"reset\r\nBdsDxe: loading");
        assert_eq!([(); 2].map(|()| (console.asks_for_login(), console.is_in_firmware())), [(false, false); 2]);
    }

    #[test]
    fn a_panic_is_found() {
        assert!(of("[    1.2] Kernel panic - not syncing: VFS: Unable to mount root fs\r\n").panicked());
        assert!(!of("[    1.2] VFS: Mounted root\r\n").panicked());
    }

    #[test]
    fn memory_is_bounded_and_the_last_lines_are_kept() {
        let mut console = Console::default();
        console.take(&vec![b'x'; 1 << 20]);
        assert_eq!(console.line.len(), MAX_LINE_BYTES);
        for number in 0..1000 {
            console.take(format!("\nline {number}").as_bytes());
        }
        assert_eq!(console.last.len(), KEPT_LINES);
        assert!(console.last_lines().ends_with("line 998 | line 999"), "{}", console.last_lines());
        assert!(of("\x1b[31m\x07bell").last_lines().ends_with(r"\u{7}bell"), "{}", of("\x07bell").last_lines());
        assert!(of("").last_lines().contains("console=ttyS0"));
    }
}
