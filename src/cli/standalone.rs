//! `bolide standalone`: everything in one process.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;

use clap::Args;

use crate::app::{Ready, Time, standalone};
use crate::cli::failure::Failure;
use crate::cli::settings;
use crate::config::{Loaded, Role};

const HELP: &str = "\
Examples:
  bolide standalone                                   data in ./data, clients on port 8081
  bolide standalone --data /var/lib/bolide --config /etc/bolide.toml
  BOLIDE_STORAGE_RETENTION_AGE=24h bolide standalone  any key of `bolide config keys` as a variable
  bolide standalone --listen 127.0.0.1:0              any free port; the first line on stdout tells which

Then, beside it:
  bolide admin topic create hello
  bolide bench send --topic hello

SIGTERM ends it cleanly: long polls end empty, what was accepted is on disk. A kill -9 loses nothing that was answered OK.";

/// Arguments of `bolide standalone`.
#[derive(Args, Debug)]
#[command(after_help = HELP)]
pub struct StandaloneArgs {
    #[command(flatten)]
    settings: SettingArgs,
    /// Let `bolide admin clock advance` move this server's time: for tests of what takes hours
    #[arg(long)]
    virtual_time: bool,
}

/// Settings that can be given as flags.
#[derive(Args, Debug)]
pub struct SettingArgs {
    /// File of settings, .toml or .yaml [env: BOLIDE_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Directory of everything that is kept [default: data]
    #[arg(long, value_name = "DIR")]
    data: Option<String>,
    /// Where clients connect, TLS and plaintext alike [default: 0.0.0.0:8081]
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// Where `bolide admin` connects [default: 127.0.0.1:8082]
    #[arg(long, value_name = "ADDR")]
    internal: Option<String>,
    /// Where /healthz, /readyz and /metrics are served [default: 0.0.0.0:8088]
    #[arg(long, value_name = "ADDR")]
    http: Option<String>,
    /// host:port that routes name to clients [default: the address that the client used]
    #[arg(long, value_name = "HOST:PORT")]
    advertise: Option<String>,
}

impl SettingArgs {
    /// Puts the settings together.
    ///
    /// # Errors
    /// [`Failure::Usage`] with everything that is wrong.
    pub fn load(self, role: Role) -> Result<Loaded, Failure> {
        let flags = [
            ("server.data", self.data, "--data"),
            ("server.listen", self.listen, "--listen"),
            ("server.internal", self.internal, "--internal"),
            ("server.http", self.http, "--http"),
            ("server.advertise", self.advertise, "--advertise"),
        ];
        settings::load(role, self.config, flags.into())
    }
}

/// Runs the server until it is told to end.
///
/// # Errors
/// The settings are wrong, or the server cannot start.
pub fn run(args: StandaloneArgs) -> Result<(), Failure> {
    let time = if args.virtual_time { Time::Movable } else { Time::Real };
    let loaded = args.settings.load(Role::Standalone)?;
    let notes = settings::notes(&loaded);
    standalone::run(loaded.config, time, &notes, announce).map_err(|error| Failure::Failed(error.to_string()))
}

/// One line that scripts read, then one for people.
fn announce(ready: &Ready) {
    let mut out = std::io::stdout().lock();
    // Whoever reads may be gone; the server is not.
    let _ = writeln!(out, "bolide standalone ready: {ready}");
    if let (true, Some(grpc), Some(internal)) = (out.is_terminal(), ready.grpc, ready.internal) {
        let _ = writeln!(
            out,
            "clients connect to port {}; next: bolide admin topic create hello --address {internal}",
            grpc.port()
        );
    }
    let _ = out.flush();
}
