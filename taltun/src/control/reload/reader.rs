//! Reading the configuration again, beside the controller: a big file takes a second, and
//! packets, handshakes and `status` can't wait for that. What goes through all peers of it is
//! done here as well, so that the controller is left with what differs.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::compared::Compared;
use super::edit::{self, Edited, Written};
use super::fleet;
use super::last_read::LastRead;
use super::not_read::NotRead;
use crate::config::{self, Loaded};
use crate::control::audit::Change;
use crate::control::caller::Caller;
use crate::control::fleet::Link;
use crate::control::inside::Inside;
use crate::control::origin::Origin;
use crate::control::peers::PeerList;
use crate::control::request::{self, PeerEdit};
use crate::control::response::{Reloaded, Reply};
use crate::os::service_manager;
use crate::report::PeerEdited;

/// How long reading a file may take. A million peers are read in less; a file that never comes,
/// of a server that is gone, is given up.
const LIMIT: Duration = Duration::from_secs(120);
/// The answer where nothing can be read again.
const NO_FILE: &str = "this tunnel has no configuration file to read again, as it was made by its \
    name alone; change it with `wg set`";

/// The answer where reading doesn't come to an end.
const HANGS: &str = "the configuration can't be read: the file system doesn't answer; nothing was \
    changed";

/// The answer to who doesn't wait for it, which is in the trail of changes alone.
const WITHDRAWN: &str = "nobody waits for the answer any more (nothing was changed)";

/// Who wants the file to be read.
#[derive(Debug)]
pub(in crate::control) enum Asker {
    /// A reload, by whom, and where its outcome goes; `None` for into the log.
    Reload(Caller, Option<Reply<Reloaded>>),
    /// A change of a peer.
    Edit(EditAsker),
    /// Other peers of the fleet.
    Fleet,
}

/// Who wants a peer to be changed.
#[derive(Debug)]
pub(in crate::control) struct EditAsker {
    pub by: Caller,
    pub reply: Reply<Box<PeerEdited>>,
    /// What is to be changed, in words.
    pub change: Change,
    /// What was done to the file, with what there is to answer.
    pub done: Option<(Written, Box<PeerEdited>)>,
}

/// What is to be done with the file.
#[derive(Debug)]
enum Job {
    Read(Asker),
    Edit(Box<(PeerEdit, Inside)>, EditAsker),
    /// Take over the peers that the fleet has by then.
    Fleet,
}

/// Takes what is asked for in turn, so that the last one to ask has the last word, and each finds
/// the tunnel as the one before has left it.
#[derive(Debug)]
pub(in crate::control) struct Reader {
    jobs: mpsc::UnboundedSender<Job>,
}

/// What was read, or why it can't be used, and who wanted it.
#[derive(Debug)]
pub(in crate::control) struct FileRead {
    pub outcome: Result<Compared, NotRead>,
    pub asker: Asker,
    /// Takes the peers of the file that is in force after this, so that the next one has its turn.
    pub turn: oneshot::Sender<PeerList>,
}

impl Reader {
    /// Reads what `origin` says whenever it is asked to, and where that arrives.
    pub(in crate::control) fn start(
        origin: Origin,
        mut last: LastRead,
        fleet: Option<Link>,
    ) -> (Self, mpsc::Receiver<FileRead>) {
        let (jobs, asked) = mpsc::unbounded_channel::<Job>();
        let mut queue = Queue::new(asked);
        let (results, receiver) = mpsc::channel(1);
        tokio::spawn(async move {
            let mut hanging: Option<JoinHandle<()>> = None;
            while let Some(job) = queue.next().await {
                let begun = Instant::now();
                let is_fleets = matches!(job, Job::Fleet);
                if is_fleets && !fleet.as_ref().is_some_and(|fleet| has_news(&origin, fleet)) {
                    continue;
                }
                // One thread that waits for a file is enough.
                let is_hanging = hanging.as_ref().is_some_and(|task| !task.is_finished());
                let (outcome, asker) = if is_hanging {
                    (Err(NotRead::from(HANGS)), job.into_asker())
                } else if job.is_withdrawn() {
                    (Err(NotRead::from(WITHDRAWN)), job.into_asker())
                } else {
                    let (origin, last, fleet) = (origin.clone(), last.clone(), fleet.clone());
                    let (done, mut read) = oneshot::channel();
                    let (work, asker) = job.work();
                    let task = tokio::task::spawn_blocking(move || {
                        // Nobody waits for what came too late.
                        let outcome = work(&origin, &last, fleet.as_ref());
                        if let Err(Ok((_, Some((written, _))))) = done.send(outcome) {
                            let _ = written.restore();
                        }
                    });
                    match tokio::time::timeout(LIMIT, &mut read).await {
                        Ok(Ok(Ok((compared, done)))) => (Ok(compared), asker.with(done)),
                        Ok(Ok(Err(not_read))) => (Err(not_read), asker),
                        Ok(Err(error)) => (Err(NotRead::from(error.to_string())), asker),
                        Err(_) => {
                            hanging = Some(task);
                            (Err(NotRead::from(HANGS)), asker)
                        }
                    }
                };
                let read = outcome.as_ref().ok().map(|compared| LastRead {
                    config: compared.loaded.config.clone().into(),
                    peers: compared.peers.clone(),
                });
                let (turn, taken) = oneshot::channel();
                let result = FileRead {
                    outcome,
                    asker,
                    turn,
                };
                if results.send(result).await.is_err() {
                    return;
                }
                // Whoever lets it go has not taken it over.
                if let Ok(peers) = taken.await {
                    match read {
                        Some(read) if Arc::ptr_eq(&read.peers, &peers) => last = read,
                        _ => last.peers = peers,
                    }
                }
                if is_fleets {
                    queue.rest(begun.elapsed());
                }
            }
        });
        (Self { jobs }, receiver)
    }

    /// Asks for a reload.
    pub(in crate::control) fn ask(&self, by: Caller, reply: Option<Reply<Reloaded>>) {
        service_manager().reloading();
        // Its task ends with the runtime only.
        let _ = self.jobs.send(Job::Read(Asker::Reload(by, reply)));
    }

    /// Has the tunnel get the peers that the fleet has.
    pub(in crate::control) fn ask_fleet(&self) {
        let _ = self.jobs.send(Job::Fleet);
    }
}

/// What is asked for. Peers of the fleet may come a hundred times a second, and each time all of them are gone
/// through: they are taken over once for all that have come, after what somebody waits for, and leave as much time
/// to the rest as they take.
#[derive(Debug)]
struct Queue {
    asked: mpsc::UnboundedReceiver<Job>,
    fleet: bool,
    not_before: Instant,
}

impl Queue {
    fn new(asked: mpsc::UnboundedReceiver<Job>) -> Self {
        Self {
            asked,
            fleet: false,
            not_before: Instant::now(),
        }
    }

    /// The next one; `None` once nobody asks any more.
    async fn next(&mut self) -> Option<Job> {
        loop {
            tokio::select! {
                biased;
                job = self.asked.recv() => match job? {
                    Job::Fleet => self.fleet = true,
                    job => return Some(job),
                },
                () = sleep_until(self.not_before), if self.fleet => {
                    self.fleet = false;
                    return Some(Job::Fleet);
                }
            }
        }
    }

    /// Peers of the fleet have to wait for so long now.
    fn rest(&mut self, time: Duration) {
        self.not_before = Instant::now() + time;
    }
}

/// Whether the fleet has other peers than the tunnel got last, which a change here may have brought already.
fn has_news(origin: &Origin, fleet: &Link) -> bool {
    !Arc::ptr_eq(&origin.overrides.fleet.get(), &fleet.peers())
}

impl request::Reader for Reader {
    fn reload(&self, _: request::Reload, by: Caller, reply: Reply<Reloaded>) {
        self.ask(by, Some(reply));
    }

    fn edit_peer(&self, edit: PeerEdit, inside: Inside, by: Caller, reply: Reply<Box<PeerEdited>>) {
        let asker = EditAsker {
            by,
            reply,
            change: Change::of_peer(&edit),
            done: None,
        };
        let _ = self.jobs.send(Job::Edit(Box::new((edit, inside)), asker));
    }
}

/// What comes of a job: a file, and what was done to it.
type Outcome = Result<(Compared, Option<(Written, Box<PeerEdited>)>), NotRead>;
/// A job, to be done where one may wait for a file.
type Work = Box<dyn FnOnce(&Origin, &LastRead, Option<&Link>) -> Outcome + Send>;

impl Job {
    fn into_asker(self) -> Asker {
        match self {
            Self::Read(asker) => asker,
            Self::Edit(_, asker) => Asker::Edit(asker),
            Self::Fleet => Asker::Fleet,
        }
    }

    /// Whether nobody waits for a change any more.
    fn is_withdrawn(&self) -> bool {
        match self {
            Self::Read(_) | Self::Fleet => false,
            Self::Edit(_, asker) => asker.reply.is_closed(),
        }
    }

    fn work(self) -> (Work, Asker) {
        match self {
            Self::Read(asker) => (
                Box::new(|origin, last, _| {
                    let loaded = read(origin)?;
                    Ok((Compared::new(loaded, last.peers.clone()), None))
                }),
                asker,
            ),
            Self::Edit(asked, asker) => (
                Box::new(move |origin, last, fleet| {
                    let (edit, inside) = *asked;
                    let Edited {
                        compared,
                        written,
                        answer,
                    } = edit::edit(origin, last, fleet, &inside, &edit)?;
                    Ok((compared, Some((written, answer))))
                }),
                Asker::Edit(asker),
            ),
            Self::Fleet => (
                Box::new(|origin, last, link| {
                    let peers = link.map(Link::peers).unwrap_or_default();
                    Ok((fleet::take(origin, last, peers), None))
                }),
                Asker::Fleet,
            ),
        }
    }
}

impl Asker {
    fn with(self, done: Option<(Written, Box<PeerEdited>)>) -> Self {
        match self {
            Self::Edit(asker) => Self::Edit(EditAsker { done, ..asker }),
            other @ (Self::Reload(..) | Self::Fleet) => other,
        }
    }
}

fn read(origin: &Origin) -> Result<Loaded, NotRead> {
    let Some(path) = origin.path.as_deref() else {
        return Err(NotRead::from(NO_FILE));
    };
    config::load_with(Some(path), &origin.overrides)
        .map_err(|error| NotRead::Mistakes(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last(origin: &Origin) -> LastRead {
        let Loaded { mut config, .. } = read(origin).unwrap();
        LastRead {
            peers: std::mem::take(&mut config.peers).into(),
            config: config.into(),
        }
    }

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
        write(7);
        let (reader, mut read) = Reader::start(origin.clone(), last(&origin), None);
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
            assert!(matches!(again.asker, Asker::Reload(_, Some(_))));
            let config = again.outcome.unwrap().loaded.config;
            assert_eq!(config.interface.local_addr.port(), port);
        }
        std::fs::write(&path, "nonsense").unwrap();
        reader.ask(Caller::ourselves(), None);
        let again = read.recv().await.unwrap();
        assert!(matches!(again.asker, Asker::Reload(_, None)));
        let Err(NotRead::Mistakes(mistakes)) = again.outcome else {
            panic!("{again:?}");
        };
        assert!(mistakes.contains("hub.toml:1: not valid TOML"));
    }

    #[tokio::test(start_paused = true)]
    async fn peers_of_the_fleet_are_taken_over_once_for_many_and_let_others_go_first() {
        let (jobs, asked) = mpsc::unbounded_channel();
        let mut queue = Queue::new(asked);
        queue.rest(Duration::from_secs(1));
        for _ in 0..10_000 {
            jobs.send(Job::Fleet).unwrap();
        }
        jobs.send(Job::Read(Asker::Reload(Caller::ourselves(), None)))
            .unwrap();
        assert!(matches!(queue.next().await, Some(Job::Read(_))));
        let begun = Instant::now();
        assert!(matches!(queue.next().await, Some(Job::Fleet)));
        assert_eq!(begun.elapsed().as_secs(), 1);
        let more = tokio::time::timeout(Duration::from_secs(9), queue.next()).await;
        assert!(more.is_err(), "{more:?}");
        drop(jobs);
        assert!(queue.next().await.is_none());
    }

    #[tokio::test]
    async fn without_a_file_there_is_nothing_to_read_again() {
        let plain = config::Config::plain("wg0", crate::crypto::PrivateKey::from_bytes([1; 32]));
        let last = LastRead {
            config: plain.into(),
            peers: PeerList::default(),
        };
        let (reader, mut read) = Reader::start(Origin::default(), last, None);
        reader.ask(Caller::ourselves(), None);
        let loaded = read.recv().await.unwrap().outcome;
        assert!(
            matches!(&loaded, Err(NotRead::Other(reason)) if reason.text == NO_FILE),
            "{loaded:?}"
        );
    }
}
