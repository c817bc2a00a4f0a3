//! Runs a tunnel from its configuration until told to stop.
//!
//! Everything but the packets themselves happens here, on one thread: the protocol's
//! control half, the maps of the eBPF programs, bans, endpoint names and the control
//! socket. What could fail because of the operator's mistake is tried before anything of
//! the host is changed; whatever is changed vanishes with this process or is undone at its
//! end, but for a kill switch, which only an orderly end opens.

use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use ipnet::IpNet;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tracing::{error, info, warn};

use super::caller::Caller;
use super::engine::{Engine, EngineInputs, udp_settings};
use super::fleet::{self, Link, New, News};
use super::hooks::{self, Hooks};
use super::look_up::LookUp;
use super::name_service::{Known, NameSockets};
use super::names::{self, Resolver};
use super::network_watch::NetworkWatch;
use super::origin::{Origin, TunnelKind};
use super::privileged::Privileged;
use super::reload::{Asker, Compared, FileRead, NotRead, Reader};
use super::request::Call;
use super::response::{Done, Reloaded, Reply, Response};
use super::terminal::Terminal;
use super::uapi::{UapiCall, UapiSocket};
use super::underlay::{self, Underlay};
use super::{ControlError, ControlSocket, panics, runtime_dir, spare};
use crate::config::{Config, Interface};
use crate::dataplane::clock;
use crate::dataplane::shared::HANDSHAKE_QUEUE;
use crate::dataplane::tun::Tun;
use crate::dataplane::udp::Socket;
use crate::dataplane::worker;
use crate::name_service::Zone;
use crate::os::{locked_memory, service_manager};
use crate::protocol::time::Time;
use crate::system::{self, Clones, Endpoints, Host};
use crate::verbs::{self, Trouble};

/// Handshake messages that are taken together when many wait: some multiple of what can be
/// multiplied at once, and not so many that the rest of the controller's work waits for long.
const HANDSHAKES_AT_ONCE: usize = 16;

/// Runs `config` until SIGINT or SIGTERM; `up` is called once everything answers.
///
/// A panic ends the process at once, so a kill switch stays closed then, too.
#[allow(
    clippy::too_many_lines,
    reason = "one loop with all that can happen, and what it takes to get there"
)]
pub async fn run(
    mut config: Config,
    origin: Origin,
    kind: TunnelKind,
    up: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    panics::report(origin.flush_log);
    if let Err(reason) = locked_memory::lock() {
        info!("memory, with keys in it, may be written to a swap device: {reason}");
    }
    // Before a packet of anybody's is read.
    let mut privileged = start_privileged(&config.interface.tun_name);
    // Whatever the operator may have got wrong comes first, in the order in which the
    // least is touched.
    let fleet = fleet::start(&config)?;
    let workers = config
        .dataplane
        .workers
        .unwrap_or_else(|| worker::default_count(worker::cores()));
    let name = config.interface.tun_name.clone();
    let sockets = bind_sockets(&config, &origin, workers)?;
    let control = ControlSocket::bind(&name)?;
    let terminal = Terminal::of_this_process();
    let (mut interrupt, mut terminate, mut hangup) = signals()?;
    getrandom::fill(&mut [0; 32]).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
    let mut clones = Clones::watch();

    let (calls_in, mut calls) = mpsc::channel(16);
    let mut serve = pin!(control.serve(calls_in.clone()));
    let prepare = async {
        tokio::select! {
            prepared = hooks::before_up(&config) => prepared.map(|()| true),
            _ = interrupt.recv() => Ok(false),
            _ = terminate.recv() => Ok(false),
        }
    };
    let prepared = answer_meanwhile(prepare, serve.as_mut(), &mut calls, "still starts").await;
    let prepared =
        prepared.map_err(|error| anyhow::anyhow!("{error}; so the tunnel doesn't start"));
    if !prepared? {
        return Ok(());
    }
    // Not before: until now `wg` is right to say that there is no such interface.
    let uapi = bind_uapi(&name, kind)?;
    let tuns = create_interface(&config, workers)?;
    let look_up = LookUp::new(&config);
    // The mark that they will have: rules of an earlier process may be there already.
    look_up.set_mark(config.mark(&[]).unwrap_or(0));
    let (names, resolved_before) = names::look_up(&config, &look_up).await;
    let start = system::start_command(&origin.words());
    let translator = match kind {
        TunnelKind::Configured => underlay::prepare(&mut config, &names, &look_up).await,
        TunnelKind::Plain => None,
    };
    let mut host = set_up_host(&config, &names, kind, start).await?;
    let (learned_in, mut learned) = mpsc::channel(16);
    let dns_routes = config
        .dns_routes
        .clone()
        .map(|it| watch::Sender::new(Arc::new(it)));
    let zone = config.names.as_ref().map(|names| {
        let zone = Zone::of(names, &config.interface, &config.peers);
        watch::Sender::new(Arc::new(zone))
    });
    let known = Known {
        zone: zone.as_ref().map(watch::Sender::subscribe),
        routes: dns_routes.as_ref().map(watch::Sender::subscribe),
    };
    let name_sockets = bind_name_service(&config.interface, &known)?;
    let mark = host.as_ref().and_then(Host::mark);
    let network = NetworkWatch::watch()?;

    let (handshakes_in, mut handshakes) = mpsc::channel(HANDSHAKE_QUEUE);
    let (uapi_in, mut uapi_calls) = mpsc::channel(16);
    let underlay = Underlay::new(translator, look_up.clone());
    let (resolver, mut resolved) = Resolver::new(look_up);
    let wake = Arc::new(Notify::new());
    let keep = origin.keep_kill_switch;
    let reader_origin = origin.clone();
    let mut engine = Engine::new(EngineInputs {
        config,
        origin,
        kind,
        sockets,
        tuns,
        handshakes: handshakes_in,
        wake: Arc::clone(&wake),
        resolver,
        underlay,
        network,
        dns_routes,
        zone,
        mark,
        fleet: fleet.clone(),
        privileged: match &privileged {
            Ok(privileged) => Ok(privileged.rights().clone()),
            Err(reason) => Err(reason.clone()),
        },
    })?;
    engine
        .start_services(calls_in)
        .map_err(anyhow::Error::msg)?;
    if let Some(sockets) = name_sockets {
        engine.serve_names(sockets, known, learned_in);
    }
    if let Some(mark) = mark {
        engine.set_mark(mark)?;
    }
    if let Some(host) = &mut host {
        host.commit().await?;
    }
    engine.set_kept(host.as_ref().map(Host::kept));
    let (reader, mut files) = Reader::start(reader_origin, engine.last_read(), fleet.clone());
    let mut news = fleet.as_ref().map(Link::news);
    engine.begin(resolved_before, &mut host).await;
    spare::give_back();
    verbs::tunnel_runs();
    up()?;
    service_manager().ready(&engine.summary());
    let mut hooks = Hooks::start(engine.config(), engine.listen_port(), mark);
    hooks.up(&engine.config().hooks);

    let mut serve_uapi = Box::pin(serve_if_bound(uapi.as_ref(), uapi_in));
    // How this ends, once that is known: what is left until then are the hooks, and they are
    // served as before.
    let mut ending: Option<anyhow::Result<End>> = None;
    let (mut serving, mut serving_uapi) = (true, true);
    let mut health = tokio::time::interval(Duration::from_secs(1));
    let mut beats = beats();
    let mut received = Vec::with_capacity(HANDSHAKES_AT_ONCE);
    loop {
        engine.carry_out();
        let (mut end, mut by) = (None, None);
        tokio::select! {
            1.. = handshakes.recv_many(&mut received, HANDSHAKES_AT_ONCE) => {
                engine.handle_handshakes(&received, handshakes.len());
                received.clear();
            }
            () = wake.notified() => engine.handle_requests(),
            () = sleep_until_time(engine.next_timeout()) => engine.handle_timeout(),
            () = sleep_until_time(engine.next_for_hubs()) => engine.tell_hubs(),
            () = clones.next() => engine.start_over("this machine was cloned or rolled back"),
            () = sleep_until(engine.next_ban_end()) => engine.expire_bans(),
            () = sleep_until(engine.next_kernel_look()) => engine.look_at_kernel(),
            () = sleep_until(engine.next_remembered()) => engine.speak_to_remembered(),
            Some(answer) = resolved.recv() => engine.handle_resolved(answer),
            Some(learned) = learned.recv() => engine.learn(learned, &mut host).await,
            Some(call) = calls.recv() => engine.handle_call(call, &reader),
            new = next_of(&mut news) => match new {
                New::Peers => reader.ask_fleet(),
                New::Bans(bans) => engine.follow_fleet_bans(&bans),
                New::Hubs(hubs) => engine.follow_hubs(&hubs),
                New::Homes => engine.follow_homes(),
                New::Key(key) => engine.follow_group_key(key),
            },
            Some(read) = files.recv() => {
                Box::pin(take_over(read, &mut engine, &mut host)).await;
            }
            Some(call) = uapi_calls.recv() => engine.handle_uapi(call),
            () = &mut serve, if serving => {
                serving = false;
                end = Some(Err(anyhow::anyhow!("the control socket is gone")));
            }
            () = &mut serve_uapi, if serving_uapi => {
                serving_uapi = false;
                end = Some(Err(anyhow::anyhow!("the UAPI socket is gone")));
            }
            _ = interrupt.recv() => {
                (end, by) = (Some(Ok(End::Orderly)), Some(Caller::signal("SIGINT")));
            }
            _ = terminate.recv() => {
                (end, by) = (Some(Ok(End::Terminated)), Some(Caller::signal("SIGTERM")));
            }
            () = hooks.finished(), if ending.is_some() => break,
            reason = end_of(&mut privileged) => end = Some(Err(reason)),
            _ = hangup.recv() => {
                if terminal.is_gone() {
                    let gone = anyhow::anyhow!("the terminal that it ran on was closed");
                    end = Some(Err(gone));
                } else {
                    reader.ask(Caller::signal("SIGHUP"), None);
                }
            }
            _ = beats.tick() => service_manager().live(),
            _ = health.tick() => {
                let is_to_look = engine.each_second(&mut host).await;
                let limited = engine.take_limited();
                hooks.limited(&engine.config().hooks, &limited);
                if is_to_look {
                    if ending.is_none() {
                        service_manager().status(&engine.summary());
                    }
                    hooks.follow(&engine.config().hooks, || engine.peers_up());
                }
                let told_to_go = kind == TunnelKind::Plain
                    && uapi.as_ref().is_none_or(|socket| !socket.is_in_place());
                if told_to_go && ending.is_none() {
                    info!("the UAPI socket was removed");
                    end = Some(Ok(End::Orderly));
                }
            },
        }
        if engine.has_ended() && end.is_none() {
            end = Some(engine.interface_gone().map(|()| End::Orderly));
        }
        if let Some(end) = end
            && ending.is_none()
        {
            info!("{name} is going down");
            let reason = end.as_ref().err().map(ToString::to_string);
            engine.going_down(&by.unwrap_or_else(Caller::ourselves), reason.as_deref());
            service_manager().stopping();
            hooks.finish(&engine.config().hooks);
            ending = Some(end);
        }
    }
    engine.finish().await;
    if let Some(fleet) = &fleet {
        fleet.finish().await;
    }
    let commands = engine.config().hooks.clone();
    // From here on there is no such interface for `wg`.
    drop(serve_uapi);
    drop(uapi);
    drop(engine);
    let ending = ending.unwrap_or(Ok(End::Orderly));
    let take_down = async {
        match (host, &ending) {
            (None, _) => {}
            (Some(host), Ok(End::Terminated)) if keep => {
                if host.is_closed() {
                    info!("the kill switch stays closed; `taltun undo {name}` releases it");
                }
                host.leave().await;
            }
            (Some(host), Ok(End::Orderly | End::Terminated)) => {
                let was_closed = host.is_closed();
                host.undo().await;
                if was_closed {
                    info!("the kill switch is open: traffic leaves outside of the tunnel again");
                }
            }
            // The command says what stays.
            (Some(host), Err(_)) => host.leave().await,
        }
        hooks.after_down(&commands).await;
    };
    answer_meanwhile(take_down, serve, &mut calls, "goes down").await;
    if let Ok(privileged) = privileged {
        privileged.finish().await;
    }
    ending.map(|_| ())
}

/// Where it can't be started, as without `/proc`, this process does by itself what it is for. Why is told here and by
/// `status`.
fn start_privileged(interface: &str) -> Result<Privileged, String> {
    Privileged::start(interface).map_err(|error| {
        warn!(
            "the privileged process can't be started: {error}; the controller, which reads handshakes of anybody, opens \
             sockets and queues by itself"
        );
        format!("can't be started: {error}")
    })
}

/// Waits for the end of the privileged process: without it, nothing that takes rights can be done.
async fn end_of(privileged: &mut Result<Privileged, String>) -> anyhow::Error {
    match privileged {
        Ok(privileged) => privileged.ended().await,
        Err(_) => std::future::pending().await,
    }
}

/// Waits for `work`, and tells whoever asks meanwhile that the tunnel does `what`.
async fn answer_meanwhile<T>(
    work: impl Future<Output = T>,
    mut serve: Pin<&mut impl Future<Output = ()>>,
    calls: &mut mpsc::Receiver<Call>,
    what: &str,
) -> T {
    let mut work = pin!(work);
    let mut serving = true;
    let mut beats = beats();
    loop {
        tokio::select! {
            outcome = &mut work => return outcome,
            _ = beats.tick() => service_manager().live(),
            () = &mut serve, if serving => serving = false,
            Some(call) = calls.recv() => {
                call.answer.send(Response::Error(format!("the tunnel {what}; try again").into()));
            }
        }
    }
}

/// When to tell the service manager that this thread lives: as often as it wants, and at least
/// once a second, as something may wait for it.
fn beats() -> Interval {
    let second = Duration::from_secs(1);
    let beat = service_manager().beat().unwrap_or(second);
    let mut beats = tokio::time::interval(beat.clamp(Duration::from_millis(10), second));
    // Beats that were missed aren't made good.
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    beats
}

/// Those that end the tunnel, and that to reload.
fn signals() -> anyhow::Result<(Signal, Signal, Signal)> {
    let listen_to = |kind| signal(kind).context("cannot listen to signals");
    Ok((
        listen_to(SignalKind::interrupt())?,
        listen_to(SignalKind::terminate())?,
        listen_to(SignalKind::hangup())?,
    ))
}

/// How a tunnel ends that didn't fail.
enum End {
    /// All is taken back.
    Orderly,
    /// By SIGTERM, which may be for a restart.
    Terminated,
}

/// Takes over a file that was read again or changed, and lets the next one have its turn.
async fn take_over(read: FileRead, engine: &mut Engine, host: &mut Option<Host>) {
    let FileRead {
        outcome,
        asker,
        turn,
    } = read;
    match asker {
        Asker::Reload(by, reply) => reload(outcome, by, reply, engine, host).await,
        Asker::Edit(asker) => engine.take_edit(outcome, asker, host).await,
        Asker::Fleet => engine.take_fleet(outcome, host).await,
    }
    let _ = turn.send(Arc::clone(engine.filed_peers()));
}

/// Takes over what was read again, and tells whoever asked for that, or the log.
async fn reload(
    outcome: Result<Compared, NotRead>,
    by: Caller,
    asker: Option<Reply<Reloaded>>,
    engine: &mut Engine,
    host: &mut Option<Host>,
) {
    let mut warnings = Vec::new();
    let outcome = match outcome {
        Ok(compared) => {
            warnings.clone_from(&compared.loaded.warnings);
            let reloaded = engine.reload(compared, host, &by).await;
            reloaded.map_err(NotRead::from)
        }
        Err(not_read) => {
            engine.not_reloaded(&by, not_read.reason());
            Err(not_read)
        }
    };
    match &outcome {
        Ok(summary) => {
            info!("{summary}");
            service_manager().reloaded(Ok(summary));
        }
        Err(not_read) => service_manager().reloaded(Err(not_read.reason())),
    }
    match (asker, outcome) {
        (Some(asker), Ok(done)) => {
            let done = Done(done);
            asker.outcome(Ok(Reloaded { done, warnings }));
        }
        (Some(asker), Err(NotRead::Other(reason))) => asker.outcome(Err(reason)),
        (Some(asker), Err(NotRead::Mistakes(mistakes))) => asker.misconfigured(mistakes),
        (None, Ok(_)) => {}
        (None, Err(not_read)) => {
            error!("not reloaded: {}", not_read.reason().replace('\n', "; "));
        }
    }
}

/// What the fleet has that it hadn't before; never, without a fleet.
async fn next_of(news: &mut Option<News>) -> New {
    match news {
        Some(news) => news.next().await,
        None => std::future::pending().await,
    }
}

fn bind_sockets(
    config: &Config,
    origin: &Origin,
    count: usize,
) -> anyhow::Result<Vec<Arc<Socket>>> {
    let listen = config.interface.local_addr;
    Socket::bind_group(listen, count, udp_settings(config)).map_err(|error| {
        if Trouble::of(&error).is_some() {
            return anyhow::Error::from(error).context(format!("cannot listen on {listen}"));
        }
        let file = origin
            .path
            .as_ref()
            .map_or_else(String::new, |path| format!("{}: ", path.display()));
        anyhow::Error::from(error).context(format!(
            "{file}interface.local_addr: cannot listen on {listen} (`ss -ulpn` shows who uses \
             which port; choose another address or port)"
        ))
    })
}

/// Without a configuration the UAPI socket is the only way to be told anything. With one
/// the tunnel can do without.
fn bind_uapi(name: &str, kind: TunnelKind) -> Result<Option<UapiSocket>, ControlError> {
    match (UapiSocket::bind(name), kind) {
        (Ok(socket), _) => Ok(Some(socket)),
        (Err(error), TunnelKind::Plain) => Err(error),
        (Err(error), TunnelKind::Configured) => {
            warn!("wg can't be used on {name}: {error}");
            Ok(None)
        }
    }
}

async fn serve_if_bound(socket: Option<&UapiSocket>, calls: mpsc::Sender<UapiCall>) {
    match socket {
        Some(socket) => socket.serve(calls).await,
        None => std::future::pending().await,
    }
}

/// Creates the tunnel's interface.
fn create_interface(config: &Config, workers: usize) -> anyhow::Result<Vec<Tun>> {
    let name = &config.interface.tun_name;
    let dataplane = &config.dataplane;
    let (more, offload) = (dataplane.sparse_queue, dataplane.tun_offload);
    let tuns = Tun::create(name, workers, more, offload)
        .with_context(|| format!("cannot create the interface {name}"))?;
    if let Err(error) = system::without_multicast(name) {
        warn!("cannot switch multicast off on {name}: {error}; the kernel's own goes to the peers");
    }
    Ok(tuns)
}

async fn set_up_host(
    config: &Config,
    names: &Endpoints,
    kind: TunnelKind,
    start: String,
) -> anyhow::Result<Option<Host>> {
    if kind == TunnelKind::Plain {
        let (name, mtu) = (&config.interface.tun_name, config.interface.mtu);
        system::set_mtu(name, mtu).with_context(|| format!("cannot set the MTU of {name}"))?;
        return Ok(None);
    }
    Ok(Some(
        Host::configure(config, names, &runtime_dir(), start).await?,
    ))
}

/// Listens for questions on our vips, if the file has anything to answer by.
fn bind_name_service(interface: &Interface, known: &Known) -> anyhow::Result<Option<NameSockets>> {
    if known.zone.is_none() && known.routes.is_none() {
        return Ok(None);
    }
    // Where IPv6 is switched off, the tunnel went on without those of IPv6.
    let has_v4 = interface.vip.iter().any(|vip| vip.addr().is_ipv4());
    let is_there =
        |vip: &IpAddr| vip.is_ipv4() || !has_v4 || std::net::UdpSocket::bind((*vip, 0)).is_ok();
    let vips = interface.vip.iter().map(IpNet::addr);
    let vips: Vec<IpAddr> = vips.filter(is_there).collect();
    let sockets = NameSockets::bind(known, &vips, &interface.tun_name);
    sockets.map(Some).map_err(anyhow::Error::msg)
}

/// Sleeps until a point on the protocol's clock; for ever without one.
async fn sleep_until_time(deadline: Option<Time>) {
    match deadline {
        Some(deadline) => tokio::time::sleep(deadline.since(clock::now())).await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
