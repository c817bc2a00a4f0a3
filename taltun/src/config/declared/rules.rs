//! The keys of `[[rules]]`.

macro_rules! declared {
    ($then:ident! { $($with:tt)* }) => { $then! { { $($with)* } "rules";
        FROM {
            name: "from",
            also: &["source", "src"],
            kind: Kind::TextOrList,
            default: "",
            example: "[\"home\", \"192.168.50.0/28\"]",
            reload: Reload::Live,
            in_comments: true,
            same: |old, new| each(old, new, |old, new| old.from == new.from),
            english: "Who starts: peers by name or public key, networks, groups, `hub` (this machine's own addresses), `any`. Required.",
            spanish: "Quién empieza: pares por su nombre o clave pública, redes, grupos, `hub` (las direcciones de esta máquina), `any` (todos). Obligatoria.",
        }
        TO {
            name: "to",
            also: &["destination", "dest", "dst"],
            kind: Kind::TextOrList,
            default: "",
            example: "\"hub\"",
            reload: Reload::Live,
            in_comments: true,
            same: |old, new| each(old, new, |old, new| old.to == new.to),
            english: "With whom, by the same words. Required.",
            spanish: "Con quién, con las mismas palabras. Obligatoria.",
        }
        ALLOW {
            name: "allow",
            also: &["accept", "permit"],
            kind: Kind::TextOrList,
            default: "",
            example: "[\"tcp/22\", \"udp/5000-5099\", \"icmp\"]",
            reload: Reload::Live,
            in_comments: true,
            same: |old, new| each(old, new, same_services),
            english: "What they may start: `tcp/631`, `tcp/8000-8099`, `udp/53`, `tcp`, `icmp` (both kinds), `gre`, `ip/NUMBER`, `any`. This or `deny`.",
            spanish: "Qué pueden empezar: `tcp/631`, `tcp/8000-8099`, `udp/53`, `tcp`, `icmp` (de ambas clases), `gre`, `ip/NÚMERO`, `any` (todo). Esta clave o `deny`.",
        }
        DENY {
            name: "deny",
            also: &["drop", "reject", "block"],
            kind: Kind::TextOrList,
            default: "",
            example: "\"tcp/25\"",
            reload: Reload::Live,
            in_comments: true,
            same: |old, new| each(old, new, same_services),
            english: "What they may not start, by the same words.",
            spanish: "Qué no pueden empezar, con las mismas palabras.",
        }
        LOG {
            name: "log",
            also: &[],
            kind: Kind::Switch,
            default: "false",
            example: "true",
            reload: Reload::Live,
            in_comments: true,
            same: |old, new| each(old, new, |old, new| old.log == new.log),
            english: "Each start that this rule decides about is told in the log, at most 20 a second.",
            spanish: "Cada comienzo que decide esta regla consta en el registro, 20 por segundo como mucho.",
        }
    } };
}
pub(in crate::config) use declared;
