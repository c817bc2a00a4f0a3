//! A peer that says what it likes: the messages of WireGuard by hand, right or wrong.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use taltun_crypto::{AeadKey, PresharedKey, PrivateKey, PublicKey};
use taltun_protocol::cookie::Sealer;
use taltun_protocol::messages::Message;
use taltun_protocol::noise::{self, Identity, Initiator};
use taltun_protocol::tai64n::Tai64n;
use taltun_protocol::time::Time;
use taltun_tests::netns::Namespace;
use taltun_tests::node::Keys;

/// How long an answer may take.
const WAIT: Duration = Duration::from_millis(500);
/// How often a handshake is tried.
const TRIES: usize = 20;
/// Between two initiations, so that none comes too soon behind another.
const BETWEEN: Duration = Duration::from_millis(60);
/// Type and reserved bytes of data.
const DATA: [u8; 4] = [4, 0, 0, 0];

/// What came out of a handshake.
struct Session {
    key: AeadKey,
    /// Its two keys as they are: to the hub, and from it.
    keys: [[u8; 32]; 2],
    index: [u8; 4],
    counter: u64,
}

/// One that isn't a program of its own.
pub struct RawPeer {
    socket: UdpSocket,
    hub: SocketAddr,
    hub_key: PublicKey,
    identity: Identity,
    sealer: Sealer,
    /// How many ephemeral keys there have been.
    keys: u8,
    session: Option<Session>,
}

impl RawPeer {
    /// In `namespace`, with this private key, for the hub there.
    pub fn new(
        namespace: &Namespace,
        from: SocketAddr,
        keys: &Keys,
        hub: SocketAddr,
        hub_key: &str,
    ) -> Result<Self> {
        let socket = namespace.udp(from)?;
        socket.set_read_timeout(Some(WAIT))?;
        let hub_key = PublicKey(decode(hub_key)?);
        Ok(Self {
            socket,
            hub,
            hub_key,
            identity: Identity::new(PrivateKey::from_bytes(decode(&keys.private)?)),
            sealer: Sealer::new(&hub_key),
            keys: 0,
            session: None,
        })
    }

    /// An initiation of this moment, or of so long ago, with its first MAC.
    pub fn initiation(&mut self, ago: Duration) -> Result<(Initiator, Vec<u8>)> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        self.keys = self.keys.wrapping_add(1);
        let secret = self.identity.static_static(&self.hub_key);
        let (initiator, mut message) = noise::initiate(
            &self.identity,
            &self.hub_key,
            &secret.context("a key of zeros")?,
            PrivateKey::from_bytes([self.keys.max(1); 32]),
            0x5a5a_0000 + u32::from(self.keys),
            Tai64n::from_unix(now.saturating_sub(ago)),
        )
        .map_err(|error| anyhow!("{error:?}"))?;
        self.sealer.seal(&mut message, Time::START);
        Ok((initiator, message.to_vec()))
    }

    /// Shakes hands, and has the hub know it.
    pub fn connect(&mut self) -> Result<()> {
        for _ in 0..TRIES {
            std::thread::sleep(BETWEEN);
            let (initiator, message) = self.initiation(Duration::ZERO)?;
            self.send(&message)?;
            if let Some(session) = self.answered(&initiator) {
                self.session = Some(session);
                let keepalive = self.seal(&[])?;
                return self.send(&keepalive);
            }
        }
        bail!("no handshake with {}", self.hub)
    }

    /// What the answer to an initiation makes; there may be others before it.
    fn answered(&self, initiator: &Initiator) -> Option<Session> {
        let mut answer = [0; 2048];
        loop {
            let length = self.socket.recv(&mut answer).ok()?;
            let Ok(Message::Response(response)) = Message::parse(&answer[..length]) else {
                continue;
            };
            let none = PresharedKey::default();
            let Ok(keys) = initiator.finish(&self.identity, &none, response) else {
                continue;
            };
            return Some(Session {
                key: AeadKey::new(&keys.sending),
                keys: [keys.sending, keys.receiving],
                index: response.sender.get().to_le_bytes(),
                counter: 0,
            });
        }
    }

    /// The keys of its session: to the hub, and from it.
    pub fn session_keys(&self) -> Option<[[u8; 32]; 2]> {
        self.session.as_ref().map(|session| session.keys)
    }

    /// A message of its session with this inside, as it is.
    pub fn seal(&mut self, plaintext: &[u8]) -> Result<Vec<u8>> {
        let session = self.session.as_mut().context("no session")?;
        let mut message = DATA.to_vec();
        message.extend(session.index);
        message.extend(session.counter.to_le_bytes());
        let mut inside = plaintext.to_vec();
        inside.resize(plaintext.len().next_multiple_of(16), 0);
        let tag = session.key.seal(session.counter, &[], &mut inside);
        session.counter += 1;
        message.extend(inside);
        message.extend(tag);
        Ok(message)
    }

    /// Sends a datagram.
    pub fn send(&self, datagram: &[u8]) -> Result<()> {
        let sent = self.socket.send_to(datagram, self.hub)?;
        ensure!(sent == datagram.len());
        Ok(())
    }

    /// Sends a message of its session with this inside, so many times anew.
    pub fn say(&mut self, plaintext: &[u8], times: u64) -> Result<u64> {
        for _ in 0..times {
            let message = self.seal(plaintext)?;
            self.send(&message)?;
        }
        Ok(times)
    }
}

fn decode(key: &str) -> Result<[u8; 32]> {
    let bytes = STANDARD.decode(key)?;
    bytes.try_into().map_err(|_| anyhow!("a key has 32 bytes"))
}
