use std::net::IpAddr;

use super::*;
use crate::config;
use crate::crypto::PrivateKey;

/// A file as people write them.
const HUB: &str = r#"# The hub of the office
[interface]   # ours
mode = "server"
vip = ["10.0.0.1/24", "fd00::1/64"]
private_key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="

[groups]
staff = ["ana", 'bob',   # both of them
  "192.168.50.0/28"]

# --- people ---

# Ana's laptop
# (the old one)
[[peers]]
name = "ana"
public_key = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg="
vip = "10.0.0.2"   # since 2024
allowed_ips = [
  "192.168.50.0/24", # home
]
# nothing more of her

[[peers]]
name = "bob"
public_key = "TrMvSoP4jYQlY6RIzBgbssQqY3vxI2Pi+y71lOWWXX0="
vip = ["10.0.0.3", "fd00::3"]

# --- rules ---
[[rules]]
from = "staff"
to = ["ana", "hub"]   # Ana's printer
allow = "any"

[[forward]]
listen = "tcp/8443"
to = "ana:443"
# the end
"#;

const ANA: &str = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";
const BOB: &str = "TrMvSoP4jYQlY6RIzBgbssQqY3vxI2Pi+y71lOWWXX0=";

fn key(text: &str) -> PublicKey {
    text.parse().unwrap()
}

fn new_key() -> PublicKey {
    PrivateKey::from_bytes([7; 32]).public_key()
}

fn load(text: &str) -> config::Config {
    config::parse(text, "hub.toml").unwrap().config
}

/// The lines of `new` that `old` doesn't have, and the other way round, without their order.
fn difference<'t>(old: &'t str, new: &'t str) -> (Vec<&'t str>, Vec<&'t str>) {
    let only = |these: &'t str, others: &str| -> Vec<&'t str> {
        let others: Vec<&str> = others.lines().collect();
        these
            .lines()
            .filter(|line| !others.contains(line))
            .collect()
    };
    (only(new, old), only(old, new))
}

fn added(text: &str) -> Zeroizing<String> {
    let vip: Vec<IpAddr> = vec!["10.0.0.9".parse().unwrap(), "fd00::9".parse().unwrap()];
    let psk = PresharedKey([9; 32]);
    let entry = PeerEntry {
        name: "the \"new\" one",
        public_key: new_key(),
        preshared_key: Some(&psk),
        vip: &vip,
        allowed_ips: &["192.168.60.0/24".parse().unwrap()],
        expires: Some("2199-12-31".parse().unwrap()),
    };
    Edit::of(text).unwrap().with_peer(&entry).unwrap()
}

#[test]
fn a_new_peer_comes_after_the_others_and_all_else_stays() {
    let new = added(HUB);
    let (more, less) = difference(HUB, &new);
    assert!(less.is_empty(), "{less:?}");
    assert_eq!(more.len(), 6, "{more:?}");
    let config = load(&new);
    let peer = &config.peers[2];
    assert_eq!(peer.name.as_deref(), Some("the \"new\" one"));
    assert_eq!(peer.public_key, new_key());
    assert_eq!(peer.preshared_key, PresharedKey([9; 32]));
    assert_eq!(peer.vip.len(), 2);
    assert_eq!(peer.allowed_ips.len(), 3);
    assert_eq!(peer.limits.expires.unwrap().to_string(), "2199-12-31");
    let after = new
        .find("the \\\"new\\\"")
        .unwrap_or_else(|| new.find("the \"new\"").unwrap());
    assert!(new.find("fd00::3").unwrap() < after && after < new.find("--- rules").unwrap());
    // Taken away again, nothing is left of it.
    let back = Edit::of(&new).unwrap().without_peer(&new_key()).unwrap();
    assert_eq!(*back, HUB);
}

#[test]
fn a_new_peer_finds_its_place_in_any_file() {
    let head = "[interface]\nvip = \"10.0.0.1/24\"\nprivate_key = \
                \"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\"";
    for (text, ends) in [
        (head.to_owned(), "\n"),
        (format!("{head}\n"), "\n"),
        (
            format!("{head}\n\n# the end\n").replace('\n', "\r\n"),
            "\r\n",
        ),
        (
            format!("{head}\n[[peers]]\npublic_key = \"{ANA}\"\nvip = \"10.0.0.2\""),
            "\n",
        ),
        (
            format!("{head}\n[[peers]] # one\npublic_key = '{ANA}' # last"),
            "\n",
        ),
        (format!("{head}\n[metrics]\n"), "\n"),
    ] {
        let new = added(&text.replace(
            "vip = \"10.0.0.1/24\"",
            "vip = [\"10.0.0.1/24\", \"fd00::1/64\"]",
        ));
        let peers = load(&new).peers;
        assert_eq!(peers.last().unwrap().public_key, new_key(), "{}", *new);
        assert!(new.ends_with(ends), "{}", *new);
        if ends == "\r\n" {
            assert_eq!(new.matches('\n').count(), new.matches("\r\n").count());
        }
    }
    let inline = format!("peers = [{{ public_key = \"{ANA}\" }}]\n{head}");
    let refused = Edit::of(&inline).unwrap();
    let vip = ["10.0.0.9".parse().unwrap()];
    let entry = PeerEntry {
        name: "x",
        public_key: new_key(),
        preshared_key: None,
        vip: &vip,
        allowed_ips: &[],
        expires: None,
    };
    assert!(refused.with_peer(&entry).unwrap_err().contains("[[peers]]"));
    assert!(refused.without_peer(&key(ANA)).is_err());
}

#[test]
fn a_peer_goes_with_the_comment_directly_above_and_leaves_the_others() {
    let edit = Edit::of(HUB).unwrap();
    let new = edit.without_peer(&key(BOB)).unwrap();
    let (more, less) = difference(HUB, &new);
    assert!(more.is_empty(), "{more:?}");
    assert!(less.len() == 3 && less[0].contains("bob"), "{less:?}");
    let new = edit.without_peer(&key(ANA)).unwrap();
    let (more, less) = difference(HUB, &new);
    assert!(more.is_empty(), "{more:?}");
    assert_eq!(less.len(), 8, "{less:?}");
    for kept in [
        "# --- people ---",
        "# nothing more of her",
        "# The hub of the office",
    ] {
        assert!(new.contains(kept), "{}", *new);
    }
    assert!(!new.contains("\n\n\n"), "{}", *new);
    assert!(
        edit.without_peer(&new_key())
            .unwrap_err()
            .contains("[[peers]]")
    );
}

/// What is about other peers, or about none, stays.
#[test]
fn only_the_comment_that_is_about_a_peer_goes_with_it() {
    for (above, kept, lines) in [
        ("# her phone\n", "", 1),
        ("# her\n# phone\n", "", 2),
        ("# before\n\n# her phone\n", "# before\n", 1),
        (
            "# --- all of the office ---\n",
            "# --- all of the office ---\n",
            0,
        ),
        ("# ===\n# her phone\n", "# ===\n", 1),
        (
            "# [[peers]]\n# name = \"old\"\n",
            "# [[peers]]\n# name = \"old\"\n",
            0,
        ),
        ("#allowed_ips = []\n# hers\n", "#allowed_ips = []\n", 1),
        // An equals sign alone makes no key.
        ("# a phone = hers\n", "", 1),
    ] {
        let before = "[interface]\nvip = \"10.0.0.1/24\"\n\n[[peers]]\npublic_key = \"X\"\n";
        let text = format!("{before}{above}[[peers]]\npublic_key = \"{ANA}\"\n");
        let edit = Edit::of(&text).unwrap();
        assert_eq!(edit.comment_lines_of(&key(ANA)), lines, "{above}");
        let new = edit.without_peer(&key(ANA)).unwrap();
        assert_eq!(
            new.trim_end(),
            format!("{before}{kept}").trim_end(),
            "{above}"
        );
    }
}

#[test]
fn a_new_name_stands_wherever_the_old_one_stood() {
    let edit = Edit::of(HUB).unwrap();
    let new = edit.renamed(&key(ANA), Some("ana"), "ana-2").unwrap();
    let expected = HUB
        .replace("\"ana\"", "\"ana-2\"")
        .replace("\"ana:443\"", "\"ana-2:443\"");
    assert_eq!(*new, expected);
    load(&new);
    // One that had none.
    let text = HUB.replace("name = \"bob\"\n", "").replace("'bob',", "");
    let edit = Edit::of(&text).unwrap();
    let new = edit.renamed(&key(BOB), None, "bob").unwrap();
    let (more, less) = difference(&text, &new);
    assert_eq!((more, less), (vec!["name = \"bob\""], vec![]));
    assert_eq!(load(&new).peers[1].name.as_deref(), Some("bob"));
}

#[test]
fn a_new_key_stands_wherever_the_old_one_stood() {
    let text = HUB.replace("to = [\"ana\",", &format!("to = [\"{ANA}\","));
    let edit = Edit::of(&text).unwrap();
    let new = edit
        .with_key(&key(ANA), &new_key(), SharedKey::Same)
        .unwrap();
    assert_eq!(*new, text.replace(ANA, &new_key().to_string()));
    load(&new);
    let secret = PresharedKey([3; 32]);
    let new = edit
        .with_key(&key(ANA), &new_key(), SharedKey::New(&secret))
        .unwrap();
    assert_eq!(load(&new).peers[0].preshared_key, secret);
    let other = PresharedKey([4; 32]);
    let newer = Edit::of(&new).unwrap();
    let newer = newer
        .with_key(&new_key(), &key(ANA), SharedKey::New(&other))
        .unwrap();
    assert_eq!(load(&newer).peers[0].preshared_key, other);
    assert_eq!(newer.matches("preshared_key").count(), 1);
    let without = Edit::of(&newer).unwrap();
    let without = without
        .with_key(&key(ANA), &new_key(), SharedKey::None)
        .unwrap();
    assert!(load(&without).peers[0].preshared_key.is_none());
    // Nothing is left of the line, but for a comment.
    assert!(!without.contains("preshared_key"), "{}", *without);
    let line = format!("preshared_key = \"{}\"", *other.to_base64());
    let commented = newer.replace(&line, &format!("{line} # since March"));
    let without = Edit::of(&commented).unwrap();
    let without = without
        .with_key(&key(ANA), &key(ANA), SharedKey::None)
        .unwrap();
    assert_eq!(*without, commented.replace(&format!("{line} "), ""));
    let never = edit
        .with_key(&key(ANA), &new_key(), SharedKey::None)
        .unwrap();
    assert_eq!(*never, text.replace(ANA, &new_key().to_string()));
}

#[test]
fn who_names_a_peer_is_told_with_the_line() {
    let edit = Edit::of(HUB).unwrap();
    let found = edit.mentions(|word| word == "ana");
    let found: Vec<_> = found.iter().map(|it| (it.what.as_str(), it.line)).collect();
    let line = |words: &str| HUB.lines().position(|line| line.contains(words)).unwrap() + 1;
    assert_eq!(
        found,
        [
            ("groups.staff", line("staff = ")),
            ("rules", line("to = [\"ana\"")),
            ("forward", line("ana:443")),
        ]
    );
    assert!(edit.mentions(|word| word == "nobody").is_empty());
}

#[test]
fn values_change_in_their_place_and_comments_stay() {
    let with = |text: &str, values: &[(&str, Option<NewValue>)]| {
        let edit = Edit::of(text).unwrap();
        edit.with_values(&key(ANA), values).unwrap().to_string()
    };
    let quota = || Some(NewValue::Text("1 GB/day".into()));
    let expires = || Some(NewValue::Day("2999-01-01".parse().unwrap()));
    let nets = Some(NewValue::Networks(vec!["10.9.0.0/16".parse().unwrap()]));
    let new = with(
        HUB,
        &[
            ("allowed_ips", nets),
            ("quota", quota()),
            ("expires", expires()),
            ("rate_up", None),
        ],
    );
    let old_list = "[\n  \"192.168.50.0/24\", # home\n]\n";
    let lines = "[\n  # home\n  \"10.9.0.0/16\",\n]\nquota = \"1 GB/day\"\nexpires = 2999-01-01\n";
    assert_eq!(new, HUB.replace(old_list, lines));
    assert_eq!(
        load(&new).peers[0].limits.expires.unwrap().to_string(),
        "2999-01-01"
    );
    let edit = Edit::of(&new).unwrap();
    assert_eq!(
        edit.text_of(&key(ANA), "quota").as_deref(),
        Some("1 GB/day")
    );
    assert_eq!(edit.text_of(&key(ANA), "rate_up"), None);
    // Back, but for the list.
    let back = with(
        &new,
        &[("quota", None), ("expires", None), ("allowed_ips", None)],
    );
    assert_eq!(back, HUB.replace(&format!("allowed_ips = {old_list}"), ""));
    // A comment behind a value that goes stays, and a file may end without a line feed.
    assert!(with(HUB, &[("vip", None)]).contains("Dg=\"\n# since 2024\n"));
    let begun = "[[peers]]\npublic_key = \"xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=\"";
    assert_eq!(
        with(begun, &[("quota", quota()), ("expires", expires())]),
        format!("{begun}\nquota = \"1 GB/day\"\nexpires = 2999-01-01")
    );
    let windows = format!("{begun}\r\n");
    assert_eq!(
        with(&windows, &[("quota", quota())]),
        format!("{windows}quota = \"1 GB/day\"\r\n")
    );
    // Nor does it become the next peer's.
    for next in ["[[peers]]\nname = \"bob\"\n", "# bob\n[[peers]]\n"] {
        let two = format!("{begun}\nquota = \"1 GB/day\" # his plan\n{next}");
        assert_eq!(
            with(&two, &[("quota", None)]),
            format!("{begun}\n# his plan\n\n{next}")
        );
    }
    assert!(
        Edit::of(HUB)
            .unwrap()
            .has_comments(&key(ANA), "allowed_ips")
    );
    assert!(!Edit::of(&new).unwrap().has_comments(&key(ANA), "quota"));
}
