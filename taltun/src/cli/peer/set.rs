//! `taltun peer set`

use std::fmt::Display;
use std::str::FromStr;

use clap::Args;
use ipnet::IpNet;

use super::network::Network;
use super::told;
use crate::cli::failure::Failure;
use crate::cli::target::Target;
use crate::control::request::{PeerEdit, SetPeer};

/// Change what a peer has and may: networks behind it, its last day, quota and rates.
///
/// What isn't given stays as it is; `none` takes away what there is. The session goes on. For another key or
/// preshared key use `rotate`, for another name `rename`.
#[derive(Args)]
#[command(group = clap::ArgGroup::new("value").required(true).multiple(true)
    .args(["allowed", "expires", "quota", "rate_up", "rate_down"]))]
pub(super) struct Set {
    /// Its name or public key.
    peer: String,

    /// The networks behind it, in place of those that there are; or none.
    #[arg(long, value_name = "NET|none", value_delimiter = ',')]
    allowed: Vec<OrNone<Network>>,

    /// Its last day, in UTC, such as 2026-12-31; or none.
    #[arg(long, value_name = "DATE|none")]
    expires: Option<OrNone<String>>,

    /// How much it may move, such as '100 GB/month'; or none.
    #[arg(long, value_name = "SIZE/SPAN|none")]
    quota: Option<OrNone<String>>,

    /// How fast it may send, such as '20 Mbit/s'; or none.
    #[arg(long, value_name = "RATE|none")]
    rate_up: Option<OrNone<String>>,

    /// How fast it may be sent to; or none.
    #[arg(long, value_name = "RATE|none")]
    rate_down: Option<OrNone<String>>,

    /// Print JSON.
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    target: Target,
}

/// A value, or the word for none.
#[derive(Debug, Clone, PartialEq, Eq)]
enum OrNone<T> {
    None,
    Some(T),
}

impl<T: FromStr<Err: Display>> FromStr for OrNone<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self::None),
            "" => Err("expected a value, or none to take it away".to_owned()),
            text => match text.parse() {
                Ok(value) => Ok(Self::Some(value)),
                Err(error) => Err(error.to_string()),
            },
        }
    }
}

impl Set {
    pub(super) fn run(self) -> Result<(), Failure> {
        let text = |given: Option<OrNone<String>>| match given? {
            OrNone::None => Some(String::new()),
            OrNone::Some(text) => Some(text),
        };
        let edit = PeerEdit::Set(SetPeer {
            peer: self.peer,
            allowed_ips: networks(&self.allowed)?,
            expires: text(self.expires),
            quota: text(self.quota),
            rate_up: text(self.rate_up),
            rate_down: text(self.rate_down),
        });
        told::change(&self.target, edit, self.json)
    }
}

/// The networks that are given, if any are.
fn networks(given: &[OrNone<Network>]) -> Result<Option<Vec<IpNet>>, Failure> {
    let nets = given.iter().filter_map(|it| match it {
        OrNone::None => None,
        OrNone::Some(net) => Some(net.0),
    });
    let nets: Vec<IpNet> = nets.collect();
    match given {
        [] => Ok(None),
        [OrNone::None] => Ok(Some(Vec::new())),
        all if all.len() == nets.len() => Ok(Some(nets)),
        _ => Err(Failure::Usage(
            "--allowed takes networks or the word none, not both".to_owned(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_or_none_are_given() {
        let of = |words: &[&str]| {
            let given: Vec<OrNone<Network>> =
                words.iter().map(|word| word.parse().unwrap()).collect();
            networks(&given).map_err(|failure| failure.to_string())
        };
        let net: IpNet = "10.1.0.0/16".parse().unwrap();
        assert_eq!(of(&[]), Ok(None));
        // What an empty variable of a script gives isn't the word for none.
        assert!("".parse::<OrNone<String>>().is_err());
        assert_eq!(of(&["none"]), Ok(Some(Vec::new())));
        assert_eq!(of(&["10.1.0.0/16"]), Ok(Some(vec![net])));
        assert!(of(&["none", "10.1.0.0/16"]).is_err());
    }
}
