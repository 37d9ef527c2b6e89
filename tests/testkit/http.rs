//! Requests, as the HTTP servers of tests read them.

use std::collections::BTreeMap;
use std::io::{BufRead, Result};

/// A request.
pub struct Request {
    pub method: String,
    /// Its path and query.
    pub target: String,
    /// Names are in small letters.
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Request {
    /// The next one of a connection; `None` when the client has closed it.
    pub fn read(from: &mut impl BufRead) -> Result<Option<Self>> {
        let mut line = String::new();
        if from.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let mut words = line.split(' ').map(str::to_owned);
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let mut headers = BTreeMap::new();
        loop {
            let mut line = String::new();
            from.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        let len = headers.get("content-length").map_or(0, |len| len.parse().unwrap());
        let mut body = vec![0; len];
        from.read_exact(&mut body)?;
        Ok(Some(Self { method, target, headers, body }))
    }
}
