//! The keys of `[nat]`.

macro_rules! declared {
    ($then:ident! { $($with:tt)* }) => { $then! { { $($with)* } "nat";
        MASQUERADE {
            name: "masquerade",
            also: &["nat", "snat", "masq"],
            kind: Kind::Switch,
            default: "false",
            example: "true",
            reload: Reload::Restart,
            in_comments: true,
            same: |old, new| old.host.masquerade.is_some() == new.host.masquerade.is_some(),
            english: "Give forwarded packets the address of the interface that they leave by.",
            spanish: "Dar a los paquetes reenviados la dirección de la interfaz por la que se van.",
        }
        OUT {
            name: "out",
            also: &[],
            kind: Kind::TextOrList,
            default: "",
            example: "[\"eth0\", \"tunnel\"]",
            reload: Reload::Restart,
            in_comments: true,
            same: |old, new| match (&old.host.masquerade, &new.host.masquerade) {
                (Some(old), Some(new)) => old == new,
                // Then it differs whether there is any.
                _ => true,
            },
            english: "Only what leaves by these interfaces. `tunnel` is the tunnel itself, for a router whose local network goes into it under our vip. Default: what comes out of the tunnel, by any interface but the tunnel's.",
            spanish: "Solo lo que se va por estas interfaces. `tunnel` es el propio túnel, para un router cuya red local entra en él con nuestra `vip`. Por omisión, lo que sale del túnel por cualquier interfaz que no sea la suya.",
        }
    } };
}
pub(in crate::config) use declared;
