//! The rows of the table: what is measured, and under which shield.

use clap::ValueEnum;
use taltun_tests::node::XdpMode;

/// A row, by the name that `--only` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Name {
    /// One TCP stream from a to the hub.
    Tcp1,
    /// Four of them.
    Tcp4,
    /// UDP datagrams of 1300 bytes, as fast as they can be sent.
    Udp1300,
    /// UDP datagrams of 64 bytes, as fast as they can be sent.
    Udp64,
    /// One TCP stream from a through the hub to b.
    Relay,
    /// Echo requests through an idle tunnel.
    Ping,
    /// Echo requests beside a TCP stream.
    PingLoad,
    /// tcp1, with Taltun's XDP program attached in generic mode.
    Tcp1Generic,
    /// tcp4, likewise.
    Tcp4Generic,
    /// relay, likewise.
    RelayGeneric,
    /// tcp1, with XDP in driver mode on the veths and GRO on: Taltun's own program, and for
    /// the others one that passes everything.
    Driver,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Test {
    /// TCP from a to the hub, in so many streams.
    Tcp(u32),
    /// UDP from a to the hub, in datagrams of so many bytes, in Gbit/s received.
    UdpRate(u32),
    /// The same, in thousands of packets received in a second.
    UdpPackets(u32),
    /// TCP from a by the hub to b.
    Relay,
    /// The median time of an echo.
    Ping,
    /// The time within which 99 of 100 echoes are there, beside a TCP stream.
    PingUnderLoad,
}

/// A row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// What it is called.
    pub name: Name,
    /// What is measured.
    pub test: Test,
    /// How Taltun attaches its XDP program.
    pub xdp: XdpMode,
}

/// The rows to measure: those named in `only`, or all, or in a hurry those without XDP. With
/// `xdp` given every row is under that shield, and those that exist to vary it fall away.
pub fn choose(only: &[Name], xdp: Option<XdpMode>, quick: bool) -> Vec<Row> {
    Name::value_variants()
        .iter()
        .filter_map(|name| {
            let (_, test, shield) = name.meaning();
            let chosen = if only.is_empty() {
                shield == XdpMode::Off || (xdp.is_none() && !quick)
            } else {
                only.contains(name)
            };
            chosen.then_some(Row {
                name: *name,
                test,
                xdp: xdp.unwrap_or(shield),
            })
        })
        .collect()
}

impl Name {
    /// What it is called, on the command line and in the table.
    pub fn word(self) -> &'static str {
        self.meaning().0
    }

    /// What it is called, what is measured, and how Taltun attaches its XDP program.
    fn meaning(self) -> (&'static str, Test, XdpMode) {
        use XdpMode::{Driver, Generic, Off};
        match self {
            Self::Tcp1 => ("tcp1", Test::Tcp(1), Off),
            Self::Tcp4 => ("tcp4", Test::Tcp(4), Off),
            Self::Udp1300 => ("udp1300", Test::UdpRate(1300), Off),
            Self::Udp64 => ("udp64", Test::UdpPackets(64), Off),
            Self::Relay => ("relay", Test::Relay, Off),
            Self::Ping => ("ping", Test::Ping, Off),
            Self::PingLoad => ("ping-load", Test::PingUnderLoad, Off),
            Self::Tcp1Generic => ("tcp1-generic", Test::Tcp(1), Generic),
            Self::Tcp4Generic => ("tcp4-generic", Test::Tcp(4), Generic),
            Self::RelayGeneric => ("relay-generic", Test::Relay, Generic),
            Self::Driver => ("driver", Test::Tcp(1), Driver),
        }
    }
}

impl Row {
    /// What is measured, for people.
    pub fn title(self) -> String {
        let mut title = match self.test {
            Test::Tcp(1) => "TCP, 1 stream".to_owned(),
            Test::Tcp(streams) => format!("TCP, {streams} streams"),
            Test::UdpRate(bytes) | Test::UdpPackets(bytes) => {
                format!("UDP, {bytes}-byte datagrams received")
            }
            Test::Relay => "relay a → hub → b, TCP".to_owned(),
            Test::Ping => "ping, idle, median".to_owned(),
            Test::PingUnderLoad => "ping beside TCP, 99th percentile".to_owned(),
        };
        match self.xdp {
            XdpMode::Off => {}
            XdpMode::Driver => title += ", driver XDP on the veths, GRO on, all alike",
            mode => title = format!("{title}, Taltun with {} XDP", mode.name()),
        }
        title
    }

    /// In what it is measured.
    pub fn unit(self) -> &'static str {
        match self.test {
            Test::Tcp(_) | Test::UdpRate(_) | Test::Relay => "Gbit/s",
            Test::UdpPackets(_) => "kpps",
            Test::Ping | Test::PingUnderLoad => "µs",
        }
    }

    /// Whether less is better.
    pub fn less_is_better(self) -> bool {
        matches!(self.test, Test::Ping | Test::PingUnderLoad)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(rows: &[Row]) -> Vec<&'static str> {
        rows.iter().map(|row| row.name.word()).collect()
    }

    #[test]
    fn a_row_is_called_in_the_table_as_on_the_command_line() {
        for name in Name::value_variants() {
            let value = name.to_possible_value().unwrap();
            assert_eq!(value.get_name(), name.word());
        }
    }

    #[test]
    fn all_rows_come_with_their_own_shields() {
        let rows = choose(&[], None, false);
        assert_eq!(rows.len(), Name::value_variants().len());
        let driver: Vec<_> = rows
            .iter()
            .filter(|row| row.xdp == XdpMode::Driver)
            .map(|row| row.name)
            .collect();
        assert_eq!(driver, [Name::Driver]);
    }

    #[test]
    fn in_a_hurry_there_is_no_shield_unless_asked_for() {
        let base = [
            "tcp1",
            "tcp4",
            "udp1300",
            "udp64",
            "relay",
            "ping",
            "ping-load",
        ];
        assert_eq!(words(&choose(&[], None, true)), base);
        assert_eq!(words(&choose(&[Name::Driver], None, true)), ["driver"]);
    }

    #[test]
    fn a_given_shield_is_that_of_every_row() {
        let rows = choose(&[], Some(XdpMode::Generic), false);
        assert_eq!(rows.len(), 7);
        assert!(rows.iter().all(|row| row.xdp == XdpMode::Generic));
    }
}
