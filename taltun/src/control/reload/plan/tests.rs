//! Plans between configurations that are read from text.

use std::time::Duration;

use super::*;

const BASE: &str = r#"
[interface]
mode = "server"
vip = "10.0.0.1/24"
private_key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
"#;

fn config(peers: &[(&str, &str)]) -> Config {
    let mut text = BASE.to_owned();
    for (number, (key, more)) in peers.iter().enumerate() {
        let key = key.repeat(64);
        let peer = format!(
            "[[peers]]\nvip = \"10.0.0.{}\"\npublic_key = \"{key}\"\n{more}\n",
            number + 2
        );
        text.push_str(&peer);
    }
    config::parse(&text, "test.toml").unwrap().config
}

/// The plan of a reload from one file to another, where nothing else has changed anything.
fn planned(old: &Config, new: &Config) -> Plan {
    plan_after(&old.peers, old, new, &[])
}

/// The same where the tunnel isn't as the old file says, and `touched` differ.
fn plan_after(live: &[config::Peer], old: &Config, new: &Config, touched: &[PublicKey]) -> Plan {
    let find = |peers: &[config::Peer], key: &PublicKey| {
        peers.iter().position(|peer| peer.public_key == *key)
    };
    let keys = differing(&old.peers, &new.peers);
    plan(
        keys.into_iter().chain(touched.iter().copied()),
        &new.peers,
        |key| find(&new.peers, key),
        |key| find(live, key).map(|at| live[at].clone()),
    )
}

#[test]
fn peers_come_go_and_change_and_the_others_are_left_alone() {
    let old = config(&[("1", ""), ("2", ""), ("3", "")]);
    let mut new = config(&[("1", ""), ("2", "persistent_keepalive = 5"), ("4", "")]);
    new.peers[2].vip.clone_from(&old.peers[2].vip);
    let plan = planned(&old, &new);
    assert_eq!(plan.added.len(), 1);
    assert_eq!(plan.removed, [old.peers[2].public_key]);
    assert_eq!(plan.changed.len(), 1);
    assert_eq!(
        plan.changed[0].1,
        Change {
            keepalive: true,
            ..Change::default()
        }
    );
    assert_eq!(
        plan.summary(&["our key is new".into()]),
        "reloaded: 1 peer added, 1 peer changed, 1 peer removed, our key is new"
    );
    let nothing = Plan::default().summary(&[]);
    assert_eq!(nothing, "reloaded: nothing has changed");
}

#[test]
fn a_command_changes_what_it_is_about_and_leaves_what_was_changed_by_hand() {
    let before = config(&[("1", ""), ("2", ""), ("3", "")]);
    let after = config(&[("1", "name = \"ana\""), ("2", "name = \"bob\""), ("3", "")]);
    let find = |peers: &[config::Peer], key: &PublicKey| {
        peers.iter().position(|peer| peer.public_key == *key)
    };
    let mut live = before.peers.clone();
    live[0].persistent_keepalive = Some(7);
    live[0].allowed_ips.clear();
    // The second one was removed.
    live.remove(1);
    let plan = plan_edit(
        differing(&before.peers, &after.peers),
        &after.peers,
        |key| find(&after.peers, key),
        |key| find(&before.peers, key).map(|at| before.peers[at].clone()),
        |key| find(&live, key).map(|at| live[at].clone()),
    );
    assert!(plan.added.is_empty() && plan.removed.is_empty());
    assert_eq!(plan.changed.len(), 1);
    assert_eq!(plan.changed[0].0.public_key, before.peers[0].public_key);
    assert_eq!(
        plan.changed[0].1,
        Change {
            name: true,
            ..Change::default()
        }
    );
}

#[test]
fn what_was_changed_by_hand_becomes_as_the_file_says() {
    let file = config(&[("1", ""), ("2", ""), ("3", "")]);
    let mut live = file.peers.clone();
    live[0].persistent_keepalive = Some(7);
    let removed = live.remove(2).public_key;
    let mut stranger = live[0].clone();
    stranger.public_key = PublicKey([9; 32]);
    live.push(stranger);
    let touched = [live[0].public_key, removed, PublicKey([9; 32])];
    let plan = plan_after(&live, &file, &file, &touched);
    assert_eq!(plan.changed.len(), 1);
    assert!(plan.changed[0].1.keepalive);
    assert_eq!(plan.added[0].public_key, removed);
    assert_eq!(plan.removed, [PublicKey([9; 32])]);
    // Who was touched and is as the file says stays as it is.
    let same = plan_after(&file.peers, &file, &file, &touched);
    assert!(same.changed.is_empty() && same.added.is_empty() && same.removed.is_empty());
}

#[test]
fn a_file_in_another_order_is_the_same() {
    let old = config(&[("1", ""), ("2", ""), ("3", ""), ("4", "")]);
    let mut new = old.clone();
    new.peers.swap(1, 2);
    assert!(differing(&old.peers, &new.peers).is_empty());
    new.peers.remove(1);
    let gone = old.peers[2].public_key;
    assert_eq!(differing(&old.peers, &new.peers), [gone]);
    assert_eq!(differing(&new.peers, &old.peers), [gone]);
    assert_eq!(differing(&[], &old.peers).len(), 4);
}

fn fixed(old: &Config, new: &Config, endpoints: &[IpAddr]) -> Result<(), String> {
    refuse_fixed(old, new, || endpoints.to_vec())
}

/// A configuration with so many peers.
fn many(peers: usize) -> Config {
    let mut config = config(&[]);
    config.peers = (0..peers)
        .map(|number| {
            let mut key = [7; 32];
            key[..8].copy_from_slice(&number.to_le_bytes());
            let vip = IpAddr::from((number as u32 + 0x0b00_0000).to_be_bytes());
            config::Peer {
                name: None,
                public_key: PublicKey(key),
                preshared_key: crate::crypto::PresharedKey::default(),
                vip: vec![vip],
                endpoint: None,
                endpoints: Vec::new(),
                allowed_ips: vec![vip.into()],
                persistent_keepalive: None,
                limits: config::PeerLimits::default(),
                origin: config::Origin::default(),
                rates: config::PeerRates::default(),
            }
        })
        .collect();
    config
}

#[test]
fn the_work_of_a_reload_grows_with_the_number_of_peers() {
    let prepare = |peers| (many(peers), many(peers + 1));
    crate::scaling::assert_linear(2_000, prepare, |(old, new)| {
        assert_eq!(differing(&old.peers, &new.peers).len(), 1);
    });
}

#[test]
fn the_controller_looks_at_those_peers_that_a_reload_changes_and_no_others() {
    let (old, mut new) = (many(2_000), many(2_001));
    new.peers[7].persistent_keepalive = Some(9);
    new.peers.remove(5);
    let looked_at = std::cell::Cell::new(0);
    let keys = differing(&old.peers, &new.peers);
    let places = crate::control::peers::infos(&new.peers);
    let lives = crate::control::peers::infos(&old.peers);
    let plan = plan(
        keys,
        &new.peers,
        |key| places.get(key)?.place,
        |key| {
            looked_at.set(looked_at.get() + 1);
            Some(old.peers[lives.get(key)?.place?].clone())
        },
    );
    assert_eq!(looked_at.get(), 3);
    assert_eq!(
        (plan.added.len(), plan.changed.len(), plan.removed.len()),
        (1, 1, 1)
    );
}

#[test]
fn the_work_of_a_start_grows_with_the_number_of_peers() {
    crate::scaling::assert_linear(2_000, many, |config| {
        let mut device = Device::new(crate::protocol::device::Settings {
            private_key: config.interface.private_key.clone(),
            randomness: crate::protocol::randomness::Randomness::seeded([0; 32]),
            wall_clock_at_zero: Duration::ZERO,
            mtu: 1420,
            local_addresses: Vec::new(),
            relay: true,
        });
        for peer in &config.peers {
            let settings = crate::control::peers::settings(peer);
            device.add_peer(settings, Time::START).unwrap();
        }
        assert_eq!(device.len(), config.peers.len());
    });
}

#[test]
fn a_change_of_each_key_is_refused_by_its_name_or_told() {
    for key in keys::all() {
        let (old, new) = keys::samples::pair(key);
        let name = key.full_name();
        let outcome = fixed(&old, &new, &[]);
        if key.reload == Reload::Restart {
            let refusal = format!("{name} can't change while the tunnel runs; restart it");
            assert!(outcome.unwrap_err().starts_with(&refusal), "{name}");
            continue;
        }
        assert_eq!(outcome, Ok(()), "{name}");
        let is_new_key = old.interface.private_key != new.interface.private_key;
        let told = planned(&old, &new).summary(&changes(&old, &new, is_new_key));
        // What the host and the gateway did is said behind it, as system tests see.
        let is_told = name != "interface.kill_switch" && key.section != "udpgw";
        assert_eq!(told.contains(NOTHING), !is_told, "{name}: {told}");
    }
}

#[test]
fn to_or_from_having_dns_routes_takes_a_restart() {
    let (with, _) = keys::samples::pair(&keys::dns_routes::VIA);
    let mut without = with.clone();
    without.dns_routes = None;
    for (old, new) in [(&with, &without), (&without, &with)] {
        let error = fixed(old, new, &[]).unwrap_err();
        assert!(error.starts_with("[dns_routes] (to or from"), "{error}");
    }
}

#[test]
fn to_or_from_having_names_takes_a_restart() {
    let (with, _) = keys::samples::pair(&keys::names::DOMAIN);
    let mut without = with.clone();
    without.names = None;
    for (old, new) in [(&with, &without), (&without, &with)] {
        let error = fixed(old, new, &[]).unwrap_err();
        assert!(error.starts_with("[names] (to or from"), "{error}");
    }
}

#[cfg(feature = "fleet")]
#[test]
fn to_or_from_having_a_fleet_takes_a_restart() {
    let (with, _) = keys::samples::pair(&keys::fleet::NAME);
    let mut without = with.clone();
    without.fleet = None;
    for (old, new) in [(&with, &without), (&without, &with)] {
        let error = fixed(old, new, &[]).unwrap_err();
        assert!(error.starts_with("[fleet] (to or from"), "{error}");
    }
}

#[test]
fn what_needs_a_restart_is_named() {
    let old = config(&[]);
    let mut new = config(&[]);
    new.interface.mtu = 1300;
    new.interface.mtu_is_default = false;
    assert!(
        fixed(&old, &new, &[])
            .unwrap_err()
            .contains("interface.mtu")
    );
    let mut new = config(&[]);
    new.host.protect_vip = true;
    let error = fixed(&old, &new, &[]).unwrap_err();
    assert!(error.contains("interface.protect_vip"), "{error}");
    let mut new = config(&[]);
    new.dataplane.crypto_threads = Some(2);
    let error = fixed(&old, &new, &[]).unwrap_err();
    assert!(error.contains("dataplane.crypto_threads"), "{error}");
    let mut new = config(&[]);
    new.dataplane.workers = Some(2);
    let error = fixed(&old, &new, &[]).unwrap_err();
    assert!(error.contains("dataplane.workers"), "{error}");
}

#[test]
fn all_that_needs_a_restart_is_named_at_once() {
    let old = config(&[]);
    let mut new = config(&[]);
    new.interface.mtu = 1300;
    new.interface.mtu_is_default = false;
    new.host.protect_vip = true;
    new.dataplane.udp_gro = false;
    new.accel.xdp = config::XdpMode::Off;
    let error = fixed(&old, &new, &[]).unwrap_err();
    for key in [
        "interface.mtu",
        "interface.protect_vip",
        "dataplane.udp_gro",
        "accel.xdp",
    ] {
        assert!(error.contains(key), "{error}");
    }
}

#[test]
fn routes_change_under_way_but_not_to_or_from_everything() {
    let routes = |nets: &[&str]| {
        let mut config = config(&[]);
        config.interface.routes = nets.iter().map(|net| net.parse().unwrap()).collect();
        config
    };
    let endpoint = ["203.0.113.1".parse().unwrap()];
    let site = routes(&["192.168.77.0/24"]);
    assert!(fixed(&config(&[]), &site, &endpoint).is_ok());
    for other in [&["0.0.0.0/0"][..], &["203.0.113.0/24"]] {
        let error = fixed(&site, &routes(other), &endpoint).unwrap_err();
        assert!(error.contains("interface.routes"), "{error}");
        assert!(fixed(&routes(other), &site, &endpoint).is_err());
    }
    let full = routes(&["0.0.0.0/0"]);
    assert!(fixed(&full, &routes(&["0.0.0.0/0", "::/0"]), &endpoint).is_ok());
}
