//! `bolide health`: asks a process whether it takes messages, for container probes without a shell.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use clap::Args;

use crate::cli::failure::Failure;

const LIMIT: Duration = Duration::from_secs(5);
/// More than any answer of `/readyz`.
const ANSWER_BYTES_MAX: u64 = 16 * 1024;

/// Arguments of `bolide health`.
#[derive(Args, Debug)]
pub struct HealthArgs {
    /// HTTP address of the process
    #[arg(long, env = "BOLIDE_HTTP", default_value = "127.0.0.1:8088", value_name = "HOST:PORT")]
    http: String,
    /// Ask only whether the process runs, not whether it takes messages
    #[arg(long)]
    live: bool,
}

/// Prints the answer; succeeds when it is a good one.
///
/// # Errors
/// Nobody answers, or the answer is that it is not ready.
pub fn run(args: &HealthArgs) -> Result<(), Failure> {
    let path = if args.live { "/healthz" } else { "/readyz" };
    let answer = ask(&args.http, path)
        .map_err(|error| Failure::Unreachable { address: args.http.clone(), reason: error.to_string() })?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    if head.split_whitespace().nth(1) == Some("200") {
        print!("{body}");
        return Ok(());
    }
    Err(Failure::Failed(body.trim().to_owned()))
}

fn ask(address: &str, path: &str) -> std::io::Result<String> {
    let unknown = || std::io::Error::new(std::io::ErrorKind::NotFound, "no such host");
    let socket = address.to_socket_addrs()?.next().ok_or_else(unknown)?;
    let mut stream = TcpStream::connect_timeout(&socket, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
    Ok(answer)
}
