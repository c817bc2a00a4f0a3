//! What is done with a peer's packets besides sealing and opening them, and what it is in a fleet.

/// What is done with a peer's packets besides sealing and opening them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Handling {
    /// Those that come from it are held until it is their turn.
    pub hold_up: bool,
    /// Those that go to it are.
    pub hold_down: bool,
    /// The DSCP of a packet is written to its datagram's header.
    pub copy_dscp: bool,
}

impl Handling {
    const HOLD_UP: u8 = 1;
    const HOLD_DOWN: u8 = 2;
    const COPY_DSCP: u8 = 4;

    pub(super) fn bits(self) -> u8 {
        let bit = |yes: bool, bit: u8| if yes { bit } else { 0 };
        bit(self.hold_up, Self::HOLD_UP)
            | bit(self.hold_down, Self::HOLD_DOWN)
            | bit(self.copy_dscp, Self::COPY_DSCP)
    }

    pub(super) fn of(bits: u8) -> Self {
        Self {
            hold_up: bits & Self::HOLD_UP != 0,
            hold_down: bits & Self::HOLD_DOWN != 0,
            copy_dscp: bits & Self::COPY_DSCP != 0,
        }
    }
}

/// What a peer is in the fleet of this hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum FleetPart {
    /// It is this hub's alone, or there is no fleet.
    #[default]
    None = 0,
    /// A peer that all hubs of the fleet have. Another hub may bring what it sends.
    Peer = 1,
    /// Another hub. What it brings goes to peers of this hub and to no third one.
    Hub = 2,
    /// Such a peer that is at home at another hub: what is for it goes there.
    Away = 3,
}

impl FleetPart {
    pub(super) fn of(byte: u8) -> Self {
        match byte {
            1 => Self::Peer,
            2 => Self::Hub,
            3 => Self::Away,
            _ => Self::None,
        }
    }
}
