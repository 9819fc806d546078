//! The service's own tasks: publishing, leases that end, moves that follow, the log's old segments. None holds a lock across
//! an await; all end when the shutdown says stop.

use std::sync::Arc;
use std::time::Duration;

use crate::model::position::LogPosition;
use crate::route::service::{Inner, Route};
use crate::route::state::Command;
use crate::runtime::watermark::Rung;
use crate::store::record::{Record, Unit};

/// Pause after the log did not take something.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Longest sleep between two looks at the leases.
const LOOK_AFTER: Duration = Duration::from_secs(1);

pub(super) fn start(route: &Route) {
    let inner = &route.inner;
    spawn(inner, async |inner| inner.publish().await);
    spawn(inner, async |inner| end_leases(&inner).await);
    spawn(inner, async |inner| follow_moves(&inner).await);
    spawn(inner, async |inner| keep_retention(&inner).await);
}

fn spawn<F>(inner: &Arc<Inner>, task: impl FnOnce(Arc<Inner>) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let (shutdown, task) = (inner.shutdown.clone(), task(inner.clone()));
    drop(inner.tasks.spawn_background(async move {
        tokio::select! {
            biased;
            () = shutdown.stopping() => {}
            () = task => {}
        }
    }));
}

async fn end_leases(inner: &Inner) {
    loop {
        let changed = inner.leases.notified();
        let wait = {
            let mut desk = inner.desk.lock();
            let now = inner.clock.steady();
            for shard in desk.leases.expire(now) {
                tracing::info!(%shard, "the shard's broker was not heard of for the length of its lease");
                inner.alive(&mut desk, shard, false);
            }
            desk.leases.next_end().map_or(LOOK_AFTER, |end| end.since(now).min(LOOK_AFTER))
        };
        tokio::select! {
            biased;
            () = inner.clock.sleep(wait) => {}
            () = changed => {}
        }
    }
}

async fn follow_moves(inner: &Inner) {
    loop {
        let changed = inner.moves.notified();
        let decided = {
            let mut desk = inner.desk.lock();
            inner.decide(&mut desk, Command::Continue)
        };
        // What was decided announces itself, so that the next moves follow.
        match decided {
            Ok(_) => changed.await,
            Err(error) => {
                tracing::warn!(%error, "moves of topics wait");
                inner.clock.sleep(AGAIN_AFTER).await;
            }
        }
    }
}

async fn keep_retention(inner: &Inner) {
    loop {
        inner.clock.sleep(inner.options.retention_every).await;
        let (store, now) = (inner.store.clone(), inner.clock.now());
        if let Some(start) = inner.tasks.blocking(move || store.retention_cut(now)).await
            && let Err(error) = trim(inner, start).await
        {
            tracing::warn!(error, "old segments stay for now");
        }
    }
}

/// Every fact is a row of the fold, so no segment is needed once a checkpoint of the fold lies behind it; the store sees to that.
async fn trim(inner: &Inner, start: LogPosition) -> Result<(), String> {
    let mut unit = Unit::state();
    unit.push(&Record::LogTrimmed { start });
    let seq = inner.store.append(unit).map_err(|error| error.to_string())?;
    inner.store.marks().wait(Rung::Durable, seq).await.map_err(|error| error.to_string())?;
    let dropped = inner.store.trim(start).await.map_err(|error| error.to_string())?;
    tracing::info!(dropped, %start, "segments left the log of the route service");
    Ok(())
}
