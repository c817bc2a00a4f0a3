//! A thread that serves clients, each by a task of its own.

use std::rc::Rc;
use std::sync::Arc;

use tokio::runtime::Runtime;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::LocalSet;

use crate::client::{self, Counted};
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
            let counted = Counted::new(public.clone());
            tokio::task::spawn_local(client::serve(worker.clone(), accepted, counted));
        }
    });
    // What is left of clients ends with `local`, within the runtime that their sockets need.
    let _inside = runtime.enter();
    drop(local);
}
