//! A browser without a screen: Debian's Chromium, told what to do over a pipe by the `DevTools`
//! protocol. It keeps its files in a directory of its own, which goes with it.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::command::wait_for;
use crate::netns::Namespace;

/// The program.
pub const CHROMIUM: &str = "chromium";
/// How long it may take for anything.
const LIMIT: Duration = Duration::from_secs(60);

/// A browser with one page; dropping it ends it.
#[derive(Debug)]
pub struct Chromium {
    child: Child,
    /// To the browser, each message with a zero at its end.
    say: Option<ChildStdin>,
    heard: Receiver<Value>,
    session: String,
    number: u64,
    /// What pages complained about.
    complaints: Vec<String>,
    _files: tempfile::TempDir,
}

impl Chromium {
    /// Starts one in a namespace, with a language.
    pub fn start(namespace: &Namespace, language: &str) -> Result<Self> {
        let files = tempfile::tempdir()?;
        let mut command = namespace.command("sh");
        command
            .args([
                "-c",
                "exec \"$@\" 3<&0 4>&1 </dev/null >/dev/null",
                "sh",
                CHROMIUM,
            ])
            .args([
                "--headless=new",
                // Root has no other way; it looks at our own pages alone.
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--disable-extensions",
                "--disable-background-networking",
                "--disable-component-update",
                "--no-first-run",
                "--hide-scrollbars",
                "--remote-debugging-pipe",
            ])
            .arg(format!("--user-data-dir={}", files.path().display()))
            .arg(format!("--accept-lang={language}"))
            .arg("about:blank")
            .env("HOME", files.path());
        Self::from_command(command, files)
    }

    fn from_command(mut command: Command, files: tempfile::TempDir) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("can't start chromium")?;
        let say = child.stdin.take();
        let heard = listen(child.stdout.take().context("no pipe")?);
        let mut browser = Self {
            child,
            say,
            heard,
            session: String::new(),
            number: 0,
            complaints: Vec::new(),
            _files: files,
        };
        let target = browser.call("Target.createTarget", &json!({ "url": "about:blank" }))?;
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = browser.call("Target.attachToTarget", &attach)?;
        let session = attached["sessionId"].as_str().context("no session")?;
        session.clone_into(&mut browser.session);
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.call(&format!("{domain}.enable"), &json!({}))?;
        }
        Ok(browser)
    }

    /// Makes its window so large, in pixels of the page, light or dark.
    pub fn resize(&mut self, width: u32, height: u32, dark: bool) -> Result<()> {
        let size = json!({
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600,
        });
        self.call("Emulation.setDeviceMetricsOverride", &size)?;
        let scheme = if dark { "dark" } else { "light" };
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.call(
            "Emulation.setEmulatedMedia",
            &json!({ "features": features }),
        )?;
        Ok(())
    }

    /// Goes to an address, and waits until all of the page is there.
    pub fn open(&mut self, address: &str) -> Result<()> {
        let there = self.call("Page.navigate", &json!({ "url": address }))?;
        ensure!(there["errorText"].is_null(), "{address}: {there}");
        self.wait_until("document.readyState === 'complete' && location.href !== 'about:blank'")
    }

    /// The value of an expression in the page.
    pub fn evaluate(&mut self, expression: &str) -> Result<Value> {
        let asked = json!({
            "expression": expression, "returnByValue": true, "awaitPromise": true,
        });
        let answer = self.call("Runtime.evaluate", &asked)?;
        ensure!(
            answer["exceptionDetails"].is_null(),
            "{expression}: {answer}"
        );
        Ok(answer["result"]["value"].clone())
    }

    /// Waits until an expression is true.
    pub fn wait_until(&mut self, expression: &str) -> Result<()> {
        let start = Instant::now();
        loop {
            // While a page goes away there is nothing to ask.
            let found = self.evaluate(expression);
            if matches!(found, Ok(Value::Bool(true))) {
                return Ok(());
            }
            ensure!(
                start.elapsed() < LIMIT,
                "never true: {expression}: {found:?}"
            );
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Clicks on what a selector finds, as a finger does, and waits for the page that comes of it.
    pub fn click_to_page(&mut self, selector: &str) -> Result<()> {
        self.evaluate("window.isBefore = true")?;
        let click = format!("document.querySelector({selector:?}).click()");
        self.evaluate(&click)?;
        self.wait_until("!window.isBefore && document.readyState === 'complete'")
    }

    /// Writes into a field.
    pub fn fill(&mut self, selector: &str, text: &str) -> Result<()> {
        let fill = format!("document.querySelector({selector:?}).value = {text:?}");
        self.evaluate(&fill)?;
        Ok(())
    }

    /// What the page looks like, all of it, as a PNG.
    pub fn picture(&mut self) -> Result<Vec<u8>> {
        let asked = json!({ "format": "png", "captureBeyondViewport": true });
        let picture = self.call("Page.captureScreenshot", &asked)?;
        let data = picture["data"].as_str().context("no picture")?;
        Ok(STANDARD.decode(data)?)
    }

    /// The same in a file.
    pub fn picture_to(&mut self, file: &Path) -> Result<()> {
        let picture = self.picture()?;
        fs::write(file, picture).with_context(|| file.display().to_string())
    }

    /// What pages complained about since the start: errors of scripts, what a policy forbade, what
    /// couldn't be loaded.
    pub fn complaints(&mut self) -> Result<Vec<String>> {
        // What came before this is read by then.
        self.evaluate("1")?;
        Ok(self.complaints.clone())
    }

    fn call(&mut self, method: &str, parameters: &Value) -> Result<Value> {
        self.number += 1;
        let number = self.number;
        let mut message = json!({ "id": number, "method": method, "params": parameters });
        if !self.session.is_empty() {
            message["sessionId"] = self.session.clone().into();
        }
        let say = self.say.as_mut().context("it has ended")?;
        say.write_all(format!("{message}\0").as_bytes())?;
        let deadline = Instant::now() + LIMIT;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let heard = match self.heard.recv_timeout(left) {
                Ok(heard) => heard,
                Err(RecvTimeoutError::Timeout) => bail!("{method}: no answer within {LIMIT:?}"),
                Err(RecvTimeoutError::Disconnected) => bail!("{method}: chromium ended"),
            };
            if heard["id"] == number {
                ensure!(heard["error"].is_null(), "{method}: {}", heard["error"]);
                return Ok(heard["result"].clone());
            }
            self.note(&heard);
        }
    }

    fn note(&mut self, heard: &Value) {
        let what = &heard["params"];
        match heard["method"].as_str().unwrap_or_default() {
            "Runtime.exceptionThrown" => self.complaints.push(what.to_string()),
            "Log.entryAdded" if what["entry"]["level"] == "error" => {
                self.complaints.push(what["entry"].to_string());
            }
            "Runtime.consoleAPICalled" if what["type"] == "error" => {
                self.complaints.push(what.to_string());
            }
            _ => {}
        }
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        // Without its pipe it ends by itself.
        self.say = None;
        if !matches!(
            wait_for(&mut self.child, Duration::from_secs(5)),
            Ok(Some(_))
        ) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Reads what the browser says, on a thread of its own.
fn listen(from: ChildStdout) -> Receiver<Value> {
    let (send, heard) = mpsc::channel();
    let _ = thread::Builder::new().spawn(move || {
        for message in BufReader::new(from).split(0) {
            let Ok(message) = message else { return };
            let message = serde_json::from_slice(&message).unwrap_or_default();
            if send.send(message).is_err() {
                return;
            }
        }
    });
    heard
}
