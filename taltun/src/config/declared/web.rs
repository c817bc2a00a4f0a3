//! The keys of `[web]`.

macro_rules! declared {
    ($then:ident! { $($with:tt)* }) => { $then! { { $($with)* } "web";
        LISTEN {
            name: "listen",
            also: &["listenaddr", "listenaddress", "address", "addr", "bind", "port"],
            kind: Kind::TextOrList,
            default: "[\"127.0.0.1:8080\"]",
            example: "\"10.0.0.1:8080\"",
            reload: Reload::Live,
            in_comments: true,
            same: |old, new| compare(old, new, |old, new| old.listen == new.listen),
            english: "Where browsers connect to: an address and a port from 1 to 65535, at most 8 of them. On one of our `vip`, only those who come through the tunnel can, and this machine. Other addresses are refused without `force`.",
            spanish: "Dónde se conectan los navegadores: una dirección y un puerto de 1 a 65535, 8 como mucho. En una de nuestras `vip` solo pueden hacerlo los que llegan por el túnel, y esta máquina. Otras direcciones se rechazan sin `force`.",
        }
        FORCE => force: bool {
            name: "force",
            also: &["public", "allowpublic", "insecure"],
            kind: Kind::Switch,
            default: "false",
            example: "true",
            reload: Reload::Live,
            in_comments: false,
            english: "Listens also where others than peers and this machine may connect, without encryption: only where something else guards the way.",
            spanish: "Escucha también donde pueden conectarse otros que no son los pares ni esta máquina, sin cifrado: solo donde otra cosa protege el camino.",
        }
        HOSTS {
            name: "hosts",
            also: &["host", "hostnames", "servernames", "allowedhosts"],
            kind: Kind::TextOrList,
            default: "[]",
            example: "\"vpn.example.org\"",
            reload: Reload::Live,
            in_comments: true,
            same: |old, new| compare(old, new, |old, new| old.hosts == new.hosts),
            english: "Names by which browsers may ask for the page, at most 16, such as that of a proxy with HTTPS before it. Addresses, `localhost` and, with `[names]`, `hub` in its domain always work; any other name is refused, so that no foreign page can reach this one by a name of its own.",
            spanish: "Nombres con los que los navegadores pueden pedir la página, 16 como mucho, como el de un proxy con HTTPS delante de ella. Las direcciones, `localhost` y, con `[names]`, `hub` en su dominio funcionan siempre; cualquier otro nombre se rechaza, para que ninguna página ajena alcance esta con un nombre suyo.",
        }
    } };
}
pub(in crate::config) use declared;
