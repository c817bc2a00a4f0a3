//! `[policy]`, `[groups]` and `[[rules]]`: who may start what with whom.

use std::sync::{Arc, OnceLock};

pub use taltun_policy::Action;
use taltun_policy::{Compiled, Groups, Rule};

use super::{declared, declared::settings};

declared::policy::declared! { settings! {
    /// `[policy]`, with its groups and its rules.
    #[derive(Debug, Clone, Default)]
    pub struct Policy {
        /// `[groups]`: each one's members.
        pub groups: Groups,
        /// `[[rules]]`, in the order of the file.
        pub rules: Vec<Rule>,
        /// Where each of them is written.
        pub origins: Vec<String>,
        /// Rules that come after these, as another section needs them, which its name says.
        pub implied: Vec<(Rule, String)>,
        /// All of it, once it was asked for. Nothing is changed after that.
        pub compiled: OnceLock<Arc<Compiled>>,
    }
} }

impl PartialEq for Policy {
    fn eq(&self, other: &Self) -> bool {
        let Self {
            default,
            groups,
            rules,
            origins,
            implied,
            compiled: _,
        } = self;
        *default == other.default
            && *groups == other.groups
            && *rules == other.rules
            && *origins == other.origins
            && *implied == other.implied
    }
}

impl Eq for Policy {}

impl Policy {
    /// Whether anything is judged at all.
    pub fn is_any(&self) -> bool {
        self.default == Action::Deny || !self.rules.is_empty()
    }

    /// The same for look-ups. It is compiled once, whoever asks.
    pub fn compiled(&self) -> &Arc<Compiled> {
        self.compiled.get_or_init(|| {
            Arc::new(Compiled::new(&taltun_policy::Policy {
                default: self.default,
                groups: self.groups.clone(),
                rules: self.all().map(|(rule, _)| rule.clone()).collect(),
            }))
        })
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
