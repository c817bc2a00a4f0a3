//! The host's set-up, on real TUN interfaces in network namespaces that vanish with their thread.

use std::process::Command;

use ipnet::IpNet;

use super::check::may_administer;
use super::*;
use crate::config;

/// Runs `test` in a fresh network namespace with a TUN `t0`, and says so if it can't.
fn in_namespace(test: impl AsyncFnOnce() + Send + 'static) {
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
fn ip(arguments: &str) -> String {
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

async fn configure(vip: &[&str], routes: &[&str]) -> Result<Host, SystemError> {
    Host::configure("t0", 1380, &nets(vip), &nets(routes)).await
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
        for net in ["192.168.50.0/24", "0.0.0.0/0", "172.16.0.0/24", "fd01::/48"] {
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
        let error = Host::configure("none", 1420, &nets(&["10.0.0.1/24"]), &[])
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
