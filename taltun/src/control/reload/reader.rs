//! Reading the configuration again, beside the controller: a big file takes a second, and
//! packets, handshakes and `status` can't wait for that. What goes through all peers of it is
//! done here as well, so that the controller is left with what differs.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::plan;
use crate::config::{self, Loaded};
use crate::control::caller::Caller;
use crate::control::origin::Origin;
use crate::control::peers::{self, PeerInfos, PeerList};
use crate::control::request;
use crate::control::response::{Reloaded, Reply};
use crate::crypto::PublicKey;
use crate::os::service_manager;

/// How long reading a file may take. A million peers are read in less; a file that never comes,
/// of a server that is gone, is given up.
const LIMIT: Duration = Duration::from_secs(120);
/// The answer where nothing can be read again.
const NO_FILE: &str = "this tunnel has no configuration file to read again, as it was made by its \
    name alone; change it with `wg set`";

/// The answer where reading doesn't come to an end.
const HANGS: &str = "the configuration can't be read: the file system doesn't answer; nothing was \
    changed";

/// Who wants a reload, and where its outcome goes; `None` for into the log.
pub(in crate::control) type Asker = (Caller, Option<Reply<Reloaded>>);

/// Takes what is asked for in turn, so that the last one to ask has the last word.
#[derive(Debug)]
pub(in crate::control) struct Reader {
    askers: mpsc::UnboundedSender<Asker>,
    current: Arc<Mutex<PeerList>>,
}

/// A file that was read, and its peers compared with those of the one before.
#[derive(Debug)]
pub(in crate::control) struct Compared {
    /// Its peers are in `peers`.
    pub loaded: Loaded,
    pub peers: PeerList,
    pub infos: PeerInfos,
    /// What they were compared with.
    pub base: PeerList,
    pub differing: Vec<PublicKey>,
}

impl Compared {
    pub(in crate::control) fn new(mut loaded: Loaded, base: PeerList) -> Self {
        let peers = Arc::new(std::mem::take(&mut loaded.config.peers));
        Self {
            infos: peers::infos(&peers),
            differing: plan::differing(&base, &peers),
            loaded,
            peers,
            base,
        }
    }
}

/// Why there is nothing new.
#[derive(Debug)]
pub(in crate::control) enum NotRead {
    /// The file has mistakes, or can't be read.
    Mistakes(String),
    /// Something else.
    Other(String),
}

impl NotRead {
    /// Why.
    pub(in crate::control) fn reason(&self) -> &str {
        match self {
            Self::Mistakes(reason) | Self::Other(reason) => reason,
        }
    }
}

/// What was read, or why it can't be used, and who wanted it.
#[derive(Debug)]
pub(in crate::control) struct FileRead {
    pub outcome: Result<Compared, NotRead>,
    pub asker: Asker,
}

impl Reader {
    /// Reads what `origin` says whenever it is asked to, and where that arrives.
    pub(in crate::control) fn start(
        origin: Origin,
        peers: PeerList,
    ) -> (Self, mpsc::Receiver<FileRead>) {
        let current = Arc::new(Mutex::new(peers));
        let shared = Arc::clone(&current);
        let (askers, mut asked) = mpsc::unbounded_channel();
        let (results, receiver) = mpsc::channel(1);
        tokio::spawn(async move {
            let mut hanging: Option<JoinHandle<()>> = None;
            while let Some(asker) = asked.recv().await {
                // One thread that waits for a file is enough.
                let outcome = if hanging.as_ref().is_some_and(|task| !task.is_finished()) {
                    Err(NotRead::Other(HANGS.to_owned()))
                } else {
                    let (origin, current) = (origin.clone(), Arc::clone(&shared));
                    let (done, read) = oneshot::channel();
                    let task = tokio::task::spawn_blocking(move || {
                        // Nobody waits for what came too late.
                        let _ = done.send(read_and_compare(&origin, &current));
                    });
                    if let Ok(read) = tokio::time::timeout(LIMIT, read).await {
                        read.unwrap_or_else(|error| Err(NotRead::Other(error.to_string())))
                    } else {
                        hanging = Some(task);
                        Err(NotRead::Other(HANGS.to_owned()))
                    }
                };
                if results.send(FileRead { outcome, asker }).await.is_err() {
                    return;
                }
            }
        });
        (Self { askers, current }, receiver)
    }

    /// From now on what is read is compared with these.
    pub(in crate::control) fn compare_with(&self, peers: &PeerList) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        *current = Arc::clone(peers);
    }

    /// Asks for a reload.
    pub(in crate::control) fn ask(&self, asker: Asker) {
        service_manager().reloading();
        // Its task ends with the runtime only.
        let _ = self.askers.send(asker);
    }
}

impl request::Reader for Reader {
    fn reload(&self, _: request::Reload, by: Caller, reply: Reply<Reloaded>) {
        self.ask((by, Some(reply)));
    }
}

fn read_and_compare(origin: &Origin, current: &Mutex<PeerList>) -> Result<Compared, NotRead> {
    let loaded = read(origin)?;
    let base = current.lock().unwrap_or_else(PoisonError::into_inner);
    let base = Arc::clone(&base);
    Ok(Compared::new(loaded, base))
}

fn read(origin: &Origin) -> Result<Loaded, NotRead> {
    let Some(path) = origin.path.as_deref() else {
        return Err(NotRead::Other(NO_FILE.to_owned()));
    };
    config::load_with(Some(path), &origin.overrides)
        .map_err(|error| NotRead::Mistakes(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn reloads_are_read_in_the_order_in_which_they_were_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hub.toml");
        let write = |port| {
            let key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
            let text = format!(
                "[interface]\nvip = \"10.0.0.1\"\nprivate_key = \"{key}\"\nlocal_addr = \":{port}\"\n"
            );
            std::fs::write(&path, text).unwrap();
        };
        let origin = Origin {
            path: Some(path.clone()),
            ..Origin::default()
        };
        let (reader, mut read) = Reader::start(origin, PeerList::default());
        for port in [7, 8] {
            write(port);
            let (asker, _answer) = oneshot::channel();
            request::Reader::reload(
                &reader,
                request::Reload,
                Caller::ourselves(),
                Reply::new(asker),
            );
            let again = read.recv().await.unwrap();
            assert!(again.asker.1.is_some());
            let config = again.outcome.unwrap().loaded.config;
            assert_eq!(config.interface.local_addr.port(), port);
        }
        std::fs::write(&path, "nonsense").unwrap();
        reader.ask((Caller::ourselves(), None));
        let again = read.recv().await.unwrap();
        assert!(again.asker.1.is_none());
        let Err(NotRead::Mistakes(mistakes)) = again.outcome else {
            panic!("{again:?}");
        };
        assert!(mistakes.contains("hub.toml:1: not valid TOML"));
    }

    #[tokio::test]
    async fn without_a_file_there_is_nothing_to_read_again() {
        let (reader, mut read) = Reader::start(Origin::default(), PeerList::default());
        reader.ask((Caller::ourselves(), None));
        let loaded = read.recv().await.unwrap().outcome;
        assert!(
            matches!(&loaded, Err(NotRead::Other(reason)) if reason == NO_FILE),
            "{loaded:?}"
        );
    }
}
