//! What the kernel does with a destination: whether it sends it on, to one host, or takes it for
//! its own.
//!
//! The list of our addresses doesn't tell: a whole network may be local, IPv6 routers have
//! anycast addresses, and all of that changes. So each destination is a question to the kernel's
//! routes, and the answer is good for two seconds.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

/// How long an answer is good.
const GOOD_FOR: Duration = Duration::from_secs(2);
/// How many answers are kept. One that is old still counts while the kernel can't be asked.
const KEPT: usize = 4096;

/// The header of a message, and what a route's begins with.
const HEADER: usize = 16;
const ROUTE: usize = 12;
/// Where a route has its type.
const TYPE: usize = HEADER + 7;
/// The question for a route, with the identifier of the kernel's "get".
const ASK: u16 = libc::RTM_GETROUTE;
const ANSWER: u16 = libc::RTM_NEWROUTE;
const ERROR: u16 = libc::NLMSG_ERROR as u16;

/// The kernel's answers, and the socket that asks.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    state: RefCell<State>,
}

#[derive(Debug, Default)]
struct State {
    socket: Option<Socket>,
    /// The number of the last question.
    asked: u32,
    answers: HashMap<IpAddr, (Instant, bool)>,
}

impl Routes {
    /// Takes the file that it needs while there are some; without it, it tries again later.
    pub(crate) fn connect(&self) -> io::Result<()> {
        let state = &mut *self.state.borrow_mut();
        state.socket = Some(connect()?);
        Ok(())
    }

    /// Whether what is sent to `ip` goes to one host and not to this one. No route counts as
    /// that: then nothing can be sent.
    pub(crate) fn lead_away(&self, ip: IpAddr, now: Instant) -> io::Result<bool> {
        let state = &mut *self.state.borrow_mut();
        let ip = ip.to_canonical();
        let known = state.answers.get(&ip).copied();
        if let Some((then, answer)) = known
            && now.saturating_duration_since(then) <= GOOD_FOR
        {
            return Ok(answer);
        }
        match (state.ask(ip), known) {
            (Ok(answer), _) => {
                state.keep(ip, answer, now);
                Ok(answer)
            }
            // Such as for want of memory: what it said before is what is known best.
            (Err(_), Some((_, answer))) => Ok(answer),
            (Err(error), None) => Err(error),
        }
    }
}

impl State {
    fn keep(&mut self, ip: IpAddr, answer: bool, now: Instant) {
        if self.answers.len() >= KEPT && !self.answers.contains_key(&ip) {
            let is_good = |then: Instant| now.saturating_duration_since(then) <= GOOD_FOR;
            self.answers.retain(|_, (then, _)| is_good(*then));
            if self.answers.len() >= KEPT {
                self.answers.clear();
            }
        }
        self.answers.insert(ip, (now, answer));
    }

    fn ask(&mut self, ip: IpAddr) -> io::Result<bool> {
        let socket = match self.socket.take() {
            Some(socket) => socket,
            None => connect()?,
        };
        self.asked = self.asked.wrapping_add(1);
        let asked = exchange(&socket, self.asked, ip);
        // One that failed may have an answer left.
        if asked.is_ok() {
            self.socket = Some(socket);
        }
        asked
    }
}

/// A socket to the kernel's routes, of the network namespace of this thread.
pub(crate) fn connect() -> io::Result<Socket> {
    let domain = Domain::from(libc::AF_NETLINK);
    let protocol = Protocol::from(libc::NETLINK_ROUTE);
    let socket = Socket::new(domain, Type::RAW.cloexec(), Some(protocol))?;
    // The answer is there at once; should it ever not be, nobody waits for it for long.
    socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    Ok(socket)
}

/// Asks, and reads the answer, which is there once the question is sent.
fn exchange(socket: &Socket, number: u32, ip: IpAddr) -> io::Result<bool> {
    socket.send(&question(number, ip))?;
    let mut buffer = [0; 4096];
    loop {
        let length = io::Read::read(&mut &*socket, &mut buffer)?;
        if let Some(answer) = answer(&buffer[..length], number) {
            return answer;
        }
    }
}

/// The question for the route to `ip`.
fn question(number: u32, ip: IpAddr) -> Vec<u8> {
    let (family, octets) = match ip {
        IpAddr::V4(ip) => (libc::AF_INET, ip.octets().to_vec()),
        IpAddr::V6(ip) => (libc::AF_INET6, ip.octets().to_vec()),
    };
    let attribute = 4 + octets.len();
    let length = (HEADER + ROUTE + attribute) as u32;
    let mut bytes = Vec::with_capacity(length as usize);
    bytes.extend(length.to_ne_bytes());
    bytes.extend(ASK.to_ne_bytes());
    bytes.extend((libc::NLM_F_REQUEST as u16).to_ne_bytes());
    bytes.extend(number.to_ne_bytes());
    bytes.extend(0_u32.to_ne_bytes());
    // The family and how many bits of the destination count; all else is for the kernel to say.
    let family = u8::try_from(family).unwrap_or_default();
    bytes.extend([family, octets.len() as u8 * 8]);
    bytes.resize(HEADER + ROUTE, 0);
    bytes.extend((attribute as u16).to_ne_bytes());
    bytes.extend(libc::RTA_DST.to_ne_bytes());
    bytes.extend(octets);
    bytes
}

/// What an answer says, if it is one to this question.
pub(crate) fn answer(bytes: &[u8], number: u32) -> Option<io::Result<bool>> {
    let field = |at: usize| -> Option<[u8; 4]> { bytes.get(at..at + 4)?.try_into().ok() };
    if field(8)? != number.to_ne_bytes() {
        return None;
    }
    let [low, high, ..] = field(4)?;
    match u16::from_ne_bytes([low, high]) {
        ANSWER => {
            let kind = bytes.get(TYPE)?;
            Some(Ok(*kind == libc::RTN_UNICAST))
        }
        ERROR => {
            let code = i32::from_ne_bytes(field(HEADER)?);
            // The least number has no counterpart; it is no error of the kernel's.
            Some(match code.wrapping_neg() {
                // There is none, or one that refuses: nothing can be sent.
                libc::ENETUNREACH
                | libc::EHOSTUNREACH
                | libc::EACCES
                | libc::EINVAL
                | libc::EAGAIN => Ok(true),
                code => Err(io::Error::from_raw_os_error(code)),
            })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ours_leads_nowhere_else() {
        let routes = Routes::default();
        let now = Instant::now();
        for ip in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            let away = routes.lead_away(ip.parse().unwrap(), now);
            assert!(!away.unwrap(), "{ip}");
        }
        assert!(routes.lead_away("192.0.2.1".parse().unwrap(), now).unwrap());
    }

    #[test]
    fn answers_are_kept_and_not_without_end() {
        let routes = Routes::default();
        let now = Instant::now();
        let ip: IpAddr = "127.0.0.1".parse().unwrap();
        let asked = || routes.state.borrow().asked;
        for _ in 0..3 {
            assert!(!routes.lead_away(ip, now).unwrap());
        }
        assert_eq!(asked(), 1);
        let later = now + GOOD_FOR + Duration::from_millis(1);
        assert!(!routes.lead_away(ip, later).unwrap());
        assert_eq!(asked(), 2);
        for number in 0..2 * KEPT as u32 {
            let ip = std::net::Ipv4Addr::from(0x7f00_0000 | number);
            assert!(!routes.lead_away(ip.into(), later).unwrap());
            assert!(routes.state.borrow().answers.len() <= KEPT);
        }
    }

    #[test]
    fn answers_to_others_and_halves_of_one_are_none() {
        let mut bytes = question(7, "192.0.2.1".parse().unwrap());
        bytes[4..6].copy_from_slice(&ANSWER.to_ne_bytes());
        bytes[TYPE] = libc::RTN_ANYCAST;
        assert!(!answer(&bytes, 7).unwrap().unwrap());
        assert!(answer(&bytes, 8).is_none());
        for length in 0..=TYPE {
            assert!(answer(&bytes[..length], 7).is_none(), "{length}");
        }
        bytes[4..6].copy_from_slice(&ERROR.to_ne_bytes());
        bytes[HEADER..HEADER + 4].copy_from_slice(&(-libc::ENETUNREACH).to_ne_bytes());
        assert!(answer(&bytes, 7).unwrap().unwrap());
        for code in [-libc::ENOMEM, i32::MIN] {
            bytes[HEADER..HEADER + 4].copy_from_slice(&code.to_ne_bytes());
            assert!(answer(&bytes, 7).unwrap().is_err());
        }
    }
}
