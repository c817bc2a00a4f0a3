//! What the kernel makes of the sizes of its buffers that it is asked for.
//!
//! It gives no more than `net.core.rmem_max` and `net.core.wmem_max`, without a word, and twice
//! what it gives may be in use, as it counts its own expense.

use std::io;

use socket2::{Domain, Protocol, Socket, Type};

use crate::options::Options;

/// What the kernel gives, at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Buffers {
    receive: usize,
    send: usize,
}

impl Buffers {
    /// Asks the kernel of this machine.
    pub fn ask() -> io::Result<Self> {
        // Any socket will do. It doubles what it is asked for, and says so.
        const MUCH: usize = 1 << 30;
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_recv_buffer_size(MUCH)?;
        socket.set_send_buffer_size(MUCH)?;
        Ok(Self {
            receive: socket.recv_buffer_size()? / 2,
            send: socket.send_buffer_size()? / 2,
        })
    }

    /// What to do where the kernel gives less than what is asked for.
    pub fn advice(&self, options: &Options) -> Option<String> {
        let receive = options.tcp_receive_buffer.max(options.udp_buffer);
        let send = options.tcp_send_buffer.max(options.udp_buffer);
        let limits = [
            ("net.core.rmem_max", self.receive, receive),
            ("net.core.wmem_max", self.send, send),
        ];
        let mut limited = Vec::new();
        let mut wanted = Vec::new();
        for (name, limit, asked) in limits {
            if let Some(asked) = asked.filter(|asked| *asked > limit) {
                limited.push(format!("{name} is {limit}"));
                wanted.push(format!("{name}={asked}"));
            }
        }
        (!limited.is_empty()).then(|| {
            format!(
                "the kernel's buffers are smaller than asked for ({}); `sysctl -w {}` makes room",
                limited.join(", "),
                wanted.join(" ")
            )
        })
    }

    /// What the kernel can hold for all clients together, bytes; none if a size is left to it,
    /// as it chooses as it likes then.
    pub fn bound(&self, options: &Options) -> Option<usize> {
        let receive = |asked: usize| 2 * asked.min(self.receive);
        let send = |asked: usize| 2 * asked.min(self.send);
        let client = receive(options.tcp_receive_buffer?) + send(options.tcp_send_buffer?);
        let connection = receive(options.udp_buffer?) + send(options.udp_buffer?);
        let (clients, connections) = options.served();
        let all = clients.saturating_mul(client);
        Some(all.saturating_add(connections.saturating_mul(connection)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_says_what_it_gives() {
        let buffers = Buffers::ask().unwrap();
        assert!(buffers.receive > 1000 && buffers.send > 1000, "{buffers:?}");
    }

    #[test]
    fn what_is_too_small_is_named_and_what_there_can_be_is_added_up() {
        let buffers = Buffers {
            receive: 212_992,
            send: 425_984,
        };
        let options = Options {
            max_clients: 10,
            max_connections: 2,
            ..Options::default()
        };
        assert_eq!(
            buffers.advice(&options).unwrap(),
            "the kernel's buffers are smaller than asked for (net.core.rmem_max is 212992); \
             `sysctl -w net.core.rmem_max=262144` makes room"
        );
        let enough = Options {
            tcp_receive_buffer: None,
            ..options.clone()
        };
        assert_eq!(buffers.advice(&enough), None);
        let clients = 10 * 2 * (212_992 + 262_144);
        let connections = 20 * 2 * (131_072 + 131_072);
        assert_eq!(buffers.bound(&options), Some(clients + connections));
        let unknown = Options {
            udp_buffer: None,
            ..options
        };
        assert_eq!(buffers.bound(&unknown), None);
    }
}
