//! The keys of `[peers]`.

macro_rules! declared {
    ($then:ident! { $($with:tt)* }) => { $then! { { $($with)* } "peers";
        NAME {
            name: "name",
            also: &[],
            kind: Kind::Text,
            default: "",
            example: "\"ana\"",
            reload: Reload::Live,
            in_comments: true,
            same: |old, new| each(old, new, |old, new| old.name == new.name),
            english: "Its name, shown in place of its key.",
            spanish: "Cómo llamarlo en lugar de por su clave.",
        }
        PUBLIC_KEY {
            name: "public_key",
            also: &["key", "pubkey"],
            kind: Kind::Text,
            default: "",
            example: "\"+V5zPSr0c2ZCLE2pgR9dR1gNyBA/e4Ylq5209D6xuV0=\"",
            reload: Reload::Live,
            in_comments: true,
            same: |old, new| each(old, new, |old, new| old.public_key == new.public_key),
            english: "Its public key, base64 or hexadecimal. Required.",
            spanish: "Su clave pública, en base64 o hexadecimal. Obligatoria.",
        }
        PRESHARED_KEY {
            name: "preshared_key",
            also: &["psk", "secret", "sharedkey"],
            kind: Kind::Text,
            default: "",
            example: "\"N6uHQWBlcXDSXySW73QVHVcuVbdAeV4f89nTvZRlAGg=\"",
            reload: Reload::Live,
            in_comments: true,
            same: |old, new| each(old, new, |old, new| old.preshared_key == new.preshared_key),
            english: "An additional secret of the two sides, the same in both files.",
            spanish: "Un secreto que además comparten ambos lados, igual en los dos ficheros.",
        }
        VIP {
            name: "vip",
            also: ADDRESSES,
            kind: Kind::TextOrList,
            default: "",
            example: "\"10.0.0.9\"",
            reload: Reload::Live,
            in_comments: true,
            same: |old, new| each(old, new, |old, new| old.vip == new.vip),
            english: "Its own address in the tunnel, without a prefix length; always allowed.",
            spanish: "Su dirección dentro del túnel, sin prefijo; siempre permitida.",
        }
        ENDPOINT {
            name: "endpoint",
            also: &["remote", "host", "server"],
            kind: Kind::Text,
            default: "",
            example: "\"203.0.113.1:9000\"",
            reload: Reload::Live,
            in_comments: true,
            same: same_endpoints,
            english: "Where it is, `HOST:PORT`. A name is looked up, and again when nobody answers. `HOST:FIRST-LAST` is a range of ports, of which each handshake tries others until one answers; without a port, it is that of `hop.port_range`.",
            spanish: "Dónde está, `HOST:PUERTO`. Un nombre se resuelve, y otra vez cuando nadie responde. `HOST:PRIMERO-ÚLTIMO` es un intervalo de puertos, de los que se prueban varios hasta que uno responda; sin puerto, vale el de `hop.port_range`.",
        }
        ENDPOINTS {
            name: "endpoints",
            also: &["remotes", "hosts", "servers"],
            kind: Kind::List,
            default: "[]",
            example: "[\"hub.example.net:9000\", \"203.0.113.9:4096-8191\"]",
            reload: Reload::Live,
            in_comments: true,
            same: same_endpoints,
            english: "Several of them in place of `endpoint`, the preferred one first. A first handshake tries one after the other, a quarter of a second apart, and the one that answers first is used.",
            spanish: "Varios en lugar de `endpoint`, el preferido primero. El primer saludo los prueba uno tras otro, cada cuarto de segundo, y se usa el que responda antes.",
        }
        ALLOWED_IPS {
            name: "allowed_ips",
            also: &["networks", "subnets", "allowed", "nets"],
            kind: Kind::List,
            default: "[]",
            example: "[\"192.168.50.0/24\"]",
            reload: Reload::Live,
            in_comments: true,
            same: |old, new| each(old, new, |old, new| old.allowed_ips == new.allowed_ips),
            english: "Networks behind it: what may come from it, and what is sent to it.",
            spanish: "Redes detrás de él: lo que puede venir de él y lo que se le envía.",
        }
        RATE_UP {
            name: "rate_up",
            also: &["upload", "up", "maxup", "uprate"],
            kind: Kind::Text,
            default: "",
            example: "\"5 Mbit/s\"",
            reload: Reload::Live,
            in_comments: true,
            same: |old, new| each(old, new, |old, new| old.rates.rate_up == new.rates.rate_up),
            english: "How fast packets from it go on, such as `\"5 Mbit/s\"`: into this machine and to other peers. What is more waits, see [Limits](limits.md).",
            spanish: "A qué velocidad siguen los paquetes que vienen de él, como `\"5 Mbit/s\"`: hacia esta máquina y hacia otros pares. Lo que pasa de ahí espera; véase [Límites](limits.md).",
        }
        RATE_DOWN {
            name: "rate_down",
            also: &["download", "down", "maxdown", "downrate"],
            kind: Kind::Text,
            default: "",
            example: "\"20 Mbit/s\"",
            reload: Reload::Live,
            in_comments: true,
            same: |old, new| each(old, new, |old, new| old.rates.rate_down == new.rates.rate_down),
            english: "How fast packets are sent to it, such as `\"20 Mbit/s\"`, whoever they are from.",
            spanish: "A qué velocidad se le envían paquetes, como `\"20 Mbit/s\"`, sean de quien sean.",
        }
        DSCP {
            name: "dscp",
            also: &["tos", "copydscp", "qos"],
            kind: Kind::OneOf(Dscp::NAMES),
            default: "\"none\"",
            example: "\"copy\"",
            reload: Reload::Live,
            in_comments: true,
            same: |old, new| each(old, new, |old, new| old.rates.dscp == new.rates.dscp),
            english: "`\"copy\"` writes the DSCP of each packet to it on the datagram that carries it, so that routers on the way can prefer it. They then see which packets are urgent.",
            spanish: "`\"copy\"` escribe el DSCP de cada paquete que va a él en el datagrama que lo lleva, para que los routers del camino puedan darle preferencia. Así ven qué paquetes son urgentes.",
        }
        PERSISTENT_KEEPALIVE {
            name: "persistent_keepalive",
            also: &["keepalive", "keepaliveinterval"],
            kind: Kind::Number(0, 65_535),
            default: "0",
            example: "25",
            reload: Reload::Live,
            in_comments: true,
            same: |old, new| each(old, new, |old, new| old.persistent_keepalive == new.persistent_keepalive),
            english: "Seconds between packets that keep a NAT's mapping alive; 0 for none.",
            spanish: "Segundos entre los paquetes que mantienen viva la asociación de un NAT; 0 para ninguno.",
        }
        QUOTA {
            name: "quota",
            also: &["limit", "traffic", "datalimit", "volume"],
            kind: Kind::Text,
            default: "",
            example: "\"100 GB/month\"",
            reload: Reload::Live,
            in_comments: true,
            same: |old, new| each(old, new, |old, new| old.limits.quota == new.limits.quota),
            english: "How much it may move, both ways together, in a day or a month of the calendar (UTC): an amount in B, kB, MB, GB, TB, PB, or KiB, MiB, GiB, TiB, PiB, and `/day` or `/month`. Beyond it the peer is [refused](usage.md#quotas-and-last-days) until the next.",
            spanish: "Cuánto puede mover, ambos sentidos juntos, en un día o un mes del calendario (UTC): una cantidad en B, kB, MB, GB, TB, PB, o KiB, MiB, GiB, TiB, PiB, y `/day` o `/month`. Más allá se [rechaza](usage.md#cuotas-y-últimos-días) al par hasta el siguiente.",
        }
        EXPIRES {
            name: "expires",
            also: &["expiry", "expire", "until", "validuntil", "expiration"],
            kind: Kind::Date,
            default: "",
            example: "2199-12-31",
            reload: Reload::Live,
            in_comments: true,
            same: |old, new| each(old, new, |old, new| old.limits.expires == new.limits.expires),
            english: "Its last day, in UTC. After it the peer is [refused](usage.md#quotas-and-last-days). A day that is past is an error for `taltun check`, and a warning for a start and a reload.",
            spanish: "Su último día, en UTC. Después se [rechaza](usage.md#cuotas-y-últimos-días) al par. Un día pasado es un error para `taltun check`, y una advertencia para un arranque y una recarga.",
        }
    } };
}
pub(in crate::config) use declared;
