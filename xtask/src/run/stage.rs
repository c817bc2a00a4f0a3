//! What keys, and the scenario, do to a running lab: ban a spoke, flood the hub, kill it.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use taltun_tests::control::Control;
use taltun_tests::netns::Namespace;
use taltun_tests::node::Node;
use taltun_tests::traffic::flood::{Flood, Kind, Target};

use super::ping_watch::Ping;
use super::report::Check;
use super::trials::{MARGIN, Trials};
use super::units;

/// How long a hub that was killed stays away.
const AWAY: Duration = Duration::from_secs(3);
/// How long it may take from its start until it answers.
const START_LIMIT: Duration = Duration::from_secs(30);
/// Packets a second of a flood: as many as show, and leave the machine to the others.
const FLOOD_RATE: u32 = 50_000;
/// No flood outlasts this, whatever happens to us.
const FLOOD_LIMIT: Duration = Duration::from_secs(600);
/// The pause between two looks whether it does.
const PAUSE: Duration = Duration::from_millis(20);

/// Where things are.
pub struct Place<'a> {
    /// What the hub is called, and its machine.
    pub hub: (&'a str, &'a Namespace),
    /// Who is banned: its name, and its address outside.
    pub spoke: (String, IpAddr),
    /// Where a flood comes from: a machine, and its interface towards the hub.
    pub attacker: (&'a Namespace, String),
    /// The hub's interface on this wire, its address there, and its port.
    pub victim: (String, Ipv4Addr, u16),
}

/// A running lab's hub and what is being done to it.
pub struct Stage<'a> {
    hub: &'a mut Node,
    place: Place<'a>,
    control: Control,
    /// What was done.
    pub trials: Trials,
    flood: Option<Flood>,
    away: Option<Away>,
}

/// A hub that was killed.
enum Away {
    /// And isn't started yet.
    Killed(Instant),
    /// And is being started; this tells whether it is up.
    Starting(Instant, Arc<AtomicBool>),
}

impl<'a> Stage<'a> {
    /// One on which nothing is being done.
    pub fn new(hub: &'a mut Node, place: Place<'a>) -> Self {
        Self {
            control: hub.control(),
            hub,
            place,
            trials: Trials::default(),
            flood: None,
            away: None,
        }
    }

    /// What talks to the hub.
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// What `pings` of the spoke, of which all are known by now, say of what was done.
    pub fn judge(&self, pings: &[Ping]) -> Vec<Check> {
        let (spoke, hub) = (self.spoke(), self.place.hub.0);
        self.trials.judge(spoke, hub, pings, Instant::now())
    }

    /// Whose bans these are.
    pub fn spoke(&self) -> &str {
        &self.place.spoke.0
    }

    /// Bans the spoke, for so long or until it is unbanned. Says what happened.
    pub fn ban(&mut self, time: Option<Duration>) -> String {
        let (name, address) = &self.place.spoke;
        let address = address.to_string();
        let seconds = time.map(|time| format!("{}s", time.as_secs()));
        let mut words = vec!["ban", &address];
        words.extend(
            seconds
                .iter()
                .flat_map(|seconds| ["--for", seconds.as_str()]),
        );
        let asked = Instant::now();
        let outcome = self.control.tell(&words).map(drop);
        self.trials.ban(asked, &outcome, time);
        match (outcome, time) {
            (Err(error), _) => format!("{error:#}"),
            (Ok(()), Some(time)) => format!("banned {name} for {}", units::clock(time)),
            (Ok(()), None) => format!("banned {name}"),
        }
    }

    /// Bans the spoke, or ends its ban.
    pub fn toggle_ban(&mut self) -> String {
        if self.away.is_some() {
            return format!("{} is away: nobody can be banned", self.place.hub.0);
        }
        if self.trials.ban_now().is_none() {
            return self.ban(None);
        }
        let (name, address) = &self.place.spoke;
        let asked = Instant::now();
        match self.control.tell(&["unban", &address.to_string()]) {
            Ok(_) => {
                self.trials.unban(asked);
                format!("unbanned {name}")
            }
            Err(error) => format!("{error:#}"),
        }
    }

    /// Floods the hub's port, or ends that.
    pub fn toggle_flood(&mut self) -> String {
        match self.flood.take().map(Flood::stop) {
            Some(Ok(sent)) => format!(
                "the flood is over: {} in {}",
                units::counted(sent.packets, "packet"),
                units::span(sent.time)
            ),
            Some(Err(error)) => format!("{error:#}"),
            None => match self.start_flood() {
                Ok(flood) => {
                    self.flood = Some(flood);
                    format!(
                        "flooding the port of {}: {} handshakes/s with a wrong mac1",
                        self.place.hub.0,
                        units::count(FLOOD_RATE.into())
                    )
                }
                Err(error) => format!("{error:#}"),
            },
        }
    }

    fn start_flood(&self) -> Result<Flood> {
        let (interface, address, port) = &self.place.victim;
        let target = Target {
            hardware: hardware_address(self.place.hub.1, interface)?,
            address: *address,
            port: *port,
            // Who floods doesn't know it: that is how the hub tells.
            public_key: [0; 32],
        };
        let (attacker, interface) = &self.place.attacker;
        Flood::start(
            attacker,
            interface,
            &target,
            Kind::WrongMac1,
            FLOOD_RATE,
            FLOOD_LIMIT,
        )
    }

    /// Kills the hub; [`Stage::tick`] starts it again after a while.
    pub fn kill(&mut self) -> String {
        if self.away.is_some() {
            return format!("{} is away already", self.place.hub.0);
        }
        let asked = Instant::now();
        if let Err(error) = self.hub.kill() {
            return format!("{} can't be killed: {error:#}", self.place.hub.0);
        }
        self.trials.kill(asked);
        self.away = Some(Away::Killed(asked));
        format!("killed {} (SIGKILL)", self.place.hub.0)
    }

    /// To be called often: starts a hub again that was killed, and says what happened.
    pub fn tick(&mut self) -> Option<String> {
        match self.away {
            Some(Away::Killed(since)) if since.elapsed() >= AWAY => {
                Some(match self.start_again() {
                    Ok(()) => format!("starting {} again", self.place.hub.0),
                    Err(error) => format!("{} can't be started: {error:#}", self.place.hub.0),
                })
            }
            Some(Away::Starting(since, ref up)) if up.load(Ordering::Relaxed) => {
                let time = units::span(since.elapsed());
                self.away = None;
                self.trials.up();
                Some(format!(
                    "{} is up, {time} after its start",
                    self.place.hub.0
                ))
            }
            _ => None,
        }
    }

    /// Starts a hub that was killed, and asks it on a thread of its own whether it is up: that may
    /// take as long as the hub does.
    fn start_again(&mut self) -> Result<()> {
        self.hub.spawn_again(self.place.hub.1)?;
        let (control, up) = (self.control.clone(), Arc::new(AtomicBool::new(false)));
        self.away = Some(Away::Starting(Instant::now(), Arc::clone(&up)));
        thread::spawn(move || {
            let start = Instant::now();
            while start.elapsed() < START_LIMIT {
                if control.status().is_ok() {
                    up.store(true, Ordering::Relaxed);
                    return;
                }
                sleep(PAUSE);
            }
        });
        Ok(())
    }

    /// How long the hub has been away, if it is; and whether it is being started.
    pub fn away(&self) -> Option<(Duration, bool)> {
        self.away.as_ref().map(|away| match away {
            Away::Killed(since) => (since.elapsed(), false),
            Away::Starting(since, _) => (since.elapsed(), true),
        })
    }

    /// Whether the hub is flooded.
    pub fn is_flooded(&self) -> bool {
        self.flood.is_some()
    }

    /// Whether nothing is being done to the lab.
    pub fn is_calm(&self) -> bool {
        self.away.is_none() && self.flood.is_none() && self.trials.is_over()
    }

    /// Ends what is being done, and waits until it is over.
    pub fn settle(&mut self) -> Result<()> {
        let start = Instant::now();
        self.flood = None;
        if let Some(Away::Killed(_)) = self.away {
            self.start_again()?;
        }
        while self.away.is_some() {
            self.tick();
            if start.elapsed() > START_LIMIT {
                bail!("it doesn't come back; its log:\n{}", self.hub.log());
            }
            sleep(PAUSE);
        }
        if self.trials.ban_now().is_some() {
            self.toggle_ban();
            sleep(MARGIN);
        }
        Ok(())
    }
}

/// The link address of an interface.
fn hardware_address(namespace: &Namespace, interface: &str) -> Result<[u8; 6]> {
    let links: Value =
        serde_json::from_str(&namespace.ip(&format!("-j link show dev {interface}"))?)?;
    let text = links[0]["address"]
        .as_str()
        .context("ip tells no link address")?;
    let bytes: Option<Vec<u8>> = text
        .split(':')
        .map(|byte| u8::from_str_radix(byte, 16).ok())
        .collect();
    let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
    bytes.with_context(|| format!("{text} is no link address"))
}
