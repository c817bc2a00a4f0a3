//! A `set=1` request: from its lines to what it asks for.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use ipnet::IpNet;
use zeroize::Zeroizing;

use super::Errno;
use crate::crypto::{KEY_LEN, PresharedKey, PrivateKey, PublicKey};

/// The longest line, bytes, line feed included. The longest that makes sense is an IPv6
/// endpoint with a scope, at about 80.
pub(in crate::control) const LINE_MAX: usize = 1024;
/// The most a request may ask for, counting peers and allowed IPs. A million fit into some
/// 32 MB.
const ITEMS_MAX: usize = 1 << 20;

/// Everything that a request asks for, in the order in which it is done.
#[derive(Debug, Default)]
#[allow(
    clippy::option_option,
    reason = "a key that isn't mentioned is one thing, a key that is taken away another"
)]
pub(in crate::control) struct SetRequest {
    /// Our own key; `Some(None)` takes it away.
    pub private_key: Option<Option<PrivateKey>>,
    /// The UDP port; 0 lets the kernel choose.
    pub listen_port: Option<u16>,
    /// The mark on our datagrams; 0 for none.
    pub fwmark: Option<u32>,
    /// Whether all peers go first.
    pub replace_peers: bool,
    /// What is to become of single peers, in order; one may come several times.
    pub peers: Vec<PeerRequest>,
}

/// What is to become of one peer.
#[derive(Debug)]
pub(in crate::control) struct PeerRequest {
    /// Who it is.
    pub public_key: PublicKey,
    /// It goes.
    pub remove: bool,
    /// It isn't added if it isn't there.
    pub update_only: bool,
    /// The shared symmetric key; all zero for none.
    pub preshared_key: Option<PresharedKey>,
    /// Where it is.
    pub endpoint: Option<SocketAddr>,
    /// Seconds between keepalives; 0 for off.
    pub persistent_keepalive: Option<u16>,
    /// Whether its allowed IPs go first.
    pub replace_allowed_ips: bool,
    /// Allowed IPs to add, or with `false` to take away.
    pub allowed_ips: Vec<(IpNet, bool)>,
}

/// Takes a request line by line.
#[derive(Debug, Default)]
pub(in crate::control) struct SetParser {
    request: SetRequest,
    items: usize,
}

impl SetParser {
    /// Takes a line without its line feed. After an error the request is worthless.
    pub(in crate::control) fn line(&mut self, line: &[u8]) -> Result<(), Errno> {
        let line = std::str::from_utf8(line).map_err(|_| Errno::PROTOCOL)?;
        let (key, value) = line.split_once('=').ok_or(Errno::PROTOCOL)?;
        if key == "public_key" {
            self.count()?;
            let public_key = PublicKey(*key_bytes(value)?);
            self.request.peers.push(PeerRequest::new(public_key));
            return Ok(());
        }
        match self.request.peers.last_mut() {
            None => self.request.interface_line(key, value),
            Some(peer) => {
                peer.line(key, value)?;
                if key == "allowed_ip" {
                    self.count()?;
                }
                Ok(())
            }
        }
    }

    /// The request, once its empty line has come.
    pub(in crate::control) fn finish(self) -> SetRequest {
        self.request
    }

    fn count(&mut self) -> Result<(), Errno> {
        self.items = self.items.saturating_add(1);
        if self.items > ITEMS_MAX {
            return Err(Errno::TOO_LONG);
        }
        Ok(())
    }
}

impl SetRequest {
    fn interface_line(&mut self, key: &str, value: &str) -> Result<(), Errno> {
        match key {
            "private_key" => {
                let bytes = key_bytes(value)?;
                let none = bytes.iter().all(|byte| *byte == 0);
                self.private_key = Some((!none).then(|| PrivateKey::from_bytes(*bytes)));
            }
            "listen_port" => self.listen_port = Some(number(value)?),
            "fwmark" => self.fwmark = Some(mark(value)?),
            "replace_peers" => {
                only_true(value)?;
                self.replace_peers = true;
            }
            _ => return Err(Errno::INVALID),
        }
        Ok(())
    }
}

impl PeerRequest {
    fn new(public_key: PublicKey) -> Self {
        Self {
            public_key,
            remove: false,
            update_only: false,
            preshared_key: None,
            endpoint: None,
            persistent_keepalive: None,
            replace_allowed_ips: false,
            allowed_ips: Vec::new(),
        }
    }

    fn line(&mut self, key: &str, value: &str) -> Result<(), Errno> {
        match key {
            "remove" => {
                only_true(value)?;
                self.remove = true;
            }
            "update_only" => {
                only_true(value)?;
                self.update_only = true;
            }
            "preshared_key" => self.preshared_key = Some(PresharedKey(*key_bytes(value)?)),
            "endpoint" => self.endpoint = Some(endpoint(value)?),
            "persistent_keepalive_interval" => self.persistent_keepalive = Some(number(value)?),
            "replace_allowed_ips" => {
                only_true(value)?;
                self.replace_allowed_ips = true;
                self.allowed_ips.clear();
            }
            "allowed_ip" => {
                let (net, add) = match value.strip_prefix('-') {
                    Some(net) => (net, false),
                    None => (value.strip_prefix('+').unwrap_or(value), true),
                };
                self.allowed_ips.push((allowed_ip(net)?, add));
            }
            "protocol_version" if value == "1" => {}
            _ => return Err(Errno::INVALID),
        }
        Ok(())
    }
}

/// 64 hexadecimal digits.
fn key_bytes(value: &str) -> Result<Zeroizing<[u8; KEY_LEN]>, Errno> {
    let mut bytes = Zeroizing::new([0; KEY_LEN]);
    let decoded = base16ct::mixed::decode(value, &mut *bytes).map_err(|_| Errno::INVALID)?;
    if decoded.len() != KEY_LEN {
        return Err(Errno::INVALID);
    }
    Ok(bytes)
}

/// A decimal number, digits only.
fn number<T: FromStr>(value: &str) -> Result<T, Errno> {
    if !value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Errno::INVALID);
    }
    value.parse().map_err(|_| Errno::INVALID)
}

/// A mark: decimal, or hexadecimal with `0x`.
fn mark(value: &str) -> Result<u32, Errno> {
    match value.strip_prefix("0x") {
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            u32::from_str_radix(digits, 16).map_err(|_| Errno::INVALID)
        }
        Some(_) => Err(Errno::INVALID),
        None => number(value),
    }
}

fn only_true(value: &str) -> Result<(), Errno> {
    if value == "true" {
        Ok(())
    } else {
        Err(Errno::INVALID)
    }
}

/// `address:port`; a link-local address may have a scope, by number or by interface name.
fn endpoint(value: &str) -> Result<SocketAddr, Errno> {
    if let Ok(address) = value.parse::<SocketAddr>() {
        // Port 0 can't be sent to.
        return (address.port() != 0)
            .then_some(address)
            .ok_or(Errno::INVALID);
    }
    let (address, port) = value
        .strip_prefix('[')
        .and_then(|rest| rest.split_once("]:"))
        .ok_or(Errno::INVALID)?;
    let (address, scope) = address.split_once('%').ok_or(Errno::INVALID)?;
    let scope = crate::os::interface::index(scope).ok_or(Errno::INVALID)?;
    endpoint(&format!("[{address}%{scope}]:{port}"))
}

/// `address/length`; a bare address is a single one.
fn allowed_ip(value: &str) -> Result<IpNet, Errno> {
    let net = match value.split_once('/') {
        Some((address, len)) => {
            let address: IpAddr = address.parse().map_err(|_| Errno::INVALID)?;
            IpNet::new(address, number(len)?).map_err(|_| Errno::INVALID)?
        }
        None => value.parse::<IpAddr>().map_err(|_| Errno::INVALID)?.into(),
    };
    Ok(net.trunc())
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{Rng, SeedableRng};

    use super::*;

    fn parse(text: &str) -> Result<SetRequest, Errno> {
        let mut parser = SetParser::default();
        for line in text.lines() {
            parser.line(line.as_bytes())?;
        }
        Ok(parser.finish())
    }

    /// The example of the protocol's own page, which covers every key.
    const EXAMPLE: &str = "\
private_key=e84b5a6d2717c1003a13b431570353dbaca9146cf150c5f8575680feba52027a
fwmark=0
listen_port=12912
replace_peers=true
public_key=b85996fecc9c7f1fc6d2572a76eda11d59bcd20be8e543b15ce4bd85a8e75a33
preshared_key=188515093e952f5f22e865cef3012e72f8b5f0b598ac0309d5dacce3b70fcf52
replace_allowed_ips=true
allowed_ip=192.168.4.4/32
endpoint=[abcd:23::33%2]:51820
public_key=58402e695ba1772b1cc9309755f043251ea77fdcf10fbe63989ceb7e19321376
update_only=true
replace_allowed_ips=true
allowed_ip=192.168.4.6/32
allowed_ip=-192.168.4.7/32
persistent_keepalive_interval=111
endpoint=182.122.22.19:3233
protocol_version=1
public_key=662e14fd594556f522604703340351258903b64f35553763f19426ab2a515c58
remove=true
";

    #[test]
    fn the_example_of_the_specification_is_understood() {
        let request = parse(EXAMPLE).unwrap();
        assert_eq!(request.listen_port, Some(12912));
        assert_eq!(request.fwmark, Some(0));
        assert!(request.replace_peers);
        assert!(matches!(request.private_key, Some(Some(_))));
        let [first, second, third] = &request.peers[..] else {
            panic!("{} peers", request.peers.len());
        };
        assert!(first.preshared_key.is_some() && first.replace_allowed_ips);
        assert_eq!(first.endpoint.unwrap().to_string(), "[abcd:23::33%2]:51820");
        assert!(second.update_only && !second.remove);
        assert_eq!(second.persistent_keepalive, Some(111));
        assert_eq!(
            second.allowed_ips,
            [
                ("192.168.4.6/32".parse().unwrap(), true),
                ("192.168.4.7/32".parse().unwrap(), false)
            ]
        );
        assert!(third.remove);
    }

    #[test]
    fn a_key_of_zeros_takes_the_key_away() {
        let request = parse(&format!("private_key={}", "0".repeat(64))).unwrap();
        assert!(matches!(request.private_key, Some(None)));
    }

    #[test]
    fn replacing_forgets_what_was_listed_before_it() {
        let key = "a".repeat(64);
        let text = format!(
            "public_key={key}\nallowed_ip=10.0.0.1\nreplace_allowed_ips=true\nallowed_ip=10.1.2.3/8\n"
        );
        let peer = parse(&text).unwrap().peers.remove(0);
        assert_eq!(peer.allowed_ips, [("10.0.0.0/8".parse().unwrap(), true)]);
    }

    #[test]
    fn each_wrong_value_is_refused() {
        let key = "a".repeat(64);
        for line in [
            "private_key=",
            "private_key=zz",
            "listen_port=65536",
            "listen_port=-1",
            "listen_port=+1",
            "listen_port=",
            "fwmark=0x",
            "fwmark=0x1ffffffff",
            "fwmark=x",
            "replace_peers=false",
            "remove=true",
            "preshared_key=00",
            "surprise=1",
            "=",
        ] {
            assert_eq!(parse(line).unwrap_err(), Errno::INVALID, "{line}");
        }
        for line in [
            "endpoint=1.2.3.4",
            "endpoint=1.2.3.4:0",
            "endpoint=[fe80::1%nosuchif]:1",
            "endpoint=example.org:1",
            "allowed_ip=10.0.0.0/33",
            "allowed_ip=10.0.0.0/+8",
            "allowed_ip=::/129",
            "allowed_ip=--1.2.3.4",
            "allowed_ip=",
            "persistent_keepalive_interval=65536",
            "protocol_version=2",
            "listen_port=1",
            "update_only=1",
        ] {
            let text = format!("public_key={key}\n{line}");
            assert_eq!(parse(&text).unwrap_err(), Errno::INVALID, "{line}");
        }
        assert_eq!(parse("no equals sign").unwrap_err(), Errno::PROTOCOL);
        let mut parser = SetParser::default();
        assert_eq!(parser.line(b"fwmark=\xff").unwrap_err(), Errno::PROTOCOL);
    }

    #[test]
    fn a_scope_may_be_the_name_of_an_interface() {
        let key = "a".repeat(64);
        let text = format!("public_key={key}\nendpoint=[fe80::1%lo]:7");
        let peer = parse(&text).unwrap().peers.remove(0);
        assert_eq!(peer.endpoint.unwrap().to_string(), "[fe80::1%1]:7");
    }

    #[test]
    fn a_mutilated_request_is_an_error_or_a_request_but_never_a_panic() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut refused = 0;
        for _ in 0..20_000 {
            let mut bytes = EXAMPLE.as_bytes().to_vec();
            for _ in 0..=rng.next_u32() % 4 {
                let at = rng.next_u32() as usize % bytes.len();
                match rng.next_u32() % 3 {
                    0 => bytes[at] = rng.next_u32() as u8,
                    1 if bytes.len() > 1 => drop(bytes.remove(at)),
                    _ => bytes.truncate(at.max(1)),
                }
            }
            let mut parser = SetParser::default();
            let outcome: Result<(), Errno> = bytes
                .split(|byte| *byte == b'\n')
                .filter(|line| !line.is_empty())
                .try_for_each(|line| parser.line(line));
            refused += usize::from(outcome.is_err());
        }
        assert!(refused > 10_000, "only {refused} were refused");
    }

    #[test]
    fn a_request_for_too_much_ends() {
        let mut parser = SetParser::default();
        let peer = format!("public_key={}", "a".repeat(64));
        parser.line(peer.as_bytes()).unwrap();
        let refused = (0..=ITEMS_MAX).find_map(|_| parser.line(b"allowed_ip=::").err());
        assert_eq!(refused, Some(Errno::TOO_LONG));
    }
}
