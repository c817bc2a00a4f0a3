//! A hub with the page, a spoke that looks at it through the tunnel, and what a browser does.

use std::fs;

use anyhow::{Context, Result, ensure};
use taltun_tests::http::{self, Response};
use taltun_tests::netns::Namespace;
use taltun_tests::node::{Keys, Node};
use taltun_tests::topology::{Pair, private_prefix};

use crate::support::{UP_LIMIT, ensure_answers_within, process_of, taltun};

/// Where the page is.
pub const PAGE: &str = "10.200.0.1:8080";
/// As pages there name it.
pub const ORIGIN: &str = "http://10.200.0.1:8080";
/// The section.
pub const SECTION: &str = "[web]\nlisten = \"10.200.0.1:8080\"\n";

/// A hub and a spoke.
pub struct Hub {
    pub pair: Pair,
    pub keys: [Keys; 2],
    pub node: Node,
    pub spoke: Node,
}

impl Hub {
    /// Both, with a session.
    pub fn start() -> Result<Self> {
        Self::with(SECTION, "ana")
    }

    /// The same with these sections, the spoke's name being that.
    pub fn with(sections: &str, name: &str) -> Result<Self> {
        let pair = Pair::create(&private_prefix())?;
        let keys = [Keys::generate(&taltun()?)?, Keys::generate(&taltun()?)?];
        let text = text(&keys, sections, name);
        let node = Node::start_with_text(&pair.left, &taltun()?, &text)?;
        let text = format!(
            "[interface]\nmode = \"client\"\nlocal_addr = \"0.0.0.0:9100\"\nvip = \"10.200.0.2/24\"\n\
             private_key = \"{}\"\n[[peers]]\npublic_key = \"{}\"\nvip = \"10.200.0.1\"\n\
             endpoint = \"10.99.1.1:9100\"\n",
            keys[1].private, keys[0].public
        );
        let spoke = Node::start_with_text(&pair.right, &taltun()?, &text)?;
        ensure_answers_within(&pair.right, "10.200.0.1".parse()?, UP_LIMIT)?;
        Ok(Self {
            pair,
            keys,
            node,
            spoke,
        })
    }

    /// Where the browser is.
    pub fn browser(&self) -> &Namespace {
        &self.pair.right
    }

    /// Reloads with these sections.
    pub fn reload(&self, sections: &str) -> Result<String> {
        fs::write(self.node.config(), text(&self.keys, sections, "ana"))?;
        self.node.tell(&["reload"])
    }

    /// A new token.
    pub fn token(&self, words: &[&str]) -> Result<String> {
        let words = [&["web", "token"], words].concat();
        Ok(self.node.tell(&words)?.trim().to_owned())
    }

    /// What comes of logging in by a token.
    pub fn try_log_in(&self, token: &str) -> Result<Response> {
        let form = format!("token={}", http::encoded(token));
        http::post(self.browser(), PAGE, "/login", &[("Origin", ORIGIN)], &form)
    }

    /// Logs in by a new token of that name.
    pub fn log_in(&self, name: &str) -> Result<Session<'_>> {
        let token = self.token(&["--name", name])?;
        let answer = self.try_log_in(&token)?;
        ensure!(answer.status == 303, "{answer:?}");
        let cookie = answer.header("set-cookie").context("no cookie")?;
        for part in ["; HttpOnly", "; SameSite=Strict", "; Path=/", "; Max-Age=3"] {
            ensure!(cookie.contains(part), "no {part} in {cookie}");
        }
        let cookie = cookie.split(';').next().unwrap_or_default().to_owned();
        Ok(Session { hub: self, cookie })
    }

    /// The process that serves the page.
    pub fn process(&self) -> Result<u32> {
        process_of(self.node.pid(), "web-process")
    }
}

/// A browser that is logged in.
#[derive(Clone)]
pub struct Session<'h> {
    pub hub: &'h Hub,
    pub cookie: String,
}

impl Session<'_> {
    /// A page, whatever it is.
    pub fn get(&self, path: &str) -> Result<Response> {
        let headers = [("Cookie", self.cookie.as_str())];
        http::get(self.hub.browser(), PAGE, path, &headers)
    }

    /// A page that is there.
    pub fn page(&self, path: &str) -> Result<String> {
        let answer = self.get(path)?;
        ensure!(answer.status == 200, "{path}: {answer:?}");
        Ok(answer.body)
    }

    /// What forms hold.
    pub fn form(&self) -> Result<String> {
        let page = self.page("/sources")?;
        let (_, rest) = page
            .split_once("name=\"form\" value=\"")
            .context("no form")?;
        let (form, _) = rest.split_once('"').context("no value")?;
        Ok(form.to_owned())
    }

    /// Sends a form as the page's own would be.
    pub fn post(&self, path: &str, form: &str) -> Result<Response> {
        let form = format!("form={}&{form}", self.form()?);
        let headers = [("Origin", ORIGIN), ("Cookie", self.cookie.as_str())];
        http::post(self.hub.browser(), PAGE, path, &headers, &form)
    }

    /// What the next page says of the last change.
    pub fn notice(&self) -> Result<String> {
        let page = self.page("/sources")?;
        let notices = page.split("class=\"notice ").skip(1);
        let mut notices = notices.filter(|it| !it.starts_with("refused\" id=\"offline\""));
        let notice = notices
            .next()
            .with_context(|| format!("no notice: {page}"))?;
        let (notice, _) = notice.split_once("</p>").context("no end")?;
        Ok(notice.to_owned())
    }
}

fn text(keys: &[Keys; 2], sections: &str, name: &str) -> String {
    format!(
        "[interface]\nmode = \"server\"\ntun_name = \"taltun0\"\nvip = \"10.200.0.1/24\"\n\
         local_addr = \"0.0.0.0:9100\"\nprivate_key = \"{}\"\n{sections}\n\
         [[peers]]\nname = {name:?}\npublic_key = \"{}\"\nvip = \"10.200.0.2\"\n",
        keys[0].private, keys[1].public
    )
}
