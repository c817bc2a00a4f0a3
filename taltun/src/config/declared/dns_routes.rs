//! The keys of `[dns_routes]`.

macro_rules! declared {
    ($then:ident! { $($with:tt)* }) => { $then! { { $($with)* } "dns_routes";
        DOMAINS {
            name: "domains",
            also: &[],
            kind: Kind::List,
            default: "",
            example: "[\"example.com\", \"*.example.org\"]",
            reload: Reload::Live,
            in_comments: true,
            same: |old, new| both(old, new, |old, new| old.domains == new.domains),
            english: "`example.com` is that name alone, `*.example.net` all names below it. Required.",
            spanish: "`example.com` es solo ese nombre, `*.example.net` todos los que cuelgan de él. Obligatoria.",
        }
        VIA {
            name: "via",
            also: &[],
            kind: Kind::Text,
            default: "",
            example: "\"office\"",
            reload: Reload::Live,
            in_comments: true,
            same: |old, new| both(old, new, |old, new| old.via == new.via),
            english: "The peer, by name or public key, through which their addresses are reached. Required.",
            spanish: "El par, por su nombre o clave pública, por el que se alcanzan sus direcciones. Obligatoria.",
        }
        UPSTREAM {
            name: "upstream",
            also: &[],
            kind: Kind::TextOrList,
            default: "",
            example: "\"192.0.2.54\"",
            reload: Reload::Live,
            in_comments: true,
            same: |old, new| both(old, new, |old, new| old.upstream == new.upstream),
            english: "Name servers for all queries, tried in this order. Required.",
            spanish: "Servidores de nombres a los que se pasan todas las preguntas, por orden. Obligatoria.",
        }
        KEEP_SECONDS {
            name: "keep_seconds",
            also: &[],
            kind: Kind::Number(0, 604_800),
            default: "3600",
            example: "60",
            reload: Reload::Live,
            in_comments: true,
            same: |old, new| both(old, new, |old, new| old.keep == new.keep),
            english: "Seconds that an address stays beyond its TTL, for connections that last.",
            spanish: "Segundos que una dirección permanece más allá de su TTL, para las conexiones que duran.",
        }
    } };
}
pub(in crate::config) use declared;
