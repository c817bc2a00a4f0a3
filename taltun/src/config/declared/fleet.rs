//! The keys of `[fleet]`.

macro_rules! declared {
    ($then:ident! { $($with:tt)* }) => { $then! { { $($with)* } "fleet";
        NAME {
            name: "name",
            also: &["network", "id"],
            kind: Kind::Text,
            default: "",
            example: "\"example\"",
            reload: Reload::Restart,
            in_comments: false,
            same: |old, new| both(old, new, |old, new| old.name == new.name),
            english: "What the fleet is called, the same on all of its hubs: 1 to 63 small letters, digits and hyphens. Required.",
            spanish: "Cómo se llama la flota, igual en todos sus concentradores: de 1 a 63 letras minúsculas, cifras y guiones. Obligatoria.",
        }
        HUB {
            name: "hub",
            also: &["node", "hubname", "member"],
            kind: Kind::Text,
            default: "",
            example: "\"madrid\"",
            reload: Reload::Restart,
            in_comments: false,
            same: |old, new| both(old, new, |old, new| old.hub == new.hub),
            english: "What this hub is called in the fleet, likewise. No other hub has this name. Required.",
            spanish: "Cómo se llama este concentrador en la flota, con las mismas reglas. Ningún otro tiene ese nombre. Obligatoria.",
        }
        ETCD {
            name: "etcd",
            also: &["endpoints", "store", "servers"],
            kind: Kind::TextOrList,
            default: "",
            example: "[\"http://10.1.0.1:2379\", \"http://10.1.0.2:2379\"]",
            reload: Reload::Restart,
            in_comments: false,
            same: |old, new| both(old, new, |old, new| old.etcd == new.etcd),
            english: "The members of etcd, at most 16: `https://10.1.0.1:2379`, which needs `ca`, or `http://…` where the way there is safe. Required.",
            spanish: "Los miembros de etcd, 16 como mucho: `https://10.1.0.1:2379`, que necesita `ca`, o `http://…` donde el camino hasta ellos es seguro. Obligatoria.",
        }
        CA {
            name: "ca",
            also: &["cacert", "cafile", "trustedca"],
            kind: Kind::Text,
            default: "",
            example: "\"etcd-ca.pem\"",
            reload: Reload::Restart,
            in_comments: false,
            same: |old, new| both(old, new, |old, new| old.ca == new.ca),
            english: "The file, in PEM, with the authority that signed etcd's certificates; relative to this file.",
            spanish: "El fichero, en PEM, con la autoridad que firmó los certificados de etcd; relativo a este fichero.",
        }
        CERT {
            name: "cert",
            also: &["certificate", "certfile", "clientcert"],
            kind: Kind::Text,
            default: "",
            example: "\"hub.pem\"",
            reload: Reload::Restart,
            in_comments: false,
            same: |old, new| both(old, new, |old, new| old.cert == new.cert),
            english: "The file, in PEM, with this hub's certificate, where etcd asks for one. It needs `key`.",
            spanish: "El fichero, en PEM, con el certificado de este concentrador, si etcd lo pide. Necesita `key`.",
        }
        KEY {
            name: "key",
            also: &["certkey", "keyfile", "clientkey"],
            kind: Kind::Text,
            default: "",
            example: "\"hub.key\"",
            reload: Reload::Restart,
            in_comments: false,
            same: |old, new| both(old, new, |old, new| old.key == new.key),
            english: "The file, in PEM, with the private key of that certificate.",
            spanish: "El fichero, en PEM, con la clave privada de ese certificado.",
        }
        ENDPOINT {
            name: "endpoint",
            also: &["advertise", "publicendpoint", "advertised"],
            kind: Kind::TextOrList,
            default: "[]",
            example: "\"madrid.example.net:9000\"",
            reload: Reload::Restart,
            in_comments: false,
            same: |old, new| both(old, new, |old, new| old.endpoints == new.endpoints),
            english: "Where this hub is reached, at most 16 places; the others see it in `taltun fleet status`.",
            spanish: "Dónde se alcanza este concentrador, 16 lugares como mucho; los demás lo ven en `taltun fleet status`.",
        }
        GROUP {
            name: "group",
            also: &["region", "site"],
            kind: Kind::Text,
            default: "",
            example: "\"eu\"",
            reload: Reload::Restart,
            in_comments: false,
            same: |old, new| both(old, new, |old, new| old.group == new.group),
            english: "A name for the hubs that belong together, such as those of a place. The hubs of a group answer their peers with one key, the group's, in place of their own: see [Groups](fleet.md#groups).",
            spanish: "Un nombre para los concentradores que van juntos, como los de un lugar. Los de un grupo responden a sus pares con una sola clave, la del grupo, en vez de la propia: véase [Grupos](fleet.md#grupos).",
        }
        SHARED_ADDRESS {
            name: "shared_address",
            also: &["sharedip", "virtualip", "floatingip"],
            kind: Kind::Text,
            default: "",
            example: "\"203.0.113.10\"",
            reload: Reload::Restart,
            in_comments: false,
            same: |old, new| both(old, new, |old, new| old.shared_address == new.shared_address),
            english: "An address of the network that this host is in, which the hubs of the `group` share: one of them has it, and another one takes it over when that is gone. It needs `group`.",
            spanish: "Una dirección de la red de este equipo que comparten los concentradores del `group`: la tiene uno de ellos, y otro se hace cargo cuando ese falta. Necesita `group`.",
        }
    } };
}
pub(in crate::config) use declared;
