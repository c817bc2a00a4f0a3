//! A thread that serves clients, each by a task of its own.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::runtime::Runtime;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::LocalSet;

use crate::client;
use crate::files::Places;
use crate::options::Options;
use crate::shared::{Accepted, Public, Worker};

/// Serves the clients that come until no more can.
pub(crate) fn run(
    runtime: &Runtime,
    options: Arc<Options>,
    public: &Arc<Public>,
    places: Arc<Places>,
    mut clients: UnboundedReceiver<Accepted>,
) {
    let local = LocalSet::new();
    let worker = Rc::new(Worker::new(options, public.clone(), places));
    local.block_on(runtime, async {
        while let Some(accepted) = clients.recv().await {
            let one = Counted(public.clone());
            let worker = worker.clone();
            tokio::task::spawn_local(async move {
                client::serve(worker, accepted).await;
                drop(one);
            });
        }
    });
    // What is left of clients ends with `local`, within the runtime that their sockets need.
    let _inside = runtime.enter();
    drop(local);
}

/// A client among those of the worker.
struct Counted(Arc<Public>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.clients.fetch_sub(1, Ordering::Relaxed);
    }
}
