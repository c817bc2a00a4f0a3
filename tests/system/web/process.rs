//! The process that serves the page: without rights, replaced when it ends, gone with the hub.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use taltun_tests::http;
use taltun_tests::sys::{Signal, send_signal};

use super::hub::{Hub, PAGE, SECTION};
use crate::support::{Case, ensure_without_rights, eventually};

pub const CASES: &[Case] = &[
    Case {
        name: "the page's process has no right, and who is logged in stays so when it is replaced",
        programs: &[],
        run: heals,
    },
    Case {
        name: "the page follows a reload, and stays where that can't be",
        programs: &[],
        run: reloads,
    },
    Case {
        name: "the page on a vip is for those in the tunnel and the hub itself",
        programs: &[],
        run: on_vip,
    },
];

const LIMIT: Duration = Duration::from_secs(30);

fn heals() -> Result<()> {
    let mut hub = Hub::start()?;
    let session = hub.log_in("ana")?;
    let cookie = session.cookie.clone();
    let first = hub.process()?;
    let name = fs::read_to_string(format!("/proc/{first}/comm"))?;
    ensure!(name == "taltun-web\n", "{name}");
    ensure_without_rights(first)?;
    ensure!(
        hub.node
            .tell(&["status", "--long"])?
            .contains("web:              10.200.0.1:8080\n")
    );
    send_signal(first, Signal::Kill)?;
    eventually("status tells it", LIMIT, || {
        let status = hub.node.tell(&["status", "--long"])?;
        Ok(status.contains("web:              10.200.0.1:8080: doesn't answer"))
    })?;
    eventually("it is back", LIMIT, || Ok(hub.process().is_ok()))?;
    session.page("/")?;
    ensure!(hub.process()? != first);
    ensure!(hub.node.log().contains("web: its process ended (signal: 9"));
    // It doesn't outlive a hub that can't tell it.
    let second = hub.process()?;
    hub.node.kill()?;
    eventually("it ended, too", LIMIT, || {
        Ok(!Path::new(&format!("/proc/{second}")).exists())
    })?;
    ensure!(http::get(&hub.pair.left, PAGE, "/", &[("Cookie", &cookie)]).is_err());
    Ok(())
}

fn reloads() -> Result<()> {
    let hub = Hub::with("", "ana")?;
    let refused = hub.token(&[]).err().context("there is no page")?;
    ensure!(
        format!("{refused:#}").contains("has no [web]"),
        "{refused:#}"
    );
    let look = |place: &str| http::get(&hub.pair.left, place, "/login", &[]);
    ensure!(look(PAGE).is_err());
    ensure!(hub.reload(SECTION)? == "reloaded: web on\n");
    look(PAGE)?;
    let session = hub.log_in("ana")?;
    let local = "[web]\nlisten = [\"127.0.0.1:8081\", \"10.200.0.1:8080\"]\n";
    let said = hub.reload(local)?;
    ensure!(
        said == "reloaded: web.listen changed, web moved\n",
        "{said}"
    );
    look("127.0.0.1:8081")?;
    // Sessions are the hub's: they stay.
    session.page("/")?;

    // A name of ours.
    let named = |host: &str| http::get(&hub.pair.left, PAGE, "/login", &[("Host", host)]);
    ensure!(named("vpn.example.org")?.status == 421);
    let hosts = format!("{local}hosts = \"vpn.example.org\"\n");
    let said = hub.reload(&hosts)?;
    ensure!(said.starts_with("reloaded: web.hosts changed"), "{said}");
    ensure!(named("VPN.example.org:443")?.status == 200);

    // A port of somebody else's.
    let taken = hub.pair.left.tcp("127.0.0.1:8082")?;
    let refused = hub.reload("[web]\nlisten = \"127.0.0.1:8082\"\n");
    let refused = format!("{:#}", refused.err().context("it was taken")?);
    ensure!(
        refused.contains("web.listen: cannot listen on 127.0.0.1:8082"),
        "{refused}"
    );
    ensure!(refused.contains("ss -ltnp sport = :8082"), "{refused}");
    session.page("/")?;
    drop(taken);
    // Where all the world could come.
    let open = "[web]\nlisten = \"10.99.1.1:8080\"\n";
    let refused = hub.reload(open);
    let refused = format!("{:#}", refused.err().context("it is open")?);
    ensure!(refused.contains("force = true"), "{refused}");
    let outside = || http::get(&hub.pair.right, "10.99.1.1:8080", "/login", &[]);
    ensure!(outside().is_err());
    hub.reload(&format!("{open}force = true\n"))?;
    ensure!(outside()?.status == 200);

    // With the metrics and the gateway it exchanges ports.
    for (web, metrics, gateway) in [(8080, 9586, 7300), (9586, 7300, 8080), (7300, 8080, 9586)] {
        hub.reload(&format!(
            "[web]\nlisten = \"127.0.0.1:{web}\"\n[metrics]\nlisten = \"127.0.0.1:{metrics}\"\n\
             [udpgw]\nlisten = \"127.0.0.1:{gateway}\"\n"
        ))?;
        let page = look(&format!("127.0.0.1:{web}"))?;
        ensure!(page.body.contains("Log in"), "{page:?}");
        let figures = http::get(
            &hub.pair.left,
            &format!("127.0.0.1:{metrics}"),
            "/metrics",
            &[],
        )?;
        ensure!(figures.body.contains("taltun_info"), "{figures:?}");
    }
    ensure!(hub.reload("")?.contains("web off"));
    eventually("its process has ended", LIMIT, || {
        Ok(hub.process().is_err())
    })?;
    hub.node.stop(Signal::Terminate)
}

fn on_vip() -> Result<()> {
    let hub = Hub::start()?;
    http::get(&hub.pair.left, PAGE, "/login", &[])?;
    let Hub {
        pair, spoke, node, ..
    } = hub;
    drop(spoke);
    pair.right.ip("route add 10.200.0.1/32 via 10.99.1.1")?;
    let outside = http::get(&pair.right, PAGE, "/login", &[]);
    ensure!(outside.is_err(), "{outside:?}");
    node.stop(Signal::Terminate)
}
