//! A whole cluster as child processes on loopback ports: one route service, brokers, proxies. Each can be killed, ended and
//! started again by itself; ports, names and data stay the same.
//!
//! ```ignore
//! let mut cluster = Cluster::start(2, 2)?;           // two brokers, two proxies, all ready
//! cluster.admin(&["topic", "create", "orders"])?;    // through the first proxy that runs
//! cluster.kill9(Member::Broker(0))?;
//! cluster.start_member(Member::Broker(0))?;
//! cluster.wait_ready(Member::Broker(0))?;
//! ```

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{AdminOutput, binary, say, tail, wait_until_ended};

/// Longest wait for a member to be ready, recovery and all others' included.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// Longest wait for the end of a process that was told to stop.
const STOP_LIMIT: Duration = Duration::from_secs(30);
/// Pause between two looks at something that comes by itself.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// One process of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Member {
    Route,
    Broker(usize),
    Proxy(usize),
}

impl Member {
    fn role(self) -> &'static str {
        match self {
            Self::Route => "route",
            Self::Broker(_) => "broker",
            Self::Proxy(_) => "proxy",
        }
    }

    /// Its name: of its directory, of its log, in the cluster.
    pub fn name(self) -> String {
        match self {
            Self::Route => "route".to_owned(),
            Self::Broker(number) => format!("broker-{number}"),
            Self::Proxy(number) => format!("proxy-{number}"),
        }
    }
}

/// Where a member listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// Clients; proxies only.
    pub grpc: SocketAddr,
    /// Clients outside; proxies only, and only where `external` was asked for.
    pub external: SocketAddr,
    /// Other roles and operators.
    pub internal: SocketAddr,
    /// Health and metrics.
    pub http: SocketAddr,
}

struct Process {
    member: Member,
    ports: Ports,
    child: Option<Child>,
}

/// Settings of a cluster before its first start.
#[derive(Default)]
pub struct ClusterOptions {
    environment: Vec<(String, String)>,
    of_member: Vec<(Member, String, String)>,
    external: bool,
    route_through: Option<SocketAddr>,
    advertised: Vec<(usize, SocketAddr)>,
}

impl ClusterOptions {
    /// An environment variable of every process.
    pub fn env(mut self, key: &str, value: &str) -> Self {
        self.environment.push((key.to_owned(), value.to_owned()));
        self
    }

    /// An environment variable of one process; it outranks those of all.
    pub fn env_of(mut self, member: Member, key: &str, value: &str) -> Self {
        self.of_member.push((member, key.to_owned(), value.to_owned()));
        self
    }

    /// Gives each proxy a second port for clients.
    pub fn external(mut self) -> Self {
        self.external = true;
        self
    }

    /// Brokers and proxies reach the route service at this address, that of a test's own TCP proxy in between.
    pub fn route_through(mut self, address: SocketAddr) -> Self {
        self.route_through = Some(address);
        self
    }

    /// The others reach broker `number` at this address, that of a test's own TCP proxy in between.
    pub fn broker_through(mut self, number: usize, address: SocketAddr) -> Self {
        self.advertised.push((number, address));
        self
    }

    /// Lays everything out and starts nothing.
    pub fn build(self, brokers: usize, proxies: usize) -> Result<Cluster> {
        let home = tempfile::Builder::new().prefix("bolide-cluster-").tempdir()?;
        let members = std::iter::once(Member::Route)
            .chain((0..brokers).map(Member::Broker))
            .chain((0..proxies).map(Member::Proxy));
        let mut ports = free_ports(4 * (1 + brokers + proxies))?.into_iter();
        let mut next = || ports.next().expect("as many as were asked for");
        let processes = members
            .map(|member| {
                let ports = Ports { grpc: next(), external: next(), internal: next(), http: next() };
                Process { member, ports, child: None }
            })
            .collect();
        Ok(Cluster { options: self, home: Some(home), processes })
    }

    /// Starts every process, the route service first, and waits until all are ready.
    pub fn start(self, brokers: usize, proxies: usize) -> Result<Cluster> {
        let mut cluster = self.build(brokers, proxies)?;
        for member in cluster.members() {
            cluster.start_member(member)?;
        }
        cluster.wait_all_ready()?;
        Ok(cluster)
    }
}

/// Ports of the loopback that nobody used a moment ago. Kept open together, so that no two are the same.
fn free_ports(count: usize) -> Result<Vec<SocketAddr>> {
    let held: Vec<TcpListener> =
        (0..count).map(|_| TcpListener::bind(("127.0.0.1", 0))).collect::<std::io::Result<_>>()?;
    Ok(held.iter().map(TcpListener::local_addr).collect::<std::io::Result<_>>()?)
}

/// The processes and their data. Killed when dropped.
pub struct Cluster {
    options: ClusterOptions,
    home: Option<TempDir>,
    processes: Vec<Process>,
}

impl Cluster {
    /// With default settings; all are ready.
    pub fn start(brokers: usize, proxies: usize) -> Result<Cluster> {
        ClusterOptions::default().start(brokers, proxies)
    }

    /// All of them: the route service, the brokers, the proxies.
    pub fn members(&self) -> Vec<Member> {
        self.processes.iter().map(|process| process.member).collect()
    }

    fn process(&self, member: Member) -> &Process {
        let found = self.processes.iter().find(|process| process.member == member);
        found.unwrap_or_else(|| panic!("{member:?} is not part of the cluster"))
    }

    fn process_mut(&mut self, member: Member) -> &mut Process {
        let found = self.processes.iter_mut().find(|process| process.member == member);
        found.unwrap_or_else(|| panic!("{member:?} is not part of the cluster"))
    }

    /// Where a member listens, whether it runs or not.
    pub fn ports(&self, member: Member) -> Ports {
        self.process(member).ports
    }

    /// Where clients connect to a proxy.
    pub fn grpc(&self, proxy: usize) -> SocketAddr {
        self.ports(Member::Proxy(proxy)).grpc
    }

    /// Whether its process was started and not ended by us. It may have ended by itself: see [`Cluster::ended`].
    pub fn is_started(&self, member: Member) -> bool {
        self.process(member).child.is_some()
    }

    /// The process id while the process runs.
    pub fn pid(&self, member: Member) -> Option<u32> {
        self.process(member).child.as_ref().map(Child::id)
    }

    /// One more broker, not started yet.
    pub fn add_broker(&mut self) -> Result<Member> {
        let member = Member::Broker(self.processes.iter().filter(|process| process.member.role() == "broker").count());
        self.add(member)
    }

    /// One more proxy, not started yet.
    pub fn add_proxy(&mut self) -> Result<Member> {
        let member = Member::Proxy(self.processes.iter().filter(|process| process.member.role() == "proxy").count());
        self.add(member)
    }

    fn add(&mut self, member: Member) -> Result<Member> {
        let [grpc, external, internal, http] = free_ports(4)?[..] else { bail!("four ports") };
        self.processes.push(Process { member, ports: Ports { grpc, external, internal, http }, child: None });
        Ok(member)
    }

    /// The data directory of a member.
    pub fn data_dir(&self, member: Member) -> PathBuf {
        self.home_dir().join(member.name())
    }

    /// The command that starts a member, its environment included: what [`Cluster::start_member`] runs.
    pub fn command(&self, member: Member) -> Command {
        let ports = self.ports(member);
        let route = self.options.route_through.unwrap_or(self.ports(Member::Route).internal).to_string();
        let mut command = Command::new(binary());
        command
            .arg(member.role())
            .args(["--internal", &ports.internal.to_string()])
            .args(["--http", &ports.http.to_string()])
            .env("BOLIDE_OBSERVE_NODE_ID", member.name());
        match member {
            Member::Route => {
                command.arg("--data").arg(self.data_dir(member));
            }
            Member::Broker(number) => {
                let through = self.options.advertised.iter().find(|(broker, _)| *broker == number);
                let advertised = through.map_or(ports.internal, |(_, address)| *address);
                command
                    .arg("--data")
                    .arg(self.data_dir(member))
                    .args(["--name", &member.name()])
                    .args(["--advertise", &advertised.to_string()])
                    .args(["--route", &route]);
            }
            Member::Proxy(_) => {
                command.args(["--listen", &ports.grpc.to_string()]).args(["--route", &route]);
                if self.options.external {
                    command.args(["--external-listen", &ports.external.to_string()]);
                }
            }
        }
        command.envs(self.options.environment.iter().map(|(key, value)| (key, value)));
        let own = self.options.of_member.iter().filter(|(of, ..)| *of == member);
        command.envs(own.map(|(_, key, value)| (key, value)));
        command
    }

    /// Starts a process and does not wait for anything.
    pub fn start_member(&mut self, member: Member) -> Result<()> {
        ensure!(!self.is_started(member), "{} is already running", member.name());
        let log = OpenOptions::new().create(true).append(true).open(self.log_path(member))?;
        let mut command = self.command(member);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().with_context(|| format!("cannot start {}", binary().display()))?;
        self.process_mut(member).child = Some(child);
        Ok(())
    }

    /// Waits until a member says that it is ready.
    pub fn wait_ready(&mut self, member: Member) -> Result<()> {
        let deadline = Instant::now() + READY_LIMIT;
        loop {
            let said = match self.readyz(member) {
                Ok((200, _)) => return Ok(()),
                Ok((_, said)) => said,
                Err(error) => error.to_string(),
            };
            if let Some(status) = self.ended(member)? {
                bail!(
                    "{} ended with {status} before it was ready; its log ends:\n{}",
                    member.name(),
                    self.log_tail(member, 30)
                );
            }
            if Instant::now() > deadline {
                bail!("{} is not ready: {said}; its log ends:\n{}", member.name(), self.log_tail(member, 30));
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Waits until all that were started are ready.
    pub fn wait_all_ready(&mut self) -> Result<()> {
        for member in self.members() {
            if self.is_started(member) {
                self.wait_ready(member)?;
            }
        }
        Ok(())
    }

    /// Status and words of `/readyz`.
    pub fn readyz(&self, member: Member) -> Result<(u16, String)> {
        get(self.ports(member).http, "/readyz")
    }

    /// The page of metrics.
    pub fn metrics(&self, member: Member) -> Result<String> {
        Ok(get(self.ports(member).http, "/metrics")?.1)
    }

    /// How the process ended, if it ended by itself.
    pub fn ended(&mut self, member: Member) -> Result<Option<ExitStatus>> {
        match self.process_mut(member).child.as_mut() {
            Some(child) => Ok(child.try_wait()?),
            None => Ok(None),
        }
    }

    /// Waits for a process that is to end by itself.
    pub fn wait_ended(&mut self, member: Member) -> Result<ExitStatus> {
        let child = self.process_mut(member).child.as_mut().context("it is not running")?;
        let status = wait_until_ended(child, STOP_LIMIT)?.with_context(|| format!("{} still runs", member.name()))?;
        self.process_mut(member).child = None;
        Ok(status)
    }

    /// Ends a process with SIGKILL.
    pub fn kill9(&mut self, member: Member) -> Result<()> {
        let mut child = self.process_mut(member).child.take().context("it is not running")?;
        child.kill().context("kill")?;
        child.wait().context("wait")?;
        Ok(())
    }

    /// Sends a signal to a process that runs.
    pub fn signal(&self, member: Member, signal: Signal) -> Result<()> {
        let child = self.process(member).child.as_ref().context("it is not running")?;
        kill_process(Pid::from_child(child), signal).context("kill")?;
        Ok(())
    }

    /// Ends a process with SIGTERM and waits for it. One that does not end in time is killed, and that is an error.
    pub fn sigterm(&mut self, member: Member) -> Result<ExitStatus> {
        self.signal(member, Signal::TERM)?;
        let mut child = self.process_mut(member).child.take().context("it is not running")?;
        match wait_until_ended(&mut child, STOP_LIMIT)? {
            Some(status) => Ok(status),
            None => {
                child.kill()?;
                child.wait()?;
                bail!("{} was still running {STOP_LIMIT:?} after SIGTERM", member.name())
            }
        }
    }

    /// From the next start on, others reach a member at this address, that of a test's own TCP proxy in between.
    ///
    /// # Panics
    /// For a proxy: no role calls one.
    pub fn reach_through(&mut self, member: Member, address: SocketAddr) {
        match member {
            Member::Route => self.options.route_through = Some(address),
            Member::Broker(number) => {
                self.options.advertised.retain(|(broker, _)| *broker != number);
                self.options.advertised.push((number, address));
            }
            Member::Proxy(_) => panic!("no role calls a proxy"),
        }
    }

    /// Leaves the directories when this is dropped, and tells where they are.
    pub fn keep(&mut self) -> &Path {
        self.home.as_mut().expect("kept until drop").disable_cleanup(true);
        self.home_dir()
    }

    /// Runs `bolide admin <arguments>` against the internal port of a member, whatever it answers.
    pub fn admin_output_at(&self, member: Member, arguments: &[&str]) -> Result<AdminOutput> {
        let output = Command::new(binary())
            .arg("admin")
            .args(arguments)
            .args(["--address", &self.ports(member).internal.to_string()])
            .envs(self.options.environment.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("cannot start {}", binary().display()))?;
        Ok(AdminOutput {
            status: output.status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Runs `bolide admin <arguments>` through the first proxy that runs, and returns what it printed; a bad exit code is an error.
    pub fn admin(&self, arguments: &[&str]) -> Result<String> {
        let mut proxies = self.processes.iter().filter(|process| process.member.role() == "proxy");
        let running = proxies.find(|process| process.child.is_some()).context("no proxy runs")?;
        let output = self.admin_output_at(running.member, arguments)?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let said = format!("{} {}", output.stdout.trim(), output.stderr.trim());
        Err(anyhow!("bolide admin {}: {}: {said}", arguments.join(" "), output.status))
    }

    /// The last lines of what all processes of a member wrote.
    pub fn log_tail(&self, member: Member, lines: usize) -> String {
        tail(&self.log_path(member), lines)
    }

    fn home_dir(&self) -> &Path {
        self.home.as_ref().expect("kept until drop").path()
    }

    fn log_path(&self, member: Member) -> PathBuf {
        self.home_dir().join(format!("{}.log", member.name()))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for member in self.members() {
            if self.is_started(member) {
                let _ = self.kill9(member);
            }
        }
        if std::thread::panicking() && std::env::var_os("BOLIDE_KEEP_DATA").is_some() {
            let kept = self.home.take().map(TempDir::keep);
            say(&format!("KEPT {}", kept.unwrap_or_default().display()));
        }
    }
}

/// Status and body of a GET.
pub fn get(address: SocketAddr, path: &str) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no head")?;
    let code = head.split_whitespace().nth(1).context("no status")?.parse()?;
    Ok((code, body.to_owned()))
}

/// Waits for something that comes by itself; what it says meanwhile is in the error.
pub fn wait_for<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        let seen = match look() {
            Ok(Some(found)) => return Ok(found),
            Ok(None) => "not yet".to_owned(),
            Err(error) => format!("{error:#}"),
        };
        if Instant::now() > deadline {
            bail!("{what}: {seen} after {limit:?}");
        }
        std::thread::sleep(LOOK_EVERY);
    }
}
