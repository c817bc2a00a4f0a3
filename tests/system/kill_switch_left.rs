//! What a dead tunnel left stays known and closed, whoever has its name elsewhere and whatever
//! became of its journal.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use taltun_tests::command::{find, output_of, wait_for};
use taltun_tests::netns::Namespace;
use taltun_tests::node::{Keys, RUNTIME_DIR};
use taltun_tests::sys::{Signal, send_signal};
use taltun_tests::topology::private_prefix;

use crate::keeping::sh;
use crate::kill_switch::{Full, said};
use crate::support::{Case, eventually, taltun};

pub const CASES: &[Case] = &[
    Case {
        name: "kill switch: a tunnel of the same name in another network namespace leaves it closed",
        programs: &["nft"],
        run: same_name_elsewhere,
    },
    Case {
        name: "kill switch: without a journal a start that fails leaves it closed, with nftables",
        programs: &["nft"],
        run: || journal_lost("nftables"),
    },
    Case {
        name: "kill switch: without a journal a start that fails leaves it closed, with iptables",
        programs: &["iptables"],
        run: || journal_lost("iptables"),
    },
    Case {
        name: "kill switch: undo removes the policy rules that are there, and says what it leaves",
        programs: &[],
        run: rules_without_journal,
    },
    Case {
        name: "kill switch: a journal that is a pipe holds up neither status nor start nor undo",
        programs: &["nft"],
        run: journal_is_a_pipe,
    },
    Case {
        name: "kill switch: one with rules of others isn't said to hold, with nftables",
        programs: &["nft"],
        run: || {
            let insert = "nft insert rule inet taltun-taltun0";
            with_rules_of_others(
                "nftables",
                &[
                    (
                        &format!("{insert} kill_switch_output accept"),
                        "KILL SWITCH OF taltun0 IS OPEN: a rule that Taltun didn't make",
                    ),
                    (
                        &format!("{insert} kill_switch_forward ip daddr 192.0.2.1 accept"),
                        "KILL SWITCH OF taltun0 MAY HOLD, which can't be seen: its chain \
                         kill_switch_forward has a rule that Taltun didn't make, `ip daddr \
                         192.0.2.1 accept`",
                    ),
                    (
                        &format!("{insert} answer_inbound meta mark set 7"),
                        "didn't make, `meta mark set 0x00000007`",
                    ),
                ],
            )
        },
    },
    Case {
        name: "kill switch: one with rules of others isn't said to hold, with iptables",
        programs: &["iptables"],
        run: || {
            with_rules_of_others(
                "iptables",
                &[
                    (
                        "iptables -I taltun-taltun0-out 1 -j ACCEPT",
                        "KILL SWITCH OF taltun0 IS OPEN: a rule that Taltun didn't make",
                    ),
                    (
                        "ip6tables -I taltun-taltun0-fwd 1 -o other -j ACCEPT",
                        "MAY HOLD, which can't be seen: its chain taltun-taltun0-fwd has a rule \
                         that Taltun didn't make, `-o other -j ACCEPT`",
                    ),
                    (
                        "iptables -I OUTPUT 1 -j ACCEPT",
                        "MAY HOLD, which can't be seen: a rule that Taltun didn't make comes \
                         before its own, `-A OUTPUT -j ACCEPT`",
                    ),
                ],
            )
        },
    },
];

const KEY: &str = "kill_switch = true\n";
const ROUTES: &str = "routes = [\"0.0.0.0/0\", \"::/0\"]";

/// A tunnel of the same name with the same runtime directory, in a namespace of its own.
struct Other {
    namespace: Namespace,
    directory: PathBuf,
    config: PathBuf,
}

impl Other {
    fn prepare(full: &Full) -> Result<Self> {
        let directory = full.client.directory().to_owned();
        let config = directory.join("other.toml");
        let text = format!(
            "[interface]\nmode = \"server\"\nvip = \"10.77.0.1/24\"\nprivate_key = \"{}\"\n\
             mss_clamp = true\n[[peers]]\npublic_key = \"{}\"\nvip = \"10.77.0.2\"\n",
            Keys::generate(&taltun()?)?.private,
            Keys::generate(&taltun()?)?.public
        );
        fs::write(&config, text)?;
        Ok(Self {
            namespace: Namespace::create(&format!("{}o", private_prefix()))?,
            directory,
            config,
        })
    }

    fn start(&self) -> Result<Child> {
        let mut command = self.namespace.command(taltun()?);
        let child = command
            .args(["run", "--config"])
            .arg(&self.config)
            .env(RUNTIME_DIR, &self.directory)
            .stderr(Stdio::null())
            .spawn()?;
        eventually("it runs", Duration::from_secs(10), || {
            Ok(self.ask("status").is_ok() && self.journals()?.len() == 2)
        })?;
        Ok(child)
    }

    fn ask(&self, words: &str) -> Result<String> {
        let mut command = self.namespace.command(taltun()?);
        command.args(words.split(' '));
        output_of(command.env(RUNTIME_DIR, &self.directory))
    }

    fn journals(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == "undo")
            {
                let name = path.file_name().and_then(|name| name.to_str());
                names.push(name.context("a name that is text")?.to_owned());
            }
        }
        Ok(names)
    }
}

fn end(mut child: Child, signal: Signal) -> Result<()> {
    send_signal(child.id(), signal)?;
    let ended = wait_for(&mut child, Duration::from_secs(10))?;
    ensure!(ended.is_some(), "it didn't end");
    Ok(())
}

fn same_name_elsewhere() -> Result<()> {
    let mut full = Full::start(KEY, &[])?;
    full.tunnel_answers()?;
    full.client.kill()?;
    let held = full.held()?;
    let other = Other::prepare(&full)?;

    // It comes and goes in order, and then is killed.
    end(other.start()?, Signal::Terminate)?;
    ensure!(full.held()? == held, "{:?} and not {held:?}", full.held()?);
    ensure!(other.journals()? == ["taltun0.undo"]);
    full.outside_is_closed()?;
    let mut killed = other.start()?;
    killed.kill()?;
    killed.wait()?;
    ensure!(full.held()? == held, "{:?} and not {held:?}", full.held()?);
    let status = said(&full.taltun(&["status"])?);
    ensure!(
        status.contains("KILL SWITCH OF taltun0 HOLDS: nothing leaves.\n"),
        "{status}"
    );

    // A start that fails, without the key.
    full.pair.left.ip("tuntap add dev other mode tun")?;
    full.pair.left.ip("link set other up")?;
    full.pair.left.ip("route add 10.78.0.0/24 dev other")?;
    let text = full.text.replace(KEY, "mss_clamp = true\n");
    let taken = text.replace(ROUTES, "routes = [\"10.78.0.0/24\"]");
    fs::write(full.client.config(), taken)?;
    full.failing_start()?;
    full.outside_is_closed()?;
    ensure!(full.held()? == held, "{:?} and not {held:?}", full.held()?);

    // While one runs elsewhere, what is held here is told, and can be released.
    let running = other.start()?;
    let undone = full.taltun(&["undo", "taltun0"])?;
    let text = said(&undone);
    ensure!(undone.status.success(), "{text}");
    ensure!(
        text.starts_with("undone for taltun0: ") && text.contains("kill switch"),
        "{text}"
    );
    full.outside_is_open()?;
    ensure!(!full.pair.left.ip("rule show")?.contains("fwmark"));
    let again = said(&full.taltun(&["undo", "taltun0"])?);
    ensure!(
        again.contains("nothing of taltun0 is left in this network namespace"),
        "{again}"
    );
    let rules = output_of(other.namespace.command("nft").args(["list", "ruleset"]))?;
    ensure!(rules.contains("mss_clamp"), "{rules}");
    ensure!(other.ask("status")?.contains("taltun0"));
    let refused = other.ask("undo taltun0");
    let refused = format!("{:#}", refused.err().context("it was undone")?);
    let expected = format!("taltun0 is running (pid {}), so nothing", running.id());
    ensure!(refused.contains(&expected), "{refused}");
    end(running, Signal::Terminate)?;
    ensure!(other.journals()?.is_empty(), "{:?}", other.journals()?);
    Ok(())
}

fn journal_lost(firewall: &str) -> Result<()> {
    let choice = format!("firewall = \"{firewall}\"\n");
    for journal in [None, Some("{ nonsense")] {
        let mut full = Full::start(&format!("{KEY}{choice}"), &[])?;
        full.client.kill()?;
        let file = full.client.directory().join("taltun0.undo");
        match journal {
            Some(text) => fs::write(&file, text)?,
            None => fs::remove_file(&file)?,
        }
        full.outside_is_closed()?;
        full.pair.left.ip("tuntap add dev other mode tun")?;
        full.pair.left.ip("link set other up")?;
        full.pair.left.ip("route add 10.78.0.0/24 dev other")?;
        let keyless = full.text.replace(KEY, "mss_clamp = true\n");
        // By the same tool, and by none.
        for none in [false, true] {
            let text = keyless.replace(ROUTES, "routes = [\"10.78.0.0/24\"]");
            let plain = text.replace("mss_clamp = true\n", "");
            let plain = plain.replace(&choice, "firewall = \"none\"\n");
            fs::write(full.client.config(), if none { plain } else { text })?;
            let said = full.failing_start()?;
            ensure!(said.contains("10.78.0.0/24"), "{said}");
            ensure!(said.contains("the kill switch of taltun0 holds"), "{said}");
            full.outside_is_closed()?;
        }
        full.pair.left.ip("link delete other")?;
        // One that works opens it, and leaves nothing of both.
        fs::write(full.client.config(), &keyless)?;
        full.client.start_again(&full.pair.left)?;
        full.outside_is_open()?;
        full.tunnel_answers()?;
        full.client.end(Signal::Terminate)?;
        full.outside_is_open()?;
        for family in ["", "-6 "] {
            let rules = full.pair.left.ip(&format!("{family}rule show"))?;
            ensure!(!rules.contains("fwmark"), "{rules}");
        }
        if let Some(text) = journal {
            ensure!(fs::read_to_string(&file)? == text, "it isn't kept");
        }
        if find("nft").is_some() {
            let left = output_of(full.pair.left.command("nft").args(["list", "ruleset"]))?;
            ensure!(!left.contains("taltun-taltun0"), "{left}");
        }
    }
    Ok(())
}

/// Without firewall rules there is nothing but the policy rules to tell by, and their mark
/// isn't the one that is made of the name.
fn rules_without_journal() -> Result<()> {
    let mut full = Full::start("firewall = \"none\"\n", &[])?;
    let mark = || {
        let rules = full.pair.left.ip("rule show")?;
        let mut words = rules
            .split_whitespace()
            .skip_while(|word| *word != "fwmark");
        words.nth(1).map(str::to_owned).context("no mark")
    };
    let first = mark()?;
    full.client.end(Signal::Terminate)?;
    let theirs = format!("rule add pref 100 fwmark {first} lookup main");
    full.pair.left.ip(&theirs)?;
    full.client.start_again(&full.pair.left)?;
    full.tunnel_answers()?;
    full.client.kill()?;
    let rules = full.pair.left.ip("rule show")?;
    ensure!(rules.contains("32501:"), "{rules}");
    fs::remove_file(full.client.directory().join("taltun0.undo"))?;
    let undone = full.taltun(&["undo", "taltun0"])?;
    let text = said(&undone);
    ensure!(undone.status.success(), "{text}");
    ensure!(
        text.starts_with(
            "undone for taltun0: policy rules\n\
             left as it is: net.ipv4.conf.all.src_valid_mark = 1: "
        ),
        "{text}"
    );
    for family in ["", "-6 "] {
        let rules = full.pair.left.ip(&format!("{family}rule show"))?;
        ensure!(!rules.contains("3250"), "{rules}");
    }
    let rules = full.pair.left.ip("rule show")?;
    ensure!(rules.contains(&format!("fwmark {first}")), "{rules}");
    let again = said(&full.taltun(&["undo", "taltun0"])?);
    ensure!(again.contains("nothing of taltun0 is left"), "{again}");
    Ok(())
}

/// Nobody waits for a journal that is a pipe, and the start that finds it ends by SIGTERM.
fn journal_is_a_pipe() -> Result<()> {
    let mut full = Full::start(KEY, &[])?;
    full.client.kill()?;
    let file = full.client.directory().join("taltun0.undo");
    fs::remove_file(&file)?;
    output_of(std::process::Command::new("mkfifo").arg(&file))?;
    let status = said(&full.taltun(&["status"])?);
    ensure!(
        status.contains("KILL SWITCH OF taltun0 HOLDS: nothing leaves.\n"),
        "{status}"
    );
    full.client.start_again(&full.pair.left)?;
    full.tunnel_answers()?;
    let log = full.client.log();
    ensure!(log.contains("it is a pipe"), "{log}");
    full.client.end(Signal::Terminate)?;
    full.outside_is_open()?;
    let undone = said(&full.taltun(&["undo", "taltun0"])?);
    ensure!(undone.contains("a journal that can't be read"), "{undone}");
    ensure!(!file.exists(), "it is there still");
    Ok(())
}

/// What others put into its chains, or before them, is told.
fn with_rules_of_others(firewall: &str, rules: &[(&str, &str)]) -> Result<()> {
    let mut full = Full::start(&format!("{KEY}firewall = \"{firewall}\"\n"), &[])?;
    full.client.kill()?;
    full.outside_is_closed()?;
    let holds = "KILL SWITCH OF taltun0 HOLDS: nothing leaves.\n";
    for (rule, expected) in rules {
        let status = said(&full.taltun(&["status"])?);
        ensure!(status.contains(holds), "{status}");
        sh(&full.pair.left, rule)?;
        let status = said(&full.taltun(&["status"])?);
        ensure!(status.contains(expected), "{rule}: {status}");
        ensure!(!status.contains("HOLDS"), "{rule}: {status}");
        let failed = full.taltun(&["run", "--config", "/nonexistent"])?;
        let failed = said(&failed);
        ensure!(!failed.contains("taltun0 holds"), "{rule}: {failed}");
        // A start makes its rules anew, and only those.
        full.client.start_again(&full.pair.left)?;
        full.tunnel_answers()?;
        full.outside_is_closed()?;
        full.client.kill()?;
    }
    let undone = full.taltun(&["undo", "taltun0"])?;
    ensure!(undone.status.success(), "{}", said(&undone));
    full.outside_is_open()
}
