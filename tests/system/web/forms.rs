//! What a person does on the page: logs in, looks, bans and unbans.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use taltun_tests::http;
use taltun_tests::sys::Signal;

use super::hub::{Hub, PAGE, Session};
use crate::support::Case;

pub const CASES: &[Case] = &[
    Case {
        name: "the page shows the tunnel to who logs in by a token, in two languages",
        programs: &[],
        run: shows,
    },
    Case {
        name: "tokens for the page end by their time, by being revoked, and not by a restart",
        programs: &[],
        run: tokens,
    },
    Case {
        name: "the page bans and unbans, and the trail tells by whose token",
        programs: &[],
        run: bans,
    },
];

fn shows() -> Result<()> {
    let hub = Hub::start()?;
    // Nothing is shown to who isn't logged in.
    for path in ["/", "/sources", "/rules", "/usage", "/peer?key=x", "/other"] {
        let answer = http::get(hub.browser(), PAGE, path, &[])?;
        ensure!(answer.status == 303, "{path}: {answer:?}");
        ensure!(answer.header("location") == Some("/login"), "{answer:?}");
        ensure!(answer.body.is_empty(), "{answer:?}");
    }
    let login = http::get(hub.browser(), PAGE, "/login", &[])?;
    ensure!(
        login.status == 200 && login.body.contains("Log in"),
        "{login:?}"
    );
    ensure!(!login.body.contains("taltun0"), "{login:?}");

    let session = hub.log_in("ana")?;
    let page = session.page("/")?;
    for part in [
        "taltun0",
        ">ana</bdi>",
        "10.200.0.2",
        "online",
        "<svg",
        "data-live=\"/live?page=1\"",
    ] {
        ensure!(page.contains(part), "no {part} in {page}");
    }
    ensure!(
        !page.contains("<script>") && !page.contains("style=\""),
        "{page}"
    );
    let key = &hub.keys[1].public;
    let path = format!("/peer?key={}", http::encoded(key));
    ensure!(page.contains(&path), "no {path} in {page}");
    let peer = session.page(&path)?;
    ensure!(
        peer.contains(key) && peer.contains("10.200.0.2/32"),
        "{peer}"
    );
    for path in ["/sources", "/rules", "/usage"] {
        session.page(path)?;
    }
    for path in ["/peer?key=none", "/none", "/..%2fetc"] {
        ensure!(session.get(path)?.status == 404, "{path}");
    }
    for (path, kind) in [
        ("/style.css", "text/css"),
        ("/script.js", "text/javascript"),
        ("/icon.svg", "image/svg+xml"),
    ] {
        let file = session.get(path)?;
        let given = file.header("content-type").unwrap_or_default();
        ensure!(
            file.status == 200 && given.starts_with(kind),
            "{path}: {given}"
        );
    }
    let answer = session.get("/")?;
    for (name, value) in [
        (
            "content-security-policy",
            "default-src 'none'; script-src 'self'",
        ),
        ("x-frame-options", "DENY"),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "same-origin"),
        ("cache-control", "no-store"),
    ] {
        let given = answer.header(name).unwrap_or_default();
        ensure!(given.starts_with(value), "{name}: {given}");
    }

    speaks_spanish(&hub, &session)?;

    // What goes on while somebody looks.
    let mut live = http::connect(hub.browser(), PAGE)?;
    let head = http::head("GET", "/live?page=1", PAGE, &[("Cookie", &session.cookie)]);
    let events = read_events(&mut live, &head, 3)?;
    for part in [
        "event: parts\ndata: {",
        "\"graph\":",
        "\"peer-",
        "\"tiles\":",
        "bit/s",
    ] {
        ensure!(events.contains(part), "no {part} in {events}");
    }
    // What stays as it was is sent once.
    ensure!(events.matches("\"reasons\":").count() == 1, "{events}");
    sources_live(&hub, &session)?;

    // Logging out ends the session, whoever has its cookie.
    let out = session.post("/logout", "")?;
    ensure!(
        out.header("set-cookie")
            .is_some_and(|it| it.contains("Max-Age=0")),
        "{out:?}"
    );
    ensure!(session.get("/")?.status == 303);
    let over = http::get(hub.browser(), PAGE, "/live", &[("Cookie", &session.cookie)])?;
    ensure!(over.body.contains("event: over"), "{over:?}");
    hub.node.stop(Signal::Terminate)
}

/// Pages are in the language that the browser prefers, or that somebody chose.
fn speaks_spanish(hub: &Hub, session: &Session<'_>) -> Result<()> {
    let spanish = [("Accept-Language", "es-MX,es;q=0.9,en;q=0.5")];
    let login = http::get(hub.browser(), PAGE, "/login", &spanish)?;
    ensure!(
        login.body.contains("lang=\"es\"") && login.body.contains("Entrar"),
        "{login:?}"
    );
    let chosen = http::get(hub.browser(), PAGE, "/language/es", &[])?;
    let cookie = chosen.header("set-cookie").context("no cookie")?;
    ensure!(cookie.starts_with("taltun-language=es;"), "{cookie}");
    let cookies = format!("{}; taltun-language=es", session.cookie);
    let page = http::get(hub.browser(), PAGE, "/", &[("Cookie", &cookies)])?;
    ensure!(
        page.body.contains("Pares") && page.body.contains("en línea"),
        "{page:?}"
    );
    Ok(())
}

/// Who sends, with how fast and who that is, while somebody looks; a form that isn't done keeps what
/// was typed; refusals are in the page's language.
fn sources_live(hub: &Hub, session: &Session<'_>) -> Result<()> {
    let cookie = [("Cookie", session.cookie.as_str())];
    let mut live = http::connect(hub.browser(), PAGE)?;
    let head = http::head("GET", "/live?view=sources", PAGE, &cookie);
    let events = read_events(&mut live, &head, 3)?;
    for part in [
        "\"outside\":",
        "\"bans\":",
        "10.99.1.2",
        ">ana</bdi>",
        "/s<",
    ] {
        ensure!(events.contains(part), "no {part} in {events}");
    }
    session.post("/ban", "net=200.0.0.0/7&layer=inside&for=86400")?;
    let cookies = format!("{}; taltun-language=es", session.cookie);
    let page = http::get(hub.browser(), PAGE, "/sources", &[("Cookie", &cookies)])?;
    for part in [
        "value=\"200.0.0.0/7\"",
        "value=\"inside\" selected",
        "value=\"86400\" selected",
    ] {
        ensure!(page.body.contains(part), "no {part} in {page:?}");
    }
    let spanish = Session {
        cookie: cookies,
        ..session.clone()
    };
    spanish.post("/ban", "net=200.0.0.0/7&layer=inside&for=60")?;
    let notice = spanish.notice()?;
    ensure!(notice.contains("descartaría casi todo"), "{notice}");
    Ok(())
}

/// What comes until there were so many events.
fn read_events(stream: &mut std::net::TcpStream, head: &str, number: usize) -> Result<String> {
    use std::io::{Read, Write};
    stream.write_all(head.as_bytes())?;
    let (mut text, mut buffer) = (String::new(), [0; 4096]);
    while text.matches("event: ").count() < number {
        let length = stream.read(&mut buffer)?;
        ensure!(length > 0, "it ended: {text}");
        text.push_str(&String::from_utf8_lossy(&buffer[..length]));
    }
    Ok(text)
}

fn tokens() -> Result<()> {
    let mut hub = Hub::start()?;
    ensure!(
        hub.node
            .tell(&["web", "tokens"])?
            .contains("there are no tokens")
    );
    let token = hub.token(&["--name", "ana"])?;
    ensure!(hub.try_log_in(&token)?.status == 303);
    for wrong in ["", "x", &token[1..], &format!("{token}x")] {
        let answer = hub.try_log_in(wrong)?;
        ensure!(answer.status == 403, "{wrong}: {answer:?}");
        ensure!(answer.header("set-cookie").is_none(), "{answer:?}");
        ensure!(
            answer.body.contains("isn&#39;t valid") || answer.body.contains("isn't valid"),
            "{answer:?}"
        );
    }
    // Its file tells nobody what it is.
    let file = hub.node.directory().join("state/taltun0/web-tokens.json");
    ensure!(fs::metadata(&file)?.permissions().mode() & 0o777 == 0o600);
    let kept = fs::read_to_string(&file)?;
    ensure!(kept.contains("\"ana\"") && !kept.contains(&token), "{kept}");
    ensure!(!hub.node.log().contains(&token));

    let short = hub.token(&["--for", "2s", "--name", "short"])?;
    let answer = hub.try_log_in(&short)?;
    let cookie = answer.header("set-cookie").context("no cookie")?.to_owned();
    let cookie = cookie.split(';').next().unwrap_or_default().to_owned();
    let look = |cookie: &str| http::get(hub.browser(), PAGE, "/", &[("Cookie", cookie)]);
    ensure!(look(&cookie)?.status == 200);
    sleep(Duration::from_millis(2100));
    ensure!(look(&cookie)?.status == 303, "it has ended");
    ensure!(hub.try_log_in(&short)?.status == 403, "it has ended");

    let eva = hub.log_in("eva")?;
    let listed = hub.node.tell(&["web", "tokens"])?;
    ensure!(
        listed.contains("ana") && listed.contains("eva") && !listed.contains("short"),
        "{listed}"
    );
    let said = hub.node.tell(&["web", "revoke", "eva"])?;
    ensure!(said == "ended the token eva, and 1 session\n", "{said}");
    ensure!(eva.get("/")?.status == 303);
    ensure!(hub.node.tell(&["web", "revoke", "eva"]).is_err());
    ensure!(
        hub.node.tell(&["web", "token", "--name", "ana"]).is_err(),
        "there is one"
    );

    // The token outlives the hub; its sessions don't.
    let session = hub.try_log_in(&token)?;
    let cookie = session.header("set-cookie").context("no cookie")?;
    let cookie = cookie.split(';').next().unwrap_or_default().to_owned();
    hub.node.kill()?;
    hub.node.start_again(&hub.pair.left)?;
    crate::support::eventually("the page is back", Duration::from_secs(30), || {
        Ok(http::get(hub.browser(), PAGE, "/login", &[]).is_ok())
    })?;
    let answer = http::get(hub.browser(), PAGE, "/", &[("Cookie", &cookie)])?;
    ensure!(answer.status == 303, "{answer:?}");
    ensure!(hub.try_log_in(&token)?.status == 303);

    // Who tries in vain waits, and the right one with it.
    let mut answer = hub.try_log_in("guess")?;
    for _ in 0..20 {
        answer = hub.try_log_in("guess")?;
    }
    ensure!(
        answer.status == 429 && answer.body.contains("min"),
        "{answer:?}"
    );
    ensure!(hub.try_log_in(&token)?.status == 429);
    ensure!(
        hub.node
            .log()
            .contains("web: 10.200.0.2 tries wrong tokens")
    );
    hub.node.stop(Signal::Terminate)
}

#[allow(
    clippy::too_many_lines,
    reason = "one form after another, as a browser sends them"
)]
fn bans() -> Result<()> {
    let hub = Hub::start()?;
    let session = hub.log_in("ana's-phone")?;
    let banned = || -> Result<Vec<String>> {
        let bans = hub.node.tell(&["stats", "--json"])?;
        let bans: serde_json::Value = serde_json::from_str(&bans)?;
        let bans = bans["bans"].as_array().context("no bans")?;
        Ok(bans.iter().map(|ban| ban["net"].to_string()).collect())
    };
    let answer = session.post("/ban", "net=198.51.100.7&layer=outside&for=3600")?;
    ensure!(answer.status == 303, "{answer:?}");
    ensure!(banned()? == ["\"198.51.100.7/32\""], "{:?}", banned()?);
    let notice = session.notice()?;
    ensure!(
        notice.starts_with("done") && notice.contains("198.51.100.7/32"),
        "{notice}"
    );
    let page = session.page("/sources")?;
    ensure!(
        page.contains("59\u{a0}min") || page.contains("1\u{a0}h"),
        "{page}"
    );
    // A second time it isn't told.
    ensure!(session.notice().is_err());
    let answer = session.post("/unban", "net=198.51.100.7/32&layer=outside")?;
    ensure!(answer.status == 303, "{answer:?}");
    ensure!(banned()?.is_empty());

    // A form has "outside" chosen from the start, so an address inside is asked back about, as of the command.
    // One that was seen outside is meant so.
    session.post("/ban", "net=10.200.0.0/31&layer=outside&for=60&seen=1")?;
    ensure!(banned()? == ["\"10.200.0.0/31\""], "{:?}", banned()?);
    session.post("/unban", "net=10.200.0.0/31&layer=outside")?;
    // What can't be is told, and nothing is done.
    for (path, form, why) in [
        (
            "/ban",
            "net=nonsense&layer=inside&for=60",
            "isn&#39;t a network",
        ),
        (
            "/ban",
            "net=10.200.0.0/24&layer=inside&for=60",
            "lock yourself out",
        ),
        (
            "/ban",
            "net=::ffff:10.200.0.0/120&layer=inside&for=60",
            "lock yourself out",
        ),
        (
            "/ban",
            "net=10.200.0.0/31&layer=outside&for=60",
            "an address in the tunnel",
        ),
        (
            "/ban",
            "net=0.0.0.0/0&layer=outside&for=60",
            "lock yourself out",
        ),
        (
            "/ban",
            "net=10.99.1.2&layer=outside&for=60",
            "lock yourself out",
        ),
        (
            "/ban",
            "net=200.0.0.0/7&layer=outside&for=60",
            "nearly everything",
        ),
        (
            "/ban",
            "net=198.51.100.7&layer=outside&for=0",
            "at least a second",
        ),
        (
            "/ban",
            "net=198.51.100.7&layer=outside&for=99999999999",
            "at most",
        ),
        (
            "/unban",
            "net=198.51.100.9&layer=outside",
            "isn&#39;t banned",
        ),
        ("/ban-peer", "key=nobody&for=60", "no public key"),
    ] {
        let answer = session.post(path, form)?;
        ensure!(answer.status == 303, "{form}: {answer:?}");
        let notice = session.notice()?;
        let notice = notice.replace("isn't", "isn&#39;t");
        ensure!(
            notice.starts_with("refused") && notice.contains(why),
            "{form}: {notice}"
        );
        ensure!(banned()?.is_empty(), "{form}");
    }
    let key = http::encoded(&hub.keys[1].public);
    session.post("/ban-peer", &format!("key={key}&for=60"))?;
    ensure!(session.notice()?.contains("lock yourself out"));

    let trail = fs::read_to_string(hub.node.directory().join("state/taltun0/audit.jsonl"))?;
    let lines = trail.lines().map(serde_json::from_str::<serde_json::Value>);
    let lines: Vec<_> = lines.collect::<Result<_, _>>()?;
    let ours = lines.iter().filter(|line| line["by"]["way"] == "web");
    let ours: Vec<_> = ours.collect();
    ensure!(ours.len() >= 2, "{trail}");
    ensure!(
        ours[0]["action"] == "ban" && ours[0]["by"]["token"] == "ana's-phone",
        "{trail}"
    );
    ensure!(ours[0]["by"]["address"] == "10.200.0.2", "{trail}");
    ensure!(ours[1]["action"] == "unban", "{trail}");
    ensure!(
        lines.iter().any(|line| line["action"] == "web token"),
        "{trail}"
    );
    hub.node.stop(Signal::Terminate)
}
