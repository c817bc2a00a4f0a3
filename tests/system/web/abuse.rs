//! Who means harm to the page, or by it.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use taltun_tests::http;
use taltun_tests::node::{Keys, Node};
use taltun_tests::sys::Signal;
use taltun_tests::topology::{Pair, private_prefix};

use super::hub::{Hub, ORIGIN, PAGE, SECTION};
use crate::support::{Case, taltun};

pub const CASES: &[Case] = &[
    Case {
        name: "the page refuses forged origins, foreign names and forms without what they hold",
        programs: &[],
        run: forged,
    },
    Case {
        name: "a script in a peer's name is text on every page",
        programs: &[],
        run: script,
    },
    Case {
        name: "silent browsers, endless heads and long forms keep nobody from the page",
        programs: &[],
        run: floods,
    },
    Case {
        name: "a browser that stops reading is cut off, and others go on",
        programs: &[],
        run: slow,
    },
    Case {
        name: "ten thousand peers are pages that can be searched",
        programs: &[],
        run: crowd,
    },
];

fn forged() -> Result<()> {
    let hub = Hub::start()?;
    let session = hub.log_in("ana")?;
    let form = session.form()?;
    let cookie = session.cookie.as_str();
    let ban = format!("form={form}&net=198.51.100.7&layer=outside&for=60");
    let post = |headers: &[(&str, &str)], form: &str| {
        let answer = http::post(hub.browser(), PAGE, "/ban", headers, form)?;
        anyhow::Ok(answer.status)
    };
    let own = ("Origin", ORIGIN);
    let known = ("Cookie", cookie);
    for headers in [
        // Without an origin, or with another's.
        &[known][..],
        &[known, ("Origin", "null")],
        &[known, ("Origin", "http://evil.example")],
        &[known, ("Origin", "http://10.200.0.1")],
        &[known, ("Origin", "http://10.200.0.1:8080.evil.example")],
        &[known, own, ("Origin", "http://evil.example")],
        &[known, own, ("Sec-Fetch-Site", "cross-site")],
        &[known, own, ("Sec-Fetch-Site", "same-site")],
    ] {
        ensure!(post(headers, &ban)? == 403, "{headers:?}");
    }
    // Without what the form holds, or with another's.
    for form in [
        "net=198.51.100.7&layer=outside&for=60".to_owned(),
        ban.replace(&form, ""),
        ban.replace(&form, "AAAA"),
        ban.replace(&form, &hub.log_in("eva")?.form()?),
    ] {
        ensure!(post(&[known, own], &form)? == 403, "{form}");
    }
    // Without a session it is the login.
    ensure!(post(&[own], &ban)? == 303);
    ensure!(post(&[own, ("Cookie", "taltun=AAAA")], &ban)? == 303);
    ensure!(hub.node.stats()?.denied.is_empty(), "something was banned");

    // A name that an attacker's server leads here.
    for host in [
        "evil.example",
        "evil.example:8080",
        "localhost.evil.example",
        "",
    ] {
        let answer = http::get(hub.browser(), PAGE, "/", &[("Host", host), known])?;
        ensure!(matches!(answer.status, 421 | 400), "{host}: {answer:?}");
    }
    for host in ["10.200.0.1", "localhost:9", "[::1]"] {
        let answer = http::get(hub.browser(), PAGE, "/", &[("Host", host), known])?;
        ensure!(answer.status == 200, "{host}: {answer:?}");
    }
    for method in ["PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT"] {
        let head = http::head(method, "/", PAGE, &[known, own]);
        let answer = http::exchange(hub.browser(), PAGE, head.as_bytes())?;
        ensure!(matches!(answer.status, 400..=499), "{method}: {answer:?}");
    }
    ensure!(post(&[known, own], &ban)? == 303);
    ensure!(hub.node.stats()?.denied.len() == 1);
    hub.node.stop(Signal::Terminate)
}

fn script() -> Result<()> {
    let name = "<script>alert(1)</script><img src=x onerror='alert(2)'>";
    let hub = Hub::with(SECTION, name)?;
    let session = hub.log_in("ana")?;
    let key = http::encoded(&hub.keys[1].public);
    // It is banned, so that it stands on the page of sources, too.
    hub.node.tell(&["ban", &hub.keys[1].public, "--outer"])?;
    hub.node.tell(&["unban", &hub.keys[1].public, "--outer"])?;
    let paths = [
        "/".to_owned(),
        format!("/peer?key={key}"),
        "/sources".to_owned(),
        "/usage".to_owned(),
        "/?q=%3Cscript%3E%22onfocus%3D1".to_owned(),
        "/?q=%3Cscript%3E".to_owned(),
    ];
    for path in paths {
        let page = session.page(&path)?;
        for bad in ["<script>", "<img", "\"onfocus"] {
            ensure!(!page.contains(bad), "{bad} in {path}: {page}");
        }
    }
    let page = session.page("/")?;
    ensure!(page.contains("&lt;script&gt;alert(1)"), "{page}");
    let mut live = http::connect(hub.browser(), PAGE)?;
    let head = http::head("GET", "/live?page=1", PAGE, &[("Cookie", &session.cookie)]);
    live.write_all(head.as_bytes())?;
    let (mut text, mut buffer) = (String::new(), [0; 4096]);
    while text.matches("event: ").count() < 2 {
        let length = live.read(&mut buffer)?;
        ensure!(length > 0, "{text}");
        text.push_str(&String::from_utf8_lossy(&buffer[..length]));
    }
    ensure!(
        text.contains("&lt;script&gt;") && !text.contains("<script>"),
        "{text}"
    );
    hub.node.stop(Signal::Terminate)
}

fn floods() -> Result<()> {
    let hub = Hub::start()?;
    let session = hub.log_in("ana")?;
    // Heads that are too long, or have too many lines.
    for (what, head) in [
        (
            "a long path",
            format!(
                "GET /{} HTTP/1.1\r\nHost: {PAGE}\r\n\r\n",
                "a".repeat(40_000)
            ),
        ),
        (
            "a long header",
            format!(
                "GET / HTTP/1.1\r\nHost: {PAGE}\r\nX: {}\r\n\r\n",
                "a".repeat(40_000)
            ),
        ),
        (
            "many headers",
            format!(
                "GET / HTTP/1.1\r\nHost: {PAGE}\r\n{}\r\n",
                "X: 1\r\n".repeat(200)
            ),
        ),
        ("nonsense", "\0\r\n\r\n".to_owned()),
    ] {
        let answer = http::exchange(hub.browser(), PAGE, head.as_bytes());
        // It may be reset before the answer is read.
        ensure!(
            answer.is_err() || answer.is_ok_and(|it| (400..=499).contains(&it.status)),
            "{what}"
        );
    }
    let known = [("Origin", ORIGIN), ("Cookie", session.cookie.as_str())];
    let long = "a".repeat(100_000);
    let answer = http::post(hub.browser(), PAGE, "/ban", &known, &long);
    ensure!(answer.is_err() || answer.is_ok_and(|it| it.status == 413));
    // One that says that it is short, and isn't.
    let endless = http::head(
        "POST",
        "/login",
        PAGE,
        &[("Origin", ORIGIN), ("Transfer-Encoding", "chunked")],
    );
    let endless = endless + &format!("5000\r\n{}\r\n", "a".repeat(0x5000)).repeat(3);
    let answer = http::exchange(hub.browser(), PAGE, endless.as_bytes());
    ensure!(answer.is_err() || answer.is_ok_and(|it| it.status == 413));
    // Many who say nothing.
    let silent: Vec<_> = (0..300)
        .map(|_| http::connect(hub.browser(), PAGE))
        .collect::<Result<_>>()?;
    let start = Instant::now();
    for path in ["/", "/sources", "/style.css"] {
        session.get(path)?;
    }
    ensure!(
        start.elapsed() < Duration::from_secs(5),
        "{:?}",
        start.elapsed()
    );
    drop(silent);
    session.page("/")?;
    hub.node.stop(Signal::Terminate)
}

fn slow() -> Result<()> {
    let hub = Hub::start()?;
    let session = hub.log_in("ana")?;
    let head = http::head("GET", "/live?page=1", PAGE, &[("Cookie", &session.cookie)]);
    let mut live = http::connect(hub.browser(), PAGE)?;
    live.write_all(head.as_bytes())?;
    // It is one of the process's files once there is an answer.
    let mut buffer = [0; 64];
    ensure!(live.read(&mut buffer)? > 0, "no answer");
    let process = hub.process()?;
    let files =
        || -> Result<usize> { Ok(std::fs::read_dir(format!("/proc/{process}/fd"))?.count()) };
    let before = files()?;
    // Its memory is what it was, whoever doesn't read; the page of who does is as quick.
    let resident = || -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next());
        Ok(kib.unwrap_or_default().parse()?)
    };
    let lazy: Vec<_> = (0..20)
        .map(|_| {
            let mut stream = http::connect(hub.browser(), PAGE)?;
            stream.write_all(head.as_bytes())?;
            Ok(stream)
        })
        .collect::<Result<_>>()?;
    let at_first = resident()?;
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(5) {
        session.page("/")?;
        std::thread::sleep(Duration::from_millis(200));
    }
    let grown = resident()?.saturating_sub(at_first);
    ensure!(grown < 8 << 10, "{grown} KiB more");
    ensure!(files()? >= before, "the connections are there");
    drop(lazy);
    crate::support::eventually(
        "their connections are gone",
        Duration::from_secs(10),
        || Ok(files()? <= before),
    )?;
    ensure!(live.read(&mut buffer)? > 0, "who reads goes on");
    hub.node.stop(Signal::Terminate)
}

fn crowd() -> Result<()> {
    const PEERS: usize = 10_000;
    let pair = Pair::create(&private_prefix())?;
    let keys = Keys::generate(&taltun()?)?;
    let mut text = format!(
        "[interface]\nmode = \"server\"\ntun_name = \"taltun0\"\nvip = \"10.200.0.1/16\"\n\
         local_addr = \"0.0.0.0:9100\"\nprivate_key = \"{}\"\n{SECTION}",
        keys.private
    );
    for number in 1..=PEERS {
        let mut key = [7; 32];
        key[..8].copy_from_slice(&(number as u64).to_be_bytes());
        let key = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, key);
        let (high, low) = (1 + number / 256, number % 256);
        write!(
            text,
            "[[peers]]\nname = \"peer-{number}\"\npublic_key = \"{key}\"\nvip = \"10.200.{high}.{low}\"\n"
        )?;
    }
    let node = Node::start_with_text(&pair.left, &taltun()?, &text)?;
    let token = node.tell(&["web", "token"])?;
    let form = format!("token={}", http::encoded(token.trim()));
    let answer = http::post(&pair.left, PAGE, "/login", &[("Origin", ORIGIN)], &form)?;
    let cookie = answer.header("set-cookie").unwrap_or_default().to_owned();
    let cookie = cookie.split(';').next().unwrap_or_default();
    let page = |path: &str| -> Result<String> {
        let answer = http::get(&pair.left, PAGE, path, &[("Cookie", cookie)])?;
        ensure!(answer.status == 200, "{path}: {}", answer.status);
        Ok(answer.body)
    };
    let rows = |page: &str| page.matches("<tr id=\"peer-").count();
    let first = page("/")?;
    ensure!(rows(&first) == 50 && first.contains("1 / 200"), "{first}");
    ensure!(first.len() < 100_000, "{} bytes", first.len());
    let last = page("/?page=200")?;
    ensure!(
        rows(&last) == 50 && !last.contains("rel=\"next\""),
        "{last}"
    );
    let found = page("/?q=peer-4321")?;
    ensure!(
        rows(&found) == 1 && found.contains(">peer-4321<"),
        "{found}"
    );
    ensure!(rows(&page("/?q=nobody")?) == 0);
    node.stop(Signal::Terminate)
}
