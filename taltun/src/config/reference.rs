//! Every key that a configuration may have, once: the parser knows its keys from this table,
//! and the reference of the manual is written from it, in both languages.

/// A key of the configuration.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// The section that it belongs to, as it is written.
    pub section: &'static str,
    /// Its name.
    pub name: &'static str,
    /// What its value is.
    pub kind: Kind,
    /// What it is where the file doesn't say, in TOML; empty where that takes words, which
    /// the description then has.
    pub default: &'static str,
    /// What it does, in English.
    pub english: &'static str,
    /// The same in Spanish.
    pub spanish: &'static str,
}

/// What a value is.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// A text in quotes.
    Text,
    /// A text, or a list of them.
    TextOrList,
    /// A list of texts.
    List,
    /// `true` or `false`.
    Switch,
    /// A whole number from the first to the second.
    Number(u32, u32),
    /// One of these texts.
    OneOf(&'static [&'static str]),
}

/// A section of the configuration.
#[derive(Debug, Clone, Copy)]
pub struct Section {
    /// Its name, as it is written without brackets.
    pub name: &'static str,
    /// Its header.
    pub header: &'static str,
    /// What it is about, in English.
    pub english: &'static str,
    /// The same in Spanish.
    pub spanish: &'static str,
}

/// The sections, in the order of the reference.
pub const SECTIONS: &[Section] = &[
    Section {
        name: "interface",
        header: "[interface]",
        english: "This machine's side of the tunnel. Required.",
        spanish: "El lado del túnel que corresponde a esta máquina. Obligatoria.",
    },
    Section {
        name: "nat",
        header: "[nat]",
        english: "Lets what this machine forwards go on under its own address: what comes out of the tunnel, or what goes into it.",
        spanish: "Permite que lo que esta máquina reenvía siga su camino con la dirección de ella: lo que sale del túnel, o lo que entra en él.",
    },
    Section {
        name: "dns_routes",
        header: "[dns_routes]",
        english: "Names whose addresses are reached through the tunnel: a small resolver on our vips, \
                  port 53, asks for them and makes the routes.",
        spanish: "Nombres cuyas direcciones se alcanzan por el túnel: un pequeño servidor de nombres \
                  en nuestras `vip`, puerto 53, pregunta por ellas y crea las rutas.",
    },
    Section {
        name: "peers",
        header: "[[peers]]",
        english: "Somebody we have a tunnel with; one such section each.",
        spanish: "Alguien con quien tenemos un túnel; una sección para cada uno.",
    },
    Section {
        name: "accel",
        header: "[accel]",
        english: "What the eBPF programs do, and which senders are dropped.",
        spanish: "Qué hacen los programas eBPF y a qué emisores se descarta.",
    },
    Section {
        name: "dataplane",
        header: "[dataplane]",
        english: "What the workers use of what the kernel offers. Each offload is found out by \
                  itself; a switch is for a kernel that gets it wrong.",
        spanish: "Qué aprovechan los hilos de trabajo de lo que ofrece el núcleo. Cada descarga \
                  se detecta sola; los interruptores son para núcleos que la hacen mal.",
    },
];

const fn key(
    section: &'static str,
    name: &'static str,
    kind: Kind,
    default: &'static str,
    english: &'static str,
    spanish: &'static str,
) -> Key {
    Key {
        section,
        name,
        kind,
        default,
        english,
        spanish,
    }
}

/// The keys, by section, in the order of the reference.
pub const KEYS: &[Key] = &[
    key(
        "interface",
        "mode",
        Kind::OneOf(&["server", "client"]),
        "\"client\"",
        "`server` waits for its peers and relays between them; `client` starts the handshake with every peer that has an endpoint.",
        "`server` espera a sus pares y reenvía entre ellos; `client` inicia el saludo con cada par que tenga `endpoint`.",
    ),
    key(
        "interface",
        "tun_name",
        Kind::Text,
        "\"taltun0\"",
        "Name of the interface to create, 1 to 15 letters, digits, dots or dashes.",
        "Nombre de la interfaz que se crea, de 1 a 15 letras, cifras, puntos o guiones.",
    ),
    key(
        "interface",
        "vip",
        Kind::TextOrList,
        "",
        "Our address in the tunnel with its subnet; a bare address means /24, or /64 for IPv6. A list gives IPv4 and IPv6. Required.",
        "Nuestra dirección dentro del túnel con su subred; sin prefijo significa /24, o /64 en IPv6. Una lista da IPv4 e IPv6. Obligatoria.",
    ),
    key(
        "interface",
        "local_addr",
        Kind::Text,
        "\"[::]:9000\"",
        "Where to listen; `[::]` is IPv4 and IPv6, port 0 any port.",
        "Dónde escuchar; `[::]` es IPv4 e IPv6, el puerto 0 es uno cualquiera.",
    ),
    key(
        "interface",
        "private_key",
        Kind::Text,
        "",
        "Our private key, base64 or 64 hexadecimal digits. This or `private_key_file` is required.",
        "Nuestra clave privada, en base64 o con 64 cifras hexadecimales. Es obligatoria esta o `private_key_file`.",
    ),
    key(
        "interface",
        "private_key_file",
        Kind::Text,
        "",
        "A file with the private key, relative to the configuration file.",
        "Un fichero con la clave privada, relativo al de configuración.",
    ),
    key(
        "interface",
        "mtu",
        Kind::Number(576, 65_000),
        "",
        "MTU of the tunnel, bytes; at least 1280 with IPv6 inside. Default: of a client, what the way to its endpoints takes less 80, and follows that; else 1420.",
        "MTU del túnel, en bytes; al menos 1280 si lleva IPv6 dentro. Por omisión, la de un cliente es lo que admite el camino a sus `endpoint` menos 80, y lo sigue; si no, 1420.",
    ),
    key(
        "interface",
        "routes",
        Kind::List,
        "[]",
        "Networks that this machine sends into the tunnel besides the vip's subnet. `0.0.0.0/0` and `::/0`, whole or in halves, are set up so that the underlay and the local network stay reachable.",
        "Redes que esta máquina envía al túnel además de la subred de `vip`. `0.0.0.0/0` y `::/0`, enteras o en mitades, se configuran de modo que la red exterior y la local sigan siendo alcanzables.",
    ),
    key(
        "interface",
        "fwmark",
        Kind::Number(1, u32::MAX),
        "",
        "Mark on our own datagrams, and number of the routing table that a default route gets. Default: where one is needed, one made of the interface's name that nobody else on this host uses; else none.",
        "Marca de nuestros propios datagramas y número de la tabla de rutas que recibe una ruta por defecto. Por omisión, si hace falta, una derivada del nombre de la interfaz que nadie más use en esta máquina; si no, ninguna.",
    ),
    key(
        "interface",
        "dns",
        Kind::List,
        "[]",
        "Name servers, and domains to search, while the tunnel is up; by resolvectl or resolvconf, whichever answers on this host.",
        "Servidores de nombres, y dominios de búsqueda, mientras el túnel está activo; mediante resolvectl o resolvconf, según quién responda en esta máquina.",
    ),
    key(
        "interface",
        "ip_forward",
        Kind::Switch,
        "false",
        "Let the kernel pass packets on between its interfaces, of the families of our vips. Not needed for peers to reach each other: Taltun relays between them itself. Stays on at the end.",
        "Que el núcleo reenvíe paquetes entre sus interfaces, en las familias de nuestras `vip`. No hace falta para que los pares se alcancen entre sí: eso lo hace Taltun. Queda activado al final.",
    ),
    key(
        "interface",
        "mss_clamp",
        Kind::Switch,
        "false",
        "Lower the TCP segment size announced in forwarded connections to what fits the tunnel.",
        "Reducir el tamaño de segmento TCP que se anuncia en las conexiones reenviadas a lo que cabe en el túnel.",
    ),
    key(
        "interface",
        "protect_vip",
        Kind::Switch,
        "false",
        "Drop packets to our vips that come from elsewhere than the tunnel or this machine. Always on with a default route.",
        "Descartar los paquetes dirigidos a nuestras `vip` que no lleguen por el túnel o de esta misma máquina. Siempre activo con una ruta por defecto.",
    ),
    key(
        "interface",
        "relay",
        Kind::Switch,
        "",
        "Pass packets between peers straight from one to the other. With `false` they go through the kernel, whose firewall and `tc` see them then, and which needs `ip_forward`. Default: `true` on a server, `false` on a client.",
        "Pasar los paquetes entre pares directamente de uno a otro. Con `false` van por el núcleo, cuyo cortafuegos y `tc` los ven entonces, y que necesita `ip_forward`. Por omisión, `true` en un servidor y `false` en un cliente.",
    ),
    key(
        "interface",
        "kill_switch",
        Kind::Switch,
        "false",
        "Nothing leaves this machine but through the tunnel. Only an orderly end, a reload without it, or `taltun undo` opens it.",
        "Nada sale de esta máquina si no es por el túnel. Solo lo abren un final en orden, una recarga sin la clave o `taltun undo`.",
    ),
    key(
        "interface",
        "firewall",
        Kind::OneOf(&["auto", "nftables", "iptables", "none"]),
        "\"auto\"",
        "What rules are made with: nftables, iptables where only that is installed, or none at all.",
        "Con qué se crean las reglas: nftables, iptables si es lo único instalado, o nada en absoluto.",
    ),
    key(
        "interface",
        "before_up",
        Kind::TextOrList,
        "[]",
        "Commands before the interface is made. If one fails, the tunnel doesn't start.",
        "Órdenes antes de crear la interfaz. Si una falla, el túnel no arranca.",
    ),
    key(
        "interface",
        "on_up",
        Kind::TextOrList,
        "[]",
        "Commands once the tunnel answers.",
        "Órdenes en cuanto el túnel responde.",
    ),
    key(
        "interface",
        "on_down",
        Kind::TextOrList,
        "[]",
        "Commands before the tunnel is taken down, while it still works.",
        "Órdenes antes de desmontar el túnel, mientras aún funciona.",
    ),
    key(
        "interface",
        "after_down",
        Kind::TextOrList,
        "[]",
        "Commands once the interface is gone, with its routes and rules.",
        "Órdenes cuando la interfaz ya no está, ni sus rutas y reglas.",
    ),
    key(
        "interface",
        "shell",
        Kind::OneOf(&["sh", "bash"]),
        "\"sh\"",
        "What runs the commands. `bash` stops at the first part that fails, as wg-quick has it.",
        "Qué ejecuta las órdenes. `bash` se detiene en la primera parte que falla, como en wg-quick.",
    ),
    key(
        "interface",
        "on_peer_up",
        Kind::TextOrList,
        "[]",
        "Commands when a peer has completed a handshake after it had no session.",
        "Órdenes cuando un par completa un saludo sin tener sesión antes.",
    ),
    key(
        "interface",
        "on_peer_down",
        Kind::TextOrList,
        "[]",
        "Commands when a peer's last handshake is 180 seconds old, so that it has no session any more, or when it is removed.",
        "Órdenes cuando el último saludo de un par tiene 180 segundos, de modo que ya no hay sesión, o cuando se elimina.",
    ),
    key(
        "interface",
        "debug",
        Kind::Switch,
        "false",
        "Log more: each refused handshake message with its reason, renewed sessions, look-ups, names of `dns_routes`, hooks, and samples of what the eBPF programs drop (at most 10 a second and CPU; not if a reload switches it on, they take a restart). Packets of the tunnel aren't logged; `taltun stats` counts them.",
        "Registrar más: cada mensaje de saludo rechazado con su motivo, las sesiones renovadas, las resoluciones de nombres, los nombres de `dns_routes`, los ganchos y muestras de lo que descartan los programas eBPF (10 por segundo y CPU como mucho; no si lo enciende una recarga, exigen un reinicio). Los paquetes del túnel no se registran; `taltun stats` los cuenta.",
    ),
    key(
        "nat",
        "masquerade",
        Kind::Switch,
        "false",
        "Give forwarded packets the address of the interface that they leave by.",
        "Dar a los paquetes reenviados la dirección de la interfaz por la que se van.",
    ),
    key(
        "nat",
        "out",
        Kind::TextOrList,
        "",
        "Only what leaves by these interfaces. `tunnel` is the tunnel itself, for a router whose local network goes into it under our vip. Default: what comes out of the tunnel, by any interface but the tunnel's.",
        "Solo lo que se va por estas interfaces. `tunnel` es el propio túnel, para un router cuya red local entra en él con nuestra `vip`. Por omisión, lo que sale del túnel por cualquier interfaz que no sea la suya.",
    ),
    key(
        "dns_routes",
        "domains",
        Kind::List,
        "",
        "`example.com` is that name alone, `*.example.net` all names below it. Required.",
        "`example.com` es solo ese nombre, `*.example.net` todos los que cuelgan de él. Obligatoria.",
    ),
    key(
        "dns_routes",
        "via",
        Kind::Text,
        "",
        "The peer, by its name or public key, that their addresses are reached through. Required.",
        "El par, por su nombre o clave pública, por el que se alcanzan sus direcciones. Obligatoria.",
    ),
    key(
        "dns_routes",
        "upstream",
        Kind::TextOrList,
        "",
        "Name servers that all questions are passed on to, the first one first. Required.",
        "Servidores de nombres a los que se pasan todas las preguntas, por orden. Obligatoria.",
    ),
    key(
        "dns_routes",
        "keep_seconds",
        Kind::Number(0, 604_800),
        "3600",
        "Seconds that an address stays beyond its TTL, for connections that last.",
        "Segundos que una dirección permanece más allá de su TTL, para las conexiones que duran.",
    ),
    key(
        "peers",
        "name",
        Kind::Text,
        "",
        "What to call it in place of its key.",
        "Cómo llamarlo en lugar de por su clave.",
    ),
    key(
        "peers",
        "public_key",
        Kind::Text,
        "",
        "Its public key, base64 or hexadecimal. Required.",
        "Su clave pública, en base64 o hexadecimal. Obligatoria.",
    ),
    key(
        "peers",
        "preshared_key",
        Kind::Text,
        "",
        "A secret that the two sides share besides, the same in both files.",
        "Un secreto que además comparten ambos lados, igual en los dos ficheros.",
    ),
    key(
        "peers",
        "vip",
        Kind::TextOrList,
        "",
        "Its own address in the tunnel, without a prefix length; always allowed.",
        "Su dirección dentro del túnel, sin prefijo; siempre permitida.",
    ),
    key(
        "peers",
        "endpoint",
        Kind::Text,
        "",
        "Where it is, `HOST:PORT`. A name is looked up, and again when nobody answers.",
        "Dónde está, `HOST:PUERTO`. Un nombre se resuelve, y otra vez cuando nadie responde.",
    ),
    key(
        "peers",
        "allowed_ips",
        Kind::List,
        "[]",
        "Networks behind it: what may come from it, and what is sent to it.",
        "Redes detrás de él: lo que puede venir de él y lo que se le envía.",
    ),
    key(
        "peers",
        "persistent_keepalive",
        Kind::Number(0, 65_535),
        "0",
        "Seconds between packets that keep a NAT's mapping alive; 0 for none.",
        "Segundos entre los paquetes que mantienen viva la asociación de un NAT; 0 para ninguno.",
    ),
    key(
        "accel",
        "interfaces",
        Kind::List,
        "[]",
        "Where to attach. Default: the interface of the listen address; for a wildcard, every one that is up and has an address, but loopback and tunnels; with `xdp = \"auto\"`, of these only those with the default route, if there is one.",
        "Dónde instalarse. Por omisión, la interfaz de la dirección de escucha; si es un comodín, todas las activas con dirección salvo loopback y túneles; con `xdp = \"auto\"`, de ellas solo las que tengan la ruta por defecto, si la hay.",
    ),
    key(
        "accel",
        "xdp",
        Kind::OneOf(&["auto", "driver", "generic", "off"]),
        "\"auto\"",
        "How the XDP program is attached: in the driver, on finished packets, or not at all.",
        "Cómo se instala el programa XDP: en el controlador, sobre paquetes ya formados o de ninguna manera.",
    ),
    key(
        "accel",
        "af_xdp",
        Kind::OneOf(&["auto", "on", "off"]),
        "\"auto\"",
        "Whether transport messages go past the network stack: where the driver does zero copy, wherever possible, or nowhere.",
        "Si los mensajes de transporte evitan la pila de red: donde el controlador no copia (zero copy), donde sea posible o en ningún sitio.",
    ),
    key(
        "accel",
        "af_xdp_busy_poll",
        Kind::Switch,
        "false",
        "Whether AF_XDP threads poll their queues, with the interface's interrupts deferred.",
        "Si los hilos de AF_XDP sondean sus colas, con las interrupciones de la interfaz aplazadas.",
    ),
    key(
        "accel",
        "deny",
        Kind::List,
        "[]",
        "Senders on the underlay whose datagrams are dropped.",
        "Emisores de la red exterior cuyos datagramas se descartan.",
    ),
    key(
        "accel",
        "deny_inner",
        Kind::List,
        "[]",
        "Senders inside the tunnel whose packets are dropped.",
        "Emisores de dentro del túnel cuyos paquetes se descartan.",
    ),
    key(
        "accel",
        "handshakes_per_second",
        Kind::Number(1, 1_000_000),
        "20",
        "Handshake initiations a second that one sender may send.",
        "Inicios de saludo por segundo que puede enviar un mismo emisor.",
    ),
    key(
        "dataplane",
        "tun_offload",
        Kind::Switch,
        "true",
        "Take and give whole pieces of streams at the TUN instead of packets.",
        "Tomar y entregar en el TUN trozos enteros de flujo en vez de paquetes.",
    ),
    key(
        "dataplane",
        "udp_gso",
        Kind::Switch,
        "true",
        "Send many datagrams as one (`UDP_SEGMENT`).",
        "Enviar muchos datagramas como uno (`UDP_SEGMENT`).",
    ),
    key(
        "dataplane",
        "udp_gro",
        Kind::Switch,
        "true",
        "Receive many datagrams as one (`UDP_GRO`).",
        "Recibir muchos datagramas como uno (`UDP_GRO`).",
    ),
    key(
        "dataplane",
        "workers",
        Kind::Number(1, 64),
        "",
        "Workers, each with a thread for either direction. Default: as many as fit the machine.",
        "Trabajadores, cada uno con un hilo por sentido. Por omisión, los que convengan a la máquina.",
    ),
    key(
        "dataplane",
        "crypto_threads",
        Kind::Number(0, 64),
        "",
        "Threads that help to seal and open large batches while cores are idle; 0 for none. Default: two fewer than there are cores, at most 8.",
        "Hilos que ayudan a cifrar y descifrar lotes grandes mientras haya núcleos ociosos; 0, ninguno. Por omisión, dos menos que los núcleos, 8 como mucho.",
    ),
    key(
        "dataplane",
        "busy_poll_us",
        Kind::Number(0, 1_000),
        "0",
        "Microseconds that a worker goes on looking for packets before it sleeps: latency for CPU time.",
        "Microsegundos que un trabajador sigue buscando paquetes antes de dormirse: latencia a cambio de CPU.",
    ),
];

/// The names of the keys of `section`, in the order of the reference.
pub(super) fn names(section: &str) -> Vec<&'static str> {
    let keys = KEYS.iter().filter(|key| key.section == section);
    keys.map(|key| key.name).collect()
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;
    use std::path::Path;

    use super::*;

    /// Set, the reference in the manual is written instead of compared.
    const WRITE: &str = "TALTUN_WRITE_REFERENCE";

    #[derive(Clone, Copy, PartialEq, Eq)]
    enum Language {
        English,
        Spanish,
    }

    #[test]
    fn the_reference_in_the_manual_is_the_parsers_own_table() {
        compare("reference.md", Language::English);
    }

    #[test]
    fn the_spanish_reference_is_the_same_table() {
        compare("es/reference.md", Language::Spanish);
    }

    #[test]
    fn every_key_belongs_to_a_section_and_has_its_name_alone() {
        for (place, key) in KEYS.iter().enumerate() {
            assert!(SECTIONS.iter().any(|section| section.name == key.section));
            let twin = KEYS[..place]
                .iter()
                .any(|other| other.section == key.section && other.name == key.name);
            assert!(!twin, "{}.{}", key.section, key.name);
        }
    }

    fn compare(file: &str, language: Language) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("docs/manual")
            .join(file);
        let expected = page(language);
        if std::env::var_os(WRITE).is_some() {
            std::fs::write(&path, &expected).unwrap();
        }
        let found = std::fs::read_to_string(&path).unwrap();
        assert!(
            found == expected,
            "{} is not what the keys say; write it anew with {WRITE}=1 cargo test -p taltun \
             --lib reference",
            path.display()
        );
    }

    fn page(language: Language) -> String {
        let english = language == Language::English;
        let mut page = if english {
            "# Configuration reference\n\n\
             Made from the table that the parser reads its keys from; a test keeps the two equal.\n\
             Unknown keys, wrong types and values that can't work are errors with file, line and\n\
             remedy before anything is touched: `taltun check --config FILE`.\n"
        } else {
            "# Referencia de configuración\n\n\
             Generada a partir de la tabla de la que el analizador toma sus claves; una prueba las\n\
             mantiene iguales. Las claves desconocidas, los tipos erróneos y los valores imposibles\n\
             son errores con fichero, línea y remedio antes de tocar nada: `taltun check --config F`.\n"
        }
        .to_owned();
        let head = if english {
            "| key | value | default | |"
        } else {
            "| clave | valor | por omisión | |"
        };
        for section in SECTIONS {
            let about = if english {
                section.english
            } else {
                section.spanish
            };
            // Writing to a String can't fail.
            let _ = write!(
                page,
                "\n## `{}`\n\n{about}\n\n{head}\n|---|---|---|---|\n",
                section.header
            );
            for key in KEYS.iter().filter(|key| key.section == section.name) {
                let about = if english { key.english } else { key.spanish };
                let default = match key.default {
                    "" => String::new(),
                    default => format!("`{default}`"),
                };
                let _ = writeln!(
                    page,
                    "| `{}` | {} | {default} | {about} |",
                    key.name,
                    kind(key.kind, english)
                );
            }
        }
        page
    }

    fn kind(kind: Kind, english: bool) -> String {
        let choose = |one: &str, other: &str| if english { one } else { other }.to_owned();
        match kind {
            Kind::Text => choose("text", "texto"),
            Kind::TextOrList => choose("text or list", "texto o lista"),
            Kind::List => choose("list of texts", "lista de textos"),
            Kind::Switch => "`true`, `false`".into(),
            Kind::Number(least, most) => {
                format!("{least} {} {most}", choose("to", "a"))
            }
            Kind::OneOf(words) => {
                let quoted: Vec<String> =
                    words.iter().map(|word| format!("`\"{word}\"`")).collect();
                quoted.join(", ")
            }
        }
    }
}
