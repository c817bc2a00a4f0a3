//! What the keys mean: a lab's own, and those of the choice of a machine for a shell.

use super::keys::Key;

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// Ban the spoke, or end its ban.
    Ban,
    /// Flood the hub, or end that.
    Flood,
    /// Kill the hub.
    Kill,
    /// Open a shell on the machine with this number.
    Shell(usize),
    /// End the lab.
    End,
}

/// What is going on, as far as keys mean something else then.
#[derive(Debug, Clone, Copy, Default)]
pub struct Going {
    /// Whether the spoke is banned.
    pub banned: bool,
    /// Whether the hub is flooded.
    pub flooded: bool,
}

/// Whose turn it is.
#[derive(Debug, Default)]
pub struct Console {
    /// A machine is being chosen.
    choosing: bool,
}

impl Console {
    /// What `key` asks for, in a lab of so many `machines`.
    pub fn deed(&mut self, key: Key, machines: usize) -> Option<Deed> {
        let choosing = std::mem::take(&mut self.choosing);
        match key {
            Key::Enter if choosing => Some(Deed::Shell(0)),
            Key::Letter(digit @ '1'..='9') if choosing => {
                let chosen = digit as usize - '1' as usize;
                if chosen < machines {
                    Some(Deed::Shell(chosen))
                } else {
                    self.choosing = true;
                    None
                }
            }
            Key::Letter('s') => {
                self.choosing = !choosing;
                None
            }
            Key::Letter('b') => Some(Deed::Ban),
            Key::Letter('f') => Some(Deed::Flood),
            Key::Letter('k') => Some(Deed::Kill),
            Key::Letter('q') | Key::Interrupt => Some(Deed::End),
            _ => None,
        }
    }

    /// The keys that mean something, and what. `spoke` is who is banned and `hub` who is killed, both
    /// unless that isn't possible now.
    pub fn keys(
        &self,
        machines: &[String],
        stage: Option<(&str, &str)>,
        going: Going,
    ) -> Vec<(String, String)> {
        let mut keys = Vec::new();
        let mut add = |key: &str, what: String| keys.push((key.to_owned(), what));
        if self.choosing {
            for (machine, number) in machines.iter().zip(1..=9) {
                add(&number.to_string(), machine.clone());
            }
            add("Esc", "no shell".into());
            return keys;
        }
        if let Some((spoke, hub)) = stage {
            let ban = if going.banned { "unban" } else { "ban" };
            add("b", format!("{ban} {spoke}"));
            let flood = if going.flooded {
                "end the flood"
            } else {
                "flood"
            };
            add("f", flood.into());
            add("k", format!("kill {hub}"));
        }
        add("s", "shell".into());
        add("q", "end".into());
        keys
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Going = Going {
        banned: false,
        flooded: false,
    };

    fn shown(console: &Console, going: Going) -> String {
        let machines = ["hub", "a", "b"].map(str::to_owned);
        let keys = console.keys(&machines, Some(("a", "hub")), going);
        let keys: Vec<_> = keys
            .iter()
            .map(|(key, what)| format!("{key} {what}"))
            .collect();
        keys.join("  ")
    }

    #[test]
    fn each_key_does_what_it_says() {
        let mut console = Console::default();
        assert_eq!(
            shown(&console, NONE),
            "b ban a  f flood  k kill hub  s shell  q end"
        );
        for (key, deed) in [
            ('b', Deed::Ban),
            ('f', Deed::Flood),
            ('k', Deed::Kill),
            ('q', Deed::End),
        ] {
            assert_eq!(console.deed(Key::Letter(key), 3), Some(deed));
        }
        assert_eq!(console.deed(Key::Interrupt, 3), Some(Deed::End));
        assert_eq!(console.deed(Key::Letter('x'), 3), None);
        let all = Going {
            banned: true,
            flooded: true,
        };
        assert_eq!(
            shown(&console, all),
            "b unban a  f end the flood  k kill hub  s shell  q end"
        );
    }

    #[test]
    fn a_shell_is_opened_where_one_chooses() {
        let mut console = Console::default();
        assert_eq!(console.deed(Key::Letter('s'), 3), None);
        assert_eq!(shown(&console, NONE), "1 hub  2 a  3 b  Esc no shell");
        // There is no fourth.
        assert_eq!(console.deed(Key::Letter('4'), 3), None);
        assert_eq!(console.deed(Key::Letter('2'), 3), Some(Deed::Shell(1)));
        assert_eq!(console.deed(Key::Letter('2'), 3), None);
        console.deed(Key::Letter('s'), 3);
        assert_eq!(console.deed(Key::Enter, 3), Some(Deed::Shell(0)));
        console.deed(Key::Letter('s'), 3);
        assert_eq!(console.deed(Key::Escape, 3), None);
        assert_eq!(console.deed(Key::Enter, 3), None);
    }
}
