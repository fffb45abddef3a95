//! A thread inside a namespace, with an executor for the clients.

use std::io;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use lb_userspace::net::Netns;
use tokio::runtime::{Builder, Handle};
use tokio_util::sync::CancellationToken;

/// One thread in a network namespace that runs clients; every socket its tasks open is a socket of that namespace.
///
/// Dropping it ends the thread and whatever still runs on it.
#[derive(Debug)]
pub struct ClientThread {
    handle: Handle,
    stop: CancellationToken,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl ClientThread {
    /// Starts the thread in `netns`. The error is that of entering the namespace or of starting the executor.
    pub fn enter(netns: &Netns) -> io::Result<Self> {
        let stop = CancellationToken::new();
        let (ready, started) = mpsc::channel();
        let (netns, stopped) = (netns.clone(), stop.clone());
        let thread = thread::Builder::new().name("clients".to_owned()).spawn(move || {
            netns.run(move || {
                // One thread is enough for some thousands of small exchanges, and it never leaves the namespace.
                let runtime = Builder::new_current_thread().enable_all().build()?;
                // Nobody listens only when the caller is gone, and then `stop` is cancelled too.
                let _ = ready.send(runtime.handle().clone());
                runtime.block_on(stopped.cancelled());
                Ok(())
            })?
        })?;
        match started.recv() {
            Ok(handle) => Ok(Self { handle, stop, thread: Some(thread) }),
            Err(mpsc::RecvError) => Err(failure_of(thread)),
        }
    }

    /// The executor of the thread.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for ClientThread {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            debug_assert!(ended.is_ok(), "the client thread panicked");
        }
    }
}

fn failure_of(thread: JoinHandle<io::Result<()>>) -> io::Error {
    match thread.join() {
        Ok(Err(error)) => error,
        Ok(Ok(())) | Err(_) => io::Error::other("the client thread ended before it began"),
    }
}
