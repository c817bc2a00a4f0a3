use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use super::*;
use crate::control::inside::ByWg;
use crate::control::request::{ClientWishes, NewPeer, RemovePeer, RenamePeer, RotatePeer, SetPeer};
use crate::crypto::{PresharedKey, PrivateKey, PublicKey};
use crate::secret::SecretText;

const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const ANA: &str = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";

/// A hub whose file is in a directory of its own, as the controller sees it.
struct Hub {
    dir: tempfile::TempDir,
    origin: Origin,
    last: LastRead,
    inside: Inside,
}

impl Hub {
    fn of(more: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hub.toml");
        let text = format!(
            "[interface]\nmode = \"server\"\nvip = \"10.0.0.1/24\"\nprivate_key = \"{KEY}\"\n\
             public_endpoint = \"hub.example.net\"\n\n[[peers]]\nname = \"ana\"\n\
             public_key = \"{ANA}\"\nvip = \"10.0.0.2\"\n{more}"
        );
        fs::write(&path, text).unwrap();
        let origin = Origin {
            path: Some(path),
            ..Origin::default()
        };
        Self {
            last: read(&origin),
            dir,
            origin,
            inside: Inside {
                port: 9000,
                public_key: KEY.parse().ok().map(|key: PrivateKey| key.public_key()),
                ..Inside::default()
            },
        }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("hub.toml")
    }

    fn text(&self) -> String {
        fs::read_to_string(self.path()).unwrap()
    }

    fn edit(&self, asked: &PeerEdit) -> Result<Edited, NotRead> {
        edit(&self.origin, &self.last, None, &self.inside, asked)
    }

    /// Does it, and takes it over.
    fn done(&mut self, asked: &PeerEdit) -> Edited {
        let edited = self.edit(asked).unwrap();
        self.last = read(&self.origin);
        edited
    }

    /// Why it isn't done; nothing is changed.
    fn refused(&self, asked: &PeerEdit) -> String {
        let before = self.text();
        let refused = self.edit(asked).unwrap_err();
        assert_eq!(self.text(), before);
        assert_eq!(fs::read_dir(self.dir.path()).unwrap().count(), 1);
        refused.reason().to_owned()
    }
}

fn read(origin: &Origin) -> LastRead {
    let mut config = config::load(origin.path.as_deref().unwrap())
        .unwrap()
        .config;
    LastRead {
        peers: Arc::new(std::mem::take(&mut config.peers)),
        config: Arc::new(config),
    }
}

fn key(number: u8) -> PublicKey {
    PrivateKey::from_bytes([number; 32]).public_key()
}

fn new(name: &str, number: u8) -> NewPeer {
    NewPeer {
        name: name.to_owned(),
        public_key: key(number).to_string(),
        ..NewPeer::default()
    }
}

fn vips(edited: &Edited) -> Vec<String> {
    let peer = edited.compared.peers.last().unwrap();
    peer.vip.iter().map(ToString::to_string).collect()
}

/// A peer that isn't as the file says.
fn by_wg(key: PublicKey, net: &str) -> ByWg {
    ByWg {
        key,
        nets: vec![net.parse().unwrap()],
        differs: true,
    }
}

#[test]
fn what_wg_did_to_a_peer_is_not_undone_by_changing_it() {
    let mut hub = Hub::of("");
    let ana: PublicKey = ANA.parse().unwrap();
    let rename = PeerEdit::Rename(RenamePeer {
        peer: "ana".into(),
        name: "bob".into(),
    });
    let set = |nets: &[&str]| {
        PeerEdit::Set(SetPeer {
            peer: "ana".into(),
            allowed_ips: Some(nets.iter().map(|net| net.parse().unwrap()).collect()),
            ..SetPeer::default()
        })
    };
    let rotate = PeerEdit::Rotate(RotatePeer {
        peer: "ana".into(),
        public_key: key(7).to_string(),
        preshared_key: None,
        without_preshared_key: false,
        file: ClientWishes::default(),
    });
    // One that it removed isn't let in again.
    hub.inside.removed = vec![ana];
    for asked in [&rename, &set(&["10.5.0.0/16"]), &rotate] {
        let refused = hub.refused(asked);
        assert!(refused.contains("`wg` removed ana"), "{refused}");
        assert!(refused.contains("`taltun peer remove ana`"), "{refused}");
    }
    // One that it changed can't have another key without losing that.
    hub.inside.removed.clear();
    hub.inside.by_wg = vec![by_wg(ana, "10.0.0.2/32")];
    let refused = hub.refused(&rotate);
    assert!(refused.contains("`wg` changed ana"), "{refused}");
    hub.inside.by_wg[0].differs = false;
    hub.edit(&rotate).unwrap();
    let mut hub = Hub::of("");
    // What it gave to another peer stays there, be it a network or an address.
    for (net, given) in [
        ("10.5.0.0/16", &["10.5.0.0/16"][..]),
        ("10.5.0.0/16", &["10.6.0.0/16", "10.5.7.7/16"]),
        ("10.0.0.2/32", &["10.6.0.0/16"]),
    ] {
        hub.inside.by_wg = vec![by_wg(key(9), net)];
        let refused = hub.refused(&set(given));
        assert!(refused.contains(&key(9).to_string()), "{refused}");
    }
    let mut phone = new("phone", 3);
    phone.allowed_ips = vec!["10.5.0.0/16".parse().unwrap()];
    hub.inside.by_wg = vec![by_wg(key(9), "10.5.0.0/16")];
    let refused = hub.refused(&PeerEdit::New(phone));
    assert!(refused.contains("10.5.0.0/16 belongs to"), "{refused}");
    hub.done(&set(&["10.6.0.0/16"]));
    hub.done(&rename);
}

#[test]
fn a_peers_file_has_the_key_of_the_hub_that_is_in_force() {
    let mut hub = Hub::of("");
    hub.inside.public_key = Some(key(8));
    let edited = hub.done(&PeerEdit::New(new("phone", 3)));
    let client = edited.answer.client.as_ref().unwrap();
    assert_eq!(client.hub_public_key, key(8).to_string());
    let warnings = &edited.answer.warnings;
    assert!(warnings[0].contains("`wg` changed"), "{warnings:?}");
    let refused = hub.refused(&PeerEdit::New(new("tablet", 8)));
    assert!(refused.contains("this hub's own key"), "{refused}");
    // That of its group is as good as its own.
    hub.inside.group_key = Some(key(8));
    let edited = hub.done(&PeerEdit::New(new("laptop", 5)));
    let client = edited.answer.client.as_ref().unwrap();
    assert_eq!(client.hub_public_key, key(8).to_string());
    assert!(
        edited.answer.warnings.is_empty(),
        "{:?}",
        edited.answer.warnings
    );
    hub.inside.public_key = None;
    let refused = hub.refused(&PeerEdit::New(new("tablet", 4)));
    assert!(refused.contains("has no private key"), "{refused}");
    // Who has a file needs none.
    let mut there = new("tablet", 4);
    there.file.is_there = true;
    there.addresses = vec!["10.0.0.9".parse().unwrap()];
    hub.done(&PeerEdit::New(there));
}

#[test]
fn peers_get_one_address_after_the_other_and_what_their_files_need() {
    let mut hub = Hub::of("# the end\n");
    for (number, expected) in [(3, "10.0.0.3"), (4, "10.0.0.4")] {
        let edited = hub.done(&PeerEdit::New(new(&format!("phone {number}"), number)));
        assert_eq!(vips(&edited), [expected]);
        assert_eq!(edited.compared.differing, [key(number)]);
        let answer = &edited.answer;
        assert_eq!(answer.done, format!("added phone {number} with {expected}"));
        assert_eq!(answer.undo, format!("taltun peer remove 'phone {number}'"));
        assert!(answer.warnings.is_empty(), "{:?}", answer.warnings);
        let client = answer.client.as_ref().unwrap();
        assert_eq!(client.endpoint, "hub.example.net:9000");
        assert_eq!(client.addresses[0].to_string(), format!("{expected}/24"));
    }
    assert!(hub.text().ends_with("# the end\n"));
    // One that is taken away gives its address back.
    let gone = RemovePeer {
        peer: "phone 3".into(),
    };
    let gone = hub.done(&PeerEdit::Remove(gone));
    assert_eq!(
        gone.answer.undo,
        format!(
            "taltun peer new 'phone 3' --public-key {} --no-file --address 10.0.0.3",
            key(3)
        )
    );
    let edited = hub.done(&PeerEdit::New(new("tablet", 5)));
    assert_eq!(vips(&edited), ["10.0.0.3"]);
}

#[test]
fn an_address_that_means_something_elsewhere_is_nobodys_by_chance() {
    let mut hub = Hub::of(
        "[[rules]]\nfrom = \"10.0.0.3\"\nto = \"any\"\nallow = \"any\"\n\
         [groups]\nstaff = [\"10.0.0.4/32\"]\n",
    );
    hub.inside.banned = vec!["10.0.0.5/32".parse().unwrap()];
    hub.inside.own = vec!["10.0.0.6".parse().unwrap()];
    hub.inside.by_wg = vec![by_wg(key(9), "10.0.0.7/32")];
    let edited = hub.done(&PeerEdit::New(new("phone", 3)));
    assert_eq!(vips(&edited), ["10.0.0.8"]);
    // Who names it means it.
    let mut wished = new("other", 4);
    wished.addresses = vec!["10.0.0.3".parse().unwrap()];
    assert_eq!(vips(&hub.done(&PeerEdit::New(wished))), ["10.0.0.3"]);
}

#[test]
fn what_cannot_be_a_name_is_refused_with_its_reason() {
    let hub = Hub::of("");
    for (asked, reason) in [
        (new("ana", 3), "a peer is called \"ana\" already"),
        (new("ana", 3), "new keys: `taltun peer rotate ana`"),
        (new("hub", 3), "can't be a peer's name"),
        (new("--json", 3), "can't be a peer's name"),
        (new("", 3), "1 to 64 printable characters"),
        (new("\u{301}", 3), "1 to 64 printable characters"),
        (new(" a", 3), "without spaces at its ends"),
        (new("a\u{202e}b", 3), "U+202E isn't one"),
        (new("10.0.0.3", 3), "an address or a key"),
        (new(ANA, 3), "an address or a key"),
        (new("a\nb", 3), "printable characters"),
    ] {
        let said = hub.refused(&PeerEdit::New(asked));
        assert!(said.contains(reason), "{reason}: {said}");
    }
}

#[test]
fn what_cannot_be_is_refused_with_its_reason() {
    let mut hub = Hub::of("[[rules]]\nfrom = [\"ana\"]\nto = \"any\"\nallow = \"any\"\n");
    hub.inside.own = vec!["10.0.0.9".parse().unwrap()];
    hub.inside.by_wg = vec![by_wg(key(9), "10.0.0.7/32")];
    let at = |address: &str| NewPeer {
        addresses: vec![address.parse().unwrap()],
        ..new("phone", 3)
    };
    let of_key = |key: &str| NewPeer {
        public_key: key.to_owned(),
        ..new("phone", 3)
    };
    let behind = |net: &str| NewPeer {
        allowed_ips: vec![net.parse().unwrap()],
        ..new("phone", 3)
    };
    let ours = key_of_the_hub();
    for (asked, reason) in [
        (at("10.0.0.2"), "10.0.0.2 is ana's"),
        (at("10.0.0.1"), "this hub's own address"),
        (at("10.0.0.9"), "an address of this host"),
        (at("10.0.0.7"), "a peer's that `wg` added"),
        (
            at("10.0.0.255"),
            "10.0.0.255 is the broadcast address of 10.0.0.0/24",
        ),
        (at("10.0.0.0"), "the address of the network 10.0.0.0/24"),
        (at("255.255.255.255"), "no address of a host"),
        (at("ff02::1"), "no address of a host"),
        (
            NewPeer {
                addresses: vec!["10.0.0.5".parse().unwrap(), "10.0.0.6".parse().unwrap()],
                ..new("phone", 3)
            },
            "both of IPv4",
        ),
        (behind("10.0.0.1/32"), "this hub's own address"),
        (behind("10.0.0.9/32"), "an address of this host"),
        (behind("::ffff:192.168.0.0/112"), "write 192.168.0.0/16"),
        (of_key("x"), "public key \"x\""),
        (of_key(ANA), "ana has this key already"),
        (of_key(&ours), "this hub's own key"),
        (
            of_key(&key(9).to_string()),
            "`wg` added a peer with the key",
        ),
        (
            of_key(&PublicKey([0; 32]).to_string()),
            "no key that a peer can have",
        ),
        (
            NewPeer {
                expires: Some("2001-01-01".into()),
                ..new("phone", 3)
            },
            "2001-01-01 is past",
        ),
        (behind("10.0.0.2/32"), "10.0.0.2"),
        (
            NewPeer {
                preshared_key: Some(SecretText::from("secret".to_owned())),
                ..new("phone", 3)
            },
            "the preshared key is",
        ),
        (
            NewPeer {
                file: ClientWishes {
                    endpoint: Some("0.0.0.0".into()),
                    ..ClientWishes::default()
                },
                ..new("phone", 3)
            },
            "any address",
        ),
    ] {
        let said = hub.refused(&PeerEdit::New(asked));
        assert!(said.contains(reason), "{reason}: {said}");
        assert!(!said.contains("secret"), "{said}");
    }
}

#[test]
fn who_is_named_stays_and_what_leads_to_the_hub_is_behind_nobody() {
    let mut hub = Hub::of("[[rules]]\nfrom = [\"ana\"]\nto = \"any\"\nallow = \"any\"\n");
    let remove = |peer: &str| PeerEdit::Remove(RemovePeer { peer: peer.into() });
    let said = hub.refused(&remove("ana"));
    assert!(said.contains("ana is named in rules (line "), "{said}");
    let rename = |name: &str| {
        PeerEdit::Rename(RenamePeer {
            peer: "ana".into(),
            name: name.into(),
        })
    };
    let said = hub.refused(&rename("ana"));
    assert!(
        said.starts_with("the peer is called \"ana\" already ("),
        "{said}"
    );
    let said = hub.refused(&remove("nobody"));
    assert!(said.contains("no peer's name or key"), "{said}");
    let text = hub.text().replace("hub.example.net", "203.0.113.5");
    fs::write(hub.path(), text).unwrap();
    hub.last = read(&hub.origin);
    let behind = NewPeer {
        allowed_ips: vec!["203.0.113.5/32".parse().unwrap()],
        ..new("phone", 3)
    };
    let said = hub.refused(&PeerEdit::New(behind));
    assert!(said.contains("at which peers reach this hub"), "{said}");
}

fn key_of_the_hub() -> String {
    KEY.parse::<PrivateKey>().unwrap().public_key().to_string()
}

#[test]
fn a_rule_goes_on_meaning_a_peer_that_has_another_name_or_key() {
    let mut hub = Hub::of(
        "preshared_key = \"/UwcSPg38hW/D9Y3tcS1FOV0K1wuURMbS0sesJEP5ak=\"\n\
         [[rules]]\nfrom = [\"ana\"]\nto = \"any\"\nallow = \"any\"\n",
    );
    let renamed = hub.done(&PeerEdit::Rename(RenamePeer {
        peer: "ana".into(),
        name: "eva".into(),
    }));
    assert_eq!(renamed.answer.undo, "taltun peer rename eva ana");
    assert!(
        renamed.answer.done.contains("also in rules (line "),
        "{}",
        renamed.answer.done
    );
    let rotated = hub.done(&PeerEdit::Rotate(RotatePeer {
        peer: "eva".into(),
        public_key: key(3).to_string(),
        preshared_key: None,
        without_preshared_key: false,
        file: ClientWishes::default(),
    }));
    assert_eq!(
        rotated.answer.undo,
        format!("taltun peer rotate eva --public-key {ANA} --no-file")
    );
    let client = rotated.answer.client.as_ref().unwrap();
    assert_eq!(client.addresses[0].to_string(), "10.0.0.2/24");
    let peer = &rotated.compared.peers[0];
    assert_eq!(
        (peer.public_key, peer.name.as_deref()),
        (key(3), Some("eva"))
    );
    assert!(!peer.preshared_key.is_none());
    // And back.
    hub.done(&PeerEdit::Rotate(RotatePeer {
        peer: "eva".into(),
        public_key: ANA.into(),
        preshared_key: None,
        without_preshared_key: true,
        file: ClientWishes {
            is_there: true,
            ..ClientWishes::default()
        },
    }));
    hub.done(&PeerEdit::Rename(RenamePeer {
        peer: ANA.into(),
        name: "ana".into(),
    }));
    assert!(hub.text().contains("from = [\"ana\"]"), "{}", hub.text());
}

#[test]
fn of_a_preshared_key_that_went_nothing_is_left_or_missed() {
    let secret = "/UwcSPg38hW/D9Y3tcS1FOV0K1wuURMbS0sesJEP5ak=";
    let zeros = PresharedKey::default().to_base64();
    let mut hub = Hub::of("quota = \"1 GB/day\"\n");
    let before = hub.text();
    let rotate = |key: &str, preshared_key: Option<&str>| {
        PeerEdit::Rotate(RotatePeer {
            peer: "ana".into(),
            public_key: key.to_owned(),
            preshared_key: preshared_key.map(|key| SecretText::from(key.to_owned())),
            without_preshared_key: preshared_key.is_none(),
            file: ClientWishes::default(),
        })
    };
    let rotated = hub.done(&rotate(&key(3).to_string(), Some(secret)));
    assert!(rotated.answer.undo.ends_with(" --no-psk"));
    assert!(hub.text().contains(secret));
    hub.done(&rotate(ANA, None));
    assert_eq!(hub.text(), before);
    // Nor of a line of zeros, which means none.
    let text = before.replace("quota", &format!("preshared_key = \"{}\"\nquota", *zeros));
    fs::write(hub.path(), text).unwrap();
    hub.last = read(&hub.origin);
    let removed = hub.done(&PeerEdit::Remove(RemovePeer { peer: "ana".into() }));
    assert_eq!(removed.answer.warnings[0], "undoing doesn't restore quota");
}

#[test]
fn what_was_changed_by_hand_and_not_taken_over_comes_first() {
    let hub = Hub::of("");
    let asked = PeerEdit::New(new("phone", 3));
    let text = hub.text();
    // A comment means nothing.
    fs::write(hub.path(), format!("# by hand\n{text}")).unwrap();
    hub.edit(&asked).unwrap();
    assert!(hub.text().starts_with("# by hand\n"));
    for (by_hand, named) in [
        (
            text.replace("[[peers]]", "mtu = 1300\n[[peers]]"),
            "interface.mtu",
        ),
        (text.replace("10.0.0.2", "10.0.0.3"), "ana"),
        (format!("{text}[names]\ndomain = \"vpn\"\n"), "[names]"),
    ] {
        fs::write(hub.path(), by_hand).unwrap();
        let said = hub.refused(&asked);
        assert!(
            said.contains(named) && said.contains("run `taltun reload` first"),
            "{said}"
        );
    }
    fs::write(hub.path(), format!("{text}nonsense")).unwrap();
    let said = hub.refused(&asked);
    assert!(
        said.contains("not valid TOML") && said.contains("nothing was changed"),
        "{said}"
    );
}

#[test]
fn a_file_becomes_what_it_was_unless_somebody_changed_it_since() {
    let hub = Hub::of("");
    let before = hub.text();
    let edited = hub.edit(&PeerEdit::New(new("phone", 3))).unwrap();
    assert_ne!(hub.text(), before);
    edited.written.restore().unwrap();
    assert_eq!(hub.text(), before);
    let edited = hub.edit(&PeerEdit::New(new("phone", 3))).unwrap();
    fs::write(hub.path(), "by hand").unwrap();
    let trouble = edited.written.restore().unwrap_err();
    assert!(trouble.contains("somebody else"), "{trouble}");
    assert_eq!(hub.text(), "by hand");
}

#[test]
fn a_tunnel_without_a_file_says_so() {
    let mut hub = Hub::of("");
    hub.inside.is_plain = true;
    let said = hub.refused(&PeerEdit::New(new("phone", 3)));
    assert!(said.contains("no configuration file"), "{said}");
}

#[test]
fn only_warnings_that_are_new_are_told() {
    let mut hub = Hub::of(
        "[usage]\nkeep_days = 0\n[[peers]]\npublic_key = \"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\"\nvip = \"10.0.0.3\"\nquota = \"1 GB/day\"\n",
    );
    let edited = hub.done(&PeerEdit::New(new("phone", 3)));
    assert!(
        edited.answer.warnings.is_empty(),
        "{:?}",
        edited.answer.warnings
    );
}

/// Where nobody knows where clients reach the hub, what is undone needs no file. What comes back is
/// what there was, with a day that is past, and without an address of its own.
#[test]
fn who_has_a_file_is_added_again_as_it_was() {
    let mut hub = Hub::of("");
    let there = ClientWishes {
        is_there: true,
        ..ClientWishes::default()
    };
    let asked = NewPeer {
        allowed_ips: vec!["10.9.0.0/24".parse().unwrap()],
        expires: Some("2020-01-31".into()),
        file: there.clone(),
        ..new("site", 4)
    };
    let added = hub.done(&PeerEdit::New(asked.clone()));
    assert!(added.answer.client.is_none());
    let peer = added
        .compared
        .peers
        .iter()
        .find(|it| it.public_key == key(4));
    let peer = peer.unwrap();
    assert!(peer.vip.is_empty(), "{:?}", peer.vip);
    let removed = hub.done(&PeerEdit::Remove(RemovePeer {
        peer: "site".into(),
    }));
    assert_eq!(
        removed.answer.undo,
        format!(
            "taltun peer new site --public-key {} --no-file --allowed 10.9.0.0/24 --expires 2020-01-31",
            key(4)
        )
    );
    for (asked, reason) in [
        (
            NewPeer {
                allowed_ips: Vec::new(),
                ..asked.clone()
            },
            "give them by --address",
        ),
        (
            NewPeer {
                file: ClientWishes::default(),
                ..asked
            },
            "is past",
        ),
        (
            NewPeer {
                addresses: vec![
                    "10.0.0.9".parse().unwrap(),
                    "::ffff:10.0.0.9".parse().unwrap(),
                ],
                ..new("twice", 5)
            },
            "10.0.0.9 is given twice",
        ),
        (
            NewPeer {
                addresses: vec!["::ffff:10.0.0.2".parse().unwrap()],
                ..new("other", 5)
            },
            "10.0.0.2 is ana's",
        ),
    ] {
        let said = hub.refused(&PeerEdit::New(asked));
        assert!(said.contains(reason), "{reason}: {said}");
    }
}

#[test]
fn values_are_set_and_what_is_printed_brings_back_the_old_ones() {
    let more = "quota = '5 GB/month' # agreed\nexpires = 2999-01-01\n\n# the end\n";
    let mut hub = Hub::of(more);
    let before = hub.text();
    let set = SetPeer {
        peer: "ana".into(),
        allowed_ips: Some(vec!["192.168.7.0/24".parse().unwrap()]),
        expires: Some(String::new()),
        quota: Some("1 TB/month".into()),
        rate_up: Some("20 Mbit/s".into()),
        rate_down: None,
    };
    let edited = hub.done(&PeerEdit::Set(set));
    assert_eq!(
        edited.answer.done,
        "ana has from now on allowed_ips = [\"192.168.7.0/24\"], no expires, quota = \"1 TB/month\" \
         and rate_up = \"20 Mbit/s\""
    );
    assert_eq!(
        edited.answer.undo,
        "taltun peer set ana --allowed none --expires 2999-01-01 --quota '5 GB/month' --rate-up none"
    );
    let [peer] = &edited.compared.peers[..] else {
        panic!("{:?}", edited.compared.peers)
    };
    assert_eq!(peer.allowed_ips.len(), 2);
    assert!(peer.limits.expires.is_none() && peer.limits.quota.is_some());
    assert!(
        hub.text().contains("quota = \"1 TB/month\" # agreed\n"),
        "{}",
        hub.text()
    );
    let back = SetPeer {
        peer: ANA.into(),
        allowed_ips: Some(Vec::new()),
        expires: Some("2999-01-01".into()),
        quota: Some("5 GB/month".into()),
        rate_up: Some(String::new()),
        rate_down: None,
    };
    let edited = hub.done(&PeerEdit::Set(back));
    assert!(
        edited
            .answer
            .undo
            .starts_with("taltun peer set ana --allowed 192.168.7.0/24 ")
    );
    // But for the order of its lines, and how a text is written.
    let sorted = |text: &str| {
        let text = text.replace('\'', "\"");
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&hub.text()), sorted(&before));
    let of = |set: SetPeer| {
        PeerEdit::Set(SetPeer {
            peer: "ana".into(),
            ..set
        })
    };
    let allowing = |net: &str| SetPeer {
        allowed_ips: Some(vec![net.parse().unwrap()]),
        ..SetPeer::default()
    };
    for (asked, reason) in [
        (SetPeer::default(), "nothing to change"),
        (
            SetPeer {
                quota: Some("much".into()),
                ..SetPeer::default()
            },
            "peers.quota: expected",
        ),
        (
            SetPeer {
                expires: Some("2001-01-01".into()),
                ..SetPeer::default()
            },
            "is past",
        ),
        (
            SetPeer {
                allowed_ips: Some(vec!["10.0.0.1/32".parse().unwrap()]),
                ..SetPeer::default()
            },
            "this hub's own address",
        ),
        (allowing("127.0.0.0/8"), "each machine's own"),
        (allowing("224.0.0.0/4"), "multicast"),
        (allowing("169.254.0.0/16"), "never leaves its link"),
        (allowing("fe80::/10"), "never leaves its link"),
        (allowing("0.0.0.0/8"), "no address of a host"),
        (allowing("255.255.255.255/32"), "no address of a host"),
    ] {
        let refused = hub.refused(&of(asked));
        assert!(refused.contains(reason), "{refused}");
        // No line of a file that was never written.
        assert!(!refused.contains("hub.toml"), "{refused}");
    }
}
