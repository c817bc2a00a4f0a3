//! The keys of `[audit]`.

macro_rules! declared {
    ($then:ident! { $($with:tt)* }) => { $then! { { $($with)* } "audit";
        KEEP_MIB => keep_mib: u32 {
            name: "keep_mib",
            also: &["keep", "size"],
            kind: Kind::Number(0, 1024),
            default: "16",
            example: "64",
            reload: Reload::Live,
            in_comments: true,
            english: "How much is kept, MiB: the file and the older one beside it have half each. With 0 nothing is written down.",
            spanish: "Cuánto se guarda, en MiB: el fichero y el anterior, a su lado, tienen la mitad cada uno. Con 0 no se anota nada.",
        }
    } };
}
pub(in crate::config) use declared;
