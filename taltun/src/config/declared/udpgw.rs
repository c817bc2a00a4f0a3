//! The keys of `[udpgw]`.

macro_rules! declared {
    ($then:ident! { $($with:tt)* }) => { $then! { { $($with)* } "udpgw";
        LISTEN {
            name: "listen",
            also: &["listenaddr", "address", "addr"],
            kind: Kind::TextOrList,
            default: "[\"127.0.0.1:7300\"]",
            example: "\"10.0.0.1:7300\"",
            reload: Reload::Live,
            in_comments: true,
            same: |old, new| compare(old, new, |old, new| old.listen == new.listen),
            english: "Where clients connect to. On one of our `vip`, only those who come through the tunnel can, and this machine.",
            spanish: "Dónde se conectan los clientes. En una de nuestras `vip` solo pueden hacerlo los que llegan por el túnel, y esta máquina.",
        }
        MAX_CLIENTS => max_clients: u32 {
            name: "max_clients",
            also: &["clients"],
            kind: Kind::Number(1, 1_000_000),
            default: "1000",
            example: "350",
            reload: Reload::Live,
            in_comments: true,
            english: "More clients are refused.",
            spanish: "Si hay más clientes, se rechazan.",
        }
        MAX_CONNECTIONS_FOR_CLIENT => max_connections: u32 {
            name: "max_connections_for_client",
            also: &["maxconnections"],
            kind: Kind::Number(1, 65_536),
            default: "10",
            example: "32",
            reload: Reload::Live,
            in_comments: true,
            english: "A client that opens more connections loses the one that it used least recently.",
            spanish: "Un cliente que abre más conexiones pierde la que lleva más tiempo sin usar.",
        }
        CLIENT_TIMEOUT => client_timeout: u32 {
            name: "client_timeout",
            also: &[],
            kind: SECONDS,
            default: "300",
            example: "600",
            reload: Reload::Live,
            in_comments: true,
            english: "Seconds without a message after which a client is ended; 0: never.",
            spanish: "Segundos sin un mensaje tras los que se cierra un cliente; 0: nunca.",
        }
        UDP_TIMEOUT => udp_timeout: u32 {
            name: "udp_timeout",
            also: &[],
            kind: SECONDS,
            default: "30",
            example: "60",
            reload: Reload::Live,
            in_comments: true,
            english: "Seconds without a datagram after which a connection is closed; 0: never.",
            spanish: "Segundos sin un datagrama tras los que se cierra una conexión; 0: nunca.",
        }
        TCP_BUFFER => tcp_buffer: u32 {
            name: "tcp_buffer",
            also: &[],
            kind: BUFFER,
            default: "262144",
            example: "524288",
            reload: Reload::Live,
            in_comments: true,
            english: "Bytes of the kernel's buffers for each client, in either direction; 0: its default.",
            spanish: "Bytes de los búferes del núcleo para cada cliente, en cada sentido; 0: los que da el núcleo.",
        }
        UDP_BUFFER => udp_buffer: u32 {
            name: "udp_buffer",
            also: &[],
            kind: BUFFER,
            default: "131072",
            example: "65536",
            reload: Reload::Live,
            in_comments: true,
            english: "The same for each connection.",
            spanish: "Lo mismo para cada conexión.",
        }
        TCP_NODELAY => tcp_nodelay: bool {
            name: "tcp_nodelay",
            also: &["nodelay"],
            kind: Kind::Switch,
            default: "true",
            example: "false",
            reload: Reload::Live,
            in_comments: true,
            english: "Send small writes at once.",
            spanish: "Enviar en el acto los datos pequeños.",
        }
        KEEPALIVE => keepalive: bool {
            name: "keepalive",
            also: &[],
            kind: Kind::Switch,
            default: "true",
            example: "false",
            reload: Reload::Live,
            in_comments: true,
            english: "Look for clients that are gone: after 60 s of silence, 6 times, each 10 s.",
            spanish: "Buscar clientes que ya no están: tras 60 s de silencio, 6 veces, cada 10 s.",
        }
        UDP_MTU => udp_mtu: u16 {
            name: "udp_mtu",
            also: &["mtu"],
            kind: Kind::Number(1, 65_535),
            default: "65520",
            example: "1500",
            reload: Reload::Live,
            in_comments: true,
            english: "Larger datagrams are dropped, bytes.",
            spanish: "Los datagramas mayores se descartan; en bytes.",
        }
        ALLOW {
            name: "allow",
            also: &["allowed"],
            kind: Kind::List,
            default: "[]",
            example: "[\"192.168.50.0/24\"]",
            reload: Reload::Live,
            in_comments: true,
            same: |old, new| compare(old, new, |old, new| old.allow == new.allow),
            english: "Networks that clients may send to besides the Internet. What belongs to the tunnel is allowed only by a network within it.",
            spanish: "Redes a las que los clientes pueden enviar además de Internet. Lo que es del túnel solo lo permite una red que esté dentro de él.",
        }
        DENY {
            name: "deny",
            also: &["denied"],
            kind: Kind::List,
            default: "[]",
            example: "[\"203.0.113.0/24\"]",
            reload: Reload::Live,
            in_comments: true,
            same: |old, new| compare(old, new, |old, new| old.deny == new.deny),
            english: "Networks that clients may not send to. The more specific of `allow` and `deny` counts, and `deny` of two alike.",
            spanish: "Redes a las que los clientes no pueden enviar. Entre `allow` y `deny` decide la más específica, y `deny` si son iguales.",
        }
        WORKERS => workers: u16 {
            name: "workers",
            also: &["threads"],
            kind: Kind::Number(1, 256),
            default: "1",
            example: "2",
            reload: Reload::Live,
            in_comments: true,
            english: "Threads that serve clients; the tunnel's own come besides.",
            spanish: "Hilos que atienden a los clientes; los del túnel van aparte.",
        }
    } };
}
pub(in crate::config) use declared;
