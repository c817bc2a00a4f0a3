//! Two ends of a tunnel over one wire, which most manners are tested with.

use anyhow::{Context, Result, ensure};
use taltun_tests::command::output_of;
use taltun_tests::lab::{PORT, Role};
use taltun_tests::netns::Namespace;
use taltun_tests::node::RUNTIME_DIR;
use taltun_tests::topology::{Pair, WIRE_A, private_prefix};
use taltun_tests::traffic::ping::Pinger;

use crate::support::{ANSWER_LIMIT, ensure_answers, taltun};
use crate::wireguard::{Program, Wg, WgKeys, WgPeer, at};

/// Ours is on the left with 10.200.0.1, the other on the right with 10.200.0.2. Both know
/// where the other is.
pub struct Ends {
    pub pair: Pair,
    pub left: Wg,
    pub right: Wg,
    pub left_keys: WgKeys,
    pub right_keys: WgKeys,
}

impl Ends {
    /// Taltun on the left, `right` on the right.
    pub fn start(right: Program) -> Result<Self> {
        let pair = Pair::create(&private_prefix())?;
        let ends = Self {
            left: Wg::start(Program::Taltun, &pair.left)?,
            right: Wg::start(right, &pair.right)?,
            left_keys: WgKeys::generate()?,
            right_keys: WgKeys::generate()?,
            pair,
        };
        let to_right = at(WIRE_A.far_v4(), PORT);
        let to_left = at(WIRE_A.near_v4(), PORT);
        ends.left
            .configure(&ends.left_keys, PORT, &[end(&ends.right_keys, 2, to_right)])?;
        ends.right
            .configure(&ends.right_keys, PORT, &[end(&ends.left_keys, 1, to_left)])?;
        ends.left.bring_up(&["10.200.0.1/24", "fd00:200::1/64"])?;
        ends.right.bring_up(&["10.200.0.2/24", "fd00:200::2/64"])?;
        Ok(ends)
    }

    pub fn left_reaches_right(&self) -> Result<()> {
        ensure_answers(&self.pair.left, Role::A.v4())
    }

    pub fn right_reaches_left(&self) -> Result<()> {
        ensure_answers(&self.pair.right, Role::Hub.v4())
    }
}

/// Not one ping of six from `namespace` to `to` is lost.
pub fn ensure_loses_none(namespace: &Namespace, role: Role) -> Result<()> {
    let answered = Pinger::new(namespace, role.v4())?.count_answers(6, ANSWER_LIMIT)?;
    ensure!(answered == 6, "{role} answered {answered} of 6 pings");
    Ok(())
}

/// A peer with the addresses of `number`.
pub fn end(keys: &WgKeys, number: u8, endpoint: String) -> WgPeer {
    WgPeer {
        public_key: keys.public.clone(),
        allowed_ips: format!("10.200.0.{number}/32, fd00:200::{number}/128"),
        endpoint: Some(endpoint),
        ..WgPeer::default()
    }
}

/// How many packets an interface of ours dropped for `reason`.
pub fn dropped(wg: &Wg, reason: &str) -> Result<u64> {
    let stats = output_of(
        std::process::Command::new(taltun()?)
            .args(["stats", wg.interface(), "--json"])
            .env(RUNTIME_DIR, wg.directory()),
    )?;
    let stats: taltun_tests::report::Stats =
        serde_json::from_str(&stats).context("stats that can't be read")?;
    Ok(stats.dropped(reason))
}
