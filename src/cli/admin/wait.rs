//! Waiting until a change has reached every member of a cluster.

use std::time::Duration;

use super::words::to_wire;
use crate::cli::connect::Client;
use crate::cli::failure::Failure;
use crate::wire::admin;

/// One question, and how many of them: longer than the lease of a member that died.
const STEP: Duration = Duration::from_secs(1);
const STEPS: u32 = 10;

/// Waits, and says on stderr for whom. `done` is what has been done already, whoever has not heard of it.
///
/// # Errors
/// Somebody did not follow in time.
pub(super) async fn everywhere(client: &mut Client, revision: Option<u64>, done: &str) -> Result<(), Failure> {
    let Some(revision) = revision else { return Ok(()) };
    let mut said = String::new();
    for _ in 0..STEPS {
        let request = admin::AwaitRevisionRequest { revision, timeout: Some(to_wire(STEP)) };
        let behind = client.await_revision(request).await?.into_inner().behind;
        if behind.is_empty() {
            return Ok(());
        }
        let now = words(&behind);
        if now != said {
            eprintln!("{done}; waiting for {now}");
            said = now;
        }
    }
    Err(Failure::Failed(format!(
        "{done}, but after {} s not everybody has heard of it: {said}. They follow by themselves; the same command waits again",
        (STEP * STEPS).as_secs()
    )))
}

fn words(behind: &[admin::Behind]) -> String {
    let one = |member: &admin::Behind| match member.name.as_str() {
        "" => member.reason.clone(),
        name => format!("{name} ({})", member.reason),
    };
    behind.iter().map(one).collect::<Vec<_>>().join(", ")
}
