//! Asks the QEMU guest agent whether it is there (QEMU Guest Agent Protocol Reference, guest-sync).

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// A guest that listens late answers the first question that it sees.
const ASKED_EVERY: Duration = Duration::from_secs(3);
/// An answer has some ten bytes.
const MAX_LINE_BYTES: usize = 256;

/// The line to an agent, which may not be there.
#[derive(Debug)]
pub(super) struct Agent {
    stream: Option<UnixStream>,
    asked: Option<Instant>,
    line: Vec<u8>,
    id: u32,
}

impl Agent {
    /// `id` is the number that an answer repeats.
    pub(super) fn new(id: u32) -> Self {
        Self { stream: None, asked: None, line: Vec::new(), id }
    }

    /// Asks from time to time, and looks for an answer without waiting for it.
    pub(super) fn answers(&mut self, socket: &Path) -> bool {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => {
                // The emulator may not have made it yet.
                let Ok(stream) = UnixStream::connect(socket) else { return false };
                if stream.set_nonblocking(true).is_err() {
                    return false;
                }
                none.insert(stream)
            }
        };
        if self.asked.is_none_or(|asked| asked.elapsed() >= ASKED_EVERY) {
            self.asked = Some(Instant::now());
            let question = format!("{{\"execute\":\"guest-sync\",\"arguments\":{{\"id\":{}}}}}\n", self.id);
            // Nobody reads while no agent is there.
            let _ = stream.write(question.as_bytes());
        }
        let mut bytes = [0; 4096];
        match stream.read(&mut bytes) {
            Ok(0) => self.stream = None,
            Ok(read) => return self.take(&bytes[..read]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => self.stream = None,
        }
        false
    }

    fn take(&mut self, bytes: &[u8]) -> bool {
        for &byte in bytes {
            if byte == b'\n' {
                if is_answer(&self.line, self.id) {
                    return true;
                }
                self.line.clear();
            } else if self.line.len() < MAX_LINE_BYTES {
                self.line.push(byte);
            }
        }
        false
    }
}

fn is_answer(line: &[u8], id: u32) -> bool {
    let answer: Option<serde_json::Value> = serde_json::from_slice(line).ok();
    answer.and_then(|answer| answer.get("return")?.as_u64()) == Some(u64::from(id))
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::os::unix::net::UnixListener;
    use std::time::{Duration, Instant};

    use super::{Agent, is_answer};

    #[test]
    fn only_the_answer_to_our_question_counts() {
        assert!(is_answer(b"{\"return\": 77}", 77));
        for no in ["{\"return\": 78}", "{\"return\": {}}", "{\"error\": {}}", "", "77", "{\"return\": \"77\"}"] {
            assert!(!is_answer(no.as_bytes(), 77), "{no}");
        }
    }

    #[test]
    fn an_agent_is_heard_after_noise() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("agent");
        let mut agent = Agent::new(9);
        assert!(!agent.answers(&socket), "it is not there yet");
        let listener = UnixListener::bind(&socket).unwrap();
        assert!(!agent.answers(&socket), "it has not answered");
        let (stream, _) = listener.accept().unwrap();
        let mut question = String::new();
        BufReader::new(stream.try_clone().unwrap()).read_line(&mut question).unwrap();
        assert_eq!(question, "{\"execute\":\"guest-sync\",\"arguments\":{\"id\":9}}\n");
        let mut noise = vec![b'x'; 100_000];
        noise.extend(b"\n{\"return\": 8}\n{\"return\": 9}\n");
        let writer = std::thread::spawn(move || (&stream).write_all(&noise).map(|()| stream));
        let ends = Instant::now() + Duration::from_secs(60);
        while !agent.answers(&socket) {
            assert!(Instant::now() < ends);
            std::thread::sleep(Duration::from_millis(5));
        }
        drop(writer.join().unwrap().unwrap());
    }
}
