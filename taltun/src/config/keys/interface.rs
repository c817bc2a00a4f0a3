//! The keys of `[interface]`.

use super::{ADDRESSES, Key, Kind, Reload, keys};
use crate::config::words::Words;
use crate::config::{Config, FirewallChoice, Mode, Shell};

/// The tunnel's MTU where nothing says it, and no way to an endpoint is known, bytes: what
/// WireGuard takes everywhere. `MTU` has it in words.
pub const ASSUMED_MTU: u16 = 1420;

keys! { "interface";
    MODE {
        name: "mode",
        also: &[],
        kind: Kind::OneOf(Mode::NAMES),
        default: "\"client\"",
        example: "\"server\"",
        reload: Reload::Restart,
        same: |old, new| old.interface.mode == new.interface.mode,
        english: "`server` waits for its peers and relays between them; `client` starts the handshake with every peer that has an endpoint.",
        spanish: "`server` espera a sus pares y reenvía entre ellos; `client` inicia el saludo con cada par que tenga `endpoint`.",
    }
    TUN_NAME {
        name: "tun_name",
        also: &["interface", "interfacename", "ifname", "dev", "device", "tun", "tunname"],
        kind: Kind::Text,
        default: "\"taltun0\"",
        example: "\"hub0\"",
        reload: Reload::Restart,
        same: |old, new| old.interface.tun_name == new.interface.tun_name,
        english: "Name of the interface to create, 1 to 15 letters, digits, dots or dashes.",
        spanish: "Nombre de la interfaz que se crea, de 1 a 15 letras, cifras, puntos o guiones.",
    }
    VIP {
        name: "vip",
        also: ADDRESSES,
        kind: Kind::TextOrList,
        default: "",
        example: "\"10.0.0.7/24\"",
        reload: Reload::Restart,
        same: |old, new| old.interface.vip == new.interface.vip,
        english: "Our address in the tunnel with its subnet; a bare address means /24, or /64 for IPv6. A list gives IPv4 and IPv6. Required.",
        spanish: "Nuestra dirección dentro del túnel con su subred; sin prefijo significa /24, o /64 en IPv6. Una lista da IPv4 e IPv6. Obligatoria.",
    }
    LOCAL_ADDR {
        name: "local_addr",
        also: &["listenport", "listen", "port", "bind", "local", "localaddress", "listenaddr"],
        kind: Kind::Text,
        default: "\"[::]:9000\"",
        example: "\"[::]:51820\"",
        reload: Reload::Live,
        same: |old, new| old.interface.local_addr == new.interface.local_addr,
        english: "Where to listen; `[::]` is IPv4 and IPv6, port 0 any port.",
        spanish: "Dónde escuchar; `[::]` es IPv4 e IPv6, el puerto 0 es uno cualquiera.",
    }
    PRIVATE_KEY {
        name: "private_key",
        also: &["key", "privkey", "secretkey"],
        kind: Kind::Text,
        default: "",
        example: "\"N6uHQWBlcXDSXySW73QVHVcuVbdAeV4f89nTvZRlAGg=\"",
        reload: Reload::Live,
        same: |old, new| same_key(old, new),
        english: "Our private key, base64 or 64 hexadecimal digits. This or `private_key_file` is required.",
        spanish: "Nuestra clave privada, en base64 o con 64 cifras hexadecimales. Es obligatoria esta o `private_key_file`.",
    }
    PRIVATE_KEY_FILE {
        name: "private_key_file",
        also: &[],
        kind: Kind::Text,
        default: "",
        example: "\"other.key\"",
        reload: Reload::Live,
        same: |old, new| same_key(old, new),
        english: "A file with the private key, relative to the configuration file.",
        spanish: "Un fichero con la clave privada, relativo al de configuración.",
    }
    MTU {
        name: "mtu",
        also: &[],
        kind: Kind::Number(576, 65_000),
        default: "",
        example: "1300",
        reload: Reload::Restart,
        same: |old, new| old.interface.mtu == new.interface.mtu
            || old.interface.mtu_is_default && new.interface.mtu_is_default,
        english: "MTU of the tunnel, bytes; at least 1280 with IPv6 inside. Default: of a client, what the way to its endpoints takes less 80, and follows that; else 1420.",
        spanish: "MTU del túnel, en bytes; al menos 1280 si lleva IPv6 dentro. Por omisión, la de un cliente es lo que admite el camino a sus `endpoint` menos 80, y lo sigue; si no, 1420.",
    }
    ROUTES {
        name: "routes",
        also: &["table", "route"],
        kind: Kind::List,
        default: "[]",
        example: "[\"0.0.0.0/0\", \"192.168.50.0/24\"]",
        reload: Reload::Live,
        same: |old, new| old.interface.routes == new.interface.routes,
        english: "Networks that this machine sends into the tunnel besides the vip's subnet. `0.0.0.0/0` and `::/0`, whole or in halves, are set up so that the underlay and the local network stay reachable. From or to a list with all traffic or an endpoint in it takes a restart.",
        spanish: "Redes que esta máquina envía al túnel además de la subred de `vip`. `0.0.0.0/0` y `::/0`, enteras o en mitades, se configuran de modo que la red exterior y la local sigan siendo alcanzables. Pasar de una lista con todo el tráfico o un `endpoint` a otra sin ellos, o al revés, exige reiniciar.",
    }
    FWMARK {
        name: "fwmark",
        also: &["mark", "sockmark"],
        kind: Kind::Number(1, u32::MAX),
        default: "",
        example: "51820",
        reload: Reload::Restart,
        same: |old, new| old.host.fwmark == new.host.fwmark,
        english: "Mark on our own datagrams, and number of the routing table that a default route gets. Default: where one is needed, one made of the interface's name that nobody else on this host uses; else none.",
        spanish: "Marca de nuestros propios datagramas y número de la tabla de rutas que recibe una ruta por defecto. Por omisión, si hace falta, una derivada del nombre de la interfaz que nadie más use en esta máquina; si no, ninguna.",
    }
    DNS {
        name: "dns",
        also: &["nameserver", "nameservers", "resolver"],
        kind: Kind::List,
        default: "[]",
        example: "[\"10.0.0.1\", \"example.org\"]",
        reload: Reload::Restart,
        same: |old, new| old.host.dns == new.host.dns,
        english: "Name servers, and domains to search, while the tunnel is up; by resolvectl or resolvconf, whichever answers on this host.",
        spanish: "Servidores de nombres, y dominios de búsqueda, mientras el túnel está activo; mediante resolvectl o resolvconf, según quién responda en esta máquina.",
    }
    IP_FORWARD {
        name: "ip_forward",
        also: &["forward", "forwarding", "ipforwarding"],
        kind: Kind::Switch,
        default: "false",
        example: "true",
        reload: Reload::Restart,
        same: |old, new| old.host.ip_forward == new.host.ip_forward,
        english: "Let the kernel pass packets on between its interfaces, of the families of our vips. Not needed for peers to reach each other: Taltun relays between them itself. Stays on at the end.",
        spanish: "Que el núcleo reenvíe paquetes entre sus interfaces, en las familias de nuestras `vip`. No hace falta para que los pares se alcancen entre sí: eso lo hace Taltun. Queda activado al final.",
    }
    MSS_CLAMP {
        name: "mss_clamp",
        also: &["mssfix", "mss", "clampmss"],
        kind: Kind::Switch,
        default: "false",
        example: "true",
        reload: Reload::Restart,
        same: |old, new| old.host.mss_clamp == new.host.mss_clamp,
        english: "Lower the TCP segment size announced in forwarded connections to what fits the tunnel.",
        spanish: "Reducir el tamaño de segmento TCP que se anuncia en las conexiones reenviadas a lo que cabe en el túnel.",
    }
    PROTECT_VIP {
        name: "protect_vip",
        also: &[],
        kind: Kind::Switch,
        default: "false",
        example: "true",
        reload: Reload::Restart,
        same: |old, new| old.host.protect_vip == new.host.protect_vip,
        english: "Drop packets to our vips that come from elsewhere than the tunnel or this machine. Always on with a default route.",
        spanish: "Descartar los paquetes dirigidos a nuestras `vip` que no lleguen por el túnel o de esta misma máquina. Siempre activo con una ruta por defecto.",
    }
    RELAY {
        name: "relay",
        also: &[],
        kind: Kind::Switch,
        default: "",
        example: "true",
        reload: Reload::Live,
        same: |old, new| old.host.relay == new.host.relay,
        english: "Pass packets between peers straight from one to the other. With `false` they go through the kernel, whose firewall and `tc` see them then, and which needs `ip_forward`. Default: `true` on a server, `false` on a client.",
        spanish: "Pasar los paquetes entre pares directamente de uno a otro. Con `false` van por el núcleo, cuyo cortafuegos y `tc` los ven entonces, y que necesita `ip_forward`. Por omisión, `true` en un servidor y `false` en un cliente.",
    }
    KILL_SWITCH {
        name: "kill_switch",
        also: &[],
        kind: Kind::Switch,
        default: "false",
        example: "true",
        reload: Reload::Live,
        same: |old, new| old.host.kill_switch == new.host.kill_switch,
        english: "Nothing leaves this machine but through the tunnel. Only an orderly end, a reload without it, or `taltun undo` opens it.",
        spanish: "Nada sale de esta máquina si no es por el túnel. Solo lo abren un final en orden, una recarga sin la clave o `taltun undo`.",
    }
    FIREWALL {
        name: "firewall",
        also: &[],
        kind: Kind::OneOf(FirewallChoice::NAMES),
        default: "\"auto\"",
        example: "\"iptables\"",
        reload: Reload::Restart,
        same: |old, new| old.host.firewall == new.host.firewall,
        english: "What rules are made with: nftables, iptables where only that is installed, or none at all.",
        spanish: "Con qué se crean las reglas: nftables, iptables si es lo único instalado, o nada en absoluto.",
    }
    BEFORE_UP {
        name: "before_up",
        also: &[],
        kind: Kind::TextOrList,
        default: "[]",
        example: "\"modprobe tun\"",
        reload: Reload::Live,
        same: |old, new| old.hooks.before_up == new.hooks.before_up,
        english: "Commands before the interface is made. If one fails, the tunnel doesn't start.",
        spanish: "Órdenes antes de crear la interfaz. Si una falla, el túnel no arranca.",
    }
    ON_UP {
        name: "on_up",
        also: &["postup", "preup", "up"],
        kind: Kind::TextOrList,
        default: "[]",
        example: "\"logger up\"",
        reload: Reload::Live,
        same: |old, new| old.hooks.on_up == new.hooks.on_up,
        english: "Commands once the tunnel answers.",
        spanish: "Órdenes en cuanto el túnel responde.",
    }
    ON_DOWN {
        name: "on_down",
        also: &["predown", "postdown", "down"],
        kind: Kind::TextOrList,
        default: "[]",
        example: "[\"logger down\", \"sync\"]",
        reload: Reload::Live,
        same: |old, new| old.hooks.on_down == new.hooks.on_down,
        english: "Commands before the tunnel is taken down, while it still works.",
        spanish: "Órdenes antes de desmontar el túnel, mientras aún funciona.",
    }
    AFTER_DOWN {
        name: "after_down",
        also: &[],
        kind: Kind::TextOrList,
        default: "[]",
        example: "\"logger gone\"",
        reload: Reload::Live,
        same: |old, new| old.hooks.after_down == new.hooks.after_down,
        english: "Commands once the interface is gone, with its routes and rules.",
        spanish: "Órdenes cuando la interfaz ya no está, ni sus rutas y reglas.",
    }
    SHELL {
        name: "shell",
        also: &[],
        kind: Kind::OneOf(Shell::NAMES),
        default: "\"sh\"",
        example: "\"bash\"",
        reload: Reload::Live,
        same: |old, new| old.hooks.shell == new.hooks.shell,
        english: "What runs the commands. `bash` stops at the first part that fails, as wg-quick has it.",
        spanish: "Qué ejecuta las órdenes. `bash` se detiene en la primera parte que falla, como en wg-quick.",
    }
    ON_PEER_UP {
        name: "on_peer_up",
        also: &[],
        kind: Kind::TextOrList,
        default: "[]",
        example: "\"logger $TALTUN_PEER\"",
        reload: Reload::Live,
        same: |old, new| old.hooks.on_peer_up == new.hooks.on_peer_up,
        english: "Commands when a peer has completed a handshake after it had no session.",
        spanish: "Órdenes cuando un par completa un saludo sin tener sesión antes.",
    }
    ON_PEER_DOWN {
        name: "on_peer_down",
        also: &[],
        kind: Kind::TextOrList,
        default: "[]",
        example: "\"logger $TALTUN_PEER\"",
        reload: Reload::Live,
        same: |old, new| old.hooks.on_peer_down == new.hooks.on_peer_down,
        english: "Commands when a peer's last handshake is 180 seconds old, so that it has no session any more, or when it is removed.",
        spanish: "Órdenes cuando el último saludo de un par tiene 180 segundos, de modo que ya no hay sesión, o cuando se elimina.",
    }
    DEBUG {
        name: "debug",
        also: &["verbose", "loglevel", "log"],
        kind: Kind::Switch,
        default: "false",
        example: "true",
        reload: Reload::Live,
        same: |old, new| old.interface.debug == new.interface.debug,
        english: "Log more: each refused handshake message with its reason, renewed sessions, look-ups, names of `dns_routes`, hooks, and samples of what the eBPF programs drop (at most 10 a second and CPU; not if a reload switches it on, they take a restart). Packets of the tunnel aren't logged; `taltun stats` counts them.",
        spanish: "Registrar más: cada mensaje de saludo rechazado con su motivo, las sesiones renovadas, las resoluciones de nombres, los nombres de `dns_routes`, los ganchos y muestras de lo que descartan los programas eBPF (10 por segundo y CPU como mucho; no si lo enciende una recarga, exigen un reinicio). Los paquetes del túnel no se registran; `taltun stats` los cuenta.",
    }
}

/// Either key gives it.
fn same_key(old: &Config, new: &Config) -> bool {
    old.interface.private_key == new.interface.private_key
}
