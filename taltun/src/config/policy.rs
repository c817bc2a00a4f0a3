//! `[policy]`, `[groups]` and `[[rules]]`: who may start what with whom.

pub use taltun_policy::Action;
use taltun_policy::{Party, Rule};

use super::{declared, declared::settings};

declared::policy::declared! { settings! {
    /// `[policy]`, with its groups and its rules.
    #[derive(Debug, Clone, Default, PartialEq, Eq)]
    pub struct Policy {
        /// `[groups]`: each one's members, none of which is a group.
        pub groups: Vec<Vec<Party>>,
        /// `[[rules]]`, in the order of the file.
        pub rules: Vec<Rule>,
        /// Where each of them is written.
        pub origins: Vec<String>,
    }
} }

impl Policy {
    /// Whether anything is judged at all.
    pub fn is_any(&self) -> bool {
        self.default == Action::Deny || !self.rules.is_empty()
    }

    /// What is to be compiled.
    pub fn to_compile(&self) -> taltun_policy::Policy {
        taltun_policy::Policy {
            default: self.default,
            groups: self.groups.clone(),
            rules: self.rules.clone(),
        }
    }
}
