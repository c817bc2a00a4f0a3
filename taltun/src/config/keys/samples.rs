//! For tests: two configurations that differ in one key, by the example that it declares.

use std::path::Path;

use toml::{Table, Value};

use super::Key;
use crate::config::{self, Config};
use crate::crypto::PrivateKey;

/// Enough that each example can stand in it: two peers, the first of which is changed.
const BASE: &str = r#"
[interface]
private_key = "2ByUIwzcYNKTLqY+lUl84K4xMrxhPADR7ZVQrYaaxmM="
vip = "10.0.0.1/24"
routes = ["0.0.0.0/0"]
[dns_routes]
domains = ["example.org"]
via = "home"
upstream = "192.0.2.53"
[names]
domain = "example"
[udpgw]
[metrics]
[web]
[[peers]]
name = "office"
public_key = "N6uHQWBlcXDSXySW73QVHVcuVbdAeV4f89nTvZRlAGg="
vip = "10.0.0.2"
[[peers]]
name = "home"
public_key = "bO4VeO3GqHhVxz/2RLKAvAGWMLPDBMGBrQe0xzzWNRI="
vip = "10.0.0.3"
[[rules]]
from = "10.0.0.2"
to = "home"
allow = "any"
"#;

/// A hub of a fleet, where there are any.
#[cfg(feature = "fleet")]
const FLEET: &str = r#"
[fleet]
name = "one"
hub = "paris"
etcd = "http://10.1.0.9:2379"
"#;

/// Sections that must stand beside a key, in place of those of the same name.
const BESIDE: &[(&str, &str)] = &[
    ("nat.out", "[nat]\nmasquerade = true"),
    ("forward.listen", FORWARD),
    ("forward.to", FORWARD),
    ("forward.source", FORWARD),
    #[cfg(feature = "fleet")]
    ("fleet.cert", CERTIFIED),
    #[cfg(feature = "fleet")]
    ("fleet.key", CERTIFIED),
    #[cfg(feature = "fleet")]
    ("fleet.shared_address", GROUPED),
];

/// A hub of a fleet's group.
#[cfg(feature = "fleet")]
const GROUPED: &str = r#"
[fleet]
name = "one"
hub = "paris"
etcd = "http://10.1.0.9:2379"
group = "us"
"#;

/// A hub of a fleet with a certificate.
#[cfg(feature = "fleet")]
const CERTIFIED: &str = r#"
[fleet]
name = "one"
hub = "paris"
etcd = "https://10.1.0.9:2379"
ca = "ca.pem"
cert = "one.pem"
key = "one.key"
"#;

/// A hub whose port leads to a peer.
const FORWARD: &str = r#"
[interface]
mode = "server"
private_key = "2ByUIwzcYNKTLqY+lUl84K4xMrxhPADR7ZVQrYaaxmM="
vip = "10.0.0.1/24"
[[forward]]
listen = "tcp/443"
to = "office:443"
"#;

/// What mustn't.
const INSTEAD: &[(&str, &str)] = &[
    ("interface.private_key_file", "private_key"),
    ("rules.deny", "allow"),
];

/// The section that mustn't stand beside a key.
const WITHOUT: &[(&str, &str)] = &[("names.upstream", "dns_routes")];

/// A configuration without the example of `key`, and the same with it.
pub(crate) fn pair(key: &'static Key) -> (Config, Config) {
    let read = |table: &Table| match read(table) {
        Ok(config) => config,
        Err(error) => panic!("{}: {error}", key.full_name()),
    };
    (read(&base(key)), read(&with(key, key.example)))
}

/// The file that `key` is changed in.
pub(super) fn base(key: &'static Key) -> Table {
    let mut table: Table = BASE.parse().unwrap();
    #[cfg(feature = "fleet")]
    table.extend(FLEET.parse::<Table>().unwrap());
    for (name, beside) in BESIDE {
        if *name == key.full_name() {
            table.extend(beside.parse::<Table>().unwrap());
        }
    }
    for (name, section) in WITHOUT {
        if *name == key.full_name() {
            table.remove(*section);
        }
    }
    table
}

/// The same with a value of `key`, in TOML.
pub(super) fn with(key: &'static Key, value: &str) -> Table {
    let mut table = base(key);
    let section = section(&mut table, key);
    for (name, other) in INSTEAD {
        if *name == key.full_name() {
            section.remove(*other);
        }
    }
    section.insert(key.name.to_owned(), self::value(value));
    table
}

/// The same without any.
pub(super) fn without(key: &'static Key) -> Table {
    let mut table = base(key);
    section(&mut table, key).remove(key.name);
    table
}

/// What a file says, with a key in a file beside it.
pub(super) fn read(table: &Table) -> Result<Config, String> {
    let dir = tempfile::tempdir().unwrap();
    let key = PrivateKey::from_bytes([9; 32]);
    write(&dir.path().join("other.key"), &key.to_base64());
    let file = dir.path().join("hub.toml");
    let loaded = config::parse(&table.to_string(), file.to_str().unwrap());
    match loaded {
        Ok(loaded) => Ok(loaded.config),
        Err(error) => Err(error.to_string()),
    }
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
}

/// The section that `key` belongs to: of the peers, the first.
pub(super) fn section<'t>(table: &'t mut Table, key: &Key) -> &'t mut Table {
    let section = table.entry(key.section);
    let section = section.or_insert_with(|| Table::new().into());
    match section {
        Value::Array(peers) => peers[0].as_table_mut().unwrap(),
        section => section.as_table_mut().unwrap(),
    }
}

/// A value in TOML.
pub(super) fn value(text: &str) -> Value {
    let mut table: Table = format!("value = {text}").parse().unwrap();
    table.remove("value").unwrap()
}
