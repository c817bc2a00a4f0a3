//! The keys of `[dataplane]`.

macro_rules! declared {
    ($then:ident! { $($with:tt)* }) => { $then! { { $($with)* } "dataplane";
        TUN_OFFLOAD => tun_offload: bool {
            name: "tun_offload",
            also: &[],
            kind: Kind::Switch,
            default: "true",
            example: "false",
            reload: Reload::Restart,
            in_comments: true,
            english: "Read and write large segments at the TUN instead of single packets.",
            spanish: "Tomar y entregar en el TUN trozos enteros de flujo en vez de paquetes.",
        }
        SPARSE_QUEUE => sparse_queue: bool {
            name: "sparse_queue",
            also: &[],
            kind: Kind::Switch,
            default: "true",
            example: "false",
            reload: Reload::Restart,
            in_comments: true,
            english: "Let flows that send little (a ping, a call, a shell) have a queue of the TUN that is read before bulk ([latency](tuning.md#latency)).",
            spanish: "Dar a los flujos que envían poco (un ping, una llamada, una terminal) una cola del TUN que se lee antes que el tráfico masivo ([latencia](tuning.md#latencia)).",
        }
        UDP_GSO => udp_gso: bool {
            name: "udp_gso",
            also: &[],
            kind: Kind::Switch,
            default: "true",
            example: "false",
            reload: Reload::Restart,
            in_comments: true,
            english: "Send many datagrams as one (`UDP_SEGMENT`).",
            spanish: "Enviar muchos datagramas como uno (`UDP_SEGMENT`).",
        }
        UDP_GRO => udp_gro: bool {
            name: "udp_gro",
            also: &[],
            kind: Kind::Switch,
            default: "true",
            example: "false",
            reload: Reload::Restart,
            in_comments: true,
            english: "Receive many datagrams as one (`UDP_GRO`).",
            spanish: "Recibir muchos datagramas como uno (`UDP_GRO`).",
        }
        WORKERS => workers: Option<usize> {
            name: "workers",
            also: &[],
            kind: Kind::Number(1, 64),
            default: "",
            example: "3",
            reload: Reload::Restart,
            in_comments: true,
            english: "Workers, each with a thread for either direction. Default: as many as fit the machine.",
            spanish: "Trabajadores, cada uno con un hilo por sentido. Por omisión, los que convengan a la máquina.",
        }
        CRYPTO_THREADS => crypto_threads: Option<usize> {
            name: "crypto_threads",
            also: &[],
            kind: Kind::Number(0, 64),
            default: "",
            example: "2",
            reload: Reload::Restart,
            in_comments: true,
            english: "Threads that help to seal and open large batches while cores are idle; 0 for none. Default: two fewer than there are cores, at most 8.",
            spanish: "Hilos que ayudan a cifrar y descifrar lotes grandes mientras haya núcleos ociosos; 0, ninguno. Por omisión, dos menos que los núcleos, 8 como mucho.",
        }
        BUSY_POLL_US => busy_poll_us: u32 {
            name: "busy_poll_us",
            also: &[],
            kind: Kind::Number(0, 1_000),
            default: "0",
            example: "50",
            reload: Reload::Restart,
            in_comments: true,
            english: "Microseconds that a worker goes on looking for packets before it sleeps: latency for CPU time.",
            spanish: "Microsegundos que un trabajador sigue buscando paquetes antes de dormirse: latencia a cambio de CPU.",
        }
        PRIORITY => priority: Priority {
            name: "priority",
            also: &[],
            kind: Kind::OneOf(Priority::NAMES),
            default: "\"normal\"",
            example: "\"realtime\"",
            reload: Reload::Restart,
            in_comments: false,
            english: "How the threads that move packets compete with other programs for the cores: in short slices, with more weight, or before all others ([what each costs](tuning.md#priority)).",
            spanish: "Cómo compiten por los núcleos los hilos que mueven paquetes con los demás programas: en turnos cortos, con más peso o antes que todos ([lo que cuesta cada una](tuning.md#prioridad)).",
        }
    } };
}
pub(in crate::config) use declared;
