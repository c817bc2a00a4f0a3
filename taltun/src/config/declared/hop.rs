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
    } };
}
pub(in crate::config) use declared;
