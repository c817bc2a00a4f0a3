//! The keys of a configuration, made of what `declared` says about each.
//!
//! The reader takes ranges, words and defaults from them, unknown keys are refused by them, `check`
//! suggests from them, the manual's reference is written from them, and a reload compares two
//! configurations by them. `tests` goes through all of them, and fails for a key that the reader
//! doesn't read or a reload doesn't compare. It doesn't see whether the setting has an effect.

pub mod accel;
pub mod audit;
pub mod dataplane;
pub mod dns_routes;
pub mod fleet;
pub mod forward;
pub mod groups;
pub mod hop;
pub mod interface;
pub mod metrics;
pub mod names;
pub mod nat;
pub mod peers;
pub mod policy;
pub mod rules;
#[cfg(test)]
pub(crate) mod samples;
pub mod shaping;
#[cfg(test)]
mod tests;
pub mod udpgw;
pub mod usage;
pub mod web;

use std::ops::RangeInclusive;
use std::sync::OnceLock;

use toml::Spanned;
use toml::de::DeValue;

use super::Config;

/// A key of the configuration.
#[derive(Debug)]
pub struct Key {
    /// The section that it belongs to, as it is written.
    pub section: &'static str,
    /// Its name.
    pub name: &'static str,
    /// What other programs call it: in small letters, without what separates words.
    pub also: &'static [&'static str],
    /// What its value is.
    pub kind: Kind,
    /// What it is where the file doesn't say, in TOML; empty where that takes words, which
    /// the description then has.
    pub default: &'static str,
    /// A value other than the default, in TOML.
    pub example: &'static str,
    /// Whether a running tunnel takes over another value.
    pub reload: Reload,
    /// Whether a comment in somebody's wg-quick file may set it: nothing may that runs a program
    /// as root, or reads a file.
    pub in_comments: bool,
    /// Whether two configurations have the same value.
    pub same: fn(&Config, &Config) -> bool,
    /// What it does, in English.
    pub english: &'static str,
    /// The same in Spanish.
    pub spanish: &'static str,
    /// The default, once somebody needed it.
    parsed: OnceLock<Option<Spanned<DeValue<'static>>>>,
}

/// What a value is.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// A text in quotes.
    Text,
    /// A date, or a text that is one.
    Date,
    /// A text, or a list of them.
    TextOrList,
    /// A list of texts.
    List,
    /// `true` or `false`.
    Switch,
    /// A whole number from the first to the second.
    Number(u32, u32),
    /// A list of two whole numbers from the first to the second, the smaller one first.
    Range(u32, u32),
    /// One of these texts.
    OneOf(&'static [&'static str]),
}

/// What it takes to change a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reload {
    /// `taltun reload`.
    Live,
    /// A restart; a reload that would change it is refused.
    Restart,
}

/// A section of the configuration.
#[derive(Debug)]
pub struct Section {
    /// Its name, as it is written without brackets.
    pub name: &'static str,
    /// Its header.
    pub header: &'static str,
    /// Its keys, in the order of the reference.
    pub keys: &'static [&'static Key],
    /// What it is about, in English.
    pub english: &'static str,
    /// The same in Spanish.
    pub spanish: &'static str,
}

/// Makes the keys of a section from their declarations: a static for each, and a list of all.
/// A key that is a setting by itself is compared by that, as the module's
/// `compare` does it.
macro_rules! keys {
    ({} $section:literal; $($key:ident $(=> $setting:ident: $type:ty)? {
        name: $name:expr,
        also: $also:expr,
        kind: $kind:expr,
        default: $default:expr,
        example: $example:expr,
        reload: $reload:expr,
        in_comments: $in_comments:expr,
        $(same: $same:expr,)?
        english: $english:expr,
        spanish: $spanish:expr,
    })*) => {
        $(
            #[doc = concat!("`", $name, "` of this section.")]
            pub static $key: Key = Key {
                section: $section,
                name: $name,
                also: $also,
                kind: $kind,
                default: $default,
                example: $example,
                reload: $reload,
                in_comments: $in_comments,
                same: keys!(@same $($setting)? $(= $same)?),
                english: $english,
                spanish: $spanish,
                parsed: std::sync::OnceLock::new(),
            };
        )*

        /// All of them, in the order of the reference.
        pub(super) static KEYS: &[&Key] = &[$(&$key),*];
    };
    (@same $setting:ident) => {
        |old, new| compare(old, new, |old, new| old.$setting == new.$setting)
    };
    (@same = $same:expr) => { $same };
}
use keys;

/// What other programs call addresses in the tunnel.
const ADDRESSES: &[&str] = &["address", "addr", "ip", "ips", "ipaddress"];

/// `[interface]`
pub static INTERFACE: Section = Section {
    name: "interface",
    header: "[interface]",
    keys: interface::KEYS,
    english: "This machine's side of the tunnel. Required.",
    spanish: "El lado del túnel que corresponde a esta máquina. Obligatoria.",
};

/// `[nat]`
pub static NAT: Section = Section {
    name: "nat",
    header: "[nat]",
    keys: nat::KEYS,
    english: "Lets what this machine forwards go on under its own address: what comes out of the \
              tunnel, or what goes into it.",
    spanish: "Permite que lo que esta máquina reenvía siga su camino con la dirección de ella: lo \
              que sale del túnel, o lo que entra en él.",
};

/// `[dns_routes]`
pub static DNS_ROUTES: Section = Section {
    name: "dns_routes",
    header: "[dns_routes]",
    keys: dns_routes::KEYS,
    english: "Names whose addresses are reached through the tunnel: a small resolver on our vips, \
              port 53, asks for them and makes the routes. To add or remove the section takes a \
              restart.",
    spanish: "Nombres cuyas direcciones se alcanzan por el túnel: un pequeño servidor de nombres \
              en nuestras `vip`, puerto 53, pregunta por ellas y crea las rutas. Añadir o quitar \
              la sección exige reiniciar.",
};

/// `[names]`
pub static NAMES: Section = Section {
    name: "names",
    header: "[names]",
    keys: names::KEYS,
    english: "Names for the peers: a small resolver on our vips, port 53, knows them: see [Names of \
              peers](routing.md#names-of-peers). To add or remove the section takes a restart.",
    spanish: "Nombres para los pares: un pequeño servidor de nombres en nuestras `vip`, puerto 53, \
              los conoce: véase [Nombres de los pares](routing.md#nombres-de-los-pares). Añadir o \
              quitar la sección exige reiniciar.",
};

/// `[udpgw]`
pub static UDPGW: Section = Section {
    name: "udpgw",
    header: "[udpgw]",
    keys: udpgw::KEYS,
    english: "Runs a UDP gateway beside the tunnel, for clients that only have TCP: see [UDP through \
              TCP](udpgw.md#in-a-hub). The section alone switches it on. A reload that changes it \
              starts the gateway anew, which closes its clients.",
    spanish: "Mantiene junto al túnel una pasarela de UDP para clientes que solo tienen TCP: véase \
              [UDP por TCP](udpgw.md#en-un-concentrador). Basta la sección para encenderla. Una \
              recarga que la cambia vuelve a empezar la pasarela, lo que cierra sus clientes.",
};

/// `[metrics]`
pub static METRICS: Section = Section {
    name: "metrics",
    header: "[metrics]",
    keys: metrics::KEYS,
    english: "Tells Prometheus how the tunnel is: see [Metrics](metrics.md). The section alone \
              switches it on.",
    spanish: "Dice a Prometheus cómo está el túnel: véase [Métricas](metrics.md). Basta la sección \
              para encenderlo.",
};

/// `[web]`
pub static WEB: Section = Section {
    name: "web",
    header: "[web]",
    keys: web::KEYS,
    english: "A page in the browser that shows the tunnel and changes it: see [The page](web.md). The \
              section alone switches it on; `taltun web token` makes what one logs in with.",
    spanish: "Una página en el navegador que muestra el túnel y lo cambia: véase [La página](web.md). \
              Basta la sección para encenderla; `taltun web token` crea aquello con lo que se entra.",
};

/// `[fleet]`
pub static FLEET: Section = Section {
    name: "fleet",
    header: "[fleet]",
    keys: fleet::KEYS,
    english: "Makes this hub one of several that have the same peers, by way of etcd: see \
              [Fleet](fleet.md). To add or remove the section takes a restart.",
    spanish: "Hace de este concentrador uno de varios que tienen los mismos pares, por medio de etcd: \
              véase [Flota](fleet.md). Añadir o quitar la sección exige reiniciar.",
};

/// `[hop]`
pub static HOP: Section = Section {
    name: "hop",
    header: "[hop]",
    keys: hop::KEYS,
    english: "Ports and addresses that a hub is reached at, and how a client chooses among them: see \
              [Hop](hop.md).",
    spanish: "Puertos y direcciones en los que se alcanza un concentrador, y cómo elige un cliente \
              entre ellos: véase [Saltos](hop.md).",
};

/// `[[peers]]`
pub static PEERS: Section = Section {
    name: "peers",
    header: "[[peers]]",
    keys: peers::KEYS,
    english: "Somebody we have a tunnel with; one such section each.",
    spanish: "Alguien con quien tenemos un túnel; una sección para cada uno.",
};

/// `[policy]`
pub static POLICY: Section = Section {
    name: "policy",
    header: "[policy]",
    keys: policy::KEYS,
    english: "Who may start what with whom: see [Rules](rules.md).",
    spanish: "Quién puede empezar qué con quién: véase [Reglas](rules.md).",
};

/// `[groups]`
pub static GROUPS: Section = Section {
    name: "groups",
    header: "[groups]",
    keys: groups::KEYS,
    english: "Names for several at once, which rules use.",
    spanish: "Nombres para varios a la vez, que usan las reglas.",
};

/// `[[rules]]`
pub static RULES: Section = Section {
    name: "rules",
    header: "[[rules]]",
    keys: rules::KEYS,
    english: "A rule, one such section each. The first that matches decides whether somebody may \
              start something; answers pass by themselves.",
    spanish: "Una regla, una sección para cada una. La primera que coincide decide si alguien \
              puede empezar algo; las respuestas pasan por sí solas.",
};

/// `[[forward]]`
pub static FORWARD: Section = Section {
    name: "forward",
    header: "[[forward]]",
    keys: forward::KEYS,
    english: "Ports of this host that lead to a peer, one such section each: see [Forwarded \
              ports](forward.md).",
    spanish: "Puertos de este equipo que llevan a un par, una sección para cada uno: véase [Puertos \
              reenviados](forward.md).",
};

/// `[shaping]`
pub static SHAPING: Section = Section {
    name: "shaping",
    header: "[shaping]",
    keys: shaping::KEYS,
    english: "What all peers share: see [Limits](limits.md).",
    spanish: "Lo que comparten todos los pares: véase [Límites](limits.md).",
};

/// `[usage]`
pub static USAGE: Section = Section {
    name: "usage",
    header: "[usage]",
    keys: usage::KEYS,
    english: "What each peer moves, by day: see [Usage](usage.md).",
    spanish: "Lo que mueve cada par, por días: véase [Consumo](usage.md).",
};

/// `[audit]`
pub static AUDIT: Section = Section {
    name: "audit",
    header: "[audit]",
    keys: audit::KEYS,
    english: "Who changed what of the running tunnel: see [Security](security.md#the-trail-of-changes).",
    spanish: "Quién cambió qué en el túnel en marcha: véase [Seguridad](security.md#el-registro-de-cambios).",
};

/// `[accel]`
pub static ACCEL: Section = Section {
    name: "accel",
    header: "[accel]",
    keys: accel::KEYS,
    english: "What the eBPF programs do, and which senders are dropped.",
    spanish: "Qué hacen los programas eBPF y a qué emisores se descarta.",
};

/// `[dataplane]`
pub static DATAPLANE: Section = Section {
    name: "dataplane",
    header: "[dataplane]",
    keys: dataplane::KEYS,
    english: "What the workers use of what the kernel offers. Each offload is found out by \
              itself; a switch is for a kernel that gets it wrong.",
    spanish: "Qué aprovechan los trabajadores de lo que ofrece el núcleo. Cada descarga \
              (*offload*: trabajo que se deja al núcleo o a la tarjeta) \
              se detecta sola; los interruptores son para núcleos que la hacen mal.",
};

/// The sections, in the order of the reference.
pub static SECTIONS: &[&Section] = &[
    &INTERFACE,
    &NAT,
    &DNS_ROUTES,
    &NAMES,
    &UDPGW,
    &METRICS,
    &WEB,
    &HOP,
    &PEERS,
    &POLICY,
    &GROUPS,
    &RULES,
    &FORWARD,
    &SHAPING,
    &USAGE,
    &AUDIT,
    &ACCEL,
    &DATAPLANE,
    #[cfg(feature = "fleet")]
    &FLEET,
];

/// All keys, by section, in the order of the reference.
pub fn all() -> impl Iterator<Item = &'static Key> {
    SECTIONS.iter().flat_map(|section| section.keys).copied()
}

/// The section of that name.
pub fn section(name: &str) -> Option<&'static Section> {
    let mut sections = SECTIONS.iter();
    sections.find(|section| section.name == name).copied()
}

impl Section {
    /// Whether it has a key of that name.
    pub fn has(&self, name: &str) -> bool {
        self.keys.iter().any(|key| key.name == name)
    }

    /// The names of its keys, in the order of the reference.
    pub fn names(&self) -> Vec<&'static str> {
        self.keys.iter().map(|key| key.name).collect()
    }
}

impl Key {
    /// Its name with its section, as errors show it.
    pub fn full_name(&self) -> String {
        format!("{}.{}", self.section, self.name)
    }

    /// The numbers that it takes: none, if it takes none.
    pub(super) fn range(&self) -> RangeInclusive<u32> {
        match self.kind {
            Kind::Number(least, most) | Kind::Range(least, most) => least..=most,
            _ => RangeInclusive::new(1, 0),
        }
    }

    /// The value that it has where the file doesn't say, if that is one value.
    pub(super) fn default_value(&'static self) -> Option<&'static Spanned<DeValue<'static>>> {
        let parsed = || DeValue::parse(self.default).ok();
        self.parsed.get_or_init(parsed).as_ref()
    }
}
