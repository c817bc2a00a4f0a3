//! Commands of the configuration that are run when something happens: `on_up`, `on_down`,
//! `on_peer_up` and `on_peer_down`.
//!
//! One after the other, in the order in which things happened, beside the controller, which
//! never waits for them but at its end. Each has a limited time and its failure is a line in
//! the log, no more. What they are told is in their environment.

use std::collections::HashMap;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::{debug, warn};

use crate::config::{Config, Hooks as Commands};
use crate::report::PeerStatus;

/// How long a command may take before it is killed, with all that it started.
const LIMIT: Duration = Duration::from_secs(10);
/// How long all that are left may take together when the tunnel goes down.
const LAST_LIMIT: Duration = Duration::from_secs(30);
/// Commands that may wait. Beyond that something is stuck, and they are left out.
const QUEUE: usize = 1024;
/// How old the last handshake of a peer with a session is at most, seconds:
/// `REJECT_AFTER_TIME` of the paper's section 6.1.
const SESSION_SECONDS: f64 = 180.0;

type Environment = Vec<(&'static str, String)>;

/// Runs the commands.
#[derive(Debug)]
pub(super) struct Hooks {
    jobs: mpsc::Sender<Job>,
    runner: JoinHandle<()>,
    /// What all of them are told.
    environment: Environment,
    /// Peers that have a session, by key, as they were last.
    up: HashMap<String, Environment>,
}

#[derive(Debug)]
struct Job {
    hook: &'static str,
    command: String,
    environment: Environment,
}

impl Hooks {
    /// Nothing has happened yet. `port` is where the tunnel listens.
    pub(super) fn start(config: &Config, port: u16, mark: Option<u32>) -> Self {
        let (jobs, mut queue) = mpsc::channel::<Job>(QUEUE);
        let interface = &config.interface;
        let vip: Vec<String> = interface.vip.iter().map(ToString::to_string).collect();
        Self {
            jobs,
            runner: tokio::spawn(async move {
                while let Some(job) = queue.recv().await {
                    job.run().await;
                }
            }),
            environment: vec![
                ("TALTUN_INTERFACE", interface.tun_name.clone()),
                ("TALTUN_VIP", vip.join(" ")),
                ("TALTUN_MTU", interface.mtu.to_string()),
                ("TALTUN_LISTEN_PORT", port.to_string()),
                (
                    "TALTUN_FWMARK",
                    mark.map_or_else(String::new, |mark| format!("{mark:#x}")),
                ),
            ],
            up: HashMap::new(),
        }
    }

    /// The tunnel answers.
    pub(super) fn up(&self, commands: &Commands) {
        self.push("on_up", &commands.on_up, &Vec::new());
    }

    /// Looks which peers came and went. They are asked for only if somebody wants to know.
    pub(super) fn follow(&mut self, commands: &Commands, peers: impl FnOnce() -> Vec<PeerStatus>) {
        if commands.on_peer_up.is_empty() && commands.on_peer_down.is_empty() {
            return;
        }
        let mut gone = std::mem::take(&mut self.up);
        let has_session = |peer: &PeerStatus| {
            let age = peer.latest_handshake_seconds;
            age.is_some_and(|age| age < SESSION_SECONDS)
        };
        for peer in peers().into_iter().filter(has_session) {
            let told = describe(&peer);
            if gone.remove(&peer.public_key).is_none() {
                self.push("on_peer_up", &commands.on_peer_up, &told);
            }
            self.up.insert(peer.public_key, told);
        }
        for told in gone.into_values() {
            self.push("on_peer_down", &commands.on_peer_down, &told);
        }
    }

    /// The tunnel is about to go down, and its peers with it. Waits for all that is to be
    /// run, though not for ever.
    pub(super) async fn finish(mut self, commands: &Commands) {
        for told in std::mem::take(&mut self.up).into_values() {
            self.push("on_peer_down", &commands.on_peer_down, &told);
        }
        self.push("on_down", &commands.on_down, &Vec::new());
        drop(self.jobs);
        if tokio::time::timeout(LAST_LIMIT, &mut self.runner)
            .await
            .is_err()
        {
            self.runner.abort();
            warn!(
                "hooks weren't done after {} s, and some were left out",
                LAST_LIMIT.as_secs()
            );
        }
    }

    fn push(&self, hook: &'static str, commands: &[String], told: &Environment) {
        for command in commands {
            let environment = [("TALTUN_HOOK", hook.to_owned())]
                .into_iter()
                .chain(self.environment.iter().cloned())
                .chain(told.iter().cloned());
            let job = Job {
                hook,
                command: command.clone(),
                environment: environment.collect(),
            };
            if self.jobs.try_send(job).is_err() {
                warn!("{hook}: {QUEUE} commands are waiting already; this one is left out");
            }
        }
    }
}

impl Job {
    async fn run(self) {
        let Self {
            hook,
            command,
            environment,
        } = self;
        debug!("{hook}: running `{command}`");
        let started = Command::new("sh")
            .arg("-c")
            .arg(&command)
            .envs(environment)
            .stdin(Stdio::null())
            // A group of its own, so that it can be ended with all that it started, and so
            // that a Ctrl-C is for us.
            .process_group(0)
            .kill_on_drop(true)
            .spawn();
        let mut child = match started {
            Ok(child) => child,
            Err(error) => return warn!("{hook}: cannot run sh: {error}"),
        };
        let group = child.id().and_then(|id| libc::pid_t::try_from(id).ok());
        match tokio::time::timeout(LIMIT, child.wait()).await {
            Ok(Ok(status)) if status.success() => {}
            Ok(Ok(status)) => warn!("{hook}: `{command}` failed ({status})"),
            Ok(Err(error)) => warn!("{hook}: `{command}`: {error}"),
            Err(_) => {
                warn!(
                    "{hook}: `{command}` was still running after {} s and was killed",
                    LIMIT.as_secs()
                );
                if let Some(group) = group {
                    // SAFETY: no pointers are passed. The child isn't reaped yet, so the group
                    // is still its own.
                    unsafe { libc::killpg(group, libc::SIGKILL) };
                }
                let _ = child.wait().await;
            }
        }
    }
}

fn describe(peer: &PeerStatus) -> Environment {
    let allowed_ips: Vec<String> = peer.allowed_ips.iter().map(ToString::to_string).collect();
    vec![
        ("TALTUN_PEER_NAME", peer.name.clone().unwrap_or_default()),
        ("TALTUN_PEER_KEY", peer.public_key.clone()),
        (
            "TALTUN_PEER_ENDPOINT",
            peer.endpoint.map_or_else(String::new, |at| at.to_string()),
        ),
        ("TALTUN_PEER_ALLOWED_IPS", allowed_ips.join(" ")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::PrivateKey;

    fn hooks() -> Hooks {
        let mut config = Config::plain("t0", PrivateKey::from_bytes([7; 32]));
        config.interface.vip = vec!["10.0.0.1/24".parse().unwrap()];
        Hooks::start(&config, 9000, Some(0xca6c))
    }

    fn peer(age: Option<f64>) -> PeerStatus {
        PeerStatus {
            name: Some("office; rm -rf /".into()),
            public_key: "KEY=".into(),
            endpoint: Some("192.0.2.1:7".parse().unwrap()),
            allowed_ips: vec!["10.0.0.2/32".parse().unwrap()],
            latest_handshake_seconds: age,
            handshakes: 1,
            rx_bytes: 0,
            tx_bytes: 0,
            persistent_keepalive: None,
        }
    }

    /// Commands that write what they are told to `file`.
    fn commands(file: &std::path::Path) -> Commands {
        let write = vec![format!(
            "echo $TALTUN_HOOK $TALTUN_INTERFACE $TALTUN_VIP $TALTUN_FWMARK \
             $TALTUN_LISTEN_PORT \"$TALTUN_PEER_NAME\" $TALTUN_PEER_KEY $TALTUN_PEER_ENDPOINT \
             $TALTUN_PEER_ALLOWED_IPS >> {}",
            file.display()
        )];
        Commands {
            on_up: write.clone(),
            on_down: write.clone(),
            on_peer_up: write.clone(),
            on_peer_down: write,
        }
    }

    #[tokio::test]
    async fn hooks_are_told_what_happened_in_its_order() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("said");
        let commands = commands(&file);
        let mut hooks = hooks();
        hooks.up(&commands);
        hooks.follow(&commands, || vec![peer(None)]);
        hooks.follow(&commands, || vec![peer(Some(1.0))]);
        hooks.follow(&commands, || vec![peer(Some(2.0))]);
        hooks.follow(&commands, || vec![peer(Some(181.0))]);
        hooks.follow(&commands, || vec![peer(Some(0.5))]);
        hooks.finish(&commands).await;
        let head = |hook| format!("{hook} t0 10.0.0.1/24 0xca6c 9000");
        let peer = "office; rm -rf / KEY= 192.0.2.1:7 10.0.0.2/32";
        let expected = [
            head("on_up"),
            format!("{} {peer}", head("on_peer_up")),
            format!("{} {peer}", head("on_peer_down")),
            format!("{} {peer}", head("on_peer_up")),
            format!("{} {peer}", head("on_peer_down")),
            head("on_down"),
        ];
        let said = std::fs::read_to_string(file).unwrap();
        let said: Vec<&str> = said.lines().map(str::trim_end).collect();
        assert_eq!(said, expected);
    }

    #[tokio::test]
    async fn a_command_that_fails_keeps_the_next_from_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("said");
        let commands = Commands {
            on_up: vec!["exit 7".into(), format!("echo fine > {}", file.display())],
            ..Commands::default()
        };
        let hooks = hooks();
        hooks.up(&commands);
        hooks.finish(&commands).await;
        assert_eq!(std::fs::read_to_string(file).unwrap(), "fine\n");
    }

    #[tokio::test]
    async fn peers_are_not_asked_for_when_nobody_wants_to_know() {
        let mut hooks = hooks();
        hooks.follow(&Commands::default(), || panic!("nobody wants to know"));
    }

    /// In real time: what is waited for is a process.
    #[tokio::test]
    async fn a_command_that_hangs_is_killed_with_what_it_started() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pid");
        let job = Job {
            hook: "on_up",
            command: format!("sleep 1000 & echo $! > {}; wait", file.display()),
            environment: Vec::new(),
        };
        job.run().await;
        let pid = std::fs::read_to_string(file).unwrap();
        // Gone, or dead and waiting for whoever has adopted it.
        let lives = || {
            let status = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
            status.is_ok_and(|text| !text.contains(") Z "))
        };
        for _ in 0..500 {
            if !lives() {
                return;
            }
            // A killed process dies when it is scheduled next.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it goes on");
    }
}
