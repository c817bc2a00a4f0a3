//! The keys of `[names]`.

macro_rules! declared {
    ($then:ident! { $($with:tt)* }) => { $then! { { $($with)* } "names";
        DOMAIN {
            name: "domain",
            also: &["search", "zone", "suffix"],
            kind: Kind::Text,
            default: "",
            example: "\"vpn\"",
            reload: Reload::Live,
            in_comments: true,
            same: |old, new| both(old, new, |old, new| old.domain == new.domain),
            english: "What names of peers end in: with `vpn`, the peer `ana` is `ana.vpn`. Required.",
            spanish: "En qué terminan los nombres de los pares: con `vpn`, el par `ana` es `ana.vpn`. Obligatoria.",
        }
        UPSTREAM {
            name: "upstream",
            also: &["forward", "servers"],
            kind: Kind::TextOrList,
            default: "[]",
            example: "[\"192.0.2.53\"]",
            reload: Reload::Live,
            in_comments: true,
            same: |old, new| both(old, new, |old, new| old.upstream == new.upstream),
            english: "Name servers for all other names, tried in this order; without any, and without `[dns_routes]`, other names are refused.",
            spanish: "Servidores de nombres para todos los demás nombres, por orden; sin ninguno, y sin `[dns_routes]`, los demás nombres se rechazan.",
        }
    } };
}
pub(in crate::config) use declared;
