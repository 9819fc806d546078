//! Runs a suite of a language under `tests/sdk/` and checks that every case was really reported. `README.md` beside this file
//! is the contract; what the suite runs against is the business of the test file.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::common::{Stop, say};

/// Longest installation of a client: the Rust one compiles some 250 crates.
const SETUP_LIMIT: Duration = Duration::from_secs(900);
/// Longest run of one suite.
const RUN_LIMIT: Duration = Duration::from_secs(240);
/// Exit code of `setup.sh` that means "no such tool-chain here".
const TOOL_CHAIN_MISSING: i32 = 77;
/// How much of a failed suite's output and of the server log is shown, in lines.
const SHOWN_LINES: usize = 80;

/// Two cores cannot run five languages at once without changing what the time limits mean.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// What a suite talks to.
pub trait World {
    /// What the client is told to connect to.
    fn endpoint(&self) -> String;
    /// Runs `bolide admin <arguments>`.
    fn admin(&mut self, arguments: &[&str]) -> Result<String>;
    /// Ends every process that holds state and starts it again, at the same addresses, until all are ready.
    fn restart(&mut self, how: Stop) -> Result<()>;
    /// What the logs say last, for a failure.
    fn log_tail(&self, lines: usize) -> String;
    /// What only the end shows: a world that was not the one it was to be.
    fn verdict(&mut self) -> Result<()> {
        Ok(())
    }
}

#[derive(Clone, Copy)]
pub enum Transport {
    Plaintext,
    Tls,
}

/// One suite of one language, in one variant.
pub struct Suite {
    pub language: &'static str,
    pub variant: &'static str,
    pub transport: Transport,
    folder: PathBuf,
    cache: PathBuf,
}

/// Runs the suites of one language, each against a world of its own that `open` makes.
///
/// # Panics
/// A case failed, or the client cannot be set up although it was asked for.
pub fn check<W: World>(
    language: &'static str,
    variants: &[&'static str],
    transport: Transport,
    open: impl Fn(&Suite) -> Result<W>,
) {
    // A failed language must not take the others with it.
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let chosen = std::env::var("BOLIDE_SDKS").ok();
    if let Some(list) = &chosen
        && !list.split(',').any(|name| name.trim() == language)
    {
        say(&format!("SKIPPED sdk {language}: not in BOLIDE_SDKS"));
        return;
    }
    for variant in variants {
        let suite = Suite::new(language, variant, transport);
        match suite.set_up() {
            Ok(None) => {}
            Ok(Some(missing)) if chosen.is_none() => {
                say(&format!("SKIPPED sdk {language}: {missing}"));
                return;
            }
            Ok(Some(missing)) => panic!("{}: tool-chain missing: {missing}", suite.name()),
            Err(error) => panic!("{}: setup: {error:#}", suite.name()),
        }
        let started = Instant::now();
        match suite.run(&open) {
            Ok(cases) => say(&format!("sdk {}: {cases} cases OK in {} s", suite.name(), started.elapsed().as_secs())),
            Err(error) => panic!("{}: {error:#}", suite.name()),
        }
    }
}

impl Suite {
    fn new(language: &'static str, variant: &'static str, transport: Transport) -> Suite {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        Suite {
            language,
            variant,
            transport,
            folder: root.join("tests/sdk").join(language),
            cache: cache_root().join(language),
        }
    }

    fn name(&self) -> String {
        [self.language, self.variant].join(" ").trim_end().to_owned()
    }

    /// Installs the client. `Some(reason)` when this machine lacks the tool-chain.
    fn set_up(&self) -> Result<Option<String>> {
        std::fs::create_dir_all(&self.cache)?;
        let mut child = self.script("setup.sh").stdin(Stdio::null()).spawn()?;
        let mut output = Output::new(&mut child);
        let ended = output.follow(SETUP_LIMIT, |_| Ok(()));
        let status = end(&mut child, ended.is_err())?;
        ended.with_context(|| output.tail())?;
        match status.code() {
            Some(0) => Ok(None),
            Some(TOOL_CHAIN_MISSING) => Ok(Some(output.last_line())),
            _ => bail!("{status}\n{}", output.tail()),
        }
    }

    /// Runs all cases against a server of their own and returns how many there were.
    fn run<W: World>(&self, open: impl Fn(&Suite) -> Result<W>) -> Result<usize> {
        let mut expected = self.expected_cases()?;
        let mut world = open(self)?;
        let home = tempfile::tempdir()?;
        let mut child = self
            .script("run.sh")
            .stdin(Stdio::piped())
            .env("BOLIDE_ENDPOINT", world.endpoint())
            .env("BOLIDE_TLS", self.tls_flag())
            .env("BOLIDE_TOPIC_PREFIX", unique_prefix(self.language))
            .env("HOME", home.path())
            .spawn()?;
        let mut answers = child.stdin.take().expect("stdin is piped");
        let mut output = Output::new(&mut child);
        let mut results = Results::default();
        let ended = output.follow(RUN_LIMIT, |line| {
            results.note(line);
            answer(line, &mut world, &mut answers)
        });
        let status = end(&mut child, ended.is_err());
        let verdict = ended.and(status).and_then(|status| results.verdict(&mut expected, status));
        let verdict = verdict.and_then(|cases| world.verdict().map(|()| cases));
        verdict.with_context(|| {
            format!("suite output ends:\n{}\nserver log ends:\n{}\nresult", output.tail(), world.log_tail(SHOWN_LINES))
        })
    }

    fn script(&self, name: &str) -> Command {
        let mut command = Command::new("bash");
        command
            .arg(name)
            .args(Some(self.variant).filter(|variant| !variant.is_empty()))
            .current_dir(&self.folder)
            .env("BOLIDE_CACHE", &self.cache)
            .env("REAL_HOME", std::env::var_os("HOME").unwrap_or_default())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Its own group, so that the time limit ends the programs it started as well.
            .process_group(0);
        command
    }

    fn expected_cases(&self) -> Result<BTreeSet<String>> {
        let path = self.folder.join("cases.txt");
        let mut text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let more = self.folder.join(format!("cases-{}.txt", self.variant));
        if more.exists() {
            text += &std::fs::read_to_string(&more).with_context(|| more.display().to_string())?;
        }
        let cases: BTreeSet<String> = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(str::to_owned)
            .collect();
        ensure!(!cases.is_empty(), "{} names no case", path.display());
        Ok(cases)
    }

    fn tls_flag(&self) -> &'static str {
        match self.transport {
            Transport::Plaintext => "0",
            Transport::Tls => "1",
        }
    }
}

/// What a suite reported, case by case.
#[derive(Default)]
struct Results {
    outcome: BTreeMap<String, String>,
    repeated: Vec<String>,
}

impl Results {
    fn note(&mut self, line: &str) {
        let Some(rest) = line.strip_prefix("CASE ") else {
            return;
        };
        let (name, outcome) = rest.split_once(' ').unwrap_or((rest, ""));
        let before = self.outcome.insert(name.to_owned(), outcome.to_owned());
        if before.is_some() {
            self.repeated.push(name.to_owned());
        }
    }

    /// The number of cases if all that were expected, and no others, were OK.
    fn verdict(&self, expected: &mut BTreeSet<String>, status: ExitStatus) -> Result<usize> {
        let mut faults = Vec::new();
        for (name, outcome) in &self.outcome {
            if outcome != "OK" {
                faults.push(format!("{name}: {outcome}"));
            }
            if !expected.remove(name) {
                faults.push(format!("{name}: not in cases.txt"));
            }
        }
        faults.extend(expected.iter().map(|name| format!("{name}: never reported")));
        faults.extend(self.repeated.iter().map(|name| format!("{name}: reported twice")));
        if !status.success() {
            faults.push(format!("run.sh: {status}"));
        }
        ensure!(faults.is_empty(), "{}", faults.join("; "));
        Ok(self.outcome.len())
    }
}

/// Carries out a `REQUEST` line and writes the answer; other lines are none of its business.
fn answer(line: &str, world: &mut impl World, answers: &mut ChildStdin) -> Result<()> {
    let Some(request) = line.strip_prefix("REQUEST ") else {
        return Ok(());
    };
    let reply = match carry_out(request, world) {
        Ok(()) => "DONE".to_owned(),
        Err(error) => format!("FAILED {error:#}").replace('\n', " | "),
    };
    // A suite that has ended reads no answers; its exit code tells the rest.
    let _ = writeln!(answers, "{reply}");
    let _ = answers.flush();
    Ok(())
}

fn carry_out(request: &str, world: &mut impl World) -> Result<()> {
    let words: Vec<&str> = request.split_whitespace().collect();
    match words.as_slice() {
        ["topic", name] => world.admin(&["topic", "create", name, "--type", "normal"])?,
        ["topic", name, kind] => world.admin(&["topic", "create", name, "--type", kind])?,
        ["group", name, options @ ..] => {
            let arguments = [&["group", "create", name], options].concat();
            world.admin(&arguments)?
        }
        ["admin", arguments @ ..] => world.admin(arguments)?,
        ["restart", "kill"] => world.restart(Stop::Kill).map(|()| String::new())?,
        ["restart", "term"] => world.restart(Stop::Term).map(|()| String::new())?,
        _ => bail!("unknown request"),
    };
    Ok(())
}

/// Everything a script prints, as it comes.
struct Output {
    lines: mpsc::Receiver<Line>,
    seen: Vec<String>,
}

enum Line {
    Out(String),
    Err(String),
}

impl Output {
    fn new(child: &mut Child) -> Output {
        let (sender, lines) = mpsc::channel();
        read_lines(child.stdout.take(), sender.clone(), Line::Out);
        read_lines(child.stderr.take(), sender, Line::Err);
        Output { lines, seen: Vec::new() }
    }

    /// Hands each line of stdout to `each` until both pipes are closed.
    fn follow(&mut self, limit: Duration, mut each: impl FnMut(&str) -> Result<()>) -> Result<()> {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(Line::Out(line)) => {
                    self.seen.push(line.clone());
                    each(&line)?;
                }
                Ok(Line::Err(line)) => self.seen.push(line),
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
                Err(RecvTimeoutError::Timeout) => bail!("not done after {limit:?}"),
            }
        }
    }

    fn tail(&self) -> String {
        self.seen[self.seen.len().saturating_sub(SHOWN_LINES)..].join("\n")
    }

    fn last_line(&self) -> String {
        self.seen.last().cloned().unwrap_or_default()
    }
}

fn read_lines(from: Option<impl Read + Send + 'static>, to: Sender<Line>, kind: fn(String) -> Line) {
    let from = from.expect("piped");
    thread::spawn(move || {
        // Bytes, not text: one odd character in a log must not end the reading.
        for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
            let _ = to.send(kind(String::from_utf8_lossy(&line).trim_end().to_owned()));
        }
    });
}

/// Collects the exit status; when the script overran its limit, ends its whole process group first.
fn end(child: &mut Child, overrun: bool) -> Result<ExitStatus> {
    if overrun {
        let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
    }
    Ok(child.wait()?)
}

fn cache_root() -> PathBuf {
    if let Some(root) = std::env::var_os("BOLIDE_CACHE") {
        // The scripts run in folders of their own, where a relative path would mean another place.
        return std::path::absolute(&root).unwrap_or(root.into());
    }
    let home = std::env::var_os("HOME").unwrap_or_else(|| "/tmp".into());
    Path::new(&home).join(".cache/bolide/sdk")
}

fn unique_prefix(language: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{language}-{}-{}-", std::process::id(), now.as_millis())
}
