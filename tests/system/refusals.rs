//! What Taltun refuses to start with: it says why, in a line, and touches nothing.

use std::ops::RangeInclusive;
use std::time::Duration;

use anyhow::{Result, ensure};
use taltun_tests::command::finish_within;
use taltun_tests::netns::Namespace;
use taltun_tests::node::{Keys, Site};
use taltun_tests::snapshot::Snapshot;
use taltun_tests::topology::{Pair, private_prefix};

use crate::support::{Case, taltun};

/// How long a refusal may take.
const LIMIT: Duration = Duration::from_secs(10);

pub const CASES: &[Case] = &[
    Case {
        name: "a private key of the wrong length is refused",
        programs: &[],
        run: || {
            bad_config("private_key", |text| {
                replace_line(text, "private_key", "private_key = \"c2hvcnQ=\"")
            })
        },
    },
    Case {
        name: "a public key of the wrong length is refused",
        programs: &[],
        run: || {
            bad_config("public_key", |text| {
                replace_line(text, "public_key", "public_key = \"c2hvcnQ=\"")
            })
        },
    },
    Case {
        name: "a key that is neither base64 nor hex is refused",
        programs: &[],
        run: || {
            bad_config("public_key", |text| {
                replace_line(text, "public_key", "public_key = \"not a key at all!\"")
            })
        },
    },
    Case {
        name: "an unknown key is refused",
        programs: &[],
        run: || {
            bad_config("colour", |text| {
                replace_line(text, "mode", "mode = \"client\"\ncolour = \"blue\"")
            })
        },
    },
    Case {
        name: "a value of the wrong type is refused",
        programs: &[],
        run: || {
            bad_config("mtu", |text| {
                replace_line(text, "mode", "mode = \"client\"\nmtu = \"large\"")
            })
        },
    },
    Case {
        name: "what is not TOML is refused",
        programs: &[],
        run: || bad_config("expected", |text| replace_line(text, "mode", "mode = = 1")),
    },
    Case {
        name: "a peer without a public key is refused, and told how to get one",
        programs: &[],
        run: peer_without_key,
    },
    Case {
        name: "our own key as a peer is refused",
        programs: &[],
        run: own_key,
    },
    Case {
        name: "two peers with one address are refused",
        programs: &[],
        run: overlapping_peers,
    },
    Case {
        name: "a peer with our own address is refused",
        programs: &[],
        run: peer_with_our_address,
    },
    Case {
        name: "a config that isn't there is refused",
        programs: &[],
        run: no_config,
    },
    Case {
        name: "a port in use is refused",
        programs: &[],
        run: port_in_use,
    },
    Case {
        name: "an interface that exists is refused, be it a TUN or not",
        programs: &[],
        run: interface_exists,
    },
    Case {
        name: "without CAP_NET_ADMIN the start is refused",
        programs: &["setpriv"],
        run: no_capability,
    },
    Case {
        name: "without /dev/net/tun the start is refused",
        programs: &["unshare"],
        run: no_tun_device,
    },
];

/// A good config with one peer, and the keys in it: our own and the peer's.
fn good_config() -> Result<(String, Keys, Keys)> {
    let (own, peer) = (Keys::generate(&taltun()?)?, Keys::generate(&taltun()?)?);
    let text = format!(
        r#"[interface]
mode = "client"
vip = "10.200.0.2/24"
local_addr = "0.0.0.0:9000"
private_key = "{}"

[[peers]]
name = "hub"
public_key = "{}"
vip = "10.200.0.1"
endpoint = "10.99.1.2:9000"
"#,
        own.private, peer.public
    );
    Ok((text, own, peer))
}

/// Spoils a good config by `change` and expects a refusal that names `word` and the line it
/// is in, or, where the word isn't in the file, the line that was changed.
fn bad_config(word: &str, change: impl FnOnce(&str) -> String) -> Result<()> {
    let (good, ..) = good_config()?;
    let bad = change(&good);
    let line = good
        .lines()
        .zip(bad.lines())
        .position(|(good, bad)| good != bad)
        .map_or(0, |index| index + 1);
    let named = bad
        .lines()
        .position(|text| text.starts_with(word))
        .map_or(line, |index| index + 1);
    refused_config(&bad, word, named..=named)
}

fn peer_without_key() -> Result<()> {
    let (good, ..) = good_config()?;
    let bad: String = good
        .lines()
        .filter(|line| !line.starts_with("public_key"))
        .flat_map(|line| [line, "\n"])
        .collect();
    refused_config(&bad, "public_key", lines_of_peer(&bad, 0))?;
    // Files of the Go version have none, so their owners need to be told where it comes from.
    refused_config(&bad, "pubkey", lines_of_peer(&bad, 0))
}

fn own_key() -> Result<()> {
    let (good, own, peer) = good_config()?;
    let bad = good.replace(&peer.public, &own.public);
    refused_config(&bad, "own", lines_of_peer(&bad, 0))
}

fn overlapping_peers() -> Result<()> {
    let (good, ..) = good_config()?;
    let third = Keys::generate(&taltun()?)?;
    let bad = format!(
        "{good}\n[[peers]]\npublic_key = \"{}\"\nvip = \"10.200.0.1\"\n",
        third.public
    );
    refused_config(&bad, "10.200.0.1", lines_of_peer(&bad, 1))
}

fn peer_with_our_address() -> Result<()> {
    let (good, ..) = good_config()?;
    let bad = good.replace("\"10.200.0.1\"", "\"10.200.0.2\"");
    refused_config(&bad, "10.200.0.2", lines_of_peer(&bad, 0))
}

fn no_config() -> Result<()> {
    let pair = Pair::create(&private_prefix())?;
    let site = Site::prepare(&pair.left, &taltun()?, "")?;
    std::fs::remove_file(site.config())?;
    let error = refused(&pair.left, &site, &[])?;
    ensure_one_line(&error, &["config.toml"])
}

fn port_in_use() -> Result<()> {
    let pair = Pair::create(&private_prefix())?;
    let site = Site::prepare(&pair.left, &taltun()?, &good_config()?.0)?;
    let _holder = pair.left.udp("0.0.0.0:9000")?;
    let error = refused(&pair.left, &site, &[])?;
    ensure_last_line(&error, &["9000"])
}

fn interface_exists() -> Result<()> {
    let pair = Pair::create(&private_prefix())?;
    let site = Site::prepare(&pair.left, &taltun()?, &good_config()?.0)?;
    for (make, delete) in [
        (
            "link add taltun0 type veth peer name other",
            "link del taltun0",
        ),
        // One that has no owner would let itself be taken over.
        ("tuntap add taltun0 mode tun", "tuntap del taltun0 mode tun"),
    ] {
        pair.left.ip(make)?;
        let error = refused(&pair.left, &site, &[])?;
        ensure_last_line(&error, &["taltun0"])?;
        pair.left.ip(delete)?;
    }
    Ok(())
}

fn no_capability() -> Result<()> {
    let pair = Pair::create(&private_prefix())?;
    let site = Site::prepare(&pair.left, &taltun()?, &good_config()?.0)?;
    let through = [
        "setpriv",
        "--bounding-set=-net_admin",
        "--inh-caps=-net_admin",
    ];
    let error = refused(&pair.left, &site, &through)?;
    ensure_last_line(&error, &["CAP_NET_ADMIN"])
}

fn no_tun_device() -> Result<()> {
    let pair = Pair::create(&private_prefix())?;
    let site = Site::prepare(&pair.left, &taltun()?, &good_config()?.0)?;
    let hide = r#"mount -t tmpfs none /dev/net && exec "$@""#;
    let error = refused(
        &pair.left,
        &site,
        &["unshare", "-m", "sh", "-c", hide, "sh"],
    )?;
    ensure_last_line(&error, &["/dev/net/tun"])
}

/// Expects `config` to be refused in one line that names the file, one of `lines`, and `word`.
fn refused_config(config: &str, word: &str, lines: RangeInclusive<usize>) -> Result<()> {
    let pair = Pair::create(&private_prefix())?;
    let site = Site::prepare(&pair.left, &taltun()?, config)?;
    let error = refused(&pair.left, &site, &[])?;
    ensure_one_line(&error, &["config.toml", word])?;
    ensure!(
        lines
            .clone()
            .any(|line| error.contains(&format!("config.toml:{line}"))
                || error.contains(&format!("line {line}"))),
        "none of lines {lines:?} is named in: {error}"
    );
    Ok(())
}

/// Runs `taltun run`, expects it to fail without changing anything, and returns what it wrote
/// to stderr.
fn refused(namespace: &Namespace, site: &Site, through: &[&str]) -> Result<String> {
    let before = Snapshot::take(namespace)?;
    let output = finish_within(&mut site.run_command(namespace, through), LIMIT)?;
    let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    ensure!(
        output.status.code().is_some_and(|code| code != 0),
        "it ended with {}: {stderr}",
        output.status
    );
    ensure!(!stderr.contains("panicked"), "it panicked: {stderr}");
    let difference = before.difference(&Snapshot::take(namespace)?);
    ensure!(difference.is_empty(), "it changed {difference:?}");
    Ok(stderr)
}

fn ensure_one_line(error: &str, words: &[&str]) -> Result<()> {
    ensure!(error.lines().count() == 1, "not one line: {error}");
    ensure_last_line(error, words)
}

/// The log may come before it.
fn ensure_last_line(error: &str, words: &[&str]) -> Result<()> {
    let last = error.lines().last().unwrap_or_default();
    for word in words {
        ensure!(last.contains(word), "no {word:?} in: {last}");
    }
    Ok(())
}

/// Puts `new` in the place of the first line that begins with `start`.
fn replace_line(text: &str, start: &str, new: &str) -> String {
    let mut done = false;
    text.lines()
        .flat_map(|line| {
            let replace = !done && line.starts_with(start);
            done |= replace;
            [if replace { new } else { line }, "\n"]
        })
        .collect()
}

/// The lines of the peer with this index, its header included.
fn lines_of_peer(text: &str, index: usize) -> RangeInclusive<usize> {
    let headers: Vec<_> = text
        .lines()
        .enumerate()
        .filter(|(_, line)| *line == "[[peers]]")
        .map(|(number, _)| number + 1)
        .collect();
    let end = headers
        .get(index + 1)
        .map_or(text.lines().count(), |next| next - 1);
    headers[index]..=end
}
