//! Which members of etcd answer: each is asked by itself, for a value that takes a quorum.

use std::time::Duration;

use taltun_fleet::etcd::{Endpoint, Limits, Store, Tls};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::sleep;

use crate::report::EtcdMember;

/// How often they are asked.
const EACH: Duration = Duration::from_secs(5);
/// How long one may take.
const LIMITS: Limits = Limits {
    connect: Duration::from_secs(1),
    answer: Duration::from_secs(2),
    call: Duration::from_secs(2),
};

/// Members that nobody asked yet.
pub(super) fn unknown(endpoints: &[Endpoint]) -> Vec<EtcdMember> {
    let members = endpoints.iter().map(|endpoint| EtcdMember {
        endpoint: endpoint.to_string(),
        answers: None,
        error: None,
    });
    members.collect()
}

/// Asks members for a key until this is dropped.
#[derive(Debug)]
pub(super) struct Asking(Vec<AbortHandle>);

impl Drop for Asking {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}

impl Asking {
    /// Tells each answer with the place of its member in the list.
    pub(super) fn start(
        endpoints: &[Endpoint],
        tls: Option<&Tls>,
        key: &str,
        told: &mpsc::Sender<(usize, EtcdMember)>,
    ) -> Self {
        let tasks = endpoints
            .iter()
            .enumerate()
            .filter_map(|(place, endpoint)| {
                let store = Store::new(vec![endpoint.clone()], tls.cloned(), LIMITS)?;
                let (key, told) = (key.to_owned(), told.clone());
                let endpoint = endpoint.to_string();
                let task = tokio::spawn(async move {
                    loop {
                        let error = store.get(&key).await.err().map(|error| error.to_string());
                        let member = EtcdMember {
                            endpoint: endpoint.clone(),
                            answers: Some(error.is_none()),
                            error,
                        };
                        if told.send((place, member)).await.is_err() {
                            return;
                        }
                        sleep(EACH).await;
                    }
                });
                Some(task.abort_handle())
            });
        Self(tasks.collect())
    }
}
