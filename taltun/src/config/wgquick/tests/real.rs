//! Files of real shapes: what comes out of each, and what is said about it.

use super::{exported, import};
use crate::config::wgquick::Imported;
use crate::config::{self, Config, Loaded, Mode};

macro_rules! file {
    ($name:literal) => {
        (
            include_bytes!(concat!("../cases/", $name, ".conf")).as_slice(),
            concat!($name, ".conf"),
            $name,
        )
    };
}

type File = (&'static [u8], &'static str, &'static str);

fn taken((bytes, file, name): File) -> Imported {
    import(bytes, file, Some(name)).unwrap()
}

fn loaded(imported: &Imported) -> Loaded {
    config::parse(&imported.toml, "test.toml")
        .unwrap_or_else(|error| panic!("{error}\n{}", *imported.toml))
}

fn config_of(imported: &Imported) -> Config {
    loaded(imported).config
}

fn nets(nets: &[ipnet::IpNet]) -> Vec<String> {
    nets.iter().map(ToString::to_string).collect()
}

/// One of these says all of this.
#[track_caller]
fn ensure_said(lines: &[String], words: &[&str]) {
    let found = lines
        .iter()
        .any(|line| words.iter().all(|word| line.contains(word)));
    assert!(found, "{words:?}: {lines:#?}");
}

#[test]
fn a_providers_file_leads_everything_and_has_nothing_odd() {
    let imported = taken(file!("provider"));
    let config = config_of(&imported);
    assert_eq!(imported.warnings, [""; 0]);
    assert_eq!(imported.notes, [""; 0]);
    assert_eq!(nets(&config.interface.routes), ["0.0.0.0/0", "::/0"]);
    assert_eq!(config.interface.mode, Mode::Client);
    assert_eq!(config.interface.tun_name, "provider");
}

#[test]
fn a_kill_switch_is_undone_while_the_tunnel_is_there() {
    let imported = taken(file!("killswitch"));
    let config = config_of(&imported);
    let undo = &config.hooks.on_down;
    assert_eq!(undo.len(), 1);
    assert!(undo[0].starts_with("iptables -D OUTPUT ! -o killswitch"));
    assert!(undo[0].contains("$(wg show killswitch fwmark)"));
    assert!(config.hooks.on_up[0].starts_with("iptables -I OUTPUT ! -o killswitch"));
    // Both are told.
    ensure_said(&imported.notes, &["killswitch.conf:5", "root", "-I OUTPUT"]);
    ensure_said(&imported.notes, &["killswitch.conf:6", "root", "-D OUTPUT"]);
}

#[test]
fn a_table_of_ones_own_gets_the_routes_and_main_gets_none() {
    let imported = taken(file!("uservpn"));
    let config = config_of(&imported);
    assert!(config.interface.routes.is_empty());
    assert!(!imported.toml.contains("routes ="), "{}", *imported.toml);
    assert_eq!(
        config.hooks.on_up[0],
        "ip -4 route add 0.0.0.0/0 dev uservpn table 55111 && \
         ip -6 route add ::/0 dev uservpn table 55111"
    );
    assert_eq!(config.hooks.on_up.len(), 3);
    assert_eq!(config.hooks.on_down.len(), 2);
    assert_eq!(config.host.fwmark, Some(0xca6c));
    ensure_said(&imported.notes, &["uservpn.conf:4", "table 55111"]);
}

#[test]
fn a_key_that_a_hook_reads_is_the_file_and_a_missing_address_is_said() {
    let imported = taken(file!("dn-peer"));
    let toml = imported.toml.as_str();
    assert!(
        toml.contains("private_key_file = \"/etc/wireguard/dn-peer.key\"\n"),
        "{toml}"
    );
    assert!(!toml.contains("wg set"), "{toml}");
    assert!(!toml.contains("routes ="), "{toml}");
    ensure_said(&imported.warnings, &["dn-peer.conf:1: Address: missing"]);
    // With an address, and a key that is on this machine.
    let toml = toml.replace(
        "private_key_file = \"/etc/wireguard/dn-peer.key\"",
        "vip = \"172.20.7.1/32\"\nprivate_key = \"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHl8=\"",
    );
    let config = config::parse(&toml, "test.toml").unwrap().config;
    assert!(config.interface.routes.is_empty());
    assert_eq!(config.hooks.on_up.len(), 3);
    assert!(config.hooks.on_up[0].ends_with("dev dn-peer"));
}

#[test]
fn a_hub_whose_firewall_kept_peers_apart_is_warned_of() {
    let imported = taken(file!("hub-iso"));
    let config = config_of(&imported);
    assert_eq!(config.interface.mode, Mode::Server);
    assert_eq!(nets(&config.interface.routes), ["192.168.50.0/24"]);
    assert_eq!(config.interface.local_addr.port(), 51820);
    assert_eq!(config.peers[1].persistent_keepalive, None);
    assert_eq!(config.hooks.after_down.len(), 3);
    ensure_said(
        &imported.warnings,
        &["hub-iso.conf:7", "from one peer to another"],
    );
    assert_eq!(imported.warnings.len(), 1, "{:?}", imported.warnings);
    // What the firewall allows still goes from peer to peer, by the kernel.
    assert_eq!(config.host.relay, Some(false));
    assert!(config.host.ip_forward);
    ensure_said(&imported.warnings, &["ip_forward = true"]);
}

#[test]
fn a_complaint_names_the_file_that_was_given_and_its_line() {
    let (bytes, file, name) = file!("wrapped");
    let error = import(bytes, file, Some(name)).unwrap_err().to_string();
    assert!(
        error.starts_with("wrapped.conf:5: MTU: expected at least 1280"),
        "{error}"
    );
    assert!(!error.contains("what comes out"), "{error}");
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    let imported = import(text.replace("1000", "1280").as_bytes(), file, Some(name)).unwrap();
    assert_eq!(config_of(&imported).interface.mtu, 1280);
}

#[test]
fn hooks_in_bash_have_the_name_in_place_and_are_run_by_bash() {
    let imported = taken(file!("hooks"));
    let config = config_of(&imported);
    let up = &config.hooks.on_up;
    assert_eq!(up.len(), 3);
    assert!(
        up[0].starts_with("nft 'add table inet hooks; "),
        "{}",
        up[0]
    );
    assert!(up[2].contains("< <(printf '192.0.2.0/25\\n192.0.2.128/25\\n')"));
    assert!(!imported.toml.contains("%i") && !imported.toml.contains("TALTUN_"));
    assert_eq!(config.hooks.shell, config::Shell::Bash);
    assert_eq!(config.hooks.after_down, ["nft 'delete table inet hooks'"]);
    assert_eq!(config.host.fwmark, None);
    assert_eq!(config.interface.local_addr.port(), 0);
}

#[test]
fn a_file_of_windows_is_read_without_its_marks() {
    let imported = taken(file!("windows"));
    let config = config_of(&imported);
    assert_eq!(nets(&config.interface.routes), ["0.0.0.0/0"]);
    assert_eq!(config.host.dns.servers.len(), 1);
    assert_eq!(config.host.dns.search, ["fritz.example"]);
    assert_eq!(config.interface.local_addr.port(), 51820);
    assert_eq!(config.peers.len(), 2);
    ensure_said(&imported.warnings, &["windows.conf:10", "AllowedIPs"]);
    ensure_said(
        &imported.warnings,
        &["windows.conf:14", "no packet will go"],
    );
    ensure_said(&imported.warnings, &["IPv6 goes on around it"]);
    // The same in the encoding of another editor there.
    let text = String::from_utf8(file!("windows").0.to_vec()).unwrap();
    let wide: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let again = import(&wide, "windows.conf", Some("windows")).unwrap();
    assert_eq!(*again.toml, *imported.toml);
}

#[test]
fn each_of_them_is_the_same_after_the_way_there_and_back() {
    for file in [
        file!("provider"),
        file!("killswitch"),
        file!("uservpn"),
        file!("hub-iso"),
        file!("hooks"),
        file!("windows"),
    ] {
        let imported = taken(file);
        let before = config_of(&imported);
        let back = exported(&imported.toml);
        let again = import(back.as_bytes(), file.1, Some(file.2)).unwrap();
        let after = config_of(&again);
        assert_eq!(format!("{before:?}"), format!("{after:?}"), "{back}");
        // Nothing stands there twice.
        let mut seen = Vec::new();
        for line in back.lines().map(str::trim).filter(|line| !line.is_empty()) {
            if line == "[Peer]" {
                seen.clear();
            }
            assert!(!seen.contains(&line), "{line} twice:\n{back}");
            seen.push(line);
        }
    }
}

#[test]
fn comments_run_nothing_on_the_way_there_or_back() {
    let text = "[Interface]\nPrivateKey = AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHl8=\n\
                Address = 10.0.0.2/24\n# taltun: on_up = \"touch /tmp/owned\"\n\
                # taltun: 'on_down' = \"touch /tmp/owned\"\n# taltun: mode = \"client\"\n\
                # wg-quick: PostUp = touch /tmp/owned\n\
                [Peer]\nPublicKey = xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=\n\
                # taltun: name = \"\"\"\n# taltun: [interface]\n\
                # taltun: before_up = \"touch /tmp/owned\"\n# taltun: [nat]\n\
                # taltun: masquerade = true\n";
    let imported = import(text.as_bytes(), "x.conf", Some("x")).unwrap();
    let config = config_of(&imported);
    assert_eq!(config.hooks, config::Hooks::default());
    assert_eq!(config.interface.mode, Mode::Client);
    ensure_said(&imported.warnings, &["x.conf:4", "on_up", "left out"]);
    ensure_said(&imported.warnings, &["x.conf:5", "on_down"]);
    ensure_said(&imported.warnings, &["x.conf:12", "before_up"]);
    ensure_said(&imported.notes, &["x.conf:6", "mode, masquerade"]);
    let back = exported(&imported.toml);
    for line in back.lines().filter(|line| line.contains("owned")) {
        assert!(line.starts_with('#'), "{line}");
    }
}

#[test]
fn peers_get_the_names_that_comments_have() {
    let key = |text: &str| format!("PublicKey = {text}\n");
    let [a, b, c] = [
        "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=",
        "TrMvSoP4jYQlY6RIzBgbssQqY3vxI2Pi+y71lOWWXX0=",
        "HeJbUmSEVtIq+6gOIHirEL6XR75sns4MICxzrlbssD4=",
    ]
    .map(key);
    let text = format!(
        "[Interface]\nPrivateKey = AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHl8=\n\
         Address = 10.0.0.1/24\n### begin ana ###\n[Peer]\n{a}### end ana ###\n\
         ### begin bob ###\n[Peer]\n{b}### end bob ###\n\n[Peer]\n# Name = eva \"x\"\n{c}"
    );
    let imported = import(text.as_bytes(), "x.conf", Some("x")).unwrap();
    let peers = config_of(&imported).peers;
    let names: Vec<Option<&str>> = peers.iter().map(|peer| peer.name.as_deref()).collect();
    assert_eq!(names, [Some("ana"), Some("bob"), Some("eva \"x\"")]);
    // Once more: the name stands in the file and in the comment.
    let back = exported(&imported.toml);
    let again = import(back.as_bytes(), "x.conf", Some("x")).unwrap();
    assert_eq!(config_of(&again).peers.len(), 3);
}

#[test]
fn a_file_without_peers_is_a_server_and_a_made_up_name_is_said() {
    let text = "[Interface]\nPrivateKey = AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHl8=\n\
                Address = 10.0.0.1/24\nListenPort = 51820\nPostUp = echo %i\n";
    for name in ["$(reboot)", "a;b", "far-too-long-a-name", "wg 0"] {
        let imported = import(text.as_bytes(), "x.conf", Some(name)).unwrap();
        let config = config_of(&imported);
        assert_eq!(config.interface.mode, Mode::Server);
        assert_eq!(config.interface.tun_name, "taltun0");
        assert_eq!(config.hooks.on_up, ["echo taltun0"]);
        ensure_said(
            &imported.warnings,
            &["x.conf: the interface is called taltun0"],
        );
    }
}

#[test]
fn a_file_that_lines_do_not_tell_is_exported_by_its_meaning() {
    let toml = "peers = [{ public_key = \"xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=\", \
                vip = \"10.0.0.2\", \"endpoint\" = \"192.0.2.1:7\" }]\n\
                [interface]\n\"vip\" = \"10.0.0.1/24\"\n\
                private_key = \"\"\"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHl8=\"\"\"\n";
    let back = exported(toml);
    assert!(back.contains("\n[Peer]\nPublicKey = xTIBA5rb"), "{back}");
    assert!(back.contains("Address = 10.0.0.1/24\n"), "{back}");
    assert!(back.contains("Endpoint = 192.0.2.1:7\n"), "{back}");
    // Nothing leads into the tunnel by itself.
    let toml = "[interface]\nvip = \"10.0.0.1/24\"\n\
                private_key = \"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHl8=\"\n\
                on_up = \"echo ${TALTUN_INTERFACE}\"\n\
                [[peers]]\npublic_key = \"xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=\"\n\
                allowed_ips = [\"192.0.2.0/24\"]\n";
    let back = exported(toml);
    assert!(back.contains("Table = off\n"), "{back}");
    assert!(back.contains("PostUp = echo %i\n"), "{back}");
}

/// Whatever happens to a file on its way, it is taken as a configuration or refused by its
/// name.
#[test]
fn damaged_files_are_configurations_or_refused() {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random >> 16) as usize % below
    };
    let pieces: &[&[u8]] = &[
        b"\n",
        b"#",
        b"=",
        b",",
        b" ",
        b"[Peer]\n",
        b"[Interface]\n",
        b"\"",
        b"\\",
        b"'''",
        b"\r",
        b"%i",
        b"# taltun: ",
        b"\xff",
        b"0",
        b"/",
        b"\x1b",
        b"PostUp = ",
    ];
    for file in [
        file!("provider"),
        file!("uservpn"),
        file!("hub-iso"),
        file!("hooks"),
        file!("windows"),
    ] {
        for _ in 0..150 {
            let mut bytes = file.0.to_vec();
            for _ in 0..=next(3) {
                let at = next(bytes.len());
                match next(3) {
                    0 => bytes.truncate(at.max(1)),
                    1 => drop(bytes.splice(at..=at, pieces[next(pieces.len())].iter().copied())),
                    _ => drop(bytes.splice(at..at, pieces[next(pieces.len())].iter().copied())),
                }
            }
            match import(&bytes, file.1, Some(file.2)) {
                Err(error) => {
                    let error = error.to_string();
                    assert!(error.starts_with(file.1), "{error}");
                    assert!(!error.contains('\u{1}'), "{error}");
                }
                Ok(imported) => {
                    let lacks = |word: &str| imported.warnings.iter().any(|one| one.contains(word));
                    if lacks("Address: missing") {
                        continue;
                    }
                    loaded(&imported);
                    exported(&imported.toml);
                }
            }
        }
    }
}
