//! What the gateway's process does: it serves clients until the tunnel ends it, or is gone.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::net::SocketType;
use rustix::net::sockopt::socket_type;
use taltun_udpgw::{Destinations, Guard, Options, Server, StartError, Started, Watch};
use tokio::io::BufReader;
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::oneshot;
use tokio::time::{MissedTickBehavior, interval};

use super::channel::{Numbers, Said, Told};
use super::settings::{files, limits};
use crate::config::Udpgw;
use crate::os::seccomp::Argument;
use crate::server_process::{self, Lookup, Needs, OF_TUNNEL, log_to_tunnel, read_line, write_line};

/// How often the tunnel hears what was counted, if that has changed, and how often, that this process lives.
const LOOK: Duration = Duration::from_millis(250);
const BEAT: Duration = Duration::from_secs(3);
/// How long an answer of the tunnel's tables is good for, and how many are kept.
const GOOD_FOR: Duration = Duration::from_secs(1);
const KEPT: usize = 4096;
/// Longer than any prefix: no rule of the file opens an address that is guarded so.
const GUARDED: u8 = u8::MAX;

/// What a file that is only read is opened without.
const TO_WRITE: u32 = (libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC).cast_unsigned();
/// It sends datagrams, asks the kernel for routes, and reads which name servers this host has.
const NEEDS: Needs = Needs {
    calls: &[
        libc::SYS_bind,
        libc::SYS_connect,
        libc::SYS_recvmmsg,
        libc::SYS_fstat,
        libc::SYS_newfstatat,
        libc::SYS_statx,
        libc::SYS_lseek,
    ],
    some: &[
        (
            libc::SYS_socket,
            &[Argument::Is(0, libc::AF_INET.cast_unsigned())],
        ),
        (
            libc::SYS_socket,
            &[Argument::Is(0, libc::AF_INET6.cast_unsigned())],
        ),
        (
            libc::SYS_socket,
            &[
                Argument::Is(0, libc::AF_NETLINK.cast_unsigned()),
                Argument::Is(2, libc::NETLINK_ROUTE.cast_unsigned()),
            ],
        ),
        (libc::SYS_openat, &[Argument::Lacks(2, TO_WRITE)]),
        // As musl opens files.
        #[cfg(target_arch = "x86_64")]
        (libc::SYS_open, &[Argument::Lacks(1, TO_WRITE)]),
    ],
    ports: &[],
    // resolv.conf, where it leads to, and the numbers of interfaces.
    directories: &["/etc", "/run", "/sys"],
    devices: &[],
};

/// Serves the tunnel that this process's standard input leads to, until it is gone. `settings` are those of the
/// file, as JSON; `debug` is about what it says.
pub fn serve(settings: &str, debug: bool) -> io::Result<()> {
    log_to_tunnel(debug);
    let settings: Udpgw = serde_json::from_str(settings)?;
    let options = limits(&settings);
    let begun = server_process::begin(c"taltun-udpgw", |_| files(&options))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let (sockets, lookup) = sort(begun.sockets)?;
        let destinations = Destinations::new(settings.allow, settings.deny);
        let options = Options {
            destinations: destinations.guarded_by(guard(lookup)),
            ..options
        };
        let server = Server::on(sockets, options);
        let watch = server.watch();
        let start = || server.start().map_err(io::Error::other);
        let (channel, started) =
            server_process::confined(begun.name, begun.channel, &NEEDS, start).await?;
        talk(channel, started, &watch).await
    })
}

/// The sockets that clients connect to, and the one to the tunnel's tables.
fn sort(all: Vec<OwnedFd>) -> io::Result<(Vec<TcpListener>, Lookup)> {
    let (mut listeners, mut lookup) = (Vec::new(), None);
    for socket in all {
        if socket_type(&socket)? == SocketType::STREAM {
            let listener = TcpListener::from(socket);
            listener.set_nonblocking(true)?;
            listeners.push(listener);
        } else {
            lookup = Some(Lookup::new(socket)?);
        }
    }
    let lookup = lookup.ok_or_else(|| io::Error::other("there are no tables to ask"))?;
    Ok((listeners, lookup))
}

/// What is the tunnel's just then. Where it doesn't answer, everything is.
fn guard(lookup: Lookup) -> Guard {
    let known: Mutex<HashMap<IpAddr, (Instant, Option<u8>)>> = Mutex::default();
    Guard::new(move |ip| {
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        let is_good = |at: &Instant| at.elapsed() < GOOD_FOR;
        if let Some((_, guarded)) = known.get(&ip).filter(|(at, _)| is_good(at)) {
            return *guarded;
        }
        let Ok(found) = lookup.ask(ip) else {
            return Some(GUARDED);
        };
        if known.len() >= KEPT {
            known.retain(|_, (at, _)| is_good(at));
            if known.len() >= KEPT {
                known.clear();
            }
        }
        known.insert(ip, (Instant::now(), found.guarded));
        found.guarded
    })
}

/// Serves clients, and tells the tunnel what that comes to.
async fn talk(channel: UnixStream, started: Started, watch: &Watch) -> io::Result<()> {
    let (reader, mut writer) = channel.into_split();
    let mut reader = BufReader::new(reader);
    let (stop, stopped) = oneshot::channel::<()>();
    let mut gateway = tokio::spawn(started.run(async {
        let _ = stopped.await;
    }));
    let mut told = Numbers::default();
    // In a future of its own, so that no line is lost in the middle of it.
    let order = read_line::<Told>(&mut reader, OF_TUNNEL);
    tokio::pin!(order);
    let (mut look, mut beat) = (interval(LOOK), interval(BEAT));
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            order = &mut order => match order? {
                Some(Told::End) => break,
                None => return Ok(()),
            },
            ended = &mut gateway => return outcome(ended.map_err(io::Error::other)?),
            _ = look.tick() => tell(&mut writer, watch, &mut told).await?,
            _ = beat.tick() => write_line(&mut writer, &Said::Beat).await?,
        }
    }
    write_line(&mut writer, &Said::Ending(watch.stats().clients)).await?;
    drop(stop);
    outcome(gateway.await.map_err(io::Error::other)?)?;
    tell(&mut writer, watch, &mut told).await?;
    write_line(&mut writer, &Said::Ended).await
}

fn outcome(outcome: Result<(), StartError>) -> io::Result<()> {
    outcome.map_err(io::Error::other)
}

/// Tells what isn't told yet.
async fn tell(writer: &mut OwnedWriteHalf, watch: &Watch, told: &mut Numbers) -> io::Result<()> {
    let stats = watch.stats();
    let numbers = Numbers {
        clients: stats.clients,
        connections: stats.connections,
        counted: stats.counted.named().map(|(_, count)| count).collect(),
    };
    if numbers != *told {
        *told = numbers.clone();
        write_line(writer, &Said::Numbers(numbers)).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use super::*;
    use crate::server_process::{Found, answer_lookups, lookup_sockets};

    fn denies(destinations: &Destinations, ip: &str) -> bool {
        let verdict = destinations.judge(ip.parse().unwrap());
        format!("{verdict:?}") == "Denied"
    }

    #[test]
    fn what_the_tunnel_guards_is_denied_and_all_is_where_it_does_not_answer() {
        let (ours, theirs) = lookup_sockets().unwrap();
        let asked = Arc::<AtomicUsize>::default();
        let count = Arc::clone(&asked);
        let answering = thread::spawn(move || {
            answer_lookups(ours, |ip| {
                let all = count.fetch_add(1, Ordering::Relaxed);
                // It ends in the middle of what it is asked.
                assert!(all < 2);
                Found {
                    owner: None,
                    guarded: (ip == Ipv4Addr::new(203, 0, 113, 9)).then_some(24),
                }
            })
        });
        let allow = vec!["0.0.0.0/0".parse().unwrap()];
        let destinations = Destinations::new(allow, Vec::new());
        let destinations = destinations.guarded_by(guard(Lookup::new(theirs).unwrap()));
        for _ in 0..3 {
            assert!(denies(&destinations, "203.0.113.9"));
            assert!(!denies(&destinations, "198.51.100.9"));
        }
        assert_eq!(asked.load(Ordering::Relaxed), 2, "answers are kept");
        assert!(denies(&destinations, "198.51.100.10"));
        assert!(answering.join().is_err());
    }
}
