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
        /// Rules that come after these, as another section needs them, which its name says.
        pub implied: Vec<(Rule, String)>,
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
            rules: self.all().map(|(rule, _)| rule.clone()).collect(),
        }
    }

    /// Where the rules are written that are compiled, in their order.
    pub fn all_origins(&self) -> Vec<String> {
        self.all().map(|(_, origin)| origin.clone()).collect()
    }

    fn all(&self) -> impl Iterator<Item = (&Rule, &String)> {
        let implied = self.implied.iter().map(|(rule, origin)| (rule, origin));
        self.rules.iter().zip(&self.origins).chain(implied)
    }
}
