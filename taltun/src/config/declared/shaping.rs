//! The keys of `[shaping]`.

macro_rules! declared {
    ($then:ident! { $($with:tt)* }) => { $then! { { $($with)* } "shaping";
        UPLINK => uplink: Option<Rate> {
            name: "uplink",
            also: &["bandwidth", "upload", "uplinkrate", "rate"],
            kind: Kind::Text,
            default: "",
            example: "\"100 Mbit/s\"",
            reload: Reload::Live,
            in_comments: true,
            english: "How much this machine can send to all peers together, with the headers of the datagrams. Give somewhat less than the line has: then packets wait here, where peers share it fairly, and not in the router.",
            spanish: "Cuánto puede enviar esta máquina a todos los pares juntos, contando las cabeceras de los datagramas. Pon algo menos de lo que da la línea: así los paquetes esperan aquí, donde los pares se la reparten con justicia, y no en el router.",
        }
    } };
}
pub(in crate::config) use declared;
