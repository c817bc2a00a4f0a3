//! What is where on the terminal, by its size.

/// What the list is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum View {
    /// The peers.
    Peers,
    /// Who sends to our port.
    Outside,
    /// Whose packets come out of the tunnel.
    Inside,
    /// What is dropped, by reason.
    Drops,
    /// Which peer sends to which by the relay.
    Relayed,
}

impl View {
    pub(super) const ALL: [Self; 5] = [
        Self::Peers,
        Self::Outside,
        Self::Inside,
        Self::Drops,
        Self::Relayed,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Peers => "peers",
            Self::Outside => "senders outside",
            Self::Inside => "senders inside",
            Self::Drops => "drops",
            Self::Relayed => "peer to peer",
        }
    }
}

/// Rows of what is beside the peers, its heads included.
const BESIDE: usize = 6;
/// Terminals with so many rows have it.
const BESIDE_FROM: usize = 20;
/// Terminals with so many rows tell how the tunnel is attached.
const MODES_FROM: usize = 12;

/// What is where on a terminal of so many rows.
pub(super) struct Places {
    pub(super) modes: usize,
    pub(super) list: usize,
    pub(super) beside: usize,
}

impl Places {
    pub(super) fn of(view: View, rows: usize) -> Self {
        let modes = usize::from(rows >= MODES_FROM);
        let beside = if view == View::Peers && rows >= BESIDE_FROM {
            BESIDE
        } else {
            0
        };
        Self {
            modes,
            // The first line, and the last one.
            list: rows.saturating_sub(2 + modes + beside),
            beside,
        }
    }
}

/// How many rows of the list a terminal of this size shows, without its heads.
pub(super) fn list_rows(view: View, (_, rows): (usize, usize)) -> usize {
    Places::of(view, rows).list.saturating_sub(1)
}
