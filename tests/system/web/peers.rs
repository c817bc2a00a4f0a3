//! Peers that are added and removed on the page.

use std::fs;

use anyhow::{Context, Result, ensure};
use taltun_tests::http;
use taltun_tests::node::Node;
use taltun_tests::sys::Signal;

use super::hub::{Hub, Session};
use crate::support::{Case, UP_LIMIT, ensure_answers_within, eventually, taltun};

pub const CASES: &[Case] = &[Case {
    name: "the page adds a peer whose file works and is shown once, changes it, gives it new keys and removes it",
    programs: &[],
    run: adds,
}];

fn adds() -> Result<()> {
    let hub = Hub::start()?;
    let session = hub.log_in("ana")?;
    ensure!(session.page("/new")?.contains("action=\"/new\""));
    let form = "name=phone&psk=1&endpoint=10.99.1.1:9100&expires=2099-12-31";
    let answer = session.post("/new", form)?;
    ensure!(answer.status == 200, "{answer:?}");
    ensure!(answer.header("cache-control") == Some("no-store"));
    let page = answer.body;
    ensure!(page.contains("class=\"code\""), "no code in {page}");
    let files = page.split("<textarea ").skip(1);
    let files = files.filter_map(|it| it.split_once('>')?.1.split_once("</textarea>"));
    let files: Vec<String> = files.map(|(file, _)| unescaped(file)).collect();
    let [wg, toml] = &files[..] else {
        anyhow::bail!("{} files in {page}", files.len());
    };
    let value = |name: &str| {
        let mut lines = wg.lines();
        let value = lines.find_map(|line| line.strip_prefix(name)?.trim().strip_prefix("= "));
        value
            .map(str::to_owned)
            .with_context(|| format!("no {name} in {wg}"))
    };
    let (private, shared) = (value("PrivateKey")?, value("PresharedKey")?);
    ensure!(value("Address")?.starts_with("10.200.0.3/"), "{wg}");

    // The hub has what both share, and of the peer's own key the public half alone.
    let config = fs::read_to_string(hub.node.config())?;
    ensure!(
        config.contains("phone") && config.contains(&shared),
        "{config}"
    );
    let directory = hub.node.directory();
    let read = || fs::read_to_string(directory.join("state/taltun0/audit.jsonl"));
    // It is written beside the answer.
    eventually("the trail tells it", UP_LIMIT, || {
        Ok(read()?.contains("\"peer new\""))
    })?;
    let trail = read()?;
    for (what, text) in [
        ("file", &config),
        ("log", &hub.node.log()),
        ("trail", &trail),
    ] {
        ensure!(!text.contains(&private), "its private key is in the {what}");
        ensure!(
            what == "file" || !text.contains(&shared),
            "the key is in the {what}"
        );
    }
    let line = trail.lines().last().context("no trail")?;
    let line: serde_json::Value = serde_json::from_str(line)?;
    ensure!(
        line["action"] == "peer new" && line["by"]["token"] == "ana",
        "{line}"
    );
    // It isn't shown again.
    for path in ["/new", "/", "/sources"] {
        let page = session.page(path)?;
        ensure!(
            !page.contains(&private) && !page.contains(&shared),
            "{path}"
        );
    }
    // There is one of that name, and nothing else happens.
    let answer = session.post("/new", form)?;
    ensure!(answer.status == 303, "{answer:?}");
    let notice = session.notice()?;
    ensure!(
        notice.starts_with("refused") && notice.contains("has this name"),
        "{notice}"
    );
    ensure!(!notice.contains("taltun peer"), "{notice}");
    ensure!(hub.node.status()?.peers.len() == 2);
    typed_again(&session, form)?;
    other_values(&hub, &session)?;
    other_name_and_keys(&hub, &session, &shared)?;
    once(&hub, &session)?;

    // The page can't take away the peer that its browser comes through.
    let own = http::encoded(&hub.keys[1].public);
    session.post("/remove", &format!("key={own}"))?;
    ensure!(session.notice()?.contains("lock yourself out"));

    let page = session.page("/?q=phone")?;
    let (_, rest) = page.split_once("/peer?key=").context("no such peer")?;
    let (key, _) = rest.split_once('"').context("no end")?;
    let gone = session.post("/remove", &format!("key={key}"))?;
    ensure!(gone.header("location") == Some("/"), "{gone:?}");
    ensure!(session.notice()?.starts_with("done"));
    ensure!(hub.node.status()?.peers.len() == 1);
    ensure!(!fs::read_to_string(hub.node.config())?.contains("phone"));

    // Another one, whose file is a client's.
    let answer = session.post("/new", form)?;
    let file = answer.body.rsplit("<textarea ").next().unwrap_or_default();
    let file = file
        .split_once('>')
        .and_then(|(_, it)| it.split_once("</textarea>"));
    let (file, _) = file.with_context(|| format!("no file, unlike {toml}"))?;
    let Hub {
        pair, spoke, node, ..
    } = hub;
    spoke.stop(Signal::Terminate)?;
    let phone = Node::start_with_text(&pair.right, &taltun()?, &unescaped(file))?;
    ensure_answers_within(&pair.right, "10.200.0.1".parse()?, UP_LIMIT)?;
    phone.stop(Signal::Terminate)?;
    node.stop(Signal::Terminate)
}

/// A form that is refused has what was typed, this once; a name that nobody sees is none.
fn typed_again(session: &Session<'_>, form: &str) -> Result<()> {
    session.post("/new", form)?;
    let page = session.page("/new")?;
    for typed in ["phone", "10.99.1.1:9100", "2099-12-31"] {
        ensure!(page.contains(&format!("value=\"{typed}\"")), "{page}");
    }
    ensure!(page.contains("value=\"1\" checked"), "{page}");
    ensure!(!session.page("/new")?.contains("2099-12-31"));
    // A name with what nobody sees isn't one, and no line of a file is told for it.
    session.post("/new", "name=a%E2%80%AEb")?;
    let notice = session.notice()?;
    ensure!(
        notice.contains("can&#39;t be a peer") || notice.contains("can't be a peer"),
        "{notice}"
    );
    Ok(())
}

/// A browser that loads an answer with keys again sends its form again: nothing is done a second time, and the
/// next page says what became of it.
fn once(hub: &Hub, session: &Session<'_>) -> Result<()> {
    let number = |path: &str| -> Result<String> {
        let page = session.page(path)?;
        let (_, rest) = page.split_once("name=\"once\" value=\"").context("none")?;
        let (number, _) = rest.split_once('"').context("no end")?;
        Ok(number.to_owned())
    };
    let key = || -> Result<String> {
        let status = hub.node.status()?;
        let mut peers = status.peers.iter();
        let peer = peers.find(|it| it.name.as_deref() == Some("eva's tablet"));
        Ok(peer.context("no such peer")?.public_key.clone())
    };
    let again = |path: &str, form: &str| -> Result<()> {
        let before = key()?;
        let answer = session.post(path, form)?;
        let page = format!("/peer?key={}", http::encoded(&before));
        ensure!(
            answer.status == 303 && answer.header("location") == Some(&page),
            "{answer:?}"
        );
        let notice = session.notice()?;
        ensure!(
            notice.starts_with("done") && notice.contains("done already"),
            "{notice}"
        );
        ensure!(key()? == before, "other keys");
        Ok(())
    };
    ensure!(number("/new")? != number("/new")?);
    let form = format!(
        "name=eva%27s+tablet&endpoint=10.99.1.1:9100&once={}",
        number("/new")?
    );
    let answer = session.post("/new", &form)?;
    ensure!(answer.status == 200, "{answer:?}");
    // A name that wg-quick and the apps take.
    for file in [
        "download=\"eva-s-tablet.conf\"",
        "download=\"eva-s-tablet.toml\"",
    ] {
        ensure!(answer.body.contains(file), "no {file} in {}", answer.body);
    }
    again("/new", &form)?;
    let first = key()?;
    let page = format!("/peer?key={}", http::encoded(&first));
    let form = format!(
        "key={}&endpoint=10.99.1.1:9100&once={}",
        http::encoded(&first),
        number(&page)?
    );
    ensure!(session.post("/rotate", &form)?.status == 200);
    ensure!(key()? != first);
    again("/rotate", &form)?;
    session.post("/remove", &format!("key={}", http::encoded(&key()?)))?;
    ensure!(session.notice()?.starts_with("done"));
    Ok(())
}

/// What a peer has and may is changed, and what was left alone in the form isn't.
fn other_values(hub: &Hub, session: &Session<'_>) -> Result<()> {
    let status = hub.node.status()?;
    let mut peers = status.peers.iter();
    let phone = peers.find(|it| it.name.as_deref() == Some("phone"));
    let key = http::encoded(&phone.context("no phone")?.public_key);
    let page = format!("/peer?key={key}");
    let shown = session.page(&page)?;
    for part in [
        "name=\"expires-before\" value=\"2099-12-31\"",
        "name=\"allowed-before\" value=\"\"",
        "<dt>Preshared key</dt><dd>yes</dd>",
    ] {
        ensure!(shown.contains(part), "no {part} in {shown}");
    }
    let form = format!(
        "key={key}&allowed-before=&allowed=192.168.7.0%2F24%2C+192.168.8.9&expires-before=2099-12-31\
         &expires=2099-12-31&quota-before=&quota=1+GB%2Fday&rate_up-before=&rate_up=&rate_down-before=&rate_down="
    );
    session.post("/set", &form)?;
    let notice = session.notice()?;
    ensure!(notice.starts_with("done"), "{notice}");
    let config = fs::read_to_string(hub.node.config())?;
    for line in [
        "allowed_ips = [\"192.168.7.0/24\", \"192.168.8.9/32\"]",
        "quota = \"1 GB/day\"",
        "expires = 2099-12-31",
    ] {
        ensure!(config.contains(line), "no {line} in {config}");
    }
    ensure!(!config.contains("rate_"), "{config}");
    let shown = session.page(&page)?;
    ensure!(
        shown.contains("value=\"192.168.7.0/24, 192.168.8.9/32\"")
            && shown.contains("value=\"1 GB/day\""),
        "{shown}"
    );
    // What isn't done is there again, and what is the same is no change.
    session.post("/set", &format!("key={key}&quota-before=&quota=much"))?;
    let shown = session.page(&page)?;
    ensure!(
        shown.contains("value=\"much\"") && shown.contains("peers.quota"),
        "{shown}"
    );
    ensure!(!shown.contains("config.toml:"), "{shown}");
    session.post("/set", &format!("key={key}&quota-before=x&quota=x"))?;
    ensure!(session.notice()?.contains("Nothing in the form"));
    let away = format!("key={key}&allowed-before=x&allowed=&quota-before=x&quota=");
    session.post("/set", &away)?;
    ensure!(session.notice()?.starts_with("done"));
    ensure!(!fs::read_to_string(hub.node.config())?.contains("192.168."));
    // The peer that the browser comes through may get other rates, and isn't shut out.
    let own = http::encoded(&hub.keys[1].public);
    for out in [
        "expires-before=&expires=2099-01-01",
        "quota-before=&quota=1+B%2Fday",
    ] {
        session.post("/set", &format!("key={own}&{out}"))?;
        ensure!(session.notice()?.contains("lock yourself out"), "{out}");
    }
    // Nor does another peer get the address that the browser has.
    let taking = format!("key={key}&allowed-before=&allowed=10.200.0.2%2F32");
    session.post("/set", &taking)?;
    ensure!(session.notice()?.contains("lock yourself out"));
    let rates = format!("key={own}&rate_up-before=&rate_up=50+Mbit%2Fs");
    session.post("/set", &rates)?;
    ensure!(session.notice()?.starts_with("done"));
    Ok(())
}

/// A peer gets another name and other keys, with a new file; the old name and key are gone.
fn other_name_and_keys(hub: &Hub, session: &Session<'_>, shared: &str) -> Result<()> {
    let key = || -> Result<String> {
        let status = hub.node.status()?;
        let other = status
            .peers
            .iter()
            .find(|it| it.public_key != hub.keys[1].public);
        Ok(other.context("no phone")?.public_key.clone())
    };
    let old = key()?;
    let form = format!("key={}&name=tel%C3%A9fono", http::encoded(&old));
    session.post("/rename", &form)?;
    let notice = session.notice()?;
    ensure!(
        notice.starts_with("done") && notice.contains("teléfono"),
        "{notice}"
    );
    let config = fs::read_to_string(hub.node.config())?;
    ensure!(
        config.contains("teléfono") && !config.contains("phone"),
        "{config}"
    );
    // Its form has the name that it has.
    let page = session.page(&format!("/peer?key={}", http::encoded(&old)))?;
    ensure!(page.contains("value=\"teléfono\""), "{page}");
    // The browser's own peer would lose its session.
    let own = http::encoded(&hub.keys[1].public);
    session.post("/rotate", &format!("key={own}"))?;
    ensure!(session.notice()?.contains("lock yourself out"));
    // A peer that there isn't has no page that says so.
    let answer = session.post("/rotate", "key=nonsense&endpoint=10.99.1.1:9100")?;
    ensure!(answer.header("location") == Some("/"), "{answer:?}");
    ensure!(session.notice()?.contains("no public key"));
    // Where nobody knows where the hub is, the form says so and nothing is done.
    let answer = session.post("/rotate", &format!("key={}", http::encoded(&old)))?;
    ensure!(answer.status == 303, "{answer:?}");
    let notice = session.notice()?;
    ensure!(notice.contains("where peers reach it"), "{notice}");
    ensure!(key()? == old);

    let form = format!("key={}&endpoint=10.99.1.1:9100", http::encoded(&old));
    let answer = session.post("/rotate", &form)?;
    ensure!(
        answer.status == 200 && answer.body.contains("class=\"code\""),
        "{answer:?}"
    );
    ensure!(key()? != old && answer.body.contains("PrivateKey"));
    // The form said that it had one, and had the tick for another one, which this one hadn't.
    ensure!(page.contains("name=\"psk\" value=\"1\" checked"), "{page}");
    ensure!(page.contains("without the tick it has none"), "{page}");
    ensure!(!answer.body.contains("PresharedKey"), "{answer:?}");
    let config = fs::read_to_string(hub.node.config())?;
    ensure!(
        !config.contains(shared) && !config.contains(&old),
        "{config}"
    );
    let form = format!("key={}&name=phone", http::encoded(&key()?));
    session.post("/rename", &form)?;
    ensure!(session.notice()?.starts_with("done"));
    Ok(())
}

/// HTML as text.
fn unescaped(html: &str) -> String {
    let text = html.replace("&quot;", "\"").replace("&lt;", "<");
    text.replace("&gt;", ">").replace("&amp;", "&")
}
