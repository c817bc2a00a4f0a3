//! The stories of the manual's page on diagnosis: each fault is made, what the page says to type is
//! typed, and what it shows has to be printed.
//!
//! The hub's file is the page's own. That a story ends with its fault gone is what its last command says.

use std::fs;

use anyhow::{Context, Result, ensure};

use crate::page_walk::{Machines, Typed, commands};
use crate::support::{Case, UP_LIMIT, eventually};

const PAGE: &str = include_str!("../../taltun/docs/manual/diagnosis.md");
const NAMES: [&str; 3] = ["hub", "ana", "office"];
/// The keys of the page, in the order of the names.
const KEYS: [&str; 3] = [
    "IBiBtXkzzE9B6gS8ell8MUtrL9tpdSTehsLgF7QweU4=",
    "CG3fxDcdsMVX4Ko1pFpmU9u9vHXASSE1yPTkYNKdTVc=",
    "OBSc5BHyERe2VOxCQDJitttHCnJepzS6jGBawmJdB28=",
];
const HUB_PUBLIC: &str = "rPjgEsoG9CYyushrS3E1z0v0QFy2NPtjm7hJIAHmHQM=";

pub const CASES: &[Case] = &[
    Case {
        name: "diagnosis: a wrong allowed_ips is found as the manual says",
        programs: &["ping"],
        run: || {
            let wrong = "sed -i '/^allowed_ips/s#50.0/24#5.0/24#' hub.toml; taltun reload";
            Story::start()?.tell("1.", ("hub", wrong)).map(drop)
        },
    },
    Case {
        name: "diagnosis: a rule is found as the manual says",
        programs: &["ping", "nc"],
        run: || {
            let serve = "(while nc -l -N -p 443 </dev/null; do :; done) >/dev/null 2>&1 &";
            Story::start()?.tell("2.", ("office", serve)).map(drop)
        },
    },
    Case {
        name: "diagnosis: a narrow link is found as the manual says",
        programs: &["ping"],
        run: || {
            let story = Story::start()?;
            // The other end of ana's wire takes nothing larger, and says nothing.
            story.machines.switch.ip("link set ana mtu 1400")?;
            story.tell("3.", ("hub", "true")).map(drop)
        },
    },
    Case {
        name: "diagnosis: a ban is found as the manual says",
        programs: &["ping"],
        run: || {
            let ban = "taltun ban 192.0.2.2";
            Story::start()?.tell("4.", ("hub", ban)).map(drop)
        },
    },
    Case {
        name: "diagnosis: a firewall behind XDP is found as the manual says",
        programs: &["ping", "nft"],
        run: firewall,
    },
];

fn firewall() -> Result<()> {
    let guard = "nft add table inet guard; \
                 nft add chain inet guard input '{ type filter hook input priority 0; }'; \
                 nft add rule inet guard input iifname eth0 udp dport 9000 counter drop";
    let said = Story::start()?.tell("5.", ("hub", guard))?;
    let count = |output: &str, row: &str| -> Result<u64> {
        let line = output.lines().find_map(|line| line.strip_prefix(row));
        let count = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        count.with_context(|| format!("no {row} in {output}"))
    };
    let stats: Vec<&String> = said
        .iter()
        .filter(|(command, _)| *command == "taltun stats")
        .map(|(_, output)| output)
        .collect();
    let [before, after] = stats[..] else {
        anyhow::bail!("the page asks for stats {} times", stats.len());
    };
    let grown = |row: &str| Ok::<_, anyhow::Error>(count(after, row)? - count(before, row)?);
    ensure!(
        grown("192.0.2.2 ")? >= 3 && grown("received ")? == 0,
        "{before}\n{after}"
    );
    Ok(())
}

/// The page's network.
struct Story {
    machines: Machines,
}

impl Story {
    fn start() -> Result<Self> {
        let mut machines = Machines::new("diagnosis")?;
        for (at, name) in NAMES.into_iter().enumerate() {
            machines.add(name, "eth0", &format!("192.0.2.{}/24", at + 1))?;
        }
        machines.run("office", "ip addr add 192.168.50.1/32 dev lo")?;
        let mut story = Self { machines };
        for (name, key) in NAMES.into_iter().zip(KEYS) {
            story.run_taltun(name, key)?;
        }
        eventually("both have a session", UP_LIMIT, || {
            let status = story.machines.run("hub", "taltun status --long")?;
            Ok(status.matches("latest handshake: ").count() == 2 && !status.contains("never"))
        })?;
        Ok(story)
    }

    fn run_taltun(&mut self, name: &str, key: &str) -> Result<()> {
        let home = self.machines.home(name);
        let text = match name {
            "hub" => {
                let (_, rest) = PAGE.split_once("```toml\n").context("no hub.toml")?;
                let (text, _) = rest.split_once("```").context("no end of hub.toml")?;
                text.to_owned()
            }
            "ana" => client("10.0.0.2/24", "routes = [\"192.168.50.0/24\"]"),
            _ => client("10.0.0.3/24", ""),
        };
        let config = home.join(format!("{name}.toml"));
        fs::write(&config, text)?;
        fs::write(home.join("key"), key)?;
        self.machines
            .start(name, &format!("taltun run --config {name}.toml"))?;
        eventually("it answers", UP_LIMIT, || {
            Ok(self.machines.run(name, "taltun status").is_ok())
        })
    }

    /// Makes a fault by a command on a machine, and follows the page: each command with what it printed.
    fn tell(&self, step: &str, fault: (&str, &str)) -> Result<Vec<(&'static str, String)>> {
        self.machines.run(fault.0, fault.1).context("the fault")?;
        let story: Vec<Typed> = commands(PAGE, &NAMES)
            .into_iter()
            .filter(|typed| typed.step.starts_with(step))
            .collect();
        ensure!(
            story.iter().any(|typed| !typed.shown.is_empty()),
            "the page shows nothing in step {step}"
        );
        let mut said = Vec::new();
        for typed in story {
            let output = self.machines.follow(&typed)?;
            typed.check(&output)?;
            said.push((typed.command, output));
        }
        Ok(said)
    }
}

/// A client's file.
fn client(vip: &str, more: &str) -> String {
    format!(
        "[interface]\nmode = \"client\"\nvip = \"{vip}\"\nprivate_key_file = \"key\"\n{more}\n\
         [[peers]]\nname = \"hub\"\npublic_key = \"{HUB_PUBLIC}\"\nvip = \"10.0.0.1\"\n\
         endpoint = \"192.0.2.1:9000\"\nallowed_ips = [\"10.0.0.0/24\", \"192.168.50.0/24\"]\n\
         persistent_keepalive = 25\n"
    )
}
