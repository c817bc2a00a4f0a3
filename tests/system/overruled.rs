//! What others put in the place of our routes and policy rules, or before them: it has to be put
//! right, or said.

use std::time::Duration;

use anyhow::{Result, ensure};
use taltun_tests::command::output_of;
use taltun_tests::sys::Signal;

use crate::kill_switch::Full;
use crate::support::{Case, eventually};

pub const CASES: &[Case] = &[
    Case {
        name: "keeping: a route that others put in the place of ours goes, and that is told",
        programs: &["ip"],
        run: replaced_routes,
    },
    Case {
        name: "keeping: a policy rule that comes before ours is named until it is gone",
        programs: &["ip"],
        run: an_earlier_rule,
    },
    Case {
        name: "keeping: where others take the priority of our policy rules, ours come first again",
        programs: &["ip"],
        run: a_rule_of_the_same_priority,
    },
];

const LIMIT: Duration = Duration::from_secs(5);
/// Somebody in each family who is reached through the tunnel alone.
const FAR: [&str; 2] = ["198.51.100.7", "2001:db8:7::7"];

fn sh(full: &Full, script: &str) -> Result<String> {
    output_of(full.pair.left.command("sh").args(["-c", script]))
}

/// Whether the kernel leads a program's packets to `to` into the tunnel.
fn is_led(full: &Full, to: &str) -> Result<bool> {
    let route = sh(full, &format!("ip route get {to} 2>&1 || :"))?;
    Ok(route.contains("dev taltun0"))
}

fn host(full: &Full) -> Result<serde_json::Value> {
    let json: serde_json::Value = serde_json::from_str(&full.client.tell(&["status", "--json"])?)?;
    Ok(json["host"].clone())
}

/// The table of the full tunnel's routes.
const TABLE: &str =
    "t=$(ip rule | sed -n 's/.*not from all fwmark .* lookup \\([0-9][0-9]*\\)$/\\1/p')";

fn replaced_routes() -> Result<()> {
    let mut full = Full::start("", &[])?;
    full.tunnel_answers()?;
    sh(
        &full,
        "ip link add other0 type veth peer name other1; ip link set other0 up; ip link set other1 up; ip addr add 192.0.2.1/24 dev other0; \
               ip -6 addr add 2001:db8:9::1/64 dev other0 nodad",
    )?;
    for (times, replace) in [
        (
            1,
            "ip route replace default via 192.0.2.2 dev other0 table $t",
        ),
        (
            2,
            "ip -6 route replace default via 2001:db8:9::2 dev other0 table $t",
        ),
        (3, "ip route replace default dev other0 table $t"),
        (4, "ip route replace blackhole default table $t"),
        (
            5,
            "ip route prepend default via 192.0.2.2 dev other0 table $t",
        ),
    ] {
        sh(&full, &format!("{TABLE}; {replace}"))?;
        eventually(replace, LIMIT, || {
            Ok(is_led(&full, FAR[0])? && is_led(&full, FAR[1])?)
        })?;
        eventually("that is shown", LIMIT, || {
            Ok(host(&full)?["put_back"][0]["times"] == times)
        })?;
    }
    let log = full.client.log();
    ensure!(log.contains("routes went away and were put back"), "{log}");
    ensure!(
        host(&full)?["missing"] == serde_json::json!([]),
        "{}",
        host(&full)?
    );
    full.tunnel_answers()?;
    full.client.end(Signal::Terminate)
}

fn an_earlier_rule() -> Result<()> {
    let mut full = Full::start("", &[])?;
    full.tunnel_answers()?;
    for family in ["-4", "-6"] {
        sh(&full, &format!("ip {family} rule add pref 100 lookup main"))?;
        eventually("it is shown", LIMIT, || {
            Ok(host(&full)?["missing"].to_string().contains("100"))
        })?;
        ensure!(
            full.client.tell(&["status"])?.contains("policy rules"),
            "{}",
            full.client.tell(&["status"])?
        );
        sh(&full, &format!("ip {family} rule del pref 100"))?;
        eventually("it is fine again", LIMIT, || {
            Ok(host(&full)?["missing"] == serde_json::json!([]))
        })?;
    }
    full.client.end(Signal::Terminate)
}

fn a_rule_of_the_same_priority() -> Result<()> {
    let mut full = Full::start("", &[])?;
    full.tunnel_answers()?;
    sh(
        &full,
        &format!(
            "{TABLE}; p=$(ip rule | sed -n \"s/^\\([0-9]*\\):.* lookup $t\\$/\\1/p\"); \
             ip route add default dev to-right; \
             ip rule del pref $p; ip rule add pref $p not fwmark $t lookup main"
        ),
    )?;
    eventually("ours come first", LIMIT, || is_led(&full, FAR[0]))?;
    full.client.end(Signal::Terminate)?;
    let rules = sh(&full, "ip rule")?;
    // The one of others stays, and ours are gone.
    ensure!(rules.matches("fwmark").count() == 1, "{rules}");
    Ok(())
}
