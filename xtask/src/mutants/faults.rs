//! The faults: each a place in a file, and what stands there with the fault.

/// A fault.
#[derive(Debug, Clone, Copy)]
pub struct Mutant {
    /// What is wrong with it.
    pub what: &'static str,
    /// The file, and what is in it once.
    pub file: &'static str,
    pub from: &'static str,
    /// What takes its place.
    pub to: &'static str,
}

const fn mutant(
    what: &'static str,
    file: &'static str,
    from: &'static str,
    to: &'static str,
) -> Mutant {
    Mutant {
        what,
        file,
        from,
        to,
    }
}

/// All of them.
pub const MUTANTS: &[Mutant] = &[
    mutant(
        "messages that were spoilt are opened",
        "taltun/crypto/src/aead.rs",
        "        authentic.then_some(text).ok_or(AuthError)",
        "        let _ = authentic;\n        Ok(text)",
    ),
    mutant(
        "a counter is accepted again",
        "taltun/protocol/src/replay.rs",
        "        fresh\n    }\n}\n\nfn slot",
        "        let _ = fresh;\n        true\n    }\n}\n\nfn slot",
    ),
    mutant(
        "a counter is used twice now and then",
        "taltun/protocol/src/counter.rs",
        "let first = self.next.fetch_add(count, Ordering::Relaxed);",
        "let odd = self.next.load(Ordering::Relaxed) % 2;\n        \
         let first = self.next.fetch_add(count - odd, Ordering::Relaxed);",
    ),
    mutant(
        "a peer may send from any address",
        "taltun/protocol/src/tunnel.rs",
        "        owns && !self.is_never_a_peer(source)",
        "        let _ = owns;\n        !self.is_never_a_peer(source)",
    ),
    mutant(
        "a peer may send from the hub's address",
        "taltun/protocol/src/tunnel.rs",
        "        owns && !self.is_never_a_peer(source)",
        "        owns",
    ),
    mutant(
        "networks that a peer has no more still lead to it",
        "taltun/protocol/src/device/owned.rs",
        "routes.remove_if(*net, |owner| owner.id() == *id);",
        "routes.remove_if(*net, |owner| owner.id() == *id && false);",
    ),
    mutant(
        "a network that a peer got from another one is taken from it with the other's",
        "taltun/protocol/src/device/owned.rs",
        "                    self.take(before.id(), net);\n",
        "",
    ),
    mutant(
        "the sessions of a banned peer go on",
        "taltun/protocol/src/device/peers.rs",
        "        drop(control.peer.take_staged());\n        self.abandon_initiations(id);\n        \
         self.wipe_sessions(id);\n        self.schedule(id, now);",
        "        drop(control.peer.take_staged());\n        self.abandon_initiations(id);\n        \
         self.schedule(id, now);",
    ),
    mutant(
        "the sessions of a removed peer go on",
        "taltun/protocol/src/device/peers.rs",
        "        self.abandon_initiations(id);\n        self.wipe_sessions(id);\n        if let Some(control) = self.peers.remove(&id) {",
        "        self.abandon_initiations(id);\n        if let Some(control) = self.peers.remove(&id) {",
    ),
    mutant(
        "sessions open for ever",
        "taltun/protocol/src/device.rs",
        "                self.wipe_sessions(id);\n            }\n        }\n    }",
        "            }\n        }\n    }",
    ),
    mutant(
        "an index outlives its session",
        "taltun/protocol/src/device/handshakes.rs",
        "            tables.sessions.remove(&session.local_index());\n",
        "",
    ),
    mutant(
        "a keepalive is answered by a keepalive",
        "taltun/protocol/src/peer/activity.rs",
        "        self.last_received.store(now.as_nanos(), Ordering::Relaxed);\n        if data {",
        "        self.last_received.store(now.as_nanos(), Ordering::Relaxed);\n        if data || amount.packets > 0 {",
    ),
    mutant(
        "a deadline that is done with stays",
        "taltun/protocol/src/device.rs",
        "            self.deadlines.remove(&(old, id));\n        }\n        if let Some(deadline) = deadline {",
        "            let _ = (old, id);\n        }\n        if let Some(deadline) = deadline {",
    ),
    mutant(
        "who isn't answered asks for no handshake",
        "taltun/protocol/src/device.rs",
        "                control.peer.forget_local_address();\n                self.want_handshake(id, now);",
        "                control.peer.forget_local_address();",
    ),
    mutant(
        "an initiation without answer isn't sent again",
        "taltun/protocol/src/device.rs",
        "                    self.tunnel.note_place(id);\n                }\n                self.send_initiation(id, now);",
        "                    self.tunnel.note_place(id);\n                }",
    ),
    mutant(
        "no other place is tried",
        "taltun/protocol/src/device/places.rs",
        "        if let Some(next) = self.next_first(first, last.unwrap_or(first), pool, random, now) {",
        "        if let Some(next) = self\n            .next_first(first, last.unwrap_or(first), pool, random, now)\n            .filter(|_| false)\n        {",
    ),
    mutant(
        "rules that changed aren't asked about flows",
        "taltun/policy/src/judge.rs",
        "            generation: self.generation.wrapping_add(1),",
        "            generation: self.generation,",
    ),
    mutant(
        "a rule about ports is about some below them, too",
        "taltun/policy/src/compiled.rs",
        "if which == protocol::UDP => Some((first, last)),",
        "if which == protocol::UDP => Some((first / 10, last)),",
    ),
    mutant(
        "a relayed packet has a wrong checksum",
        "taltun/protocol/src/ip.rs",
        "let (sum, carry) = checksum.overflowing_add(0x0100);",
        "let (sum, carry) = checksum.overflowing_add(0x0001);",
    ),
    mutant(
        "a recorded initiation is answered again",
        "taltun/protocol/src/device/handshakes.rs",
        "            .is_some_and(|newest| verified.timestamp <= newest);",
        "            .is_some_and(|newest| verified.timestamp > newest && false);",
    ),
];
