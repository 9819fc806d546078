//! The real server as a child process, for tests that treat it as users do: start, kill, restart,
//! administer, read the log.
//!
//! Every port is picked by the system at the first start and kept by each restart, so a client that
//! was connected before can find the same server again. Data lives in a temporary directory that goes
//! when the `Server` is dropped; with `BOLIDE_KEEP_DATA` set, a failing test leaves it and says where.

// Each test binary compiles this file for itself and uses only a part of it.
#![allow(dead_code)]

pub mod balancer;
pub mod cluster;

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// Longest wait for the line that says the server is ready, recovery included.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// Longest wait for the end of a process that was told to stop.
const STOP_LIMIT: Duration = Duration::from_secs(30);
const READY_PREFIX: &str = "bolide standalone ready:";

/// Where a running server listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// The gRPC port of the clients.
    pub grpc: SocketAddr,
    /// Internal and admin gRPC.
    pub internal: SocketAddr,
    /// Health and metrics.
    pub http: SocketAddr,
}

/// How a server is made to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// SIGKILL: nothing is flushed, no goodbye.
    Kill,
    /// SIGTERM, and exit code 0 is required.
    Term,
}

/// What an admin command answered.
#[derive(Debug)]
pub struct AdminOutput {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

/// Settings of a server before its first start.
#[derive(Default)]
pub struct ServerOptions {
    environment: Vec<(String, String)>,
    arguments: Vec<String>,
}

impl ServerOptions {
    /// Adds an environment variable, `BOLIDE_LIMITS_MIN_INVISIBLE_MS` for example.
    pub fn env(mut self, key: &str, value: &str) -> Self {
        self.environment.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Adds an argument of `bolide standalone`.
    pub fn arg(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// Starts the server and waits until it is ready.
    pub fn start(self) -> Result<Server> {
        let home = tempfile::Builder::new().prefix("bolide-test-").tempdir()?;
        let mut server = Server { options: self, home: Some(home), child: None, addresses: None };
        server.start_again()?;
        Ok(server)
    }
}

/// A server process and the data directory it works on. Killed when dropped.
pub struct Server {
    options: ServerOptions,
    home: Option<TempDir>,
    child: Option<Child>,
    addresses: Option<Addresses>,
}

impl Server {
    /// Starts a server with default settings on an empty directory.
    pub fn start() -> Result<Server> {
        ServerOptions::default().start()
    }

    /// Starts the process on the data that is there, and on the ports it had before.
    pub fn start_again(&mut self) -> Result<Addresses> {
        ensure!(self.child.is_none(), "the server is already running");
        let free = SocketAddr::from(([127, 0, 0, 1], 0));
        let wanted = self.addresses.unwrap_or(Addresses { grpc: free, internal: free, http: free });
        let log = self.open_log()?;
        let mut command = Command::new(binary());
        command
            .arg("standalone")
            .arg("--data")
            .arg(self.data_dir())
            .args(["--listen", &wanted.grpc.to_string()])
            .args(["--internal", &wanted.internal.to_string()])
            .args(["--http", &wanted.http.to_string()])
            .args(&self.options.arguments)
            .envs(self.options.environment.iter().map(|(k, v)| (k, v)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log.try_clone()?);
        let mut child = command.spawn().with_context(|| format!("cannot start {}", binary().display()))?;
        let lines = forward_lines(child.stdout.take().expect("stdout is piped"), log);
        self.child = Some(child);
        match wait_ready(&lines) {
            Ok(addresses) => {
                self.addresses = Some(addresses);
                Ok(addresses)
            }
            Err(error) => {
                let _ = self.kill9();
                Err(error.context(format!("server log ends:\n{}", self.log_tail(40))))
            }
        }
    }

    /// The ports of the latest start.
    ///
    /// # Panics
    /// If no start has succeeded yet; `ServerOptions::start` never hands out such a server.
    pub fn addresses(&self) -> Addresses {
        self.addresses.expect("the server has been ready once")
    }

    /// The process id while the process runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// The directory given as `--data`.
    pub fn data_dir(&self) -> PathBuf {
        self.home_dir().join("data")
    }

    /// Ends the process with SIGKILL.
    pub fn kill9(&mut self) -> Result<()> {
        let mut child = self.child.take().context("the server is not running")?;
        child.kill().context("kill")?;
        child.wait().context("wait")?;
        Ok(())
    }

    /// Ends the process with SIGTERM and returns how it ended. One that does not end in time is
    /// killed, and that is an error.
    pub fn sigterm(&mut self) -> Result<ExitStatus> {
        let mut child = self.child.take().context("the server is not running")?;
        let pid = Pid::from_child(&child);
        kill_process(pid, Signal::TERM).context("SIGTERM")?;
        match wait_until_ended(&mut child, STOP_LIMIT)? {
            Some(status) => Ok(status),
            None => {
                child.kill()?;
                child.wait()?;
                bail!("the server was still running {STOP_LIMIT:?} after SIGTERM")
            }
        }
    }

    /// Stops the process and starts it again on the same ports and data.
    pub fn restart(&mut self, how: Stop) -> Result<Addresses> {
        match how {
            Stop::Kill => self.kill9()?,
            Stop::Term => {
                let status = self.sigterm()?;
                ensure!(status.success(), "after SIGTERM the server ended with {status}");
            }
        }
        self.start_again()
    }

    /// How the process ended, if it ended by itself.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        match self.child.as_mut() {
            Some(child) => Ok(child.try_wait()?),
            None => Ok(None),
        }
    }

    /// Runs `bolide admin <arguments>` against this server, whatever it answers.
    pub fn admin_output(&self, arguments: &[&str]) -> Result<AdminOutput> {
        let address = self.addresses().internal.to_string();
        let output = Command::new(binary())
            .arg("admin")
            .args(arguments)
            .args(["--address", &address])
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("cannot start {}", binary().display()))?;
        Ok(AdminOutput {
            status: output.status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Runs `bolide admin <arguments>` and returns what it printed; a bad exit code is an error.
    pub fn admin(&self, arguments: &[&str]) -> Result<String> {
        let output = self.admin_output(arguments)?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        Err(anyhow!(
            "bolide admin {}: {}: {} {}",
            arguments.join(" "),
            output.status,
            output.stdout.trim(),
            output.stderr.trim()
        ))
    }

    /// The last lines of what all processes of this server wrote to stdout and stderr.
    pub fn log_tail(&self, lines: usize) -> String {
        tail(&self.log_path(), lines)
    }

    fn home_dir(&self) -> &Path {
        self.home.as_ref().expect("kept until drop").path()
    }

    fn log_path(&self) -> PathBuf {
        self.home_dir().join("server.log")
    }

    fn open_log(&self) -> Result<File> {
        Ok(OpenOptions::new().create(true).append(true).open(self.log_path())?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.child.is_some() {
            let _ = self.kill9();
        }
        if thread::panicking() && std::env::var_os("BOLIDE_KEEP_DATA").is_some() {
            let kept = self.home.take().map(TempDir::keep);
            say(&format!("KEPT {}", kept.unwrap_or_default().display()));
        }
    }
}

/// The server binary under test: `BOLIDE_BIN`, or the one cargo built for this test.
pub fn binary() -> PathBuf {
    match std::env::var_os("BOLIDE_BIN") {
        Some(path) => path.into(),
        None => env!("CARGO_BIN_EXE_bolide").into(),
    }
}

/// Writes one line to stderr past the capture of the test runner, which hides what a passing test
/// prints.
pub fn say(line: &str) {
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// The last lines of a text file, empty if there is none.
pub fn tail(path: &Path, lines: usize) -> String {
    let Ok(bytes) = std::fs::read(path) else {
        return String::new();
    };
    let text = String::from_utf8_lossy(&bytes);
    let mut last = VecDeque::with_capacity(lines);
    for line in text.lines() {
        if last.len() == lines {
            last.pop_front();
        }
        last.push_back(line);
    }
    Vec::from(last).join("\n")
}

/// Waits for the end of a child; `None` when it still runs at the deadline.
pub fn wait_until_ended(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        // The standard library has no wait with a time limit; this is its poll interval.
        thread::sleep(Duration::from_millis(5));
    }
}

/// Copies each line of `from` into the log and hands it to the receiver, until the pipe closes.
fn forward_lines(from: impl std::io::Read + Send + 'static, mut log: File) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            let _ = log.write_all(format!("{line}\n").as_bytes());
            // Nobody listens after the ready line; the pipe must be drained all the same.
            let _ = sender.send(line);
        }
    });
    receiver
}

fn wait_ready(lines: &mpsc::Receiver<String>) -> Result<Addresses> {
    let deadline = Instant::now() + READY_LIMIT;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match lines.recv_timeout(left) {
            Ok(line) => {
                if let Some(rest) = line.strip_prefix(READY_PREFIX) {
                    return parse_ready(rest);
                }
            }
            Err(RecvTimeoutError::Timeout) => bail!("the server was not ready in {READY_LIMIT:?}"),
            Err(RecvTimeoutError::Disconnected) => bail!("the server ended before it was ready"),
        }
    }
}

fn parse_ready(pairs: &str) -> Result<Addresses> {
    let find = |key: &str| -> Result<SocketAddr> {
        let value = pairs
            .split_whitespace()
            .filter_map(|pair| pair.split_once('='))
            .find_map(|(name, value)| (name == key).then_some(value))
            .with_context(|| format!("no {key} in the start line: {pairs}"))?;
        value.parse().with_context(|| format!("{key} in the start line: {value}"))
    };
    Ok(Addresses { grpc: find("grpc")?, internal: find("internal")?, http: find("http")? })
}
