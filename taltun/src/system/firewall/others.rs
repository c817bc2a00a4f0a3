//! Rules of others that drop what the tunnel forwards. A table can only drop more, never let
//! through what another drops, so all that can be done is to say which one it is.

use serde_json::Value;
use tracing::warn;

use crate::config::Config;
use crate::system::program;

/// Where tables of iptables without nftables are listed.
const LEGACY_TABLES: &str = "/proc/thread-self/net/ip_tables_names";

/// Says which chains of others drop or reject forwarded packets that they don't know, where
/// `config` has this machine forward.
///
/// Just a hint: where it can't be told, nothing is said.
pub(in crate::system) async fn warn_of_others(config: &Config) {
    let forwards = config.host.ip_forward || !config.forwards.is_empty();
    if !forwards && config.host.masquerade.is_none() {
        return;
    }
    let interface = &config.interface.tun_name;
    let mut chains = Vec::new();
    if let Ok(listed) = program::run("nft", &["-j", "list", "chains"], "").await {
        for chain in forward_chains(&listed) {
            let words = [
                "-j",
                "list",
                "chain",
                &chain.family,
                &chain.table,
                &chain.name,
            ];
            let refuses = chain.drops
                || program::run("nft", &words, "")
                    .await
                    .is_ok_and(|rules| ends_by_refusing(&rules));
            // Our own refuses by the kill switch, which knows the tunnel.
            if refuses && !chain.table.starts_with("taltun-") {
                chains.push(format!(
                    "chain {} {} {}",
                    chain.family, chain.table, chain.name
                ));
            }
        }
    }
    // With iptables-nft the chains are among the above.
    for (program, family) in [("iptables-legacy", "ip"), ("iptables", "ip")] {
        let name = format!("chain {family} filter FORWARD");
        let is_there = program != "iptables-legacy"
            || std::fs::read_to_string(LEGACY_TABLES).is_ok_and(|names| names.contains("filter"));
        if !is_there || chains.contains(&name) {
            continue;
        }
        if let Ok(listed) = program::run(program, &["-w", "5", "-S", "FORWARD"], "").await
            && refuses_by_iptables(&listed)
        {
            chains.push(name);
        }
    }
    for chain in chains {
        warn!(
            "{chain} drops forwarded packets that it has no rule for: let those of {interface} \
             pass there (Docker: `iptables -I DOCKER-USER -i {interface} -j ACCEPT` and the \
             same with -o; firewalld: `firewall-cmd --zone=trusted --add-interface={interface}`; \
             OpenWrt: give {interface} a firewall zone)"
        );
    }
}

/// A chain that forwarded packets pass.
#[derive(Debug, PartialEq, Eq)]
struct Chain {
    family: String,
    table: String,
    name: String,
    /// By its policy.
    drops: bool,
}

fn forward_chains(json: &str) -> Vec<Chain> {
    let listed: Value = serde_json::from_str(json).unwrap_or_default();
    let objects = listed["nftables"].as_array().into_iter().flatten();
    objects
        .map(|object| &object["chain"])
        .filter(|chain| chain["hook"] == "forward" && chain["type"] != "nat")
        .map(|chain| {
            let word = |key: &str| chain[key].as_str().unwrap_or("?").to_owned();
            Chain {
                family: word("family"),
                table: word("table"),
                name: word("name"),
                drops: chain["policy"] == "drop",
            }
        })
        .collect()
}

/// Whether the last rule of a chain refuses all that came so far, as firewalld's does.
fn ends_by_refusing(json: &str) -> bool {
    let listed: Value = serde_json::from_str(json).unwrap_or_default();
    let objects = listed["nftables"].as_array().into_iter().flatten();
    let last = objects.filter_map(|object| object.get("rule")).next_back();
    let Some(statements) = last.and_then(|rule| rule["expr"].as_array()) else {
        return false;
    };
    // Whatever else is in it narrows down what it is for.
    let passive = ["counter", "log", "limit"];
    let refuses =
        |statement: &Value| statement.get("drop").is_some() || statement.get("reject").is_some();
    statements.iter().any(refuses)
        && statements.iter().all(|statement| {
            refuses(statement) || passive.iter().any(|word| statement.get(*word).is_some())
        })
}

/// Whether a chain as `iptables -S` lists it drops by its policy, or by a last rule for all.
fn refuses_by_iptables(listed: &str) -> bool {
    let last = listed.lines().rfind(|line| line.starts_with("-A "));
    listed.lines().any(|line| line == "-P FORWARD DROP")
        || last.is_some_and(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            matches!(
                words.as_slice(),
                ["-A", "FORWARD", "-j", "DROP"] | ["-A", "FORWARD", "-j", "REJECT", ..]
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forward_chain_that_drops_is_found() {
        let json = r#"{"nftables":[{"metainfo":{}},
            {"chain":{"family":"ip","table":"filter","name":"FORWARD","type":"filter","hook":"forward","policy":"drop"}},
            {"chain":{"family":"inet","table":"x","name":"y","type":"filter","hook":"input","policy":"drop"}},
            {"chain":{"family":"inet","table":"firewalld","name":"filter_FORWARD","type":"filter","hook":"forward","policy":"accept"}},
            {"chain":{"family":"inet","table":"x","name":"z"}}]}"#;
        let chains: Vec<(String, bool)> = forward_chains(json)
            .into_iter()
            .map(|chain| (chain.name, chain.drops))
            .collect();
        assert_eq!(
            chains,
            [
                ("FORWARD".to_owned(), true),
                ("filter_FORWARD".to_owned(), false)
            ]
        );
        assert!(forward_chains("nonsense").is_empty());
    }

    #[test]
    fn a_chain_that_ends_by_refusing_all_is_told_from_one_that_refuses_some() {
        let chain = |last: &str| {
            format!(
                r#"{{"nftables":[{{"chain":{{}}}},{{"rule":{{"expr":[{{"accept":null}}]}}}},{{"rule":{{"expr":[{last}]}}}}]}}"#
            )
        };
        let reject = r#"{"reject":{"type":"icmpx","expr":"admin-prohibited"}}"#;
        assert!(ends_by_refusing(&chain(reject)));
        assert!(ends_by_refusing(&chain(&format!(
            r#"{{"counter":{{}}}},{reject}"#
        ))));
        let some = format!(r#"{{"match":{{"op":"in"}}}},{reject}"#);
        assert!(!ends_by_refusing(&chain(&some)));
        assert!(!ends_by_refusing(&chain(r#"{"accept":null}"#)));
        assert!(!ends_by_refusing("nonsense"));
    }

    #[test]
    fn iptables_refuses_by_policy_or_by_its_last_rule() {
        assert!(refuses_by_iptables("-P FORWARD DROP\n"));
        assert!(refuses_by_iptables(
            "-P FORWARD ACCEPT\n-A FORWARD -i a -j ACCEPT\n-A FORWARD -j REJECT --reject-with icmp-host-prohibited\n"
        ));
        assert!(!refuses_by_iptables(
            "-P FORWARD ACCEPT\n-A FORWARD -i a -j DROP\n"
        ));
    }
}
