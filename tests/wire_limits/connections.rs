//! Connections that say nothing, or nonsense.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

/// Longest time after which a connection that never spoke must be closed.
const CLOSED_WITHIN: Duration = Duration::from_secs(15);

/// What a visitor says before it falls silent.
pub const NONSENSE: [(&str, &[u8]); 7] = [
    ("silence", b""),
    ("one byte", b"P"),
    ("half an HTTP/2 preface", b"PRI * HTTP/2.0\r\n"),
    ("HTTP/1.1", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
    ("the first bytes of TLS", b"\x16\x03\x01\x02\x00\x01"),
    ("TLS with nonsense inside", b"\x16\x03\x01\x00\x05hello and more than that"),
    ("noise", b"\x00\xff\x07\x80noise\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"),
];

/// Connects, speaks, and waits for the end of the connection.
pub fn visit(address: SocketAddr, words: &[u8]) -> Result<Duration> {
    let mut stream = TcpStream::connect(address).context("connect")?;
    stream.set_read_timeout(Some(CLOSED_WITHIN))?;
    let begin = Instant::now();
    // The server may already have closed.
    let _ = stream.write_all(words);
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(_) => ensure!(begin.elapsed() < CLOSED_WITHIN, "it answers for ever"),
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                anyhow::bail!("still open after {CLOSED_WITHIN:?}")
            }
            Err(_) => break,
        }
    }
    Ok(begin.elapsed())
}
