//! Commands of the configuration that are run when something happens: `before_up`, `on_up`,
//! `on_down`, `after_down`, `on_peer_up` and `on_peer_down`, `on_peer_refused` and
//! `on_peer_allowed`.
//!
//! One after the other, in the order in which things happened, beside the controller. It goes
//! on with its work until the last of them has ended, as they may ask it something. Each has a
//! limited time and its failure is a line in the log; only that of `before_up` is an error.
//! What they are told is in their environment.

use std::collections::HashMap;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::config::{Config, Hooks as Commands, Shell};
use crate::report::{PeerStatus, RefusedBy};

/// How long a command may take before it is killed, with all that it started.
const LIMIT: Duration = Duration::from_secs(10);
/// How long a command may take that the start waits for, perhaps until a network is there.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long all that are left may take together when the tunnel goes down, and again those
/// after it.
const LAST_LIMIT: Duration = Duration::from_secs(30);
/// Commands that may wait. Beyond that something is stuck, and they are left out.
const QUEUE: usize = 1024;

type Environment = Vec<(&'static str, String)>;

/// Runs the commands.
#[derive(Debug)]
pub(super) struct Hooks {
    /// `None` once no more will come.
    jobs: Option<mpsc::Sender<Job>>,
    runner: JoinHandle<()>,
    /// Until when the runner may go on, once no more will come.
    deadline: Option<Instant>,
    /// What all of them are told.
    environment: Environment,
    /// Peers that have a session, by key, as they were last.
    up: HashMap<String, Environment>,
}

#[derive(Debug)]
struct Job {
    hook: &'static str,
    shell: Shell,
    command: String,
    environment: Environment,
}

/// Runs `before_up`, before there is anything else to be told than the configuration.
///
/// # Errors
/// The first command that failed, after which none is run.
pub(super) async fn before_up(config: &Config) -> Result<(), String> {
    let environment = environment(config, config.interface.local_addr.port(), None);
    let hooks = &config.hooks;
    for job in jobs("before_up", hooks, &hooks.before_up, &environment) {
        let outcome = job.run(START_LIMIT).await;
        outcome.map_err(|error| format!("{error}, so the tunnel doesn't start"))?;
    }
    Ok(())
}

/// The commands of one hook.
fn jobs(
    hook: &'static str,
    hooks: &Commands,
    commands: &[String],
    environment: &[(&'static str, String)],
) -> impl Iterator<Item = Job> {
    commands.iter().map(move |command| Job {
        hook,
        shell: hooks.shell,
        command: command.clone(),
        environment: [("TALTUN_HOOK", hook.to_owned())]
            .into_iter()
            .chain(environment.iter().cloned())
            .collect(),
    })
}

/// What the commands of all hooks are told.
fn environment(config: &Config, port: u16, mark: Option<u32>) -> Environment {
    let interface = &config.interface;
    let vip: Vec<String> = interface.vip.iter().map(ToString::to_string).collect();
    vec![
        ("TALTUN_INTERFACE", interface.tun_name.clone()),
        ("TALTUN_VIP", vip.join(" ")),
        ("TALTUN_MTU", interface.mtu.to_string()),
        ("TALTUN_LISTEN_PORT", port.to_string()),
        (
            "TALTUN_FWMARK",
            mark.map_or_else(String::new, |mark| format!("{mark:#x}")),
        ),
    ]
}

impl Hooks {
    /// Nothing has happened yet. `port` is where the tunnel listens.
    pub(super) fn start(config: &Config, port: u16, mark: Option<u32>) -> Self {
        let (jobs, mut queue) = mpsc::channel::<Job>(QUEUE);
        Self {
            jobs: Some(jobs),
            runner: tokio::spawn(async move {
                while let Some(job) = queue.recv().await {
                    if let Err(reason) = job.run(LIMIT).await {
                        warn!("{reason}");
                    }
                }
            }),
            deadline: None,
            environment: environment(config, port, mark),
            up: HashMap::new(),
        }
    }

    /// The tunnel answers.
    pub(super) fn up(&self, commands: &Commands) {
        self.push("on_up", commands, &commands.on_up, &Vec::new());
    }

    /// Looks which peers came and went. They are asked for only if somebody wants to know.
    pub(super) fn follow(&mut self, commands: &Commands, peers: impl FnOnce() -> Vec<PeerStatus>) {
        let nobody = commands.on_peer_up.is_empty() && commands.on_peer_down.is_empty();
        if nobody || self.jobs.is_none() {
            return;
        }
        let mut gone = std::mem::take(&mut self.up);
        for peer in peers().into_iter().filter(PeerStatus::has_session) {
            let told = describe(&peer);
            if gone.remove(&peer.public_key).is_none() {
                self.push("on_peer_up", commands, &commands.on_peer_up, &told);
            }
            self.up.insert(peer.public_key, told);
        }
        for told in gone.into_values() {
            self.push("on_peer_down", commands, &commands.on_peer_down, &told);
        }
    }

    /// These peers were refused, for that reason, or allowed again.
    pub(super) fn limited(&self, commands: &Commands, peers: &[(PeerStatus, Option<RefusedBy>)]) {
        for (peer, refused) in peers {
            let mut told = describe(peer);
            let reason = refused.map_or_else(String::new, |reason| reason.to_string());
            told.push(("TALTUN_REASON", reason));
            match refused {
                // It isn't known yet whether it is to be.
                Some(RefusedBy::Unread) => {}
                Some(_) => {
                    self.push(
                        "on_peer_refused",
                        commands,
                        &commands.on_peer_refused,
                        &told,
                    );
                }
                None => self.push(
                    "on_peer_allowed",
                    commands,
                    &commands.on_peer_allowed,
                    &told,
                ),
            }
        }
    }

    /// The tunnel is about to go down, and its peers with it. Nothing is run any more but what
    /// is left, and `on_down`.
    pub(super) fn finish(&mut self, commands: &Commands) {
        for told in std::mem::take(&mut self.up).into_values() {
            self.push("on_peer_down", commands, &commands.on_peer_down, &told);
        }
        self.push("on_down", commands, &commands.on_down, &Vec::new());
        self.jobs = None;
        self.deadline = Some(Instant::now() + LAST_LIMIT);
    }

    /// Waits until all has been run after [`finish`](Self::finish), though not for ever. It
    /// may be dropped and called again.
    pub(super) async fn finished(&mut self) {
        let Some(deadline) = self.deadline else {
            return std::future::pending().await;
        };
        if tokio::time::timeout_at(deadline, &mut self.runner)
            .await
            .is_err()
        {
            self.runner.abort();
            left_out();
        }
    }

    /// Runs `after_down`: the tunnel has gone down.
    pub(super) async fn after_down(self, commands: &Commands) {
        let run = async {
            for job in jobs(
                "after_down",
                commands,
                &commands.after_down,
                &self.environment,
            ) {
                if let Err(reason) = job.run(LIMIT).await {
                    warn!("{reason}");
                }
            }
        };
        if tokio::time::timeout(LAST_LIMIT, run).await.is_err() {
            left_out();
        }
    }

    fn push(
        &self,
        hook: &'static str,
        hooks: &Commands,
        commands: &[String],
        told: &[(&'static str, String)],
    ) {
        let Some(queue) = &self.jobs else { return };
        let told: Environment = self.environment.iter().chain(told).cloned().collect();
        for job in jobs(hook, hooks, commands, &told) {
            if queue.try_send(job).is_err() {
                warn!("{hook}: {QUEUE} commands are waiting already; this one is left out");
            }
        }
    }
}

fn left_out() {
    warn!(
        "hooks weren't done after {} s, and some were left out",
        LAST_LIMIT.as_secs()
    );
}

impl Job {
    /// Runs it. The error says what went wrong.
    async fn run(self, limit: Duration) -> Result<(), String> {
        let Self {
            hook,
            shell,
            command,
            environment,
        } = self;
        debug!("{hook}: running `{command}`");
        let mut child = Command::new(shell.program())
            .args(shell.options())
            .arg("-c")
            .arg(&command)
            .envs(environment)
            .stdin(Stdio::null())
            // A group of its own, so that it can be ended with all that it started, and so
            // that a Ctrl-C is for us.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("{hook}: cannot run {}: {error}", shell.program()))?;
        let group = child.id().and_then(|id| libc::pid_t::try_from(id).ok());
        match tokio::time::timeout(limit, child.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(format!("{hook}: `{command}` failed ({status})")),
            Ok(Err(error)) => Err(format!("{hook}: `{command}`: {error}")),
            Err(_) => {
                if let Some(group) = group {
                    // SAFETY: no pointers are passed. The child isn't reaped yet, so the group
                    // is still its own.
                    unsafe { libc::killpg(group, libc::SIGKILL) };
                }
                let _ = child.wait().await;
                Err(format!(
                    "{hook}: `{command}` was still running after {} s and was killed",
                    limit.as_secs()
                ))
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

    fn config() -> Config {
        let mut config = Config::plain("t0", PrivateKey::from_bytes([7; 32]));
        config.interface.vip = vec!["10.0.0.1/24".parse().unwrap()];
        config.interface.local_addr.set_port(7000);
        config
    }

    fn hooks() -> Hooks {
        Hooks::start(&config(), 9000, Some(0xca6c))
    }

    fn peer(age: Option<f64>) -> PeerStatus {
        PeerStatus {
            endpoint_name: None,
            banned: Vec::new(),
            name: Some("office; rm -rf /".into()),
            public_key: "KEY=".into(),
            hub: false,
            preshared_key: false,
            endpoint: Some("192.0.2.1:7".parse().unwrap()),
            moves_between: Vec::new(),
            unreachable: None,
            allowed_ips: vec!["10.0.0.2/32".parse().unwrap()],
            vip: Vec::new(),
            seen_seconds: age,
            latest_handshake_seconds: age,
            handshakes: 1,
            rx_bytes: 0,
            tx_bytes: 0,
            rates: None,
            persistent_keepalive: None,
            paths: Vec::new(),
            problem: None,
            last_problem: None,
            rate_up: None,
            rate_down: None,
            quota: None,
            expires: None,
            refused: None,
        }
    }

    /// Commands that write what they are told to `file`.
    fn commands(file: &std::path::Path) -> Commands {
        let write = vec![format!(
            "echo $TALTUN_HOOK $TALTUN_INTERFACE $TALTUN_VIP $TALTUN_FWMARK \
             $TALTUN_LISTEN_PORT \"$TALTUN_PEER_NAME\" $TALTUN_PEER_KEY $TALTUN_PEER_ENDPOINT \
             $TALTUN_PEER_ALLOWED_IPS $TALTUN_REASON >> {}",
            file.display()
        )];
        Commands {
            before_up: write.clone(),
            on_up: write.clone(),
            on_down: write.clone(),
            after_down: write.clone(),
            on_peer_up: write.clone(),
            on_peer_down: write.clone(),
            on_peer_refused: write.clone(),
            on_peer_allowed: write,
            shell: Shell::Sh,
        }
    }

    #[tokio::test]
    async fn hooks_are_told_what_happened_in_its_order() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("said");
        let commands = commands(&file);
        let mut config = config();
        config.hooks = commands.clone();
        before_up(&config).await.unwrap();
        let mut hooks = hooks();
        hooks.up(&commands);
        hooks.follow(&commands, || vec![peer(None)]);
        hooks.follow(&commands, || vec![peer(Some(1.0))]);
        hooks.follow(&commands, || vec![peer(Some(2.0))]);
        hooks.follow(&commands, || vec![peer(Some(181.0))]);
        hooks.follow(&commands, || vec![peer(Some(0.5))]);
        let limited = [Some(RefusedBy::Unread), Some(RefusedBy::Quota), None];
        let limited = limited.map(|refused| (peer(None), refused));
        hooks.limited(&commands, &limited);
        hooks.finish(&commands);
        hooks.finished().await;
        hooks.after_down(&commands).await;
        let head = |hook| format!("{hook} t0 10.0.0.1/24 0xca6c 9000");
        let peer = "office; rm -rf / KEY= 192.0.2.1:7 10.0.0.2/32";
        let expected = [
            "before_up t0 10.0.0.1/24 7000".to_owned(),
            head("on_up"),
            format!("{} {peer}", head("on_peer_up")),
            format!("{} {peer}", head("on_peer_down")),
            format!("{} {peer}", head("on_peer_up")),
            format!("{} {peer} quota", head("on_peer_refused")),
            format!("{} {peer}", head("on_peer_allowed")),
            format!("{} {peer}", head("on_peer_down")),
            head("on_down"),
            head("after_down"),
        ];
        let said = std::fs::read_to_string(file).unwrap();
        // What isn't known is empty.
        let said: Vec<String> = said
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
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
        let mut hooks = hooks();
        hooks.up(&commands);
        hooks.finish(&commands);
        hooks.finished().await;
        assert_eq!(std::fs::read_to_string(file).unwrap(), "fine\n");
    }

    #[tokio::test]
    async fn a_command_that_fails_before_the_start_is_an_error_and_the_next_isnt_run() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("said");
        let mut config = config();
        config.hooks.before_up = vec!["exit 7".into(), format!("echo x > {}", file.display())];
        let error = before_up(&config).await.unwrap_err();
        assert_eq!(
            error,
            "before_up: `exit 7` failed (exit status: 7), so the tunnel doesn't start"
        );
        assert!(!file.exists());
    }

    #[tokio::test]
    async fn bash_runs_what_is_written_for_bash() {
        let mut config = config();
        config.hooks.before_up = vec!["[[ -n $BASH ]] && cat < <(true)".into()];
        config.hooks.shell = Shell::Bash;
        before_up(&config).await.unwrap();
        // As wg-quick has it, which stops at the first part that fails.
        config.hooks.before_up = vec!["false; true".into()];
        before_up(&config).await.unwrap_err();
    }

    #[tokio::test]
    async fn peers_are_not_asked_for_when_nobody_wants_to_know() {
        let mut hooks = hooks();
        hooks.follow(&Commands::default(), || panic!("nobody wants to know"));
    }

    #[tokio::test]
    async fn a_command_that_hangs_is_killed_with_what_it_started() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pid");
        let job = Job {
            hook: "on_up",
            shell: Shell::Sh,
            command: format!("sleep 1000 & echo $! > {}; wait", file.display()),
            environment: Vec::new(),
        };
        let error = job.run(Duration::from_millis(500)).await.unwrap_err();
        assert!(error.contains("was killed"), "{error}");
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
