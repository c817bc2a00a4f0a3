//! The keys of `[hop]`.

macro_rules! declared {
    ($then:ident! { $($with:tt)* }) => { $then! { { $($with)* } "hop";
        PORT_RANGE => port_range: Option<PortRange> {
            name: "port_range",
            also: &["ports", "range", "portrange"],
            kind: Kind::Range(1, 65_535),
            default: "",
            example: "[4096, 8191]",
            reload: Reload::Live,
            in_comments: true,
            english: "The first and the last port of a range. A server is reached at all of them, besides at the port it listens on. A client takes them for those of a peer whose endpoint has no port of its own.",
            spanish: "El primer puerto de un intervalo y el último. A un servidor se llega por todos ellos, además de por el puerto en el que escucha. Un cliente los toma por los del par cuyo `endpoint` no dice ningún puerto.",
        }
        HOP_INTERVAL => hop_interval: u32 {
            name: "hop_interval",
            also: &["interval", "hop", "hopinterval", "hopevery"],
            kind: Kind::Number(0, 86_400),
            default: "30",
            example: "10",
            reload: Reload::Live,
            in_comments: true,
            english: "Seconds, on average, after which a client goes on at another port of a hub that has several and is a Taltun; 0: another one for each batch of packets.",
            spanish: "Segundos, de media, tras los que un cliente sigue por otro puerto de un concentrador que tiene varios y es un Taltun; 0: otro para cada lote de paquetes.",
        }
        HOP_POOL => hop_pool: u32 {
            name: "hop_pool",
            also: &["pool", "poolsize", "portsinuse"],
            kind: Kind::Number(1, 64),
            default: "8",
            example: "4",
            reload: Reload::Live,
            in_comments: true,
            english: "How many ports of a hub a client uses within two minutes at the most: each takes an entry at every NAT on the way. 1: it stays at one port while that works.",
            spanish: "Cuántos puertos de un concentrador usa un cliente, como mucho, en dos minutos: cada uno ocupa una entrada en cada NAT del camino. 1: sigue en un puerto mientras funcione.",
        }
        PROBE_INTERVAL => probe_interval: u32 {
            name: "probe_interval",
            also: &["probeevery", "healthinterval"],
            kind: Kind::Number(1, 3_600),
            default: "5",
            example: "2",
            reload: Reload::Live,
            in_comments: true,
            english: "Seconds from one probe to the next on each path to a hub that has several addresses or ports, while the tunnel is in use.",
            spanish: "Segundos de una sonda a la siguiente en cada camino hacia un concentrador con varias direcciones o puertos, mientras el túnel se use.",
        }
        LOSS_THRESHOLD => loss_threshold: u32 {
            name: "loss_threshold",
            also: &["loss", "maxloss"],
            kind: Kind::Number(1, 100),
            default: "20",
            example: "40",
            reload: Reload::Live,
            in_comments: true,
            english: "A path that loses more than so many percent of its last 20 probes is left for a better one. One that loses two in a row always is.",
            spanish: "Un camino que pierde más de este tanto por ciento de sus últimas 20 sondas se deja por otro mejor. El que pierde dos seguidas se deja siempre.",
        }
        RETRY_AFTER => retry_after: u32 {
            name: "retry_after",
            also: &["retry", "holddown"],
            kind: Kind::Number(0, 86_400),
            default: "60",
            example: "300",
            reload: Reload::Live,
            in_comments: true,
            english: "Seconds before a client returns to a path that it left, if that works again and comes earlier in the list.",
            spanish: "Segundos antes de que un cliente vuelva a un camino que dejó, si vuelve a funcionar y está antes en la lista.",
        }
    } };
}
pub(in crate::config) use declared;
