//! `[names]`: peers are found by their names at the hub's resolver.

use std::fs;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use taltun_tests::netns::Namespace;
use taltun_tests::sys::{Signal, send_signal};
use taltun_tests::traffic::dns::{self, Resolver};
use taltun_tests::traffic::ping::Pinger;

use crate::rules::{HUB, start};
use crate::support::{Case, UP_LIMIT, ensure_without_rights, eventually, process_of};

pub const CASES: &[Case] = &[
    Case {
        name: "names: peers ask the hub for each other under default = \"deny\", and follow a reload",
        programs: &[],
        run: ask_and_reload,
    },
    Case {
        name: "names: other names go upstream",
        programs: &[],
        run: upstream,
    },
    Case {
        name: "names: the resolver is a process without rights; killed under traffic it comes back, and the tunnel goes on",
        programs: &[],
        run: killed,
    },
];

const LIMIT: Duration = Duration::from_secs(10);
const SILENCE: Duration = Duration::from_millis(600);

/// Luis may not ask.
const DENY_LUIS: &str = "[policy]\ndefault = \"deny\"\n\
    [[rules]]\nfrom = \"luis\"\nto = \"hub\"\ndeny = [\"udp/53\", \"tcp/53\"]\n\
    [names]\ndomain = \"vpn\"\n";

fn ask(from: &Namespace, server: &str, name: &str, v6: bool) -> Result<Option<String>> {
    let server: IpAddr = server.parse()?;
    let found = dns::ask(from, server, name, v6, LIMIT)?;
    Ok(found.map(|address| address.to_string()))
}

fn expect(from: &Namespace, name: &str, v6: bool, expected: Option<&str>) -> Result<()> {
    for server in HUB {
        let found = ask(from, server, name, v6)?;
        ensure!(found.as_deref() == expected, "{name} is at {found:?}");
    }
    Ok(())
}

fn ask_and_reload() -> Result<()> {
    let hub = start(DENY_LUIS, true)?;
    let (ana, luis) = (&hub.star.a, &hub.star.b);
    expect(ana, "luis.vpn", false, Some("10.200.0.3"))?;
    expect(ana, "LUIS.vpn", true, Some("fd00:200::3"))?;
    expect(ana, "hub.vpn", false, Some("10.200.0.1"))?;
    expect(&hub.star.hub, "ana.vpn", false, Some("10.200.0.2"))?;
    for other in ["maria.vpn", "luis.ana.vpn", "example.org"] {
        expect(ana, other, false, None)?;
    }
    let denied = dns::ask(luis, HUB[0].parse()?, "ana.vpn", false, SILENCE);
    ensure!(
        denied.is_err(),
        "the rule denies it, and he heard {denied:?}"
    );
    let status = hub.status()?;
    ensure!(status["names"]["domain"] == "vpn", "{status}");
    ensure!(status["names"]["names"] == 3, "{status}");
    let rules = &status["policy"]["rules"];
    ensure!(rules[0]["denied"].as_u64() >= Some(1), "{rules}");
    ensure!(rules[1]["origin"] == "[names]", "{rules}");
    ensure!(rules[1]["allowed"].as_u64() >= Some(2), "{rules}");

    // Renamed, in another domain, and the rule taken out.
    let text = fs::read_to_string(hub.node.config())?;
    let text = text
        .replace("name = \"luis\"", "name = \"maria\"")
        .replace("from = \"luis\"", "from = \"maria\"")
        .replace("domain = \"vpn\"", "domain = \"lab.example\"")
        .replace("deny = [\"udp", "allow = [\"udp");
    fs::write(hub.node.config(), &text)?;
    hub.node.tell(&["reload"])?;
    eventually("the resolver follows", UP_LIMIT, || {
        Ok(expect(luis, "maria.lab.example", false, Some("10.200.0.3")).is_ok())
    })?;
    expect(ana, "luis.lab.example", false, None)?;
    expect(ana, "luis.vpn", false, None)?;

    // What can't be asked for changes nothing.
    fs::write(
        hub.node.config(),
        text.replace("\"ana\"", "\"Ana's phone\""),
    )?;
    let refused = hub.node.tell(&["reload"]);
    let error = refused.err().map(|error| error.to_string());
    let error = error.unwrap_or_default();
    ensure!(error.contains("such as \"ana-s-phone\""), "{error}");
    expect(luis, "ana.lab.example", false, Some("10.200.0.2"))?;
    hub.end()
}

fn upstream() -> Result<()> {
    let hub = start(
        "[names]\ndomain = \"vpn\"\nupstream = [\"127.0.0.53\"]\n",
        true,
    )?;
    let names = vec![("www.example.org", "192.0.2.7".parse()?)];
    let _resolver = Resolver::with_names(&hub.star.hub, "127.0.0.53".parse()?, names, 60)?;
    let ana = &hub.star.a;
    eventually("the other server is asked", UP_LIMIT, || {
        Ok(ask(ana, HUB[0], "www.example.org", false)?.as_deref() == Some("192.0.2.7"))
    })?;
    expect(ana, "luis.vpn", false, Some("10.200.0.3"))?;
    hub.end()
}

fn killed() -> Result<()> {
    let hub = start("[names]\ndomain = \"vpn\"\n", true)?;
    let ana = &hub.star.a;
    expect(ana, "luis.vpn", false, Some("10.200.0.3"))?;
    let pid = hub.node.pid();
    let first = process_of(pid, "names-process")?;
    ensure_without_rights(first)?;
    let rights = hub.node.status()?.rights.processes;
    let told = rights.iter().find(|it| it.name == "taltun-names");
    ensure!(told.is_some_and(|it| it.seccomp), "{rights:?}");

    let mut pinger = Pinger::new(ana, "10.200.0.3".parse()?)?;
    pinger.wait_until_answered(UP_LIMIT)?;
    send_signal(first, Signal::Kill)?;
    let answered = pinger.count_answers(50, LIMIT)?;
    ensure!(answered == 50, "{answered} of 50 pings");
    eventually("another process answers", UP_LIMIT, || {
        Ok(process_of(pid, "names-process").is_ok_and(|it| it != first)
            && expect(ana, "luis.vpn", false, Some("10.200.0.3")).is_ok())
    })?;
    ensure!(hub.node.pid() == pid);
    let status = hub.status()?;
    ensure!(
        status["resolver"]["ended"].is_null(),
        "{}",
        status["resolver"]
    );
    ensure_without_rights(process_of(pid, "names-process")?)?;
    // One that stands still is ended, and started again.
    let second = process_of(pid, "names-process")?;
    send_signal(second, Signal::Pause)?;
    eventually("it is ended", Duration::from_secs(30), || {
        Ok(process_of(pid, "names-process").is_ok_and(|it| it != second))
    })?;
    eventually("another answers", UP_LIMIT, || {
        Ok(expect(ana, "luis.vpn", false, Some("10.200.0.3")).is_ok())
    })?;
    hub.end()
}
