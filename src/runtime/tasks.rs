//! Threads and tasks. Real: request runtimes (one single-threaded runtime per core, called lanes), one background runtime,
//! named threads for appender and fold, a small pool for blocking reads. Simulated: everything is a task on one runtime.
//!
//! A lane's number is kept in a thread-local, so that whoever waits on a watermark is woken by its own lane.

use std::cell::Cell;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;

use crate::runtime::entropy::Entropy;

thread_local! {
    static LANE: Cell<usize> = const { Cell::new(0) };
}

/// Number of the lane that the calling thread belongs to; 0 for background threads and in simulation.
#[must_use]
pub fn current_lane() -> usize {
    LANE.get()
}

/// Threads that serve blocking reads.
const BLOCKING_THREADS: usize = 4;
/// Blocking jobs that may wait or run at once; more callers wait their turn.
const BLOCKING_JOBS_MAX: usize = 1024;

/// Where work is put. Clones share the same threads.
#[derive(Clone, Debug)]
pub struct Tasks {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    mode: Mode,
}

#[derive(Debug)]
enum Mode {
    Real { background: Handle, lanes: Vec<Handle>, blocking: Handle, jobs: Semaphore },
    Simulated { handle: Handle, entropy: Entropy },
}

/// The real threads behind [`Tasks`]; dropping it ends the lanes.
#[derive(Debug)]
pub struct Threads {
    background: tokio::runtime::Runtime,
    blocking: tokio::runtime::Runtime,
    lanes: Vec<Lane>,
}

impl Threads {
    /// Starts `lanes` request runtimes, the background runtime and the blocking pool.
    ///
    /// # Errors
    /// The operating system refused a thread.
    pub fn start(lanes: usize) -> std::io::Result<Self> {
        let background = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("bolide-background")
            .enable_all()
            .build()?;
        let blocking = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(BLOCKING_THREADS)
            .thread_name("bolide-blocking")
            .thread_keep_alive(Duration::from_secs(60))
            .build()?;
        let mut started = Vec::new();
        for lane in 0..lanes.max(1) {
            started.push(start_lane(lane)?);
        }
        Ok(Self { background, blocking, lanes: started })
    }

    /// The handle that everyone else uses.
    #[must_use]
    pub fn tasks(&self) -> Tasks {
        let mode = Mode::Real {
            background: self.background.handle().clone(),
            lanes: self.lanes.iter().map(|(handle, ..)| handle.clone()).collect(),
            blocking: self.blocking.handle().clone(),
            jobs: Semaphore::new(BLOCKING_JOBS_MAX),
        };
        Tasks { inner: Arc::new(Inner { mode }) }
    }

    /// Runs a future on the background runtime and waits for it; for `main`.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.background.block_on(future)
    }

    /// Ends everything; tasks that do not end by themselves are dropped at their next await.
    pub fn stop(mut self) {
        for (_, stop, thread) in &mut self.lanes {
            drop(stop.take());
            if let Some(thread) = thread.take() {
                let _ = thread.join();
            }
        }
        self.blocking.shutdown_timeout(Duration::from_secs(1));
        self.background.shutdown_timeout(Duration::from_secs(1));
    }
}

type Lane = (Handle, Option<oneshot::Sender<()>>, Option<std::thread::JoinHandle<()>>);

fn start_lane(lane: usize) -> std::io::Result<Lane> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    let (stop, stopped) = oneshot::channel::<()>();
    let thread = std::thread::Builder::new().name(format!("bolide-lane-{lane}")).spawn(move || {
        LANE.set(lane);
        runtime.block_on(async {
            let _ = stopped.await;
        });
        runtime.shutdown_timeout(Duration::from_millis(200));
    })?;
    Ok((handle, Some(stop), Some(thread)))
}

impl Tasks {
    /// Everything on the current runtime, which must be single-threaded; choices among interleavings come from `entropy`.
    #[must_use]
    pub fn simulated(handle: Handle, entropy: Entropy) -> Self {
        Self { inner: Arc::new(Inner { mode: Mode::Simulated { handle, entropy } }) }
    }

    /// Number of request lanes.
    #[must_use]
    pub fn lanes(&self) -> usize {
        match &self.inner.mode {
            Mode::Real { lanes, .. } => lanes.len(),
            Mode::Simulated { .. } => 1,
        }
    }

    /// Runs a task on one lane.
    pub fn spawn_on_lane<F>(&self, lane: usize, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        match &self.inner.mode {
            Mode::Real { lanes, .. } => lanes[lane % lanes.len()].spawn(future),
            Mode::Simulated { handle, .. } => handle.spawn(future),
        }
    }

    /// Runs a task that serves no single request.
    pub fn spawn_background<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        match &self.inner.mode {
            Mode::Real { background, .. } => background.spawn(future),
            Mode::Simulated { handle, .. } => handle.spawn(future),
        }
    }

    /// Runs a future on a thread of its own, where it may block between its awaits (appender, fold). In simulation it is an
    /// ordinary task. The receiver resolves when it has ended.
    ///
    /// # Errors
    /// The operating system refused a thread.
    pub fn spawn_dedicated<F>(&self, name: &str, future: F) -> std::io::Result<oneshot::Receiver<()>>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (done, ended) = oneshot::channel();
        let body = async move {
            future.await;
            let _ = done.send(());
        };
        match &self.inner.mode {
            Mode::Real { .. } => {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
                std::thread::Builder::new().name(format!("bolide-{name}")).spawn(move || runtime.block_on(body))?;
            }
            Mode::Simulated { handle, .. } => drop(handle.spawn(body)),
        }
        Ok(ended)
    }

    /// Runs a job that may block (a cold read, a RocksDB scan) and hands back its result. In simulation it runs inline, at a
    /// point that the seed chooses.
    pub async fn blocking<T, F>(&self, job: F) -> T
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        match &self.inner.mode {
            Mode::Real { blocking, jobs, .. } => {
                let _permit = jobs.acquire().await;
                match blocking.spawn_blocking(job).await {
                    Ok(value) => value,
                    Err(failed) => std::panic::resume_unwind(failed.into_panic()),
                }
            }
            Mode::Simulated { .. } => {
                self.pause().await;
                job()
            }
        }
    }

    /// Lets threads that are ready to run go first; returns at once when there are none. For a dedicated thread that gains by
    /// coming a little later.
    pub fn let_others_run(&self) {
        if let Mode::Real { .. } = &self.inner.mode {
            std::thread::yield_now();
        }
    }

    /// A place where a simulation may let others run or time pass; nothing in real life.
    pub async fn pause(&self) {
        if let Mode::Simulated { entropy, .. } = &self.inner.mode {
            match entropy.below(8) {
                0 => tokio::time::sleep(Duration::from_micros(entropy.below(20_000))).await,
                1..=3 => tokio::task::yield_now().await,
                _ => {}
            }
        }
    }
}
