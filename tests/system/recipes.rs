//! The recipes of the manual, with the very files of `taltun/dist/examples`: all that has to
//! be so, what must not, and that every machine is as it was before, also after SIGKILL and a
//! start and stop.

use std::fs;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use taltun_tests::lab::Role;
use taltun_tests::node::{Keys, Node};
use taltun_tests::recipes::{Deployment, Recipe};
use taltun_tests::snapshot::Snapshot;
use taltun_tests::sys::Signal;
use taltun_tests::topology::{Pair, WIRE_A, private_prefix};

use crate::support::{Case, ensure_answers, eventually, taltun};

pub const CASES: &[Case] = &[
    Case {
        name: "recipes: A, services of the hub are reached through the tunnel only",
        programs: &["nft"],
        run: || all_is_so(Recipe::A),
    },
    Case {
        name: "recipes: B, road warriors reach each other through the hub",
        programs: &[],
        run: || all_is_so(Recipe::B),
    },
    Case {
        name: "recipes: C, everything goes through the tunnel, without loop or leak",
        programs: &["nft"],
        run: || all_is_so(Recipe::C),
    },
    Case {
        name: "recipes: D, a network behind a gateway is reached, with and without translation",
        programs: &["nft"],
        run: || all_is_so(Recipe::D),
    },
    Case {
        name: "recipes: E, clients reach each other by a relay that forwards nothing else",
        programs: &[],
        run: || all_is_so(Recipe::E),
    },
    Case {
        name: "recipes: F, staff, guests and cameras of an office are held to rules and limits",
        programs: &["nft"],
        run: || all_is_so(Recipe::F),
    },
    Case {
        name: "recipes: hooks are run in order, and told what happened",
        programs: &[],
        run: hooks,
    },
    Case {
        name: "recipes: where rules can't be made the start is refused and nothing is touched",
        programs: &["nft"],
        run: no_firewall,
    },
];

fn all_is_so(recipe: Recipe) -> Result<()> {
    let mut lab = Deployment::start(recipe, &private_prefix(), &taltun()?)?;
    let mut wrong = Vec::new();
    for finding in lab.check() {
        match finding.outcome {
            Ok(detail) => println!("  {}: {detail}", finding.name),
            Err(error) => wrong.push(format!("{}: {error:#}", finding.name)),
        }
    }
    if let Err(error) = lab.end() {
        wrong.push(format!("afterwards: {error:#}"));
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// Two nodes; the left one writes down what its hooks are told.
fn hooks() -> Result<()> {
    let net = Pair::create(&private_prefix())?;
    let (left, right) = (Keys::generate(&taltun()?)?, Keys::generate(&taltun()?)?);
    let before = Snapshot::take(&net.left)?;
    let directory = std::env::temp_dir().join(format!("{}-hooks", private_prefix()));
    fs::create_dir_all(&directory)?;
    let said = directory.join("said");
    let tell = format!(
        "echo $TALTUN_HOOK $TALTUN_INTERFACE $TALTUN_LISTEN_PORT $TALTUN_PEER_NAME $TALTUN_PEER_ENDPOINT >> {}",
        said.display()
    );
    let text = format!(
        "[interface]\nmode = \"server\"\nvip = \"10.200.0.1/24\"\nprivate_key = \"{}\"\n\
         on_up = [\"exit 3\", {tell:?}]\non_down = {tell:?}\non_peer_up = {tell:?}\non_peer_down = {tell:?}\n\
         [[peers]]\nname = \"right\"\npublic_key = \"{}\"\nvip = \"10.200.0.2\"\n",
        left.private, right.public
    );
    let hub = Node::start_with_text(&net.left, &taltun()?, &text)?;
    let text = format!(
        "[interface]\nvip = \"10.200.0.2/24\"\nprivate_key = \"{}\"\n\
         [[peers]]\npublic_key = \"{}\"\nvip = \"10.200.0.1\"\nendpoint = \"{}:9000\"\n",
        right.private,
        left.public,
        WIRE_A.near_v4()
    );
    let spoke = Node::start_with_text(&net.right, &taltun()?, &text)?;
    ensure_answers(&net.right, Role::Hub.v4())?;
    let lines = || fs::read_to_string(&said).unwrap_or_default();
    eventually("the peer is told of", Duration::from_secs(5), || {
        Ok(lines().contains("on_peer_up"))
    })?;
    ensure!(
        hub.log().contains("on_up: `exit 3` failed"),
        "{}",
        hub.log()
    );
    spoke.stop(Signal::Terminate)?;
    hub.stop(Signal::Terminate)?;
    let peer = format!("right {}:9000", WIRE_A.far_v4());
    let expected = format!(
        "on_up taltun0 9000\non_peer_up taltun0 9000 {peer}\non_peer_down taltun0 9000 {peer}\non_down taltun0 9000\n"
    );
    let found = lines();
    fs::remove_dir_all(&directory)?;
    ensure!(found == expected, "{found}");
    let changes = before.difference(&Snapshot::take(&net.left)?);
    ensure!(changes.is_empty(), "{changes:?}");
    Ok(())
}

/// A root without `nft`, `iptables`, `resolvectl` and `resolvconf`, as a small container is:
/// a mount namespace whose system directories have everything else by links.
fn no_firewall() -> Result<()> {
    let net = Pair::create(&private_prefix())?;
    let before = Snapshot::take(&net.left)?;
    let keys = Keys::generate(&taltun()?)?;
    let script = r#"
        mount -t tmpfs none /mnt
        for d in sbin bin; do
            mkdir /mnt/$d /mnt/all-$d
            mount --bind /usr/$d /mnt/all-$d
            ln -s /mnt/all-$d/* /mnt/$d/
            (cd /mnt/$d && rm -f nft iptables* xtables* resolvectl resolvconf)
        done
        mount --bind /mnt/sbin /usr/sbin
        mount --bind /mnt/bin /usr/bin
        [ ! -d /usr/local/sbin ] || PATH=/usr/sbin:/usr/bin
        exec "$@""#;
    let through = ["sh", "-c", script, "sh"];
    for (more, expected) in [
        (
            "mss_clamp = true\n",
            "interface.mss_clamp takes firewall rules, and there is no nft (package nftables)",
        ),
        (
            "dns = [\"10.200.0.53\"]\n",
            "interface.dns takes resolvectl",
        ),
    ] {
        let text = format!(
            "[interface]\nmode = \"server\"\nvip = \"10.200.0.1/24\"\nprivate_key = \"{}\"\n{more}",
            keys.private
        );
        match Node::start_through(&net.left, &taltun()?, &text, &through) {
            Ok(_) => bail!("it started with {more}"),
            Err(error) => {
                let text = format!("{error:#}");
                ensure!(text.contains(expected), "{text}");
            }
        }
    }
    let changes = before.difference(&Snapshot::take(&net.left)?);
    ensure!(changes.is_empty(), "{changes:?}");
    Ok(())
}
