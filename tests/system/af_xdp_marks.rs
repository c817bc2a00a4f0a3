//! AF_XDP: what leaves past the network stack can't be marked, so none does while there is a
//! mark to be set, from the moment at which it is.

use anyhow::{Context, Result, ensure};
use taltun_tests::command::output_of;
use taltun_tests::lab::{Lab, PORT, Role};
use taltun_tests::traffic::ping::Pinger;

use crate::af_xdp::{connected, sent};
use crate::af_xdp_exits::ensure_own_packets_leave;
use crate::support::{ANSWER_LIMIT, Case, set_by_uapi, take_down};

pub const CASES: &[Case] = &[Case {
    name: "AF_XDP: a fwmark that wg sets is on the next packet, and on all that follow",
    programs: &["nft"],
    run: marked_from_the_next_packet_on,
}];

/// Packets that are sent after the change.
const PACKETS: u32 = 100;

fn marked_from_the_next_packet_on() -> Result<()> {
    let lab = connected()?;
    ensure_own_packets_leave(&lab)?;
    let rules = format!(
        "add table inet marks; add counter inet marks with; add counter inet marks without; \
         add chain inet marks out {{ type filter hook output priority 0; }}; \
         add rule inet marks out udp sport {PORT} meta mark 66 counter name with; \
         add rule inet marks out udp sport {PORT} meta mark != 66 counter name without;"
    );
    for (round, mark) in [66, 0, 66].into_iter().enumerate() {
        let before = sent(&lab)?;
        let answer = set_by_uapi(&lab.hub, &format!("fwmark={mark}"))?;
        ensure!(answer.contains("errno=0"), "it said: {answer}");
        output_of(lab.net.hub.command("nft").arg(&rules))?;
        let mut pinger = Pinger::new(&lab.net.hub, Role::B.v4())?;
        let answered = pinger.count_answers(PACKETS as usize, ANSWER_LIMIT)?;
        ensure!(answered == PACKETS as usize, "{answered} answered");
        let past_the_stack = sent(&lab)? - before;
        let (with, without) = (count(&lab, "with")?, count(&lab, "without")?);
        let told = format!(
            "round {round}, mark {mark}: {with} marked, {without} not, {past_the_stack} by AF_XDP"
        );
        if mark == 0 {
            ensure!(with == 0 && past_the_stack > 0, "{told}");
        } else {
            ensure!(past_the_stack == 0 && without == 0, "{told}");
            ensure!(with >= u64::from(PACKETS), "{told}");
        }
        output_of(lab.net.hub.command("nft").arg("delete table inet marks"))?;
    }
    take_down(lab)
}

fn count(lab: &Lab, counter: &str) -> Result<u64> {
    let mut nft = lab.net.hub.command("nft");
    let told = output_of(nft.args(["list", "counter", "inet", "marks", counter]))?;
    let mut words = told.split_whitespace();
    words
        .find(|word| *word == "packets")
        .and_then(|_| words.next()?.parse().ok())
        .with_context(|| format!("nft tells no number: {told}"))
}
