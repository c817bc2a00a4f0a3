//! The sessions of a peer: one that seals, and those that still open what is on its way.

use std::sync::Arc;

use crate::session::{Role, Session};

/// The sessions of a peer in transition (paper §6.3, and the kernel's `keypairs`).
///
/// The kernel keeps one session before the current one. With lost confirmations and
/// handshakes that cross, the other side may still seal on one that is older than that, or
/// already on one that another initiation replaced; so a few are kept.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    /// Those before, newest first: still open what is on its way.
    pub(super) older: Vec<Arc<Session>>,
    /// The one that seals.
    pub(super) current: Option<Arc<Session>>,
    /// Made as responder, not yet confirmed by data: opens, doesn't seal.
    pub(super) next: Option<Arc<Session>>,
    /// No longer used; the controller takes their indices back.
    pub(super) retired: Vec<Arc<Session>>,
}

/// How many sessions open packets beside the current and the next one.
const OLDER_SESSIONS: usize = 3;

impl Sessions {
    pub(super) fn begin(&mut self, session: Arc<Session>, role: Role) {
        match role {
            Role::Initiator => {
                let replaced = [self.next.take(), self.current.replace(session)];
                self.demote(replaced);
            }
            Role::Responder => {
                let replaced = self.next.replace(session);
                self.demote([replaced]);
            }
        }
    }

    /// Data arrived on `session` for the first time: it becomes current, unless that was
    /// made after it.
    pub(super) fn promote(&mut self, session: &Arc<Session>) {
        let current_is_newer = self
            .current
            .as_ref()
            .is_some_and(|current| current.born() > session.born());
        if current_is_newer {
            return;
        }
        let promoted = match self.older.iter().position(|old| Arc::ptr_eq(old, session)) {
            Some(at) => Some(self.older.remove(at)),
            None => self.next.take_if(|next| Arc::ptr_eq(next, session)),
        };
        if let Some(promoted) = promoted {
            let replaced = self.current.replace(promoted);
            self.demote([replaced]);
        }
    }

    fn demote<const N: usize>(&mut self, sessions: [Option<Arc<Session>>; N]) {
        self.older.splice(0..0, sessions.into_iter().flatten());
        let kept = self.older.len().min(OLDER_SESSIONS);
        self.retired.extend(self.older.drain(kept..));
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Session>> {
        self.older.iter().chain(&self.current).chain(&self.next)
    }
}
