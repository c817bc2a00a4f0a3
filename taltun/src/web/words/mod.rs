//! The words of the page, in English and Spanish. What the tunnel answers has a code where it is
//! said here in both; what has none is English in both, as the commands say it.

mod english;
mod spanish;
mod told;

pub(super) use self::told::{drop_reason, period, problem, refusal, refused_by, xdp};

/// A language of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Language {
    English,
    Spanish,
}

/// Makes the struct that each language fills.
macro_rules! words {
    ($($name:ident)*) => {
        /// All words of a language.
        pub(super) struct Words {
            $(pub(super) $name: &'static str,)*
        }

        impl Words {
            #[cfg(test)]
            fn all(&self) -> Vec<(&'static str, &'static str)> {
                vec![$((stringify!($name), self.$name),)*]
            }
        }
    };
}

words! {
    title skip overview sources rules usage log_out other_language
    log_in token how_to_token wrong_token too_many
    peers peers_online of traffic to_hub from_hub relayed drops now minutes_ago uptime
    search search_hint all_peers page_of previous next nobody nothing_found
    name state place down up moved ever since just_now never
    is_online is_offline is_banned is_refused has_problem
    peer public_key addresses expires quota keepalive problem limit_up limit_down
    not_known back no_such_peer
    days_of_usage day received sent total nothing_moved packets
    ban ban_network ban_this unban network layer inside outside inside_long outside_long
    how_long ten_minutes one_hour one_day until_unbanned
    bans no_bans by_hand by_file ends sources_inside sources_outside no_sources
    address bytes dropped why shown_of unknown_keys tries now_in dropped_now others dropped_early
    by_default allow deny rule allowed denied no_rules flows
    no_drops
    expired_form foreign_request not_found too_large too_slow busy gone offline
    not_understood duration_wrong
    add_peer add add_hint name_hint optional hub_place preshared preshared_again shown_once shown_once_hint scan too_long_for_code
    for_wireguard for_taltun save undo remove remove_this remove_hint
    set_this set_hint behind change done_set nothing_changed preshared_key yes none
    rename rename_this new_name new_keys new_keys_make new_keys_hint
    done done_ban done_ban_for_good done_unban done_rename done_remove the_peer
    done_add shown_already done_new_keys refused
    name_taken name_unfit day_unfit endpoint_unfit no_endpoint full named not_taken_over
    not_written not_in_file own_way too_wide own_address is_inside not_banned ban_time
}

/// A sentence with these in place of each `{}`, one after the other.
pub(super) fn filled(sentence: &str, values: &[&str]) -> String {
    let mut parts = sentence.split("{}");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for (part, value) in parts.zip(values) {
        out.push_str(value);
        out.push_str(part);
    }
    out
}

impl Language {
    /// By its code.
    pub(super) fn of(code: &str) -> Option<Self> {
        match code {
            "en" => Some(Self::English),
            "es" => Some(Self::Spanish),
            _ => None,
        }
    }

    /// The one that a browser prefers, by its `Accept-Language` (RFC 9110, section 12.5.4).
    pub(super) fn preferred(accept: &str) -> Self {
        let mut best = (Self::English, 0.0_f32);
        for range in accept.split(',') {
            let mut parameters = range.split(';').map(str::trim);
            let tag = parameters.next().unwrap_or_default();
            let primary = tag.split('-').next().unwrap_or_default();
            let Some(language) = Self::of(&primary.to_ascii_lowercase()) else {
                continue;
            };
            let weight = parameters.find_map(|it| it.strip_prefix("q="));
            let weight = weight.map_or(Some(1.0), |q| q.parse().ok());
            let weight: f32 = weight.unwrap_or(0.0);
            if weight > best.1 && weight <= 1.0 {
                best = (language, weight);
            }
        }
        best.0
    }

    pub(super) fn code(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::Spanish => "es",
        }
    }

    pub(super) fn other(self) -> Self {
        match self {
            Self::English => Self::Spanish,
            Self::Spanish => Self::English,
        }
    }

    pub(super) fn words(self) -> &'static Words {
        match self {
            Self::English => &english::WORDS,
            Self::Spanish => &spanish::WORDS,
        }
    }

    /// What parts thousands.
    pub(super) fn thousands(self) -> char {
        match self {
            Self::English => ',',
            Self::Spanish => '\u{202f}',
        }
    }

    /// A number with a point, as this language has it.
    pub(super) fn decimal(self, number: &str) -> String {
        match self {
            Self::English => number.to_owned(),
            Self::Spanish => number.replace('.', ","),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_browsers_first_choice_is_taken() {
        for (accept, expected) in [
            ("", Language::English),
            ("de", Language::English),
            ("es", Language::Spanish),
            ("es-MX,en;q=0.8", Language::Spanish),
            ("de,es;q=0.5,en;q=0.4", Language::Spanish),
            ("de,es;q=0.5,en;q=0.6", Language::English),
            ("ES;q=x, en", Language::English),
            ("es;q=0", Language::English),
            ("es;q=NaN, *", Language::English),
        ] {
            assert_eq!(Language::preferred(accept), expected, "{accept}");
        }
    }

    #[test]
    fn every_word_is_there_in_both_languages() {
        for language in [Language::English, Language::Spanish] {
            for (name, word) in language.words().all() {
                assert!(!word.trim().is_empty(), "{name}");
            }
        }
        // What is filled in has its places in both.
        let english = Language::English.words().all();
        for ((name, one), (_, other)) in english.iter().zip(Language::Spanish.words().all()) {
            let places = |text: &str| text.matches("{}").count();
            assert_eq!(places(one), places(other), "{name}");
        }
    }

    #[test]
    fn values_stand_where_the_sentence_has_places() {
        assert_eq!(filled("{} until {}.", &["a", "b"]), "a until b.");
        assert_eq!(filled("none", &["a"]), "none");
        assert_eq!(filled("{}", &["{}"]), "{}");
    }
}
