//! What a gateway counts. Each worker has counters of its own, so that no two write to one.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[doc = $doc:literal])* $name:ident,)*) => {
        /// Counters that a worker adds to and others read.
        #[derive(Debug, Default)]
        #[repr(align(128))]
        pub struct Counters {
            $($(#[doc = $doc])* pub $name: Counter,)*
        }

        /// The counters at a time, of all workers together.
        #[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
        pub struct Snapshot {
            $($(#[doc = $doc])* pub $name: u64,)*
        }

        impl Snapshot {
            pub(crate) fn add(&mut self, counters: &Counters) {
                $(self.$name += counters.$name.get();)*
            }

            /// With what an earlier gateway counted.
            #[must_use]
            pub fn and(mut self, earlier: &Self) -> Self {
                $(self.$name += earlier.$name;)*
                self
            }

            /// All of them, with their names.
            pub fn named(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name)),*].into_iter()
            }
        }
    };
}

counters! {
    /// Clients that were served.
    clients_accepted,
    /// Clients that were refused because there were as many as may be.
    clients_refused,
    /// Clients that ended by themselves.
    ended_by_client,
    /// Clients that said nothing for too long.
    ended_timeout,
    /// Clients whose bytes were no frames.
    ended_malformed,
    /// Clients whose TCP connection broke, keepalive included.
    ended_broken,
    /// Clients that were ended by the gateway's own end.
    ended_with_gateway,
    /// Keepalives of clients.
    keepalives,
    /// Connections that were opened.
    opened,
    /// Connections that were closed because their client opened another.
    closed_least_recent,
    /// Connections that weren't used for too long.
    closed_timeout,
    /// Connections that began anew: with a flag, for another address or another name server.
    closed_rebind,
    /// Connections to where clients may not send any more.
    closed_denied,
    /// Connections whose client ended.
    closed_with_client,
    /// Datagrams sent for clients.
    to_udp,
    /// Bytes in them.
    to_udp_bytes,
    /// Datagrams for clients.
    to_client,
    /// Bytes in them.
    to_client_bytes,
    /// Datagrams to where clients may not send.
    dropped_destination,
    /// Datagrams for a name server where there is none.
    dropped_no_resolver,
    /// Datagrams for which there was no socket: no port left, no route.
    dropped_no_socket,
    /// Datagrams for which no more files can be open.
    dropped_no_file,
    /// Datagrams that the kernel refused to send.
    dropped_send,
    /// Datagrams larger than may be, in either direction.
    dropped_size,
    /// Messages with a flag that the protocol doesn't have.
    dropped_flag,
    /// Datagrams for clients that read too slowly.
    dropped_slow_client,
}

/// A number that only one thread adds to.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, amount: u64) {
        // Nobody else writes, so this needs no locked instruction.
        let value = self.0.load(Ordering::Relaxed) + amount;
        self.0.store(value, Ordering::Relaxed);
    }

    pub(crate) fn increment(&self) {
        self.add(1);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counters and how many clients and connections there are.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// Clients that are connected.
    pub clients: u64,
    /// Connections that are open.
    pub connections: u64,
    /// All that was counted.
    pub counted: Snapshot,
}

/// One line; counters of what went wrong only where they aren't 0.
impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const ALWAYS: &[&str] = &[
            "clients_accepted",
            "to_udp",
            "to_udp_bytes",
            "to_client",
            "to_client_bytes",
        ];
        write!(
            f,
            "clients={} connections={}",
            self.clients, self.connections
        )?;
        for (name, value) in self.counted.named() {
            if value > 0 || ALWAYS.contains(&name) {
                write!(f, " {name}={value}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_has_what_matters() {
        let counters = Counters::default();
        counters.to_udp.add(3);
        counters.dropped_slow_client.increment();
        let mut stats = Stats {
            clients: 1,
            connections: 2,
            ..Stats::default()
        };
        stats.counted.add(&counters);
        stats.counted.add(&counters);
        assert_eq!(
            stats.to_string(),
            "clients=1 connections=2 clients_accepted=0 to_udp=6 to_udp_bytes=0 to_client=0 \
             to_client_bytes=0 dropped_slow_client=2"
        );
    }
}
