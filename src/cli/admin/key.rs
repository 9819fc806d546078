//! `bolide admin key …`

use clap::Subcommand;

use super::CommonArgs;
use super::output::show;
use super::wait;
use crate::cli::connect::Client;
use crate::cli::failure::Failure;
use crate::wire::admin;

const ROTATE_HELP: &str = "\
Receipt handles are sealed with a key that all proxies and brokers share, so that nobody can make one up. After this, new handles
are made with a new key. Handles that consumers hold stay good: earlier keys are kept for opening them. Do it when somebody who
could read the data of the route service or of a broker should no longer be able to make handles. Nothing is interrupted.";

#[derive(Debug, Subcommand)]
pub(super) enum KeyCommand {
    /// Make receipt handles with a new key from now on
    #[command(after_help = ROTATE_HELP)]
    Rotate,
}

pub(super) async fn run(client: &mut Client, common: &CommonArgs, command: KeyCommand) -> Result<(), Failure> {
    let KeyCommand::Rotate = command;
    let answer = client.rotate_receipt_key(admin::RotateReceiptKeyRequest {}).await?.into_inner();
    let done = match answer.receipt_keys.split_first() {
        Some((new, [])) => format!("key {new} makes receipt handles"),
        Some((new, old)) => {
            let old = old.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
            format!("key {new} makes receipt handles; those of earlier keys ({old}) stay good")
        }
        None => "a new key makes receipt handles".to_owned(),
    };
    wait::everywhere(client, Some(answer.revision), &done).await?;
    let view = serde_json::json!({ "keys": answer.receipt_keys, "revision": answer.revision });
    show(common.output, &view, |_| done);
    Ok(())
}
