//! The keys of `[dataplane]`.

use super::{Key, Kind, Reload, keys};

keys! { "dataplane";
    TUN_OFFLOAD {
        name: "tun_offload",
        also: &[],
        kind: Kind::Switch,
        default: "true",
        example: "false",
        reload: Reload::Restart,
        same: |old, new| old.dataplane.tun_offload == new.dataplane.tun_offload,
        english: "Take and give whole pieces of streams at the TUN instead of packets.",
        spanish: "Tomar y entregar en el TUN trozos enteros de flujo en vez de paquetes.",
    }
    UDP_GSO {
        name: "udp_gso",
        also: &[],
        kind: Kind::Switch,
        default: "true",
        example: "false",
        reload: Reload::Restart,
        same: |old, new| old.dataplane.udp_gso == new.dataplane.udp_gso,
        english: "Send many datagrams as one (`UDP_SEGMENT`).",
        spanish: "Enviar muchos datagramas como uno (`UDP_SEGMENT`).",
    }
    UDP_GRO {
        name: "udp_gro",
        also: &[],
        kind: Kind::Switch,
        default: "true",
        example: "false",
        reload: Reload::Restart,
        same: |old, new| old.dataplane.udp_gro == new.dataplane.udp_gro,
        english: "Receive many datagrams as one (`UDP_GRO`).",
        spanish: "Recibir muchos datagramas como uno (`UDP_GRO`).",
    }
    WORKERS {
        name: "workers",
        also: &[],
        kind: Kind::Number(1, 64),
        default: "",
        example: "3",
        reload: Reload::Restart,
        same: |old, new| old.dataplane.workers == new.dataplane.workers,
        english: "Workers, each with a thread for either direction. Default: as many as fit the machine.",
        spanish: "Trabajadores, cada uno con un hilo por sentido. Por omisión, los que convengan a la máquina.",
    }
    CRYPTO_THREADS {
        name: "crypto_threads",
        also: &[],
        kind: Kind::Number(0, 64),
        default: "",
        example: "2",
        reload: Reload::Restart,
        same: |old, new| old.dataplane.crypto_threads == new.dataplane.crypto_threads,
        english: "Threads that help to seal and open large batches while cores are idle; 0 for none. Default: two fewer than there are cores, at most 8.",
        spanish: "Hilos que ayudan a cifrar y descifrar lotes grandes mientras haya núcleos ociosos; 0, ninguno. Por omisión, dos menos que los núcleos, 8 como mucho.",
    }
    BUSY_POLL_US {
        name: "busy_poll_us",
        also: &[],
        kind: Kind::Number(0, 1_000),
        default: "0",
        example: "50",
        reload: Reload::Restart,
        same: |old, new| old.dataplane.busy_poll_us == new.dataplane.busy_poll_us,
        english: "Microseconds that a worker goes on looking for packets before it sleeps: latency for CPU time.",
        spanish: "Microsegundos que un trabajador sigue buscando paquetes antes de dormirse: latencia a cambio de CPU.",
    }
}
