//! Bans without an engine: a device with a few peers, and no eBPF programs.

use super::*;
use crate::accel::ShieldSettings;
use crate::config::{self, Config, XdpMode};
use crate::protocol::device::Settings;
use crate::protocol::randomness::Randomness;
use crate::protocol::time::Time;

const FILE: &str = r#"
[interface]
mode = "server"
vip = "10.0.0.1/24"
private_key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
[accel]
deny = ["192.0.2.0/24"]
[[peers]]
name = "ana"
vip = "10.0.0.2"
public_key = "1111111111111111111111111111111111111111111="
endpoint = "198.51.100.7:9000"
[[peers]]
name = "site"
allowed_ips = ["0.0.0.0/0"]
public_key = "2222222222222222222222222222222222222222222="
"#;

const ONCE: BanOptions = BanOptions {
    force: false,
    seconds: None,
};

/// What a ban is about.
struct Hub {
    config: Config,
    device: Device,
    peers: Peers,
    shield: Shield,
}

impl Hub {
    fn new() -> (Self, Bans) {
        let config = config::parse(&FILE.replace("111=", "110=").replace("222=", "220="), "hub");
        let config = config.unwrap().config;
        let mut device = Device::new(Settings {
            private_key: config.interface.private_key.clone(),
            randomness: Randomness::seeded([0; 32]),
            wall_clock_at_zero: Duration::ZERO,
            mtu: 1420,
            local_addresses: Vec::new(),
            relay: true,
        });
        for peer in &config.peers {
            let settings = crate::control::peers::settings(peer);
            device.add_peer(settings, Time::START).unwrap();
        }
        let bans = Bans::new(&config.accel, Some("hub.toml".into()));
        let hub = Self {
            peers: Peers::new(Arc::new(config.peers.clone())),
            config,
            device,
            shield: Shield::start(&ShieldSettings::of(XdpMode::Off)),
        };
        (hub, bans)
    }

    fn split(&mut self) -> (Owners<'_>, &mut Shield) {
        let owners = Owners {
            device: &mut self.device,
            peers: &self.peers,
            vips: &self.config.interface.vip,
            own: &[],
        };
        (owners, &mut self.shield)
    }

    fn ban(
        &mut self,
        bans: &mut Bans,
        net: &str,
        layer: Option<Layer>,
        options: BanOptions,
    ) -> Result<String, Refused> {
        let (mut owners, shield) = self.split();
        bans.ban(net.parse().unwrap(), layer, options, &mut owners, shield)
    }
}

fn denies(bans: &Bans, layer: Layer, source: &str) -> bool {
    bans.filter().read().denies(layer, source.parse().unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_ban_is_in_force_with_its_answer_and_ends_by_itself() {
    let (mut hub, mut bans) = Hub::new();
    assert!(denies(&bans, Layer::Outer, "192.0.2.1"), "from the start");
    let options = BanOptions {
        seconds: Some(3600),
        ..ONCE
    };
    let done = hub.ban(&mut bans, "198.51.100.0/24", None, options);
    assert_eq!(
        done.unwrap(),
        "banned 198.51.100.0/24 for 1 hour, dropped in user space; this cuts off ana"
    );
    assert!(denies(&bans, Layer::Outer, "198.51.100.9"));
    assert!(!denies(&bans, Layer::Inner, "198.51.100.9"));
    let told = bans.with_peers(&hub.device, &hub.peers);
    let remedies: Vec<&str> = told.iter().map(|ban| ban.remedy.as_str()).collect();
    assert_eq!(
        remedies,
        [
            "take it out of accel.deny in hub.toml, then `taltun reload`",
            "`taltun unban 198.51.100.0/24`"
        ]
    );
    tokio::time::sleep_until(bans.next_end().unwrap()).await;
    bans.expire(&mut hub.shield);
    assert!(!denies(&bans, Layer::Outer, "198.51.100.9"));
    assert!(denies(&bans, Layer::Outer, "192.0.2.1"));
}

#[test]
fn what_may_be_a_mistake_is_asked_and_changes_nothing() {
    let (mut hub, mut bans) = Hub::new();
    let before = bans.banned();
    for (net, layer, question) in [
        ("10.0.0.2/32", None, "add --inner"),
        (
            "10.0.0.1/32",
            Some(Layer::Inner),
            "10.0.0.1 is this machine's",
        ),
        ("10.0.0.0/30", Some(Layer::Inner), "own address 10.0.0.1"),
        ("0.0.0.0/1", None, "nearly everything that peers send"),
        ("::/0", Some(Layer::Inner), "from inside the tunnel"),
    ] {
        let asked = hub.ban(&mut bans, net, layer, ONCE).unwrap_err().text;
        assert!(asked.contains(question), "{asked}");
        assert_eq!(bans.banned(), before);
    }
    // The page says it in its own words.
    let asked = hub.ban(&mut bans, "10.0.0.2/32", None, ONCE).unwrap_err();
    assert_eq!(asked.why, Some(Why::IsInside));
    let (mut owners, shield) = hub.split();
    let asked = bans.ban_peer("site", Layer::Inner, ONCE, &mut owners, shield);
    assert!(asked.unwrap_err().text.starts_with("site owns 0.0.0.0/0"));
    // Meant so, they are done.
    let outer = Some(Layer::Outer);
    hub.ban(&mut bans, "10.0.0.2/32", outer, ONCE).unwrap();
    let force = BanOptions {
        force: true,
        ..ONCE
    };
    hub.ban(&mut bans, "0.0.0.0/1", None, force).unwrap();
    assert!(denies(&bans, Layer::Outer, "10.0.0.2"));
}

#[test]
fn a_peer_is_banned_by_its_name_where_it_is_meant_and_unbanned_again() {
    let (mut hub, mut bans) = Hub::new();
    for (layer, source) in [(Layer::Inner, "10.0.0.2"), (Layer::Outer, "198.51.100.7")] {
        let (mut owners, shield) = hub.split();
        bans.ban_peer("ana", layer, ONCE, &mut owners, shield)
            .unwrap();
        assert!(denies(&bans, layer, source));
        assert!(!denies(&bans, layer.other(), source));
        bans.unban_peer("ana", layer, &mut owners, shield).unwrap();
        assert!(!denies(&bans, layer, source));
        let nothing = bans
            .unban_peer("ana", layer, &mut owners, shield)
            .unwrap_err()
            .text;
        assert!(nothing.starts_with("nothing of ana is banned"), "{nothing}");
    }
}

#[test]
fn a_reload_puts_its_lists_into_force_and_leaves_operators_bans() {
    let (mut hub, mut bans) = Hub::new();
    hub.ban(&mut bans, "203.0.113.9/32", None, ONCE).unwrap();
    let mut accel = hub.config.accel.clone();
    accel.deny = Vec::new();
    accel.deny_inner = vec!["10.0.0.66/32".parse().unwrap()];
    let again = bans.configure(&hub.config.accel, &accel, &mut hub.shield);
    assert!(again.is_empty(), "{again:?}");
    assert!(!denies(&bans, Layer::Outer, "192.0.2.1"));
    assert!(denies(&bans, Layer::Outer, "203.0.113.9"));
    assert!(denies(&bans, Layer::Inner, "10.0.0.66"));
}

#[test]
fn a_reload_says_whom_the_file_denies_again() {
    let (mut hub, mut bans) = Hub::new();
    let net: IpNet = "192.0.2.0/24".parse().unwrap();
    bans.unban(net, Layer::Outer, &mut hub.shield).unwrap();
    assert!(!denies(&bans, Layer::Outer, "192.0.2.1"));
    let accel = hub.config.accel.clone();
    assert_eq!(bans.configure(&accel, &accel, &mut hub.shield), [net]);
    assert!(denies(&bans, Layer::Outer, "192.0.2.1"));
    assert!(bans.configure(&accel, &accel, &mut hub.shield).is_empty());
}
