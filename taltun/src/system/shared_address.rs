//! An address of the host's network that the hubs of a group take over from each other.
//!
//! The hub that leads has it as one more address of the interface whose network it is of, and tells the
//! neighbours so: by ARP, or by an unsolicited advertisement of IPv6. It has the address for three seconds
//! at a time and renews that each second. So nothing needs to be undone after SIGKILL, or where the
//! process hangs: the kernel takes the address away by itself.
//!
//! A hub that hands it over keeps it for a while beside the next one, without telling anybody: what it still
//! sends to peers on their sessions with it has to come from there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::TryStreamExt as _;
use rtnetlink::Handle;
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressHeaderFlags, AddressMessage, CacheInfo,
};
use rtnetlink::packet_route::link::LinkAttribute;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use super::network::connect;
use crate::dataplane::offload::checksum::Sum;
use crate::os::link_layer::Frames;

/// How long the kernel keeps it without a word of ours, seconds.
const LASTING: u32 = 3;
/// How often that is renewed.
const RENEW: Duration = Duration::from_secs(1);
/// How often the neighbours are told at first: one message may be lost.
const TELL: Duration = Duration::from_millis(200);
/// How often that is.
const TELL_FIRST: u32 = 5;
/// A process that runs so much later than it meant to may have been stopped, and the address may be another hub's by
/// now. So it waits for so long for the word of who decides that.
const STOPPED: Duration = Duration::from_millis(200);

/// What a hub has of the address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// Nothing.
    No,
    /// It sends from it, and the neighbours send to another hub.
    Sends,
    /// All of it.
    Leads,
}

/// Holds the address for as long as this hub leads. Dropping it takes the address away within three
/// seconds; [`Self::hold`] with [`Hold::No`] at once.
#[derive(Debug)]
pub struct SharedAddress {
    wanted: watch::Sender<Hold>,
    held: Arc<AtomicBool>,
    task: AbortHandle,
}

impl Drop for SharedAddress {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl SharedAddress {
    /// Doesn't have it yet. `tunnel` is the interface that it is never of.
    pub fn start(address: IpAddr, tunnel: &str) -> Self {
        let (wanted, wants) = watch::channel(Hold::No);
        let tunnel = tunnel.to_owned();
        let held = Arc::new(AtomicBool::new(false));
        let tells = Arc::clone(&held);
        let task = tokio::spawn(async move { keep(address, &tunnel, wants, &tells).await });
        Self {
            wanted,
            held,
            task: task.abort_handle(),
        }
    }

    /// Whether this host has it now, so that something can be sent from it.
    pub fn is_held(&self) -> bool {
        self.held.load(Ordering::Relaxed)
    }

    /// What this hub is to have of it.
    pub fn hold(&self, wanted: Hold) {
        self.wanted.send_if_modified(|known| {
            let is_new = *known != wanted;
            *known = wanted;
            is_new
        });
    }
}

/// Where the address is had.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    index: u32,
    hardware: Vec<u8>,
}

async fn keep(address: IpAddr, tunnel: &str, mut wants: watch::Receiver<Hold>, held: &AtomicBool) {
    let mut told = None;
    let mut warn_once = |reason: String| {
        if told.as_ref() != Some(&reason) {
            warn!("fleet: {address} can't be had: {reason}");
            told = Some(reason);
        }
    };
    let (handle, frames) = match (connect(), Frames::open()) {
        (Ok((_, handle)), Ok(frames)) => (handle, frames),
        (Err(error), _) => return warn_once(error.to_string()),
        (_, Err(error)) => {
            return warn_once(format!(
                "raw packets, as ARP is, can't be made: {error}. The packaged unit needs a drop-in with \
                 RestrictAddressFamilies=AF_PACKET"
            ));
        }
    };
    let mut had: Option<Place> = None;
    let mut rounds = 0;
    loop {
        let wanted = *wants.borrow_and_update();
        if wanted == Hold::No {
            held.store(false, Ordering::Relaxed);
            if let Some(place) = had.take() {
                info!("fleet: {address} is another hub's");
                let gone = handle.address().del(message(address, place.index));
                let _ = gone.execute().await;
            }
            if wants.changed().await.is_err() {
                return;
            }
        } else {
            match hold(&handle, address, tunnel).await {
                Ok(place) => {
                    if had.is_none() {
                        info!("fleet: this hub has {address} from now on");
                        rounds = 0;
                    }
                    let told = match wanted {
                        Hold::Leads => announcements(address, &place.hardware),
                        Hold::Sends | Hold::No => Vec::new(),
                    };
                    for frame in told {
                        if let Err(error) = frames.send(place.index, &frame) {
                            warn_once(format!("the neighbours can't be told: {error}"));
                        }
                    }
                    had = Some(place);
                    held.store(true, Ordering::Relaxed);
                }
                Err(reason) => warn_once(reason),
            }
            rounds += 1;
            let wait = if rounds < TELL_FIRST { TELL } else { RENEW };
            let begun = Instant::now();
            if let Ok(Err(_)) = timeout(wait, wants.changed()).await {
                return;
            }
            if begun.elapsed() >= wait + STOPPED {
                sleep(STOPPED).await;
            }
        }
    }
}

/// Has the address for three more seconds.
async fn hold(handle: &Handle, address: IpAddr, tunnel: &str) -> Result<Place, String> {
    let place = find(handle, address, tunnel).await?;
    let length = if address.is_ipv4() { 32 } else { 128 };
    let mut add = handle.address().add(place.index, address, length).replace();
    let mut message = message(address, place.index);
    let mut lasting = CacheInfo::default();
    (lasting.ifa_valid, lasting.ifa_preferred) = (LASTING, LASTING);
    message
        .attributes
        .push(AddressAttribute::CacheInfo(lasting));
    *add.message_mut() = message;
    add.execute().await.map_err(|error| error.to_string())?;
    Ok(place)
}

fn message(address: IpAddr, index: u32) -> AddressMessage {
    let mut message = match address {
        IpAddr::V4(address) => rtnetlink::AddressMessageBuilder::<Ipv4Addr>::new()
            .index(index)
            .address(address, 32)
            .build(),
        IpAddr::V6(address) => rtnetlink::AddressMessageBuilder::<Ipv6Addr>::new()
            .index(index)
            .address(address, 128)
            .build(),
    };
    if address.is_ipv6() {
        // Another hub may still have it for a moment.
        message.header.flags |= AddressHeaderFlags::Nodad;
    }
    message
}

/// The interface whose network the address is of.
async fn find(handle: &Handle, address: IpAddr, tunnel: &str) -> Result<Place, String> {
    let told = |error: rtnetlink::Error| error.to_string();
    let tunnel = crate::os::interface::index(tunnel);
    let mut all = handle.address().get().execute();
    let mut best: Option<(u8, u32)> = None;
    while let Some(known) = all.try_next().await.map_err(told)? {
        let (length, index) = (known.header.prefix_len, known.header.index);
        let addresses = known
            .attributes
            .iter()
            .filter_map(|attribute| match attribute {
                AddressAttribute::Address(address) | AddressAttribute::Local(address) => {
                    Some(*address)
                }
                _ => None,
            });
        let full = if address.is_ipv4() { 32 } else { 128 };
        let mut nets = addresses.filter_map(|it| ipnet::IpNet::new(it, length).ok());
        let is_of = length < full && nets.any(|net| net.contains(&address));
        if is_of && Some(index) != tunnel && best.is_none_or(|(best, _)| length > best) {
            best = Some((length, index));
        }
    }
    let (_, index) = best.ok_or("no interface of this host is in its network")?;
    let mut links = handle.link().get().match_index(index).execute();
    let link = links.try_next().await.map_err(told)?;
    let hardware = link.and_then(|link| {
        let mut attributes = link.attributes.into_iter();
        attributes.find_map(|attribute| match attribute {
            LinkAttribute::Address(hardware) if hardware.len() == 6 => Some(hardware),
            _ => None,
        })
    });
    let hardware = hardware.ok_or("its interface is no Ethernet")?;
    Ok(Place { index, hardware })
}

/// The frames by which neighbours learn that the address is at `hardware`.
fn announcements(address: IpAddr, hardware: &[u8]) -> Vec<Vec<u8>> {
    match address {
        // Some take a request only, and some an answer.
        IpAddr::V4(address) => [1, 2].map(|kind| arp(address, hardware, kind)).into(),
        IpAddr::V6(address) => vec![advertisement(address, hardware)],
    }
}

fn arp(address: Ipv4Addr, hardware: &[u8], kind: u8) -> Vec<u8> {
    let everybody = [0xff; 6];
    let mut frame = [&everybody[..], hardware, &[0x08, 0x06]].concat();
    frame.extend([0, 1, 0x08, 0x00, 6, 4, 0, kind]);
    for target in [hardware, &everybody] {
        frame.extend(target);
        frame.extend(address.octets());
    }
    frame
}

fn advertisement(address: Ipv6Addr, hardware: &[u8]) -> Vec<u8> {
    let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    // It replaces what was known, and nobody asked for it.
    let mut message = vec![136, 0, 0, 0, 0x20, 0, 0, 0];
    message.extend(address.octets());
    message.extend([2, 1]);
    message.extend(hardware);
    let length = message.len() as u16;
    let pseudo = [
        &address.octets()[..],
        &all_nodes.octets(),
        &u32::from(length).to_be_bytes(),
        &[0, 0, 0, 58],
    ]
    .concat();
    let sum = Sum::default().with(&pseudo).with(&message).finish();
    message[2..4].copy_from_slice(&sum);
    let mut frame = [&[0x33, 0x33, 0, 0, 0, 1][..], hardware, &[0x86, 0xdd]].concat();
    frame.extend([0x60, 0, 0, 0]);
    frame.extend(length.to_be_bytes());
    frame.extend([58, 255]);
    frame.extend(address.octets());
    frame.extend(all_nodes.octets());
    frame.extend(message);
    frame
}
