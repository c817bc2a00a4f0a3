//! A hub at many ports and addresses, some of which are blocked.

use anyhow::{Context, Result, ensure};
use taltun_tests::command::output_of;
use taltun_tests::node::{Keys, Node};
use taltun_tests::sys::Signal;
use taltun_tests::topology::{Pair, WIRE_A, private_prefix};

use crate::support::{Case, UP_LIMIT, ensure_answers_within, taltun};

pub const CASES: &[Case] = &[
    Case {
        name: "hop: a client comes up by a range of ports of which every second one is blocked, and keeps the port that answers",
        programs: &["nft"],
        run: half_of_the_ports,
    },
    Case {
        name: "hop: of several endpoints the one that answers is used, within one initiation",
        programs: &[],
        run: several_endpoints,
    },
];

const HUB_VIP: &str = "10.4.0.1";

fn half_of_the_ports() -> Result<()> {
    let lab = lab()?;
    let even: Vec<String> = (5000..5100)
        .step_by(2)
        .map(|port: u16| port.to_string())
        .collect();
    let rules = format!(
        "table inet hop {{\nchain blocked {{ type filter hook prerouting priority -300; \
         udp dport {{ {} }} drop; }}\n\
         chain range {{ type nat hook prerouting priority -100; udp dport 5000-5099 redirect to :9000; }}\n}}",
        even.join(", ")
    );
    output_of(lab.pair.right.command("nft").arg(&rules))?;
    let hub = WIRE_A.far_v4();
    let node = lab.start(
        &format!("endpoint = \"{hub}\"\n"),
        "[hop]\nport_range = [5000, 5099]\n",
    )?;
    ensure_answers_within(&lab.pair.left, HUB_VIP.parse()?, UP_LIMIT)
        .with_context(|| node.log())?;
    let port = || -> Result<u64> {
        let status: serde_json::Value = serde_json::from_str(&node.tell(&["status", "--json"])?)?;
        let endpoint = status["peers"][0]["endpoint"].as_str().unwrap_or_default();
        let port = endpoint
            .strip_prefix(&format!("{hub}:"))
            .context("another address")?;
        Ok(port.parse()?)
    };
    let first = port()?;
    ensure!((5000..5100).contains(&first) && first % 2 == 1, "{first}");
    // Another range, without a restart.
    let text = lab.text(&format!("endpoint = \"{hub}:5050-5099\"\n"), "");
    std::fs::write(node.config(), text)?;
    node.tell(&["reload"])?;
    ensure_answers_within(&lab.pair.left, HUB_VIP.parse()?, 3 * UP_LIMIT)
        .with_context(|| node.log())?;
    let second = port()?;
    ensure!(
        (5050..5100).contains(&second) && second % 2 == 1,
        "{second}"
    );
    lab.end(node)
}

fn several_endpoints() -> Result<()> {
    let lab = lab()?;
    // Nobody has the first, the second isn't listened on.
    let endpoints = format!(
        "endpoints = [\"10.99.1.99:9000\", \"{0}:9001\", \"[{1}]:9000\", \"{0}:9002\"]\n",
        WIRE_A.far_v4(),
        WIRE_A.far_v6()
    );
    let node = lab.start(&endpoints, "")?;
    ensure_answers_within(&lab.pair.left, HUB_VIP.parse()?, UP_LIMIT)
        .with_context(|| node.log())?;
    let status = node.tell(&["status"])?;
    let used = format!("[{}]:9000", WIRE_A.far_v6());
    ensure!(status.contains(&used), "{status}");
    lab.end(node)
}

/// A hub on the right, and a place for its client on the left.
struct Lab {
    pair: Pair,
    ours: Keys,
    theirs: Keys,
    hub: Node,
}

fn lab() -> Result<Lab> {
    let pair = Pair::create(&private_prefix())?;
    let (ours, theirs) = (Keys::generate(&taltun()?)?, Keys::generate(&taltun()?)?);
    let text = format!(
        "[interface]\nmode = \"server\"\nvip = \"{HUB_VIP}/24\"\nprivate_key = \"{}\"\n\
         [[peers]]\npublic_key = \"{}\"\nvip = \"10.4.0.2\"\n",
        theirs.private, ours.public
    );
    let hub = Node::start_with_text(&pair.right, &taltun()?, &text)?;
    Ok(Lab {
        pair,
        ours,
        theirs,
        hub,
    })
}

impl Lab {
    fn text(&self, endpoint: &str, more: &str) -> String {
        format!(
            "[interface]\nmode = \"client\"\nvip = \"10.4.0.2/24\"\nprivate_key = \"{}\"\n\
             [[peers]]\npublic_key = \"{}\"\nvip = \"{HUB_VIP}\"\n{endpoint}{more}",
            self.ours.private, self.theirs.public
        )
    }

    fn start(&self, endpoint: &str, more: &str) -> Result<Node> {
        Node::start_with_text(&self.pair.left, &taltun()?, &self.text(endpoint, more))
    }

    fn end(self, node: Node) -> Result<()> {
        node.stop(Signal::Terminate)?;
        self.hub.stop(Signal::Terminate)
    }
}
