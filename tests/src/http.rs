//! A browser's side of HTTP, one request a connection, without the browser: what is sent is exactly
//! what the test says, right or wrong.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::netns::Namespace;

/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(30);

/// An answer.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The headers, names in small letters.
    pub headers: Vec<(String, String)>,
    /// What follows them.
    pub body: String,
}

impl Response {
    /// The value of a header, the first one if there are several.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut all = self.headers.iter();
        let (_, value) = all.find(|(other, _)| other == name)?;
        Some(value)
    }

    fn parse(text: &str) -> Result<Self> {
        let (head, body) = text.split_once("\r\n\r\n").context("no end of the head")?;
        let mut lines = head.lines();
        let first = lines.next().unwrap_or_default();
        let status = first.split(' ').nth(1).unwrap_or_default().parse();
        let headers = lines.filter_map(|line| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_ascii_lowercase(), value.trim().to_owned()))
        });
        Ok(Self {
            status: status.with_context(|| format!("no answer: {first}"))?,
            headers: headers.collect(),
            body: body.to_owned(),
        })
    }
}

/// Connects from a namespace.
pub fn connect(from: &Namespace, to: &str) -> Result<TcpStream> {
    let address: SocketAddr = to.parse()?;
    let stream = from.run(|| TcpStream::connect_timeout(&address, Duration::from_secs(5)))?;
    let stream = stream.with_context(|| format!("can't connect to {to}"))?;
    stream.set_read_timeout(Some(LIMIT))?;
    Ok(stream)
}

/// Sends these bytes, and reads to the end.
pub fn exchange(from: &Namespace, to: &str, bytes: &[u8]) -> Result<Response> {
    let mut stream = connect(from, to)?;
    // It may be refused before all is sent.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    ensure!(!answer.is_empty(), "no answer: {read:?}");
    Response::parse(&String::from_utf8_lossy(&answer))
}

/// Asks with these headers.
pub fn get(from: &Namespace, to: &str, path: &str, headers: &[(&str, &str)]) -> Result<Response> {
    exchange(from, to, head("GET", path, to, headers).as_bytes())
}

/// Sends a form with these headers, beside those that a form has.
pub fn post(
    from: &Namespace,
    to: &str,
    path: &str,
    headers: &[(&str, &str)],
    form: &str,
) -> Result<Response> {
    let length = form.len().to_string();
    let mut all = vec![
        ("Content-Type", "application/x-www-form-urlencoded"),
        ("Content-Length", &length),
    ];
    all.extend_from_slice(headers);
    let request = head("POST", path, to, &all) + form;
    exchange(from, to, request.as_bytes())
}

/// A request up to its body. A `Host` among the headers takes the place of the usual one.
pub fn head(method: &str, path: &str, to: &str, headers: &[(&str, &str)]) -> String {
    let mut text = format!("{method} {path} HTTP/1.1\r\n");
    if !headers.iter().any(|(name, _)| *name == "Host") {
        text.extend(["Host: ", to, "\r\n"]);
    }
    for (name, value) in headers {
        text.extend([name, ": ", value, "\r\n"]);
    }
    text + "\r\n"
}

/// A value as forms and addresses have it.
pub fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let each = text.bytes().map(|byte| match byte {
        byte if plain(byte) => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    });
    each.collect()
}
