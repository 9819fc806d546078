//! What goes wrong, and when.

use std::path::Path;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

/// Kinds of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the call of that name")]
pub enum Call {
    Open,
    Read,
    Write,
    Sync,
    SyncDir,
    SetLen,
    Len,
    Rename,
    Remove,
    List,
    CreateDir,
    Lock,
    Space,
}

const CALLS: usize = Call::Space as usize + 1;

/// What happens to the call.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Input/output error. A write has then written a random prefix; a sync has persisted a random part.
    Fail,
    /// Writes only: this many bytes are written, then it ends in an error.
    Short(usize),
    /// No space left.
    NoSpace,
    /// Waits until the gate is opened, then goes on as if nothing had been.
    Stall(Gate),
}

/// A fault, armed with [`MemoryFiles::plan`](super::MemoryFiles::plan).
#[derive(Clone, Debug)]
pub struct Fault {
    /// Which calls.
    pub call: Call,
    /// Only on paths that contain this; empty: on all.
    pub path_contains: String,
    /// Calls of that kind and path that still pass.
    pub after: u64,
    /// How often it then fires.
    pub times: u64,
    /// What happens.
    pub effect: Effect,
}

impl Fault {
    /// The next call of this kind fails, once.
    #[must_use]
    pub fn fail(call: Call) -> Self {
        Self::new(call, Effect::Fail)
    }

    /// The next call of this kind meets `effect`, once.
    #[must_use]
    pub fn new(call: Call, effect: Effect) -> Self {
        Self { call, path_contains: String::new(), after: 0, times: 1, effect }
    }

    /// Lets `calls` pass first.
    #[must_use]
    pub fn after(mut self, calls: u64) -> Self {
        self.after = calls;
        self
    }

    /// Fires this often.
    #[must_use]
    pub fn times(mut self, times: u64) -> Self {
        self.times = times;
        self
    }

    /// Only on paths that contain `part`.
    #[must_use]
    pub fn on(mut self, part: &str) -> Self {
        part.clone_into(&mut self.path_contains);
        self
    }

    fn matches(&self, call: Call, path: &Path) -> bool {
        self.call == call && (self.path_contains.is_empty() || path.to_string_lossy().contains(&self.path_contains))
    }
}

/// Holds up a call until it is opened. Clones are the same gate.
#[derive(Clone, Debug, Default)]
pub struct Gate {
    inner: Arc<(Mutex<GateState>, Condvar)>,
}

#[derive(Debug, Default)]
struct GateState {
    open: bool,
    waiting: usize,
}

impl Gate {
    /// A closed gate.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets everyone pass from now on.
    pub fn open(&self) {
        self.inner.0.lock().open = true;
        self.inner.1.notify_all();
    }

    /// Calls that wait at it now.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.inner.0.lock().waiting
    }

    pub(super) fn wait(&self) {
        let mut state = self.inner.0.lock();
        state.waiting += 1;
        while !state.open {
            self.inner.1.wait(&mut state);
        }
        state.waiting -= 1;
    }
}

#[derive(Debug)]
pub(super) struct Faults {
    armed: Vec<Fault>,
    calls: [u64; CALLS],
}

impl Faults {
    pub(super) const fn none() -> Self {
        Self { armed: Vec::new(), calls: [0; CALLS] }
    }

    pub(super) fn arm(&mut self, fault: Fault) {
        self.armed.push(fault);
    }

    pub(super) fn clear(&mut self) -> usize {
        std::mem::take(&mut self.armed).len()
    }

    pub(super) fn calls(&self, call: Call) -> u64 {
        self.calls[call as usize]
    }

    pub(super) fn next(&mut self, call: Call, path: &Path) -> Option<Effect> {
        self.calls[call as usize] += 1;
        let at = self.armed.iter().position(|fault| fault.matches(call, path))?;
        let fault = &mut self.armed[at];
        if fault.after > 0 {
            fault.after -= 1;
            return None;
        }
        let effect = fault.effect.clone();
        fault.times = fault.times.saturating_sub(1);
        if fault.times == 0 {
            self.armed.remove(at);
        }
        Some(effect)
    }
}
