//! `bolide health`: asks a process whether clients should come to it, for container probes without a shell.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use clap::Args;

use crate::cli::connect::check_host_port;
use crate::cli::failure::Failure;
use crate::cli::print;

const LIMIT: Duration = Duration::from_secs(5);
/// More than any answer of `/readyz`.
const ANSWER_BYTES_MAX: u64 = 16 * 1024;

/// Arguments of `bolide health`.
#[derive(Args, Debug)]
pub struct HealthArgs {
    /// HTTP address of the process
    #[arg(long, env = "BOLIDE_HTTP", default_value = "127.0.0.1:8088", value_name = "HOST:PORT")]
    http: String,
    /// Ask only whether the process runs, not whether clients should come to it
    #[arg(long)]
    live: bool,
}

/// Prints the answer; succeeds when it is a good one.
///
/// # Errors
/// Nobody answers, or the answer is that it is not ready.
pub fn run(args: &HealthArgs) -> Result<(), Failure> {
    let path = if args.live { "/healthz" } else { "/readyz" };
    check_host_port("--http", &args.http)?;
    let answer = ask(&args.http, path).map_err(|error| Failure::Unreachable {
        address: args.http.clone(),
        reason: error.to_string(),
        hint: "Its HTTP address goes into --http or BOLIDE_HTTP",
    })?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    if head.split_whitespace().nth(1) == Some("200") {
        print::text(body);
        return Ok(());
    }
    Err(Failure::Failed(body.trim().to_owned()))
}

fn ask(address: &str, path: &str) -> std::io::Result<String> {
    let mut stream = connect(address)?;
    stream.set_read_timeout(Some(LIMIT))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
    Ok(answer)
}

/// To the first address of the host that answers: `localhost` has two, and a server may listen on one of them.
fn connect(address: &str) -> std::io::Result<TcpStream> {
    let mut failed = std::io::Error::new(std::io::ErrorKind::NotFound, "no such host");
    for socket in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&socket, LIMIT) {
            Ok(stream) => return Ok(stream),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}
