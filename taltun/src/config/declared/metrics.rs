//! The keys of `[metrics]`.

macro_rules! declared {
    ($then:ident! { $($with:tt)* }) => { $then! { { $($with)* } "metrics";
        LISTEN {
            name: "listen",
            also: &["listenaddr", "listenaddress", "address", "addr", "bind", "port"],
            kind: Kind::TextOrList,
            default: "[\"127.0.0.1:9586\"]",
            example: "\"10.0.0.1:9586\"",
            reload: Reload::Live,
            in_comments: true,
            same: |old, new| compare(old, new, |old, new| old.listen == new.listen),
            english: "Where scrapers connect to: an address and a port from 1 to 65535, as Prometheus needs, or the path of a Unix socket; at most 8 of them. On one of our `vip`, only those who come through the tunnel can, and this machine.",
            spanish: "Dónde se conecta quien las lee: una dirección y un puerto de 1 a 65535, como necesita Prometheus, o la ruta de un socket Unix; 8 como mucho. En una de nuestras `vip` solo pueden hacerlo los que llegan por el túnel, y esta máquina.",
        }
    } };
}
pub(in crate::config) use declared;
