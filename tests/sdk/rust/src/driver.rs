//! The suite's side of the contract in ../../README.md: requests to the driver, results of cases.

use std::io::Write;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tokio::io::{AsyncBufReadExt, BufReader, Lines, Stdin};
use tokio::time::sleep;

pub struct Driver {
    pub endpoint: String,
    pub tls: bool,
    prefix: String,
    answers: tokio::sync::Mutex<Lines<BufReader<Stdin>>>,
    failed: Mutex<Vec<&'static str>>,
}

impl Driver {
    pub fn from_environment() -> Result<Driver> {
        Ok(Driver {
            endpoint: std::env::var("BOLIDE_ENDPOINT")?,
            tls: std::env::var("BOLIDE_TLS").is_ok_and(|flag| flag == "1"),
            prefix: std::env::var("BOLIDE_TOPIC_PREFIX")?,
            answers: tokio::sync::Mutex::new(BufReader::new(tokio::io::stdin()).lines()),
            failed: Mutex::default(),
        })
    }

    /// Asks the driver for something and waits until it is done; one request at a time.
    pub async fn request(&self, words: &str) -> Result<()> {
        let mut answers = self.answers.lock().await;
        say(&format!("REQUEST {words}"));
        match answers.next_line().await?.as_deref() {
            Some("DONE") => Ok(()),
            other => bail!("{words}: {}", other.unwrap_or("no answer")),
        }
    }

    /// Creates a topic and returns its full name.
    pub async fn topic(&self, name: &str) -> Result<String> {
        self.typed_topic(name, "normal").await
    }

    /// Creates a topic of some type and returns its full name.
    pub async fn typed_topic(&self, name: &str, kind: &str) -> Result<String> {
        let full = format!("{}{name}", self.prefix);
        self.request(&format!("topic {full} {kind}")).await?;
        Ok(full)
    }

    /// The full name of a group, which its first use creates.
    pub fn group(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// Creates a group with options and returns its full name.
    pub async fn group_with(&self, name: &str, options: &str) -> Result<String> {
        let full = self.group(name);
        self.request(&format!("group {full} {options}")).await?;
        Ok(full)
    }

    /// Reports the outcome of a case.
    pub fn report(&self, case: &'static str, outcome: Result<()>) {
        match outcome {
            Ok(()) => say(&format!("CASE {case} OK")),
            Err(error) => {
                say(&format!("CASE {case} FAIL {error:#}"));
                self.failed.lock().unwrap().push(case);
            }
        }
    }

    /// The exit code of the suite.
    pub fn exit_code(&self) -> i32 {
        let failed = self.failed.lock().unwrap();
        say(&format!("failed: {}", failed.join(", ")));
        i32::from(!failed.is_empty())
    }
}

/// Prints one line, whole and at once.
pub fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{}", line.replace('\n', " | "));
    let _ = out.flush();
}

/// Repeats an action that may fail for a while, as after a restart, until it succeeds.
pub async fn retry<T, E, F>(limit: Duration, mut action: impl FnMut() -> F) -> Result<T>
where
    E: std::error::Error + Send + Sync + 'static,
    F: Future<Output = Result<T, E>>,
{
    let deadline = Instant::now() + limit;
    loop {
        match action().await {
            Ok(value) => return Ok(value),
            Err(error) if Instant::now() >= deadline => return Err(error.into()),
            Err(error) => say(&format!("trying again after {error}")),
        }
        sleep(Duration::from_millis(200)).await;
    }
}
