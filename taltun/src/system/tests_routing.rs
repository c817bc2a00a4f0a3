//! Routes, policy rules, marks and settings beside what others have on the host.

use super::tests::{configure, configure_with, everything, in_namespace, ip, setting};
use super::*;
use crate::config::Config;

const FULL: &[&str] = &["0.0.0.0/0", "::/0"];
const VIPS: &[&str] = &["10.0.0.2/24", "fd00::2/64"];

fn write(name: &str, value: &str) {
    std::fs::write(format!("/proc/sys/net/{name}"), value).unwrap();
}

/// An interface with a network of its own and a default route.
fn lan() {
    ip("tuntap add dev lan mode tun");
    ip("link set lan up");
    ip("addr add 192.0.2.2/24 dev lan");
    ip("route add default via 192.0.2.1 dev lan");
}

#[test]
fn forwarding_leaves_the_default_route_that_a_router_told() {
    in_namespace(async || {
        ip("link add wan type veth peer name far");
        ip("link set wan up");
        ip("link set far up");
        write("ipv6/conf/wan/accept_ra", "1");
        ip("-6 route add default via fe80::1 dev wan proto ra expires 600");
        let host = configure_with(VIPS, &[], |config| config.host.ip_forward = true)
            .await
            .unwrap();
        assert_eq!(setting("ipv6/conf/all/forwarding"), "1");
        assert_eq!(setting("ipv6/conf/wan/accept_ra"), "2");
        let routes = ip("-6 route show default");
        assert!(routes.contains("via fe80::1 dev wan proto ra"), "{routes}");
        host.undo().await;
        // Not even at the end.
        assert_eq!(setting("ipv6/conf/all/forwarding"), "1");
        assert_eq!(setting("ipv6/conf/wan/accept_ra"), "2");
        assert!(ip("-6 route show default").contains("via fe80::1"));
    });
}

#[test]
fn no_peer_is_told_of_a_shorter_way_to_another() {
    in_namespace(async || {
        let redirects = |link: &str| setting(&format!("ipv4/conf/{link}/send_redirects"));
        // A host that passes nothing on tells nobody anything.
        let host = configure(VIPS, &[]).await.unwrap();
        assert_eq!(redirects("all"), "1");
        host.undo().await;

        let forwards = |config: &mut Config| config.host.ip_forward = true;
        let host = configure_with(VIPS, &[], forwards).await.unwrap();
        // The kernel sends some if either says so.
        assert_eq!([redirects("all"), redirects("t0")], ["0", "0"]);
        // Others of its interfaces have their own.
        assert_eq!(redirects("lo"), "1");
        host.undo().await;
        assert_eq!(redirects("all"), "1");
    });
}

#[test]
fn settings_that_cannot_be_written_are_named_with_their_remedy() {
    in_namespace(async || {
        // SAFETY: no pointers; this thread alone gets a mount namespace, and it ends soon.
        assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNS) }, 0);
        let sh = |command: &str| {
            let status = std::process::Command::new("sh")
                .args(["-c", command])
                .status();
            assert!(status.unwrap().success(), "{command}");
        };
        // Now and then the kernel takes a mount for busy that nobody writes to.
        let remount = |how: &str| {
            sh(&format!(
                "for try in $(seq 100); do mount -o remount,{how},bind /proc/sys && exit; \
                 sleep 0.1; done; exit 1"
            ));
        };
        sh("mount --make-rprivate / && mount --bind /proc/sys /proc/sys");
        remount("ro");
        let error = configure_with(VIPS, &["0.0.0.0/0"], |config| config.host.ip_forward = true)
            .await
            .unwrap_err();
        let text = format!("{:#}", anyhow::Error::from(error));
        for setting in [
            "net.ipv4.ip_forward=1",
            "net.ipv6.conf.all.forwarding=1",
            "net.ipv4.conf.all.src_valid_mark=1",
        ] {
            assert!(text.contains(&format!("`--sysctl {setting}`")), "{text}");
        }
        assert_eq!(text.matches("Read-only file system").count(), 1, "{text}");
        // What is right already needs no writing.
        remount("rw");
        write("ipv4/ip_forward", "1");
        write("ipv6/conf/all/forwarding", "1");
        write("ipv4/conf/all/src_valid_mark", "1");
        remount("ro");
        let host = configure_with(VIPS, &["0.0.0.0/0"], |config| config.host.ip_forward = true)
            .await
            .unwrap();
        host.undo().await;
    });
}

#[test]
fn a_full_tunnel_of_both_families_starts_where_ipv6_is_off() {
    in_namespace(async || {
        for link in ["all", "default", "t0"] {
            write(&format!("ipv6/conf/{link}/disable_ipv6"), "1");
        }
        lan();
        let before = everything();
        let host = configure(&["10.2.0.2/32"], FULL).await.unwrap();
        assert!(ip("route get 198.51.100.1").contains("dev t0"));
        host.undo().await;
        assert_eq!(everything(), before);
        let error = configure(&["fd00::2/64"], FULL).await.unwrap_err();
        assert!(matches!(error, SystemError::NoIpv6(_)), "{error}");
    });
}

#[test]
fn ipv6_that_is_off_for_new_interfaces_only_does_not_go_around() {
    in_namespace(async || {
        lan();
        write("ipv6/conf/default/disable_ipv6", "1");
        write("ipv6/conf/t0/disable_ipv6", "1");
        let host = configure(&["10.2.0.2/32"], FULL).await.unwrap();
        let mark = host.mark().unwrap();
        assert!(ip(&format!("-6 route show table {mark}")).contains("default dev t0"));
        host.undo().await;
    });
}

#[test]
fn rules_of_others_do_not_turn_ours_round() {
    in_namespace(async || {
        lan();
        for pref in [1, 2, 32_499, 32_501] {
            ip(&format!("rule add pref {pref} from 10.99.0.0/24 lookup 77"));
            ip(&format!("-6 rule add pref {pref} from fd99::/64 lookup 77"));
        }
        let host = configure(VIPS, FULL).await.unwrap();
        assert!(
            ip("route get 192.0.2.77").contains("dev lan"),
            "{}",
            ip("rule show")
        );
        assert!(ip("route get 198.51.100.1").contains("dev t0"));
        let mark = host.mark().unwrap();
        for family in ["", "-6 "] {
            let rules = ip(&format!("{family}rule show"));
            let ours: Vec<&str> = rules
                .lines()
                .filter(|line| line.contains("not from"))
                .collect();
            // 32500 would do for one, and 32499 is somebody else's.
            assert!(
                ours[0].starts_with("32496:") && ours[0].contains("lookup main"),
                "{rules}"
            );
            let second = format!("lookup {mark}");
            assert!(
                ours[1].starts_with("32497:") && ours[1].contains(&second),
                "{rules}"
            );
        }
        host.undo().await;
        assert!(!ip("rule show").contains("not from"));
    });
}

#[test]
fn a_rule_that_leads_everything_elsewhere_first_is_named() {
    in_namespace(async || {
        lan();
        ip("rule add pref 1 lookup main");
        let error = configure(VIPS, FULL).await.unwrap_err().to_string();
        assert!(
            error.contains("rule of priority 1 leads everything by table main"),
            "{error}"
        );
        ip("rule delete pref 1");
        ip("rule add pref 5270 lookup 52");
        ip("route add 100.64.0.0/10 dev lan table 52");
        configure(VIPS, FULL).await.unwrap().undo().await;
        ip("route add default dev lan table 52");
        let error = configure(VIPS, FULL).await.unwrap_err().to_string();
        assert!(
            error.contains("priority 5270 leads everything by table 52"),
            "{error}"
        );
        // A rule without a default route is no trouble, nor is one after ours.
        ip("rule delete pref 5270");
        ip("rule add pref 1 lookup main suppress_prefixlength 0");
        ip("rule add pref 32600 lookup 52");
        configure(VIPS, FULL).await.unwrap().undo().await;
        ip("rule add pref 32700 lookup local");
        ip("rule delete pref 0");
        let error = configure(VIPS, FULL).await.unwrap_err().to_string();
        assert!(error.contains("rule add pref 0 lookup local"), "{error}");
    });
}

#[test]
fn two_tunnels_have_their_rules_and_marks_beside_each_other() {
    in_namespace(async || {
        lan();
        let first = configure(VIPS, FULL).await.unwrap();
        ip("tuntap add dev t1 mode tun");
        let second = configure_with(&["10.1.0.2/24"], &["0.0.0.0/0"], |config| {
            config.interface.tun_name = "t1".into();
        })
        .await
        .unwrap();
        assert_ne!(first.mark(), second.mark());
        let rules = ip("rule show");
        for priority in [32_498, 32_499, 32_500, 32_501] {
            assert!(rules.contains(&format!("{priority}:")), "{rules}");
        }
        assert!(ip("route get 198.51.100.1").contains("dev t1"));
        second.undo().await;
        assert!(ip("route get 198.51.100.1").contains("dev t0"));
        first.undo().await;
    });
}

#[test]
fn a_mark_that_others_use_is_left_to_them() {
    in_namespace(async || {
        let host = configure(VIPS, FULL).await.unwrap();
        let mark = host.mark().unwrap();
        host.undo().await;
        for rule in [
            format!("fwmark {mark:#x} lookup 99"),
            format!("fwmark {mark:#x}/0xffff lookup 99"),
            format!("from 10.99.0.0/24 lookup {mark}"),
        ] {
            ip(&format!("rule add pref 100 {rule}"));
            let host = configure(VIPS, FULL).await.unwrap();
            assert_ne!(host.mark(), Some(mark), "{rule}");
            host.undo().await;
            ip("rule delete pref 100");
        }
    });
}

#[test]
fn a_route_that_leads_nowhere_is_named() {
    in_namespace(async || {
        lan();
        for kind in ["blackhole", "unreachable", "prohibit", "throw"] {
            for (family, net) in [("", "192.168.50.0/24"), ("-6 ", "fd01::/48")] {
                ip(&format!("{family}route add {kind} {net}"));
                for (vip, routes) in [(VIPS, &[net][..]), (&[net, "10.7.0.1/24"][..], &[][..])] {
                    let error = configure(vip, routes).await.unwrap_err().to_string();
                    assert!(
                        error.starts_with(&format!("a {kind} route to {net} is there already")),
                        "{error}"
                    );
                }
                ip(&format!("{family}route delete {kind} {net}"));
                // For when the tunnel isn't there.
                ip(&format!("{family}route add {kind} {net} metric 9999"));
                let host = configure(VIPS, &[net]).await.unwrap();
                assert!(ip(&format!("{family}route show {net}")).contains("dev t0"));
                host.undo().await;
                ip(&format!("{family}route delete {kind} {net} metric 9999"));
            }
        }
        // Beside a default route, too, where it would be asked first.
        ip("route add 128.0.0.0/1 via 192.0.2.1 dev lan");
        let halves = ["0.0.0.0/1", "128.0.0.0/1"];
        let error = configure(VIPS, &halves).await.unwrap_err().to_string();
        assert!(
            error.starts_with("a route to 128.0.0.0/1 leads through lan"),
            "{error}"
        );
        ip("route add 10.5.0.0/16 dev lan table 51820");
        ip("route add default dev lan table 51820");
        let error = configure_with(VIPS, FULL, |config| config.host.fwmark = Some(51820)).await;
        let error = error.unwrap_err().to_string();
        assert!(
            error.starts_with("routing table 51820 has a route to 0.0.0.0/0"),
            "{error}"
        );
    });
}

#[test]
fn an_address_that_others_have_a_route_to_is_not_led() {
    in_namespace(async || {
        lan();
        let mut host = configure(VIPS, &[]).await.unwrap();
        for (family, net, others) in [
            ("", "198.51.100.7/32", "via 192.0.2.1 dev lan"),
            ("", "198.51.100.8/32", "dev lan metric 50"),
            ("-6 ", "2001:db8:7::7/128", "dev lan metric 100"),
        ] {
            ip(&format!("{family}route add {net} {others}"));
            let error = host.lead(net.parse().unwrap()).await.unwrap_err();
            let expected = format!("a route to {net} leads through lan");
            assert!(error.to_string().starts_with(&expected), "{error}");
            ip(&format!("{family}route delete {net}"));
            // Once it may be led, twice is once.
            for _ in 0..2 {
                host.lead(net.parse().unwrap()).await.unwrap();
            }
            assert!(ip(&format!("{family}route show {net}")).contains("dev t0"));
        }
        host.undo().await;
    });
}

#[test]
fn a_large_table_is_not_read_for_a_few_routes() {
    in_namespace(async || {
        lan();
        for net in ["10.7.0.0/24", "10.8.1.0/24", "203.0.113.0/26"] {
            ip(&format!("route add {net} via 192.0.2.1"));
        }
        let before = routes::DUMPS.with(std::cell::Cell::get);
        let wanted = [
            "10.7.0.0/16",
            "10.8.0.0/24",
            "172.16.0.0/12",
            "203.0.113.0/24",
        ];
        let host = configure(&["10.0.0.2/24"], &wanted).await.unwrap();
        assert_eq!(routes::DUMPS.with(std::cell::Cell::get), before);
        host.undo().await;
    });
}
