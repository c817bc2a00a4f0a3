//! `taltun fleet`

use std::fmt::Write;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};

use super::failure::Failure;
use super::grid::{Cell, Column, grid};
use super::screen::Screen;
use super::target::Target;
use super::width::printable;
use super::{human, output};
use crate::control::request;
use crate::report::{EtcdStatus, FleetStatus, HubPath, HubStatus};

/// Make, join and show a fleet: several hubs with the same peers and bans, by way of etcd.
///
/// `[fleet]` of the configuration says which fleet a hub is in. `taltun peer` on any hub that has the
/// admin's key changes the peers of all of them.
#[derive(Args)]
pub(super) struct Fleet {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    #[cfg(feature = "fleet")]
    Init(members::Init),
    #[cfg(feature = "fleet")]
    Token(members::Token),
    #[cfg(feature = "fleet")]
    Join(members::Join),
    #[cfg(feature = "fleet")]
    Export(members::Export),
    #[cfg(feature = "fleet")]
    Import(members::Import),
    Status(Status),
    Hub(Hub),
    Key(Key),
}

/// Change the hubs of the fleet.
#[derive(Args)]
struct Hub {
    #[command(subcommand)]
    what: HubWhat,
}

#[derive(Subcommand)]
enum HubWhat {
    Drain(Drain),
    Remove(Remove),
}

/// Remove a hub from the fleet, such as one that won't come back.
///
/// The other hubs don't believe it any more, and its name is free. If somebody else may have its disk, use
/// `taltun fleet key rotate --without` in its place: the disk may have the admin's key.
#[derive(Args)]
struct Remove {
    /// The hub's name: `hub` of its `[fleet]`.
    hub: String,

    #[command(flatten)]
    target: Target,
}

/// Change the fleet's keys.
#[derive(Args)]
struct Key {
    #[command(subcommand)]
    what: KeyWhat,
}

#[derive(Subcommand)]
enum KeyWhat {
    Rotate(Rotate),
}

/// Have a new key be the admin's, such as after a hub was stolen. The old one signs nothing any more.
///
/// All records are signed anew, and the hubs that had the admin's key get the new one. Keep the stolen machine from
/// etcd first, and look at `taltun fleet status`: remove hubs and peers that you don't know.
#[derive(Args)]
struct Rotate {
    /// A hub that is removed from the fleet and doesn't get the new key. May be repeated.
    #[arg(long, value_name = "HUB")]
    without: Vec<String>,

    /// Make new keys for the groups as well: the files of all peers of these hubs have to be made anew.
    #[arg(long)]
    group_keys: bool,

    #[command(flatten)]
    target: Target,
}

/// Have the other hubs of the group take over this hub's peers, such as before it is stopped.
///
/// Another hub starts a handshake with each of them, and takes the shared address. The command ends once no
/// peer is at home here, or says how many are left.
#[derive(Args)]
struct Drain {
    /// Have this hub take peers again.
    #[arg(long)]
    undo: bool,

    #[command(flatten)]
    target: Target,
}

/// Show what the running tunnel knows of its fleet: hubs, etcd, what waits.
#[derive(Args)]
struct Status {
    /// Print JSON.
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    target: Target,
}

impl Fleet {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self.what {
            #[cfg(feature = "fleet")]
            What::Init(command) => command.run(),
            #[cfg(feature = "fleet")]
            What::Token(command) => command.run(),
            #[cfg(feature = "fleet")]
            What::Join(command) => command.run(),
            #[cfg(feature = "fleet")]
            What::Export(command) => command.run(),
            #[cfg(feature = "fleet")]
            What::Import(command) => command.run(),
            What::Status(command) => command.run(),
            What::Hub(Hub {
                what: HubWhat::Drain(command),
            }) => command.run(),
            What::Hub(Hub {
                what: HubWhat::Remove(Remove { hub, target }),
            }) => target.command(request::FleetHubRemove { hub }),
            What::Key(Key {
                what:
                    KeyWhat::Rotate(Rotate {
                        without,
                        group_keys,
                        target,
                    }),
            }) => target.command(request::FleetKeyRotate {
                without,
                group_keys,
            }),
        }
    }
}

/// How long a hub is waited for that gives up its peers.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);
/// How often it is asked.
const DRAIN_LOOK: Duration = Duration::from_millis(200);

impl Drain {
    fn run(self) -> Result<(), Failure> {
        let leaving = !self.undo;
        let done = self.target.ask(request::FleetDrain { leaving })?;
        output::print(&format!("{}\n", done.0))?;
        if !leaving {
            return Ok(());
        }
        let begun = Instant::now();
        loop {
            let status = self.target.ask(request::FleetStatus)?;
            let own = status.hubs.iter().find(|hub| hub.own);
            let left = own.map_or(0, |hub| hub.homes);
            if left == 0 {
                return output::print("no peer is at home here any more\n");
            }
            if begun.elapsed() > DRAIN_LIMIT {
                return output::print(&format!(
                    "{} still at home here; who isn't there can't be moved\n",
                    human::counted(left, "peer")
                ));
            }
            std::thread::sleep(DRAIN_LOOK);
        }
    }
}

impl Status {
    fn run(self) -> Result<(), Failure> {
        let status = self.target.ask(request::FleetStatus)?;
        if self.json {
            return output::print_json(&status);
        }
        output::print(&render(&status, &Screen::of_stdout()))
    }
}

/// What makes this machine a hub of a fleet.
#[cfg(feature = "fleet")]
mod members {
    use std::io::Read;
    use std::path::PathBuf;

    use zeroize::Zeroizing;

    use super::{Args, Failure, human, output};
    use crate::cli::duration::Duration;
    use crate::cli::secret;
    use crate::config::{self, Config};
    use crate::control::fleet::{backup, operator};

    /// Bytes of a token at the most.
    const LONGEST: u64 = 64 << 10;
    /// Bytes of an export at the most.
    const LONGEST_EXPORT: u64 = 256 << 20;

    /// The configuration of this hub.
    #[derive(Args)]
    struct File {
        /// The configuration file.
        #[arg(long, short, value_name = "FILE", default_value = "config.toml")]
        config: PathBuf,
    }

    impl File {
        fn read(&self) -> Result<Config, Failure> {
            Ok(config::load(&self.config)?.config)
        }
    }

    /// Make the fleet that the configuration names, with this hub as its first.
    ///
    /// It makes the admin's key, by which the other hubs know what is of their fleet: it stays on
    /// this machine, and on hubs that join with a token of `taltun fleet token`.
    #[derive(Args)]
    pub(super) struct Init {
        #[command(flatten)]
        file: File,
    }

    /// Make a token by which one more machine becomes a hub, and print it.
    ///
    /// It can be used once. Who uses it first is that hub, so hand it over as you would a key.
    #[derive(Args)]
    pub(super) struct Token {
        /// What the new hub is called: `hub` of its `[fleet]`.
        hub: String,

        /// For how long it can be used: 30m, 8h, 7d.
        #[arg(long = "for", value_name = "DURATION", default_value = "1h")]
        duration: Duration,

        /// The new hub can't change the fleet's peers: it doesn't get the admin's key.
        #[arg(long)]
        serve_only: bool,

        /// The fleet has this hub, and it lost its disk: who joins by the token takes its place.
        #[arg(long)]
        replace: bool,

        #[command(flatten)]
        file: File,
    }

    /// Make this machine a hub of a fleet, by a token of `taltun fleet token`.
    ///
    /// A tunnel that runs with `[fleet]` has the fleet's peers a second later.
    #[derive(Args)]
    pub(super) struct Join {
        /// The token; `-` reads it from standard input, so that nobody sees it among the processes.
        token: String,

        #[command(flatten)]
        file: File,
    }

    /// Print all records of the fleet, for a backup: its peers, hubs and configuration, and who was removed.
    ///
    /// It has no secret, and each record has its signature. Keep a copy of the admin's key besides.
    #[derive(Args)]
    pub(super) struct Export {
        #[command(flatten)]
        file: File,
    }

    /// Give etcd what it doesn't have of an export: a record that is newer there stays, and who was removed stays so.
    ///
    /// On a machine that is no hub yet but has the copy of the admin's key, it makes that the first hub again.
    #[derive(Args)]
    pub(super) struct Import {
        /// The file that `taltun fleet export` printed; `-` reads it from standard input.
        #[arg(value_name = "EXPORT")]
        export: PathBuf,

        #[command(flatten)]
        file: File,
    }

    impl Init {
        pub(super) fn run(self) -> Result<(), Failure> {
            let done = operator::init(&self.file.read()?)?;
            output::print(&format!("{done}\n"))
        }
    }

    impl Token {
        pub(super) fn run(self) -> Result<(), Failure> {
            if output::is_nowhere() {
                let nowhere = output::NOWHERE;
                return Err(Failure::Other(format!("{nowhere}: no token was made")));
            }
            let config = self.file.read()?;
            let lasting = std::time::Duration::from_secs(self.duration.seconds);
            let gives = operator::Gives {
                admin: !self.serve_only,
                replaces: self.replace,
            };
            let made = operator::token(&config, &self.hub, lasting, gives)?;
            output::note(&format!(
                "a token for the hub {} of {}, for {}; on that machine: `taltun fleet join TOKEN`",
                self.hub,
                made.network,
                human::span(self.duration.seconds)
            ));
            secret::print(made.text.as_str())
        }
    }

    impl Export {
        pub(super) fn run(self) -> Result<(), Failure> {
            let exported = backup::export(&self.file.read()?)?;
            if let Some(warning) = exported.warning {
                output::note(&warning);
            }
            output::print(&exported.text)
        }
    }

    impl Import {
        pub(super) fn run(self) -> Result<(), Failure> {
            let config = self.file.read()?;
            let text = if self.export.as_os_str() == "-" {
                text_of(std::io::stdin())
            } else {
                std::fs::File::open(&self.export).and_then(text_of)
            };
            let text = text.map_err(|error| {
                Failure::Other(format!("cannot read {}: {error}", self.export.display()))
            })?;
            let imported = backup::import(&config, &text)?;
            for refused in &imported.refused {
                output::note(refused);
            }
            output::print(&format!("{}\n", imported.done))
        }
    }

    fn text_of(from: impl Read) -> std::io::Result<String> {
        let mut text = String::new();
        from.take(LONGEST_EXPORT).read_to_string(&mut text)?;
        Ok(text)
    }

    impl Join {
        pub(super) fn run(self) -> Result<(), Failure> {
            let mut token = Zeroizing::new(self.token);
            if *token == "-" {
                token.clear();
                let read = std::io::stdin().take(LONGEST).read_to_string(&mut token);
                read.map_err(|error| Failure::Other(format!("standard input: {error}")))?;
            }
            let done = operator::join(&self.file.read()?, &token)?;
            output::print(&format!("{done}\n"))
        }
    }
}

const HUBS: &[Column] = &[
    Column::text("HUB", 0).cut_to(10),
    Column::text("STATE", 0),
    Column::text("PATH", 1),
    Column::number("PEERS", 2),
    Column::text("VIP", 2).cut_to(12),
    Column::text("ENDPOINT", 3).cut_to(16),
    Column::text("GROUP", 4).cut_to(6),
    Column::text("TALTUN", 5).cut_to(6),
];

fn render(status: &FleetStatus, screen: &Screen) -> String {
    let mut text = format!("fleet {}, hub {}\n", status.name, status.hub);
    // Writing to a String can't fail.
    if status.joined {
        let _ = writeln!(text, "etcd: {}", etcd(&status.etcd));
        if let Some(saved) = status.from_disk_at {
            let age = status.timestamp.seconds() - saved.seconds();
            let _ = writeln!(
                text,
                "the fleet is known here as its disk has it, saved {} ago",
                human::age(age.max(0.0))
            );
        }
        for member in &status.etcd.members {
            let how = match (member.answers, &member.error) {
                (Some(true), _) => "answers",
                (_, Some(error)) => &printable(error),
                _ => "not asked yet",
            };
            let _ = writeln!(text, "  {}: {how}", member.endpoint);
        }
        let _ = write!(
            text,
            "{}, {}",
            human::counted(status.peers, "peer"),
            human::counted(status.bans, "ban")
        );
        if status.pending > 0 {
            let _ = write!(
                text,
                ", {} to etcd pending",
                human::counted(status.pending, "write")
            );
        }
        if status.to_sign > 0 {
            let records = human::counted(status.to_sign, "record");
            let _ = write!(text, ", {records} to sign with the admin's new key");
        }
        text.push_str(if status.admin {
            "; peers can be changed here\n"
        } else {
            "; peers can't be changed here: this hub hasn't the admin's key\n"
        });
    } else {
        text.push_str("not joined\n");
    }
    for problem in &status.problems {
        let _ = writeln!(text, "problem: {}", printable(problem));
    }
    if !status.hubs.is_empty() {
        text.push('\n');
        let rows: Vec<Vec<Cell>> = status
            .hubs
            .iter()
            .map(|hub| row(hub, status.etcd.connected))
            .collect();
        text.push_str(&grid(HUBS, &rows, screen));
    }
    text
}

fn etcd(etcd: &EtcdStatus) -> String {
    let revision = etcd.revision.map(|it| format!(", revision {it}"));
    let revision = revision.unwrap_or_default();
    match (&etcd.error, etcd.connected) {
        (_, true) => format!("connected{revision}"),
        (Some(error), false) => format!(
            "away: {}; peers and traffic stay as they are{revision}",
            printable(error)
        ),
        (None, false) => "not connected yet".to_owned(),
    }
}

fn row(hub: &HubStatus, is_etcd_there: bool) -> Vec<Cell> {
    // Without etcd nobody knows who is connected to it.
    let answers = hub.path.as_ref().is_some_and(|path| path.up);
    let state = match (hub.own, hub.live) {
        (true, _) if hub.leaving => "this hub, gives up its peers",
        (false, true) if hub.leaving => "gives up its peers",
        (true, true) if hub.leads => "this hub, leads",
        (false, true) if hub.leads => "leads",
        (true, true) => "this hub",
        (true, false) if !is_etcd_there => "this hub",
        (true, false) => "this hub, not seen in etcd",
        (false, false) if answers && !is_etcd_there => "answers",
        (false, false) if answers => "answers, not seen in etcd",
        (false, true) => "connected",
        (false, false) => "away",
    };
    let vip: Vec<String> = hub.vip.iter().map(ToString::to_string).collect();
    let shown = |text: &str| printable(text).into_owned();
    vec![
        hub.name.as_str().into(),
        state.into(),
        hub.path.as_ref().map(path).unwrap_or_default().into(),
        hub.homes.to_string().into(),
        vip.join(" ").into(),
        shown(&hub.endpoints.join(" ")).into(),
        shown(hub.group.as_deref().unwrap_or_default()).into(),
        shown(hub.taltun.as_deref().unwrap_or_default()).into(),
    ]
}

/// The way to another hub: its delay, and what is lost of what is said on it.
fn path(path: &HubPath) -> String {
    let delay = path.delay_ms.filter(|_| path.up);
    let loss = path.loss.filter(|loss| *loss >= 0.01);
    let loss = loss.map(|loss| format!(", {:.0} % lost", 100.0 * loss));
    match delay {
        Some(delay) => format!("{delay:.1} ms{}", loss.unwrap_or_default()),
        None => "no answer".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{EtcdMember, UnixTime};

    #[test]
    fn a_fleet_is_told_with_what_is_wrong() {
        let hub = |name: &str, own, live| HubStatus {
            name: name.to_owned(),
            own,
            live,
            public_key: "KEY=".to_owned(),
            answers_as: "KEY=".to_owned(),
            shared_address: None,
            leads: false,
            leaving: false,
            admin: own,
            vip: vec!["10.0.0.1".parse().unwrap()],
            endpoints: vec!["madrid.example.net:9000".to_owned()],
            group: None,
            taltun: live.then(|| "0.1.0".to_owned()),
            since: None,
            clock_ahead_s: None,
            homes: 2,
            path: (!own).then_some(HubPath {
                up: true,
                loss: Some(0.05),
                delay_ms: Some(1.24),
            }),
        };
        let member = |endpoint: &str, error: Option<&str>| EtcdMember {
            endpoint: endpoint.to_owned(),
            answers: Some(error.is_none()),
            error: error.map(str::to_owned),
        };
        let mut status = FleetStatus {
            name: "example".to_owned(),
            hub: "madrid".to_owned(),
            joined: true,
            admin: true,
            etcd: EtcdStatus {
                connected: true,
                error: None,
                revision: Some(7),
                members: vec![
                    member("http://10.1.0.1:2379", None),
                    member("http://10.1.0.2:2379", Some("no answer in time")),
                ],
            },
            pending: 1,
            peers: 2,
            bans: 1,
            hubs: vec![hub("madrid", true, true), hub("paris", false, false)],
            problems: vec!["the record x doesn't count".to_owned()],
            ..FleetStatus::default()
        };
        assert_eq!(
            render(&status, &Screen::NONE),
            "\
fleet example, hub madrid
etcd: connected, revision 7
  http://10.1.0.1:2379: answers
  http://10.1.0.2:2379: no answer in time
2 peers, 1 ban, 1 write to etcd pending; peers can be changed here
problem: the record x doesn't count

HUB     STATE                      PATH              PEERS  VIP       ENDPOINT                 TALTUN
madrid  this hub                                         2  10.0.0.1  madrid.example.net:9000  0.1.0
paris   answers, not seen in etcd  1.2 ms, 5 % lost      2  10.0.0.1  madrid.example.net:9000
"
        );
        // After a start without etcd.
        status.etcd.connected = false;
        status.etcd.error = Some("no answer".to_owned());
        status.timestamp = UnixTime::from(7300.0);
        status.from_disk_at = Some(UnixTime::from(100.0));
        let text = render(&status, &Screen::NONE);
        for part in [
            "etcd: away: no answer; peers and traffic stay as they are, revision 7\n",
            "the fleet is known here as its disk has it, saved 2 h ago\n",
            "paris   answers   1.2 ms",
        ] {
            assert!(text.contains(part), "{text}");
        }
        status.joined = false;
        status.hubs.clear();
        let text = render(&status, &Screen::NONE);
        assert!(text.contains("not joined\nproblem: "), "{text}");
    }
}
