//! The keys of `[policy]`.

macro_rules! declared {
    ($then:ident! { $($with:tt)* }) => { $then! { { $($with)* } "policy";
        DEFAULT => default: Action {
            name: "default",
            also: &["policy", "action"],
            kind: Kind::OneOf(Action::NAMES),
            default: "\"allow\"",
            example: "\"deny\"",
            reload: Reload::Live,
            in_comments: true,
            english: "Whether somebody may start what no rule is about.",
            spanish: "Si alguien puede empezar aquello de lo que no trata ninguna regla.",
        }
    } };
}
pub(in crate::config) use declared;
