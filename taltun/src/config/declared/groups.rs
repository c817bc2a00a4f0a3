//! The key of `[groups]`, which stands for all: each is a name of the operator's.

macro_rules! declared {
    ($then:ident! { $($with:tt)* }) => { $then! { { $($with)* } "groups";
        MEMBERS {
            name: "NAME",
            also: &[],
            kind: Kind::TextOrList,
            default: "",
            example: "[\"office\", \"192.168.50.0/28\"]",
            reload: Reload::Live,
            in_comments: true,
            same: |old, new| old.policy.groups == new.policy.groups,
            english: "The members of a group with any name: peers by name or public key, networks, other groups, `hub`.",
            spanish: "Los miembros de un grupo con el nombre que se quiera: pares por su nombre o clave pública, redes, otros grupos, `hub`.",
        }
    } };
}
pub(in crate::config) use declared;
