//! Changes of peers that commands made in the file.

use std::sync::Arc;

use tracing::{error, info, warn};

use super::Engine;
use crate::control::audit::Change;
use crate::control::caller::Caller;
use crate::control::fleet::Link;
use crate::control::inside::{ByWg, Inside};
use crate::control::origin::TunnelKind;
use crate::control::ownership;
use crate::control::peers::Touched;
use crate::control::reload::{Compared, EditAsker, LastRead, NotRead, Scope, differs};
use crate::crypto::{PrivateKey, PublicKey};
use crate::layer::Layer;
use crate::protocol::peer::Peer;
use crate::system::Host;

impl Engine {
    /// The file as it was when it was last read.
    pub(in crate::control) fn last_read(&self) -> LastRead {
        LastRead {
            config: Arc::new(self.config.clone()),
            peers: Arc::clone(self.peers.filed()),
        }
    }

    /// What a change of the file has to know of the tunnel as it is now.
    pub(super) fn known_inside(&self) -> Inside {
        let by_wg = |peer: &Arc<Peer>| {
            let key = *peer.public_key();
            let filed = self.peers.in_file(&key);
            ByWg {
                key,
                nets: self.device.allowed_ips_of(peer.id()).collect(),
                differs: filed.is_none_or(|filed| differs(&self.live().peer(peer), filed)),
            }
        };
        let is_gone = |key: &PublicKey| self.device.peer(key).is_none();
        let (by_wg, removed) = match self.peers.touched() {
            Touched::None => (Vec::new(), Vec::new()),
            Touched::Some(keys) => {
                let live = keys.iter().filter_map(|key| self.device.peer(key));
                let gone = keys.iter().filter(|key| is_gone(key));
                (live.map(by_wg).collect(), gone.copied().collect())
            }
            Touched::All => {
                let filed = self.peers.filed().iter().map(|peer| peer.public_key);
                let live = self.device.peers().map(by_wg);
                (live.collect(), filed.filter(is_gone).collect())
            }
        };
        Inside {
            is_plain: self.kind == TunnelKind::Plain,
            by_wg,
            removed,
            banned: self.bans.nets(Layer::Inner),
            own: self.network.own_addresses().to_vec(),
            hubs: self.fleet.as_ref().map_or_else(Vec::new, Link::hubs),
            public_key: self.device.private_key().map(|_| *self.device.public_key()),
            group_key: self.group_key.as_ref().map(PrivateKey::public_key),
            port: self.listen_port(),
        }
    }

    /// Answers peers with the key of our group, or with the file's again. All sessions end if that is
    /// another key.
    pub(in crate::control) fn follow_group_key(&mut self, key: Option<PrivateKey>) {
        self.group_key = key;
        let key = self.group_key.as_ref();
        let key = key.unwrap_or(&self.config.interface.private_key).clone();
        if self.device.private_key() == Some(&key) {
            return;
        }
        let now = self.now();
        self.device.set_private_key(Some(key), now);
        ownership::settle(&mut self.device, &mut self.shield);
        info!(
            "fleet: peers know this hub by {} from now on",
            self.device.public_key()
        );
        if let Some(memory) = &mut self.memory {
            memory.speak_again();
        }
    }

    /// Takes over the peers that the fleet has by now.
    pub(in crate::control) async fn take_fleet(
        &mut self,
        outcome: Result<Compared, NotRead>,
        host: &mut Option<Host>,
    ) {
        let compared = match outcome {
            Ok(compared) => compared,
            Err(not_read) => return error!("fleet: {}", not_read.reason().replace('\n', "; ")),
        };
        if compared.differing.is_empty() {
            return;
        }
        match self.carry_out_file(compared, Scope::Edit, host).await {
            Ok(done) => {
                let summary = done.summary.replacen("reloaded: ", "", 1);
                info!("fleet: {summary}");
                if let Some(reason) = self.follow_file(host).await {
                    warn!("fleet: {summary}, but {reason}");
                }
                let fleet = self.config.fleet.as_ref().map(|fleet| fleet.name.as_str());
                let change = Change::of_fleet(fleet.unwrap_or_default());
                let by = Caller::ourselves();
                self.audit
                    .edited(&by, &change, Ok(&summary), Some(&done.peers));
            }
            Err(reason) => error!("fleet: the peers stay as they were: {reason}"),
        }
    }

    /// Takes over a file in which a peer was changed, or makes it what it was, and tells whoever
    /// asked.
    pub(in crate::control) async fn take_edit(
        &mut self,
        outcome: Result<Compared, NotRead>,
        asker: EditAsker,
        host: &mut Option<Host>,
    ) {
        let EditAsker {
            by,
            reply,
            change,
            done,
        } = asker;
        let (compared, (written, mut answer)) = match (outcome, done) {
            (Ok(compared), Some(done)) => (compared, done),
            (Ok(_), None) => {
                return reply.outcome(Err("the file wasn't changed".into()));
            }
            (Err(not_read), _) => {
                self.audit
                    .edited(&by, &change, Err(not_read.reason()), None);
                return match not_read {
                    NotRead::Mistakes(mistakes) => reply.misconfigured(mistakes),
                    NotRead::Other(reason) => reply.outcome(Err(reason)),
                };
            }
        };
        let carried_out = if reply.is_closed() {
            // Who made the keys is gone with them.
            Err("nobody waits for the answer any more".to_owned())
        } else {
            self.carry_out_file(compared, Scope::Edit, host).await
        };
        match carried_out {
            Ok(done) => {
                if let Some(reason) = self.follow_file(host).await {
                    answer.warnings.push(reason);
                }
                info!("{}", answer.done);
                let peers = Some(&done.peers);
                self.audit.edited(&by, &change, Ok(&answer.done), peers);
                reply.outcome(Ok(answer));
            }
            Err(reason) => {
                // A disk may take its time, and nobody waits for this but who asked.
                let restored = tokio::task::spawn_blocking(move || written.restore()).await;
                let restored = restored.unwrap_or_else(|error| Err(error.to_string()));
                let reason = match restored {
                    Ok(()) => format!("{reason} (nothing was changed)"),
                    Err(trouble) => format!("{reason}; the tunnel is as it was, but {trouble}"),
                };
                self.audit.edited(&by, &change, Err(&reason), None);
                reply.outcome(Err(reason.into()));
            }
        }
    }
}
