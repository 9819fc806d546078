//! A TCP relay between two processes that can be told to misbehave: to cut, to delay, to swallow.

// Each test binary compiles this file for itself and uses only a part of it.
#![allow(dead_code)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What the relay does with bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mood {
    /// Hands them on.
    #[default]
    Pass,
    /// Hands them on after this time.
    Delay(Duration),
    /// Ends every connection, and every new one at once.
    Cut,
    /// Takes them, answers nothing and closes nothing: the peer seems to be there. What was swallowed is gone, so these
    /// connections end when the mood changes.
    Swallow,
}

/// One relay; ends when dropped.
pub struct Relay {
    address: SocketAddr,
    mood: Arc<watch::Sender<Mood>>,
    end: Option<tokio::sync::oneshot::Sender<()>>,
}

impl Relay {
    /// Opens a port of its own before `target`, which need not be there yet.
    ///
    /// # Errors
    /// No port or thread is to be had.
    pub fn before(target: SocketAddr) -> Result<Self> {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).context("a port for the relay")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let (mood, watched) = watch::channel(Mood::Pass);
        let (end, ended) = tokio::sync::oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        thread::Builder::new().name("relay".to_owned()).spawn(move || {
            runtime.block_on(async move {
                let Ok(listener) = TcpListener::from_std(listener) else { return };
                tokio::select! {
                    () = accept(listener, target, watched) => {}
                    _ = ended => {}
                }
            });
        })?;
        Ok(Self { address, mood: Arc::new(mood), end: Some(end) })
    }

    /// Where to connect instead of to the target.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on.
    pub fn set(&self, mood: Mood) {
        self.mood.send_replace(mood);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        drop(self.end.take());
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, mood: watch::Receiver<Mood>) {
    loop {
        let Ok((near, _)) = listener.accept().await else { return };
        if *mood.borrow() == Mood::Cut {
            continue;
        }
        tokio::spawn(relay(near, target, mood.clone()));
    }
}

async fn relay(near: TcpStream, target: SocketAddr, mood: watch::Receiver<Mood>) {
    let mut cut = mood.clone();
    // A connection that lost bytes cannot go on, whatever comes next.
    let ended = async move {
        let mut swallowed = false;
        loop {
            let now = *cut.borrow_and_update();
            if now == Mood::Cut || swallowed && now != Mood::Swallow {
                return;
            }
            swallowed |= now == Mood::Swallow;
            if cut.changed().await.is_err() {
                return;
            }
        }
    };
    let both = async move {
        if *mood.borrow() == Mood::Swallow {
            let (mut read, _write) = near.into_split();
            let mut bytes = vec![0; 64 * 1024];
            while read.read(&mut bytes).await.is_ok_and(|count| count > 0) {}
            return;
        }
        let Ok(far) = TcpStream::connect(target).await else { return };
        let _ = (near.set_nodelay(true), far.set_nodelay(true));
        let (near_read, near_write) = near.into_split();
        let (far_read, far_write) = far.into_split();
        tokio::join!(pump(near_read, far_write, mood.clone()), pump(far_read, near_write, mood));
    };
    tokio::select! {
        () = ended => {}
        () = both => {}
    }
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mood: watch::Receiver<Mood>) {
    let mut bytes = vec![0; 64 * 1024];
    loop {
        let count = match from.read(&mut bytes).await {
            Ok(count) if count > 0 => count,
            _ => {
                let _ = to.shutdown().await;
                return;
            }
        };
        let now = *mood.borrow();
        match now {
            Mood::Pass | Mood::Cut => {}
            Mood::Delay(time) => tokio::time::sleep(time).await,
            Mood::Swallow => continue,
        }
        if to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}
