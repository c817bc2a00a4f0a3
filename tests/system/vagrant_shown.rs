//! What the commands of the talk's walk have to print, beyond that they succeed.
//!
//! The page says what its reader sees: four messages outside and their indices, whom a service takes a
//! packet for, what a ban counts, how long a ping takes. Each step is asked for it here.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};

/// What the commands of the page printed, in its order.
#[derive(Default)]
pub struct Shown(Vec<Said>);

struct Said {
    step: &'static str,
    command: &'static str,
    output: String,
}

impl Shown {
    /// Takes in what a command of a step printed.
    pub fn add(&mut self, step: &'static str, command: &'static str, output: String) {
        self.0.push(Said {
            step,
            command,
            output,
        });
    }

    /// What those commands of a step printed that have `part` in them, which are so many.
    fn of<const N: usize>(&self, step: &str, part: &str) -> Result<[&str; N]> {
        let of_step = self.0.iter().filter(|said| said.step.starts_with(step));
        let found: Vec<&str> = of_step
            .filter(|said| said.command.contains(part))
            .map(|said| &*said.output)
            .collect();
        let count = found.len();
        let found = found.try_into().ok();
        found.with_context(|| format!("step {step:?} has {count} commands with {part:?}, not {N}"))
    }

    /// Each machine reaches the others, and is counted outside and inside.
    pub fn reached(&self) -> Result<()> {
        let [ping] = self.of("1.", "192.168.4.3")?;
        ensure!(ping.contains("ttl=63"), "not forwarded once: {ping}");
        let [counted] = self.of("1.", "taltun stats")?;
        has_all(
            counted,
            &["10.0.123.3", "10.0.123.4", "192.168.4.2", "192.168.4.3"],
        )
    }

    /// Where the kernel has netem.
    pub fn delayed(&self) -> Result<()> {
        let [to_client] = self.of("8.", "192.168.4.3")?;
        let [to_core] = self.of("8.", "192.168.4.1")?;
        // No upper limit is near: that would be one for the machine.
        let (twice, once) = (shortest(to_client)?, shortest(to_core)?);
        ensure!(twice >= 1000.0, "to client-b {twice} ms: {to_client}");
        ensure!(
            (500.0..1000.0).contains(&once),
            "to vpn-core {once} ms: {to_core}"
        );
        let [queue] = self.of("8.", "qdisc show")?;
        has_all(queue, &["netem", "delay 500ms"])
    }

    /// All the rest.
    pub fn all_but_delays(&self) -> Result<()> {
        self.seen_twice()?;
        self.translated()?;
        let [wrong, right] = self.of("4.", "grep request")?;
        has_all(wrong, &["192.168.4.1 > 192.168.4.3"])?;
        has_all(right, &["192.168.4.2 > 192.168.4.3"])?;
        let [forged, refused] = self.of("6.", "grep forged")?;
        ensure!(
            forged.trim() == "forged" && refused.is_empty(),
            "{forged:?} {refused:?}"
        );
        self.banned()?;
        self.shaped()?;
        self.by_iptables()?;
        self.captured()
    }

    fn seen_twice(&self) -> Result<()> {
        let [captured] = self.of("2.", "cat /tmp/inside")?;
        let messages = messages(captured)?;
        let [a_in, b_out, b_in, a_out] = &messages[..] else {
            anyhow::bail!("{} messages, not 4: {captured}", messages.len());
        };
        for (message, way) in [
            (a_in, "10.0.123.3.51820 > 10.0.123.2.51820"),
            (b_out, "10.0.123.2.51820 > 10.0.123.4.51820"),
            (b_in, "10.0.123.4.51820 > 10.0.123.2.51820"),
            (a_out, "10.0.123.2.51820 > 10.0.123.3.51820"),
        ] {
            ensure!(
                message.way == way && message.kind == "04000000" && message.length == 128,
                "{way}: {captured}"
            );
        }
        let indices: BTreeSet<&str> = messages.iter().map(|one| &*one.index).collect();
        ensure!(indices.len() == 4, "the indices are {indices:?}");
        for (what, ttl) in [
            ("192.168.4.2 > 192.168.4.3: ICMP echo request", [64, 63]),
            ("192.168.4.3 > 192.168.4.2: ICMP echo reply", [64, 63]),
        ] {
            let found = hops(captured, what);
            ensure!(found == ttl, "{what}: {found:?}, not {ttl:?}: {captured}");
        }
        Ok(())
    }

    fn translated(&self) -> Result<()> {
        let [captured] = self.of("3.", "cat /tmp/outside")?;
        // Both captures, one after the other.
        let ways = captured
            .lines()
            .filter_map(|line| line.split_once(" IP ").map(|(_, rest)| rest));
        let expected = [
            "10.0.123.3.51820 > 10.0.123.2.51820: UDP",
            "10.0.123.2 > 10.0.123.4: ICMP echo request",
            "10.0.123.4 > 10.0.123.2: ICMP echo reply",
            "10.0.123.2.51820 > 10.0.123.3.51820: UDP",
            "192.168.4.2 > 10.0.123.4: ICMP echo request",
            "10.0.123.4 > 192.168.4.2: ICMP echo reply",
        ];
        ensure!(
            ways.clone().count() == expected.len()
                && ways
                    .zip(expected)
                    .all(|(way, expected)| way.starts_with(expected)),
            "{captured}"
        );
        let [rules] = self.of("3.", "nft list")?;
        has_all(rules, &["oifname != \"wg0\"", "masquerade"])
    }

    fn banned(&self) -> Result<()> {
        let [silent] = self.of("7.", "! ping")?;
        has_all(silent, &["100% packet loss"])?;
        let [answered] = self.of("7.", "cat /tmp/answers")?;
        let replies = answered.matches("192.168.4.3 > 192.168.4.2: ICMP echo reply");
        ensure!(replies.count() == 3, "client-b didn't answer: {answered}");
        let [before, after] = self.of("7.", "taltun stats")?;
        let dropped = counted(after, "inner_denied ")?;
        ensure!(dropped == 3, "of three replies: {after}");
        let sent = counted(after, "192.168.4.3 ")? - counted(before, "192.168.4.3 ")?;
        ensure!(sent == 3, "of three replies {sent} have a source: {after}");
        let [passes] = self.of("7.", "explain client-a client-b")?;
        has_all(passes, &["passes"])?;
        let [dropped] = self.of("7.", "explain client-b client-a")?;
        has_all(
            dropped,
            &[
                "dropped, counted as inner_denied",
                "! ban",
                "192.168.4.3/32 is banned",
            ],
        )
    }

    fn shaped(&self) -> Result<()> {
        let [copied] = self.of("9.", "wc -c")?;
        ensure!(
            copied.lines().any(|line| line.trim() == "2000000")
                && copied.contains(" 0% packet loss"),
            "{copied}"
        );
        let [class] = self.of("9.", "class show")?;
        let after = |word: &str| -> Option<u64> {
            let (_, rest) = class.split_once(word)?;
            rest.split_whitespace().next()?.parse().ok()
        };
        let (sent, held) = (after("Sent "), after("overlimits "));
        ensure!(
            class.contains("class htb 1:20")
                && sent.is_some_and(|sent| sent > 2_000_000)
                && held.is_some_and(|times| times > 0),
            "the class held nothing back: {class}"
        );
        Ok(())
    }

    fn by_iptables(&self) -> Result<()> {
        for (chain, target) in [
            ("PREROUTING", "DROP"),
            ("FORWARD", "CLASSIFY"),
            ("POSTROUTING", "MASQUERADE"),
        ] {
            let [listed] = self.of("10.", &format!("-nvxL {chain}"))?;
            let met = listed.lines().find_map(|line| {
                let mut words = line.split_whitespace();
                let packets: u64 = words.next()?.parse().ok()?;
                words.any(|word| word == target).then_some(packets)
            });
            let expected = match target {
                // Pings, whose replies die.
                "DROP" => met == Some(3),
                _ => met.is_some_and(|packets| packets > 0),
            };
            ensure!(expected, "{target}: {listed}");
        }
        Ok(())
    }

    fn captured(&self) -> Result<()> {
        let [said] = self.of("11.", "cat /tmp/kernel")?;
        ensure!(!said.contains("ICMP echo"), "the kernel saw it: {said}");
        let [read] = self.of("11.", "tcpdump -nr")?;
        let ways = read
            .lines()
            .filter_map(|line| line.split_once(" IP ").map(|(_, rest)| rest));
        let count = |what: &str| ways.clone().filter(|way| way.starts_with(what)).count();
        for what in [
            "10.0.123.3.51820 > 10.0.123.2.51820: UDP, length 128",
            "10.0.123.2.51820 > 10.0.123.4.51820: UDP, length 128",
            "10.0.123.4.51820 > 10.0.123.2.51820: UDP, length 128",
            "10.0.123.2.51820 > 10.0.123.3.51820: UDP, length 128",
            "192.168.4.2 > 192.168.4.3: ICMP echo request",
            "192.168.4.3 > 192.168.4.2: ICMP echo reply",
        ] {
            ensure!(count(what) == 1, "not once {what}: {said}\n{read}");
        }
        Ok(())
    }
}

/// A message outside, as tcpdump prints it.
struct Message {
    way: String,
    length: u32,
    kind: String,
    index: String,
}

/// The messages of a capture, of each of which are there the line and the second and third row.
fn messages(captured: &str) -> Result<Vec<Message>> {
    let mut messages = Vec::new();
    let mut lines = captured.lines().filter(|line| !line.trim().is_empty());
    while let Some(line) = lines.next() {
        let Some((_, message)) = line.split_once(" IP ") else {
            continue;
        };
        let Some((way, length)) = message.split_once(": UDP, length ") else {
            continue;
        };
        // 28 bytes of headers before it.
        let mut row = |offset: &str| -> Result<String> {
            let row = lines.next().context("the capture ends within a message")?;
            let digits = row.trim().strip_prefix(offset);
            let digits = digits.with_context(|| format!("{offset} isn't in {row:?}"))?;
            Ok(digits.split_whitespace().collect())
        };
        let (second, third) = (row("0x0010:")?, row("0x0020:")?);
        messages.push(Message {
            way: way.to_owned(),
            length: length.trim().parse()?,
            kind: second.get(24..).context("a short row")?.to_owned(),
            index: third.get(..8).context("a short row")?.to_owned(),
        });
    }
    Ok(messages)
}

/// The TTLs of the packets of which tcpdump says `what`, in the line before it.
fn hops(captured: &str, what: &str) -> Vec<u32> {
    let lines: Vec<&str> = captured.lines().collect();
    let ttl = |line: &str| {
        let (_, rest) = line.split_once("ttl ")?;
        rest.split(',').next()?.parse().ok()
    };
    lines
        .windows(2)
        .filter(|pair| pair[1].trim_start().starts_with(what))
        .filter_map(|pair| ttl(pair[0]))
        .collect()
}

/// The first number behind `row` in what `taltun stats` printed.
fn counted(stats: &str, row: &str) -> Result<u64> {
    let rest = stats.lines().find_map(|line| line.strip_prefix(row));
    let count = rest.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    count.with_context(|| format!("no {row}in {stats}"))
}

/// The shortest round trip of `ping`, ms.
fn shortest(pings: &str) -> Result<f64> {
    // rtt min/avg/max/mdev = 1000.5/1000.9/1001.4/0.3 ms
    let found = pings.lines().find_map(|line| {
        let (_, times) = line.strip_prefix("rtt ")?.split_once('=')?;
        times.split('/').next()?.trim().parse().ok()
    });
    found.with_context(|| format!("ping printed {pings}"))
}

fn has_all(text: &str, parts: &[&str]) -> Result<()> {
    for part in parts {
        ensure!(text.contains(part), "{part:?} isn't in {text}");
    }
    Ok(())
}
