//! The keys of `[usage]`.

macro_rules! declared {
    ($then:ident! { $($with:tt)* }) => { $then! { { $($with)* } "usage";
        KEEP_DAYS => keep_days: u32 {
            name: "keep_days",
            also: &["days", "keep", "retention", "history"],
            kind: Kind::Number(0, 36_500),
            default: "400",
            example: "90",
            reload: Reload::Live,
            in_comments: true,
            english: "Days that are kept, today's included; older ones are deleted, but none of the current month. With 0 nothing is written: usage is counted in memory, and is lost when the tunnel stops.",
            spanish: "Días que se guardan, incluido el de hoy; los más antiguos se borran, salvo los del mes en curso. Con 0 no se escribe nada: el consumo se cuenta en memoria y se pierde cuando el túnel para.",
        }
    } };
}
pub(in crate::config) use declared;
