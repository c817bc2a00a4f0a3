//! The keys of `[accel]`.

macro_rules! declared {
    ($then:ident! { $($with:tt)* }) => { $then! { { $($with)* } "accel";
        INTERFACES {
            name: "interfaces",
            also: &[],
            kind: Kind::List,
            default: "[]",
            example: "[\"eth0\"]",
            reload: Reload::Restart,
            in_comments: true,
            same: |old, new| old.accel.interfaces == new.accel.interfaces,
            english: "Where to attach. Default: the interface of the listen address; for a wildcard, every one that is up and has an address, but loopback and tunnels; with `xdp = \"auto\"`, of these only those with the default route, if there is one.",
            spanish: "Dónde instalarse. Por omisión, la interfaz de la dirección de escucha; si es un comodín, todas las activas con dirección salvo loopback y túneles; con `xdp = \"auto\"`, de ellas solo las que tengan la ruta por defecto, si la hay.",
        }
        XDP => xdp: XdpMode {
            name: "xdp",
            also: &[],
            kind: Kind::OneOf(XdpMode::NAMES),
            default: "\"auto\"",
            example: "\"generic\"",
            reload: Reload::Restart,
            in_comments: true,
            english: "How the XDP program is attached: in the driver, on finished packets, or not at all.",
            spanish: "Cómo se instala el programa XDP: en el controlador, sobre paquetes ya formados o de ninguna manera.",
        }
        AF_XDP => af_xdp: AfXdp {
            name: "af_xdp",
            also: &[],
            kind: Kind::OneOf(AfXdp::NAMES),
            default: "\"auto\"",
            example: "\"off\"",
            reload: Reload::Restart,
            in_comments: true,
            english: "Whether transport messages go past the network stack: where the driver does zero copy, wherever possible, or nowhere.",
            spanish: "Si los mensajes de transporte evitan la pila de red: donde el controlador no copia (zero copy), donde sea posible o en ningún sitio.",
        }
        DENY {
            name: "deny",
            also: &[],
            kind: Kind::List,
            default: "[]",
            example: "[\"198.51.100.0/24\"]",
            reload: Reload::Live,
            in_comments: true,
            same: |old, new| old.accel.deny == new.accel.deny,
            english: "Senders on the underlay whose datagrams are dropped.",
            spanish: "Emisores de la red exterior cuyos datagramas se descartan.",
        }
        DENY_INNER {
            name: "deny_inner",
            also: &[],
            kind: Kind::List,
            default: "[]",
            example: "[\"10.0.0.66\"]",
            reload: Reload::Live,
            in_comments: true,
            same: |old, new| old.accel.deny_inner == new.accel.deny_inner,
            english: "Senders inside the tunnel whose packets are dropped.",
            spanish: "Emisores de dentro del túnel cuyos paquetes se descartan.",
        }
        HANDSHAKES_PER_SECOND => handshakes_per_second: u32 {
            name: "handshakes_per_second",
            also: &[],
            kind: Kind::Number(1, 1_000_000),
            default: "20",
            example: "5",
            reload: Reload::Live,
            in_comments: true,
            english: "Handshake initiations a second that one sender may send.",
            spanish: "Inicios de saludo por segundo que puede enviar un mismo emisor.",
        }
    } };
}
pub(in crate::config) use declared;
