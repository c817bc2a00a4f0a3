//! The keys of `[[forward]]`.

macro_rules! declared {
    ($then:ident! { $($with:tt)* }) => { $then! { { $($with)* } "forward";
        LISTEN {
            name: "listen",
            also: &["port", "ports", "from", "hostport"],
            kind: Kind::Text,
            default: "",
            example: "\"tcp/203.0.113.9:8443\"",
            reload: Reload::Live,
            in_comments: true,
            same: |old, new| each(old, new, |old, new| old.listen == new.listen),
            english: "Ports of this host that lead to a peer: `tcp/8443`, `udp/5000-5010`; with an address only there: `tcp/203.0.113.9:8443`, `tcp/[2001:db8::9]:8443`. Required.",
            spanish: "Puertos de este equipo que llevan a un par: `tcp/8443`, `udp/5000-5010`; con una dirección, solo en ella: `tcp/203.0.113.9:8443`, `tcp/[2001:db8::9]:8443`. Obligatoria.",
        }
        TO {
            name: "to",
            also: &["target", "peer", "destination", "dest"],
            kind: Kind::Text,
            default: "",
            example: "\"10.0.0.3:443\"",
            reload: Reload::Live,
            in_comments: true,
            same: |old, new| each(old, new, |old, new| old.to == new.to),
            english: "The peer by its name, its public key or an address that it has, and its port: `ana:443`, `10.0.0.2:443`, `[fd00::2]:443`. Of a range, as many ports. Required.",
            spanish: "El par por su nombre, su clave pública o una dirección que tenga, y su puerto: `ana:443`, `10.0.0.2:443`, `[fd00::2]:443`. De un intervalo, otros tantos puertos. Obligatoria.",
        }
        SOURCE {
            name: "source",
            also: &["snat", "masquerade", "src"],
            kind: Kind::OneOf(ForwardSource::NAMES),
            default: "\"hub\"",
            example: "\"keep\"",
            reload: Reload::Live,
            in_comments: true,
            same: |old, new| each(old, new, |old, new| old.source == new.source),
            english: "Whose address the peer sees. `hub`: our vip, which any peer can answer. `keep`: the sender's own, for a peer that sends all of its traffic to this hub.",
            spanish: "Qué dirección ve el par. `hub`: nuestra `vip`, a la que cualquier par puede contestar. `keep`: la de quien envía, para un par que manda todo su tráfico a este concentrador.",
        }
    } };
}
pub(in crate::config) use declared;
