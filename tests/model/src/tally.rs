//! What came about, so that it can be seen that a model goes where it should.

use std::ops::AddAssign;

/// Declares the figures, with their sum.
macro_rules! tally {
    ($($(#[$words:meta])* $name:ident),* $(,)?) => {
        /// How often each thing came about.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct Tally {
            $($(#[$words])* pub $name: u64,)*
            /// The longest time until all talked with all, once the network was kind, milliseconds.
            pub longest_recovery_ms: u64,
        }

        impl AddAssign for Tally {
            fn add_assign(&mut self, other: Self) {
                $(self.$name += other.$name;)*
                self.longest_recovery_ms = self.longest_recovery_ms.max(other.longest_recovery_ms);
            }
        }

        impl Tally {
            /// Those that never came about.
            pub fn never(&self) -> Vec<&'static str> {
                [$((stringify!($name), self.$name)),*]
                    .into_iter()
                    .filter(|(_, count)| *count == 0)
                    .map(|(name, _)| name)
                    .collect()
            }
        }
    };
}

tally! {
    /// Transitions that were made.
    transitions,
    /// Messages that arrived somewhere.
    messages,
    /// Wake-ups by timers.
    wakes,
    /// Packets that came out at an interface.
    delivered,
    /// Packets that the hub sealed again for another spoke.
    relayed,
    /// Packets that rules stopped.
    denied,
    /// Packets whose source wasn't their sender's.
    foreign_sources,
    /// Sessions that began, one for each side.
    sessions,
    /// Peers that were heard from elsewhere.
    moves,
    /// Data that went another way from then on.
    path_changes,
    /// Cookies that were sent.
    cookies,
    /// Initiations that were by a minute or more older than the last one.
    clocks_behind,
    /// Handshakes that got no answer for 90 s.
    given_up,
    /// Initiations by a key that is no peer's.
    strangers,
}

impl Tally {
    /// All that happened: what was done, what arrived, who woke.
    pub fn events(&self) -> u64 {
        self.transitions + self.messages + self.wakes
    }
}
