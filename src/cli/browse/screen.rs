//! The terminal while a backup is walked: a screen of its own, which is left however the command ends.

use std::io::{self, IsTerminal, stdin, stdout};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use console::{Key, Term};
use rustix::termios::{InputModes, LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};
use volbak::outside::Cancel;
use volbak::shown;

/// Enters the alternate screen and hides the cursor (xterm's control sequences, "Alternate Screen Buffer").
const ENTER: &[u8] = b"\x1b[?1049h\x1b[?25l";
const LEAVE: &[u8] = b"\x1b[?25h\x1b[?1049l";
/// How often, and for how long, a signal waits for work that was cancelled.
const LOOK: Duration = Duration::from_millis(20);
const LOOKS: usize = 500;

/// Whether standard input and output are a terminal that has a screen.
pub(super) fn is_possible() -> bool {
    let has_screen = std::env::var_os("TERM").is_some_and(|kind| !kind.is_empty() && kind != "dumb");
    has_screen && stdin().is_terminal() && stdout().is_terminal()
}

/// The screen. Dropping it leaves it.
pub(super) struct Screen {
    term: Term,
    before: Termios,
    signals: Handle,
    /// The number of the signal that came; 0 before it.
    signal: Arc<AtomicUsize>,
    /// Whether a backup is being read.
    is_busy: Arc<AtomicBool>,
}

impl Screen {
    /// Enters the screen. A signal sets `cancel`, waits for what is being read, leaves the screen, and ends the process.
    pub(super) fn enter(cancel: &Cancel) -> io::Result<Self> {
        let before = tcgetattr(stdin())?;
        let (signal, is_busy) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        for number in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(number, cancel.flag())?;
            signal_hook::flag::register_usize(
                number,
                Arc::clone(&signal),
                usize::try_from(number).unwrap_or_default(),
            )?;
        }
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
        let handle = signals.handle();
        let (at_signal, is_reading) = (before.clone(), Arc::clone(&is_busy));
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            if let Some(signal) = signals.forever().next() {
                for _ in (0..LOOKS).take_while(|_| is_reading.load(Ordering::Relaxed)) {
                    std::thread::sleep(LOOK);
                }
                leave(&at_signal);
                std::process::exit(128 + signal);
            }
        })?;
        let this = Self { term: Term::stdout(), before, signals: handle, signal, is_busy };
        let mut quiet = this.before.clone();
        // Keys that are pressed while a directory is read are neither shown, nor do they stop the program or its output.
        quiet.local_modes.remove(LocalModes::ECHO);
        quiet.input_modes.remove(InputModes::IXON);
        for key in [SpecialCodeIndex::VSUSP, SpecialCodeIndex::VQUIT] {
            quiet.special_codes[key] = 0;
        }
        tcsetattr(stdin(), OptionalActions::Now, &quiet)?;
        write(ENTER)?;
        Ok(this)
    }

    /// Reads a backup: a signal waits for its end.
    pub(super) fn while_busy<T>(&self, read: impl FnOnce() -> T) -> T {
        self.is_busy.store(true, Ordering::Relaxed);
        let read = read();
        self.is_busy.store(false, Ordering::Relaxed);
        read
    }

    /// Waits for a key. Ctrl-C leaves the screen and ends the process.
    pub(super) fn key(&self) -> io::Result<Key> {
        match self.term.read_key_raw()? {
            // Also returned if a signal interrupted the wait.
            Key::CtrlC => {
                leave(&self.before);
                let signal = i32::try_from(self.signal.load(Ordering::Relaxed)).unwrap_or_default();
                std::process::exit(128 + if signal == 0 { SIGINT } else { signal });
            }
            key => Ok(key),
        }
    }

    /// Rows and columns.
    pub(super) fn size(&self) -> (usize, usize) {
        let (rows, columns) = self.term.size();
        (usize::from(rows).max(4), usize::from(columns).max(10))
    }

    /// Replaces everything that is shown. Lines are cut at the width; the one with the number `inverse` is shown inverse.
    pub(super) fn show(&self, lines: &[String], inverse: Option<usize>) -> io::Result<()> {
        let (rows, columns) = self.size();
        let mut frame = String::from("\x1b[H");
        for (number, line) in lines.iter().take(rows).enumerate() {
            if number > 0 {
                frame.push_str("\r\n");
            }
            let line = shown::cut(line, columns);
            if inverse == Some(number) {
                frame.push_str(&format!("\x1b[7m{line}\x1b[0m\x1b[K"));
            } else {
                frame.push_str(&format!("{line}\x1b[K"));
            }
        }
        frame.push_str("\x1b[J");
        write(frame.as_bytes())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // What follows handles signals in its own way.
        self.signals.close();
        leave(&self.before);
    }
}

fn leave(before: &Termios) {
    // The terminal may be gone.
    let _ = write(LEAVE);
    let _ = tcsetattr(stdin(), OptionalActions::Now, before);
}

/// Writes to standard output without its lock, which the thread that waits for a key may hold.
fn write(mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = rustix::io::retry_on_intr(|| rustix::io::write(stdout(), bytes))?;
        bytes = &bytes[written..];
    }
    Ok(())
}
