//! The words of a configuration that stand for one of a few things.

use super::{Action, AfXdp, Dscp, FirewallChoice, ForwardSource, Mode, Priority, Shell, XdpMode};

/// What a file names by one of a few words.
pub trait Words: Copy + 'static {
    /// The words with what they mean, in the order of the reference.
    const WORDS: &'static [(&'static str, Self)];
    /// The words alone.
    const NAMES: &'static [&'static str];

    /// The word for this.
    fn word(self) -> &'static str;
}

macro_rules! words {
    ($($kind:ident { $($word:literal => $variant:ident,)* })*) => {
        $(
            impl Words for $kind {
                const WORDS: &'static [(&'static str, Self)] = &[$(($word, Self::$variant)),*];
                const NAMES: &'static [&'static str] = &[$($word),*];

                fn word(self) -> &'static str {
                    match self {
                        $(Self::$variant => $word,)*
                    }
                }
            }
        )*
    };
}

words! {
    Mode {
        "server" => Server,
        "client" => Client,
    }
    Action {
        "allow" => Allow,
        "deny" => Deny,
    }
    Dscp {
        "none" => None,
        "copy" => Copy,
    }
    ForwardSource {
        "hub" => Hub,
        "keep" => Keep,
    }
    FirewallChoice {
        "auto" => Auto,
        "nftables" => Nftables,
        "iptables" => Iptables,
        "none" => None,
    }
    Shell {
        "sh" => Sh,
        "bash" => Bash,
    }
    XdpMode {
        "auto" => Auto,
        "driver" => Driver,
        "generic" => Generic,
        "off" => Off,
    }
    Priority {
        "normal" => Normal,
        "high" => High,
        "realtime" => Realtime,
    }
    AfXdp {
        "auto" => Auto,
        "on" => On,
        "off" => Off,
    }
}
