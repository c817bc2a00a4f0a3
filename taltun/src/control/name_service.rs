//! The resolver of `[names]` and `[dns_routes]`: its sockets, and what its process is told and tells.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::BufReader;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use super::lookups;
use super::served::{Answers, Life, Listens, SILENCE, keep, log_arguments};
use crate::config::DnsRoutes;
use crate::name_service::{self, Learned, PORT, Said, Told, Zone};
use crate::os::sockets;
use crate::protocol::tunnel::Tunnel;
use crate::report::ProcessRights;
use crate::server_process::{read_line, write_line};

/// Its process learns no more at once: it answers fewer questions.
const LEARNING: usize = 512;
/// The longest line that it says, bytes. An answer of a name server has no more than 64 KiB.
const LINE_MAX: u64 = 4 << 20;

/// What it answers by, as the file has it by now. One of the two is there.
#[derive(Debug, Clone)]
pub(super) struct Known {
    /// `[names]`
    pub(super) zone: Option<watch::Receiver<Arc<Zone>>>,
    /// `[dns_routes]`
    pub(super) routes: Option<watch::Receiver<Arc<DnsRoutes>>>,
}

/// Its sockets, which stay when its process ends.
#[derive(Debug, Default)]
pub(super) struct NameSockets {
    udp: Vec<UdpSocket>,
    tcp: Vec<TcpListener>,
}

/// The resolver; its process ends when this is dropped.
#[derive(Debug)]
pub(super) struct NameService {
    life: Arc<Mutex<Life>>,
    keeper: JoinHandle<()>,
}

/// Tells the process what it needs, and what it tells to the controller.
#[derive(Debug, Clone)]
struct Telling {
    known: Known,
    learned: mpsc::Sender<Learned>,
    tunnel: Arc<Tunnel>,
}

impl NameSockets {
    /// Listens on `vips`, which have to be there, for what comes from the interface `tun_name`
    /// and from this machine.
    pub(super) fn bind(known: &Known, vips: &[IpAddr], tun_name: &str) -> Result<Self, String> {
        let mut all = Self::default();
        for vip in vips {
            let at = SocketAddr::new(*vip, PORT);
            let refused = |error: io::Error| {
                format!(
                    "the resolver of [{}] cannot listen on {at}: {error} (`ss -lnp sport = 53` shows who \
                     uses it; let that resolver keep away from our vips)",
                    known.section()
                )
            };
            for interface in [Some(tun_name), Some("lo")] {
                let socket = sockets::listen_udp(at, interface).map_err(refused)?;
                let listener = sockets::listen_tcp(at, interface).map_err(refused)?;
                all.udp.push(socket);
                all.tcp.push(listener);
            }
        }
        Ok(all)
    }
}

impl Listens for NameSockets {
    fn sockets(&self) -> Vec<BorrowedFd<'_>> {
        let udp = self.udp.iter().map(AsFd::as_fd);
        udp.chain(self.tcp.iter().map(AsFd::as_fd)).collect()
    }

    /// Who asks by UDP asks again, and the few that wait by TCP may go on doing so.
    fn turn_away(&self) {}
}

impl Known {
    /// The section that it is for, in messages.
    fn section(&self) -> &'static str {
        match self.routes {
            Some(_) => "dns_routes",
            None => "names",
        }
    }

    fn told(&mut self) -> Told {
        let zone = self.zone.as_mut();
        let routes = self.routes.as_mut();
        Told::Known {
            zone: zone.map(|it| Box::new(Zone::clone(&it.borrow_and_update()))),
            routes: routes.map(|it| DnsRoutes::clone(&it.borrow_and_update())),
        }
    }

    /// Waits until it isn't as it was told.
    async fn changed(&mut self) {
        tokio::select! {
            () = changed(self.zone.as_mut()) => {}
            () = changed(self.routes.as_mut()) => {}
        }
    }
}

async fn changed<T>(receiver: Option<&mut watch::Receiver<Arc<T>>>) {
    let changed = match receiver {
        Some(receiver) => receiver.changed().await.is_ok(),
        None => false,
    };
    if !changed {
        // Never again.
        std::future::pending::<()>().await;
    }
}

impl NameService {
    /// Answers questions from now on. `tunnel` knows the peers that ask, and `learned` leads to the controller.
    pub(super) fn start(
        sockets: NameSockets,
        known: Known,
        learned: mpsc::Sender<Learned>,
        tunnel: Arc<Tunnel>,
    ) -> Self {
        let life = Arc::<Mutex<Life>>::default();
        let telling = Telling {
            known,
            learned,
            tunnel,
        };
        let keeper = keep(sockets, log_arguments(), telling, Arc::clone(&life));
        Self {
            life,
            keeper: tokio::spawn(keeper),
        }
    }

    /// What its process may do, while there is one.
    pub(super) fn rights(&self) -> Option<ProcessRights> {
        let life = self.life.lock().unwrap_or_else(PoisonError::into_inner);
        life.rights.clone()
    }

    /// Why nobody answers, while nobody does.
    pub(super) fn ended(&self) -> Option<String> {
        let life = self.life.lock().unwrap_or_else(PoisonError::into_inner);
        life.ended.clone()
    }
}

impl Drop for NameService {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

impl Answers for Telling {
    const SECTION: &'static str = "names";
    const COMMAND: &'static str = name_service::COMMAND;

    fn own_sockets(&self) -> io::Result<Vec<OwnedFd>> {
        Ok(vec![lookups::answer(&self.tunnel, &[])?])
    }

    async fn answer(&self, channel: UnixStream) -> io::Result<()> {
        let (reader, mut writer) = channel.into_split();
        let (said, mut saying) = mpsc::channel(1);
        let mut tasks = JoinSet::new();
        // In a task, so that no line is lost in the middle of it.
        tasks.spawn(async move {
            let mut reader = BufReader::new(reader);
            while let Ok(Some(line)) = read_line::<Said>(&mut reader, LINE_MAX).await {
                if said.send(line).await.is_err() {
                    return;
                }
            }
        });
        let mut known = self.known.clone();
        let (led_in, mut led) = mpsc::unbounded_channel();
        let mut told = known.told();
        loop {
            timeout(SILENCE, write_line(&mut writer, &told)).await??;
            told = loop {
                tokio::select! {
                    () = known.changed() => break known.told(),
                    Some(led) = led.recv() => break led,
                    said = timeout(SILENCE, saying.recv()) => match said? {
                        None => return Ok(()),
                        Some(Said::Beat) => {}
                        Some(Said::Learned { number, names, addresses }) => {
                            while tasks.try_join_next().is_some() {}
                            if tasks.len() > LEARNING {
                                return Err(io::ErrorKind::InvalidData.into());
                            }
                            let (done, led) = oneshot::channel();
                            let learned = Learned { names, addresses, done };
                            let (controller, led_in) = (self.learned.clone(), led_in.clone());
                            tasks.spawn(async move {
                                let sent = controller.send(learned).await.is_ok();
                                let all = sent && led.await.unwrap_or_default();
                                // Its process may be gone.
                                let _ = led_in.send(Told::Led { number, all });
                            });
                        }
                    },
                }
            };
        }
    }
}
