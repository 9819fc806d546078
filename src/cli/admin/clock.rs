//! `bolide admin clock …`

use std::time::Duration;

use clap::Subcommand;
use serde::Serialize;

use super::CommonArgs;
use super::output::show;
use super::words;
use crate::cli::connect::Client;
use crate::cli::failure::Failure;
use crate::config::units::parse_duration;
use crate::wire::admin;

const ADVANCE_HELP: &str = "\
Leases, pauses between attempts, delays, transaction checks and retention follow. Connections, long polls and the liveness of
clients do not: a client that is connected stays so. When the command ends, leases and pauses that have run out are over;
delayed messages, checks and dead letters are on their way.

  bolide standalone --virtual-time &
  bolide admin clock advance 15m";

#[derive(Debug, Subcommand)]
pub(super) enum ClockCommand {
    /// Show what the server's clock shows, and whether it can be moved
    Show,
    /// Move the server's clock ahead; it never goes back
    #[command(after_help = ADVANCE_HELP)]
    Advance {
        /// How far: 15m, 36h, 500ms
        #[arg(value_parser = parse_duration)]
        by: Duration,
    },
}

#[derive(Debug, Serialize)]
struct ClockView {
    now: String,
    movable: bool,
    ahead: String,
}

impl ClockView {
    fn text(&self) -> String {
        match (self.movable, self.ahead.as_str()) {
            (false, _) => format!("{}, follows the system", self.now),
            (true, "0s") => format!("{}, movable, not moved yet", self.now),
            (true, ahead) => format!("{}, {ahead} ahead of the system", self.now),
        }
    }
}

pub(super) async fn run(client: &mut Client, common: &CommonArgs, command: ClockCommand) -> Result<(), Failure> {
    let (now, movable, ahead) = match command {
        ClockCommand::Show => {
            let answer = client.show_clock(admin::ShowClockRequest {}).await?.into_inner();
            (answer.now, answer.movable, answer.ahead)
        }
        ClockCommand::Advance { by } => {
            let request = admin::AdvanceClockRequest { by: Some(words::to_wire(by)) };
            let answer = client.advance_clock(request).await?.into_inner();
            (answer.now, true, answer.ahead)
        }
    };
    let view = ClockView {
        now: now.map(|now| now.to_string()).unwrap_or_default(),
        movable,
        ahead: ahead.as_ref().map(words::duration_name).unwrap_or_default(),
    };
    show(common.output, &view, ClockView::text);
    Ok(())
}
