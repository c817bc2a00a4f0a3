//! The host's set-up, on real TUN interfaces in network namespaces that vanish with their thread.

use std::path::PathBuf;
use std::process::Command;

use ipnet::IpNet;

use super::check::may_administer;
use super::*;
use crate::config::{self, Config, FirewallChoice};
use crate::crypto::PrivateKey;
use crate::os::interface;

/// Runs `test` in a fresh network namespace with a TUN `t0`, and says so if it can't.
pub(super) fn in_namespace(test: impl AsyncFnOnce() + Send + 'static) {
    if !may_administer() {
        println!("skipped: needs root");
        return;
    }
    let thread = std::thread::spawn(|| {
        // SAFETY: unshare takes no pointers; it moves this thread alone, which was made for
        // it, to a new network namespace.
        let result = unsafe { libc::unshare(libc::CLONE_NEWNET) };
        assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
        ip("link set lo up");
        ip("tuntap add dev t0 mode tun");
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(test());
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// What `ip …` prints, in the namespace of this thread.
pub(super) fn ip(arguments: &str) -> String {
    let output = Command::new("ip")
        .args(arguments.split(' '))
        .output()
        .unwrap();
    assert!(output.status.success(), "ip {arguments}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

pub(super) async fn configure(vip: &[&str], routes: &[&str]) -> Result<Host, SystemError> {
    configure_with(vip, routes, |_| {}).await
}

pub(super) async fn configure_with(
    vip: &[&str],
    routes: &[&str],
    change: impl FnOnce(&mut Config),
) -> Result<Host, SystemError> {
    let mut config = Config::plain("t0", PrivateKey::from_bytes([7; 32]));
    config.interface.mtu = 1380;
    config.interface.vip = nets(vip);
    config.interface.routes = nets(routes);
    change(&mut config);
    Host::configure(&config, &Endpoints::new(), &directory(), String::new()).await
}

/// Where the journal of the calling test is: its thread has its own namespace, and its own
/// directory.
fn directory() -> PathBuf {
    thread_local! {
        static DIRECTORY: tempfile::TempDir = tempfile::tempdir().unwrap();
    }
    DIRECTORY.with(|directory| directory.path().to_owned())
}

#[test]
fn addresses_mtu_and_routes_are_set_and_taken_back() {
    in_namespace(async || {
        let host = configure(
            &["10.0.0.1/24", "fd00::1/64"],
            &["192.168.50.0/24", "fd01::/48"],
        )
        .await
        .unwrap();
        assert_eq!(Some(host.index()), interface::index("t0"));
        let link = ip("link show t0");
        assert!(
            link.contains("mtu 1380") && link.contains("qlen 1000"),
            "{link}"
        );
        assert!(link.contains(",UP"), "{link}");
        let addresses = ip("addr show t0");
        assert!(addresses.contains("inet 10.0.0.1/24"), "{addresses}");
        assert!(addresses.contains("inet6 fd00::1/64"), "{addresses}");
        assert!(!addresses.contains("fe80::"), "{addresses}");
        let routes = ip("route show dev t0");
        assert!(
            routes.contains("10.0.0.0/24") && routes.contains("192.168.50.0/24"),
            "{routes}"
        );
        assert!(ip("-6 route show dev t0").contains("fd01::/48"));

        host.undo().await;
        assert_eq!(ip("route show"), "");
        assert!(!ip("addr show t0").contains("inet"));
        assert!(!ip("link show t0").contains(",UP"));
    });
}

#[test]
fn a_route_equal_to_the_vips_subnet_is_fine() {
    in_namespace(async || {
        let host = configure(
            &["10.0.0.1/24", "fd00::1/64"],
            &["10.0.0.0/24", "fd00::/64", "10.0.0.0/8"],
        )
        .await
        .unwrap();
        assert_eq!(ip("route show 10.0.0.0/24").lines().count(), 1);
        host.undo().await;
        assert_eq!(ip("route show"), "");
    });
}

#[test]
fn a_route_through_another_interface_is_named_and_nothing_is_touched() {
    in_namespace(async || {
        ip("tuntap add dev other mode tun");
        ip("link set other up");
        ip("addr add 172.16.0.1/24 dev other");
        ip("route add 192.168.50.0/24 dev other metric 100");
        ip("route add default via 172.16.0.2 dev other");
        ip("-6 route add fd01::/48 dev other");
        let before = (ip("route show"), ip("addr show t0"));
        for net in ["192.168.50.0/24", "172.16.0.0/24", "fd01::/48"] {
            let error = configure(&["10.0.0.1/24"], &["10.9.0.0/16", net])
                .await
                .unwrap_err();
            let text = error.to_string();
            let expected = format!("a route to {net} leads through other already");
            assert!(text.starts_with(&expected), "{text}");
        }
        assert_eq!(before, (ip("route show"), ip("addr show t0")));
    });
}

#[test]
fn what_was_done_is_undone_when_a_later_step_fails() {
    in_namespace(async || {
        // The second address can't be added: it is there already.
        ip("addr add 10.1.0.1/24 dev t0");
        let error = configure(&["10.0.0.1/24", "10.1.0.1/24"], &[])
            .await
            .unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("cannot add the address 10.1.0.1/24: "),
            "{error}"
        );
        let addresses = ip("addr show t0");
        assert!(!addresses.contains("10.0.0.1"), "{addresses}");
        assert!(addresses.contains("10.1.0.1"), "{addresses}");
    });
}

#[test]
fn without_ipv6_the_tunnel_starts_on_ipv4() {
    in_namespace(async || {
        // Settings under /proc/sys/net are those of the thread's namespace.
        for link in ["all", "t0"] {
            let path = format!("/proc/sys/net/ipv6/conf/{link}/disable_ipv6");
            std::fs::write(path, "1").unwrap();
        }
        let host = configure(&["10.0.0.1/24", "fd00::1/64"], &["fd01::/48"])
            .await
            .unwrap();
        assert!(!ip("addr show t0").contains("fd00::1"));
        host.undo().await;
        let error = configure(&["fd00::1/64"], &[]).await.unwrap_err();
        assert!(matches!(error, SystemError::NoIpv6(_)), "{error}");
    });
}

#[test]
fn an_interface_that_is_not_there_is_an_error() {
    in_namespace(async || {
        let named_otherwise = |config: &mut Config| config.interface.tun_name = "none".into();
        let error = configure_with(&["10.0.0.1/24"], &[], named_otherwise)
            .await
            .unwrap_err();
        assert!(matches!(error, SystemError::NoInterface(_)));
    });
}

#[test]
fn undoing_after_the_interface_has_gone_is_no_trouble() {
    in_namespace(async || {
        let host = configure(&["10.0.0.1/24"], &["192.168.50.0/24"])
            .await
            .unwrap();
        ip("link delete t0");
        host.undo().await;
    });
}

#[test]
fn a_taken_name_is_refused_before_anything_is_touched() {
    in_namespace(async || {
        let example = include_str!("../../dist/examples/hub.toml");
        let mut config = config::parse(example, "hub.toml").unwrap().config;
        config.interface.tun_name = "t0".into();
        let error = check(&config).unwrap_err().to_string();
        assert!(
            error.starts_with("an interface t0 exists already; choose another"),
            "{error}"
        );
        config.interface.tun_name = "t1".into();
        check(&config).unwrap();
    });
}

#[test]
fn a_default_route_leads_around_our_own_datagrams_and_spares_the_local_network() {
    in_namespace(async || {
        ip("tuntap add dev lan mode tun");
        ip("link set lan up");
        ip("addr add 192.0.2.2/24 dev lan");
        ip("route add default via 192.0.2.1 dev lan");
        let before = everything();
        for (routes, mark) in [
            (&["0.0.0.0/0", "::/0"][..], None),
            (
                &["0.0.0.0/1", "128.0.0.0/1", "::/1", "8000::/1"][..],
                Some(51820),
            ),
        ] {
            let host = configure_with(&["10.0.0.2/24", "fd00::2/64"], routes, |config| {
                config.host.fwmark = mark;
            })
            .await
            .unwrap();
            let mark = host.mark().unwrap();
            let way = |to: &str| ip(&format!("route get {to}"));
            assert!(
                way("198.51.100.1").contains("dev t0"),
                "{}",
                ip("rule show")
            );
            assert!(way("2001:db8::1").contains("dev t0"));
            assert!(way("192.0.2.77").contains("dev lan"));
            assert!(way("10.0.0.1").contains("dev t0"));
            assert!(way(&format!("198.51.100.1 mark {mark}")).contains("via 192.0.2.1 dev lan"));
            host.undo().await;
            assert_eq!(everything(), before);
        }
    });
}

#[test]
fn a_route_to_an_endpoint_leads_around_our_own_datagrams_too() {
    in_namespace(async || {
        let host = configure_with(&["10.0.0.2/24"], &["203.0.113.0/24"], |config| {
            config.interface.tun_name = "t0".into();
            config.peers = example_peers("203.0.113.1:9000");
        })
        .await
        .unwrap();
        let mark = host.mark().unwrap();
        assert!(ip("route get 203.0.113.1").contains("dev t0"));
        assert!(ip("rule show").contains(&format!("not from all fwmark {mark:#x}")));
        host.undo().await;
        assert!(!ip("rule show").contains("fwmark"));
    });
}

#[test]
fn what_a_killed_process_left_is_undone_by_the_next_that_wants_less() {
    in_namespace(async || {
        let before = everything();
        let host = configure_with(
            &["10.0.0.2/24", "fd00::2/64"],
            &["0.0.0.0/0", "::/0"],
            |config| {
                config.host.ip_forward = true;
                config.host.mss_clamp = true;
            },
        )
        .await
        .unwrap();
        assert!(ip("rule show").contains("fwmark"));
        assert_eq!(setting("ipv4/ip_forward"), "1");
        // SIGKILL takes the interface and leaves the rest.
        std::mem::forget(host);
        ip("link delete t0");
        ip("tuntap add dev t0 mode tun");
        let host = configure(&["10.0.0.2/24"], &[]).await.unwrap();
        assert!(!ip("rule show").contains("fwmark"));
        host.undo().await;
        assert_eq!(setting("ipv4/ip_forward"), "1");
        assert_eq!(setting("ipv6/conf/all/forwarding"), "1");
        // Forwarding stays on, whoever relies on it by now.
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();
        std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "0").unwrap();
        assert_eq!(everything(), before);
        assert_eq!(std::fs::read_dir(directory()).unwrap().count(), 0);
    });
}

#[test]
fn a_host_that_is_dropped_undoes_what_would_stay() {
    in_namespace(async || {
        let host = configure_with(&["10.0.0.2/24"], &["0.0.0.0/0"], |config| {
            config.host.ip_forward = true;
        })
        .await
        .unwrap();
        drop(host);
        assert!(!ip("rule show").contains("fwmark"));
        assert_eq!(setting("ipv4/conf/all/src_valid_mark"), "0");
    });
}

#[test]
fn a_journal_that_is_removed_is_written_again() {
    in_namespace(async || {
        let mut host = configure_with(&["10.0.0.2/24"], &["0.0.0.0/0"], |config| {
            config.host.ip_forward = true;
        })
        .await
        .unwrap();
        host.commit().await.unwrap();
        let journals = || std::fs::read_dir(directory()).unwrap().flatten();
        let text = || journals().map(|file| std::fs::read_to_string(file.path()).unwrap());
        let before: Vec<String> = text().collect();
        assert_eq!(before.len(), 1);
        for file in journals() {
            std::fs::remove_file(file.path()).unwrap();
        }
        host.keep_journal();
        assert_eq!(text().collect::<Vec<_>>(), before);
        host.undo().await;
        assert_eq!(journals().count(), 0);
    });
}

#[test]
fn rules_replace_those_that_are_there_by_either_tool() {
    in_namespace(async || {
        for (choice, list) in [
            (FirewallChoice::Nftables, "nft list ruleset"),
            (FirewallChoice::Iptables, "iptables-save"),
        ] {
            let word = list.split(' ').next().unwrap();
            if program::find(word).is_none() {
                println!("skipped: no {word}");
                continue;
            }
            let configure = async || {
                let mut host = configure_with(
                    &["10.0.0.2/24", "fd00::2/64"],
                    &["0.0.0.0/0", "::/0"],
                    |config| {
                        config.host.firewall = choice;
                        config.host.ip_forward = true;
                        config.host.kill_switch = true;
                        config.host.mss_clamp = true;
                        config.host.protect_vip = true;
                        config.host.masquerade =
                            Some(config::Masquerade::to(vec!["eth0".into(), "tunnel".into()]));
                    },
                )
                .await
                .unwrap();
                host.commit().await.unwrap();
                host
            };
            let host = configure().await;
            let first = sh(list);
            assert!(first.contains("taltun-t0"), "{first}");
            // As if it had been killed; nobody puts anything back.
            host.leave().await;
            ip("link delete t0");
            ip("tuntap add dev t0 mode tun");
            let host = configure().await;
            let counted = |text: &str| text.matches("taltun-t0").count();
            assert_eq!(counted(&sh(list)), counted(&first), "{}", sh(list));
            host.undo().await;
            assert_eq!(counted(&sh(list)), 0, "{}", sh(list));
        }
    });
}

#[test]
fn a_missing_firewall_or_resolver_is_named_before_anything_is_touched() {
    in_namespace(async || {
        let before = everything();
        if program::find("resolvconf").is_none() {
            let error = configure_with(&["10.0.0.2/24"], &[], |config| {
                config.host.dns.servers = vec!["10.0.0.1".parse().unwrap()];
            })
            .await
            .unwrap_err();
            assert!(matches!(error, SystemError::NoResolver), "{error}");
        }
        assert_eq!(everything(), before);
    });
}

pub(super) fn example_peers(endpoint: &str) -> Vec<config::Peer> {
    let example = include_str!("../../dist/examples/spoke.toml");
    let example = example.replace("203.0.113.1:9000", endpoint);
    config::parse(&example, "spoke.toml").unwrap().config.peers
}

pub(super) fn everything() -> String {
    let ip = [
        "-o addr show scope global",
        "rule show",
        "-6 rule show",
        "route show table all",
    ]
    .map(ip);
    let settings = [
        "ipv4/ip_forward",
        "ipv6/conf/all/forwarding",
        "ipv4/conf/all/src_valid_mark",
    ];
    format!("{}{}", ip.concat(), settings.map(setting).concat())
}

pub(super) fn setting(name: &str) -> String {
    let value = std::fs::read_to_string(format!("/proc/sys/net/{name}")).unwrap();
    value.trim().to_owned()
}

fn sh(command: &str) -> String {
    let output = Command::new("sh").args(["-c", command]).output().unwrap();
    assert!(output.status.success(), "{command}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}
