//! What a running tunnel answers over the control socket.

use std::marker::PhantomData;

use serde::{Deserialize, Serialize};

use super::answer_to::AnswerTo;
use super::watching::Flow;
use crate::report::{
    Explanation, FleetStatus, Overview, PeerEdited, Refused, Stats, Status, UnixTime, Usage,
    WebToken,
};
use crate::secret::SecretText;

/// A line of JSON that comes back.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Response {
    /// The tunnel and its peers.
    Status(Box<Status>),
    /// What was moved and dropped.
    Stats(Box<Stats>),
    /// As much of both as a screen shows.
    Overview(Box<Overview>),
    /// A file, with keys in it.
    Export(SecretText),
    /// What peers moved.
    Usage(Box<Usage>),
    /// What would happen to a packet.
    Explanation(Box<Explanation>),
    /// What is known of a fleet.
    FleetStatus(Box<FleetStatus>),
    /// A peer was changed.
    PeerEdited(Box<PeerEdited>),
    /// What somebody watches follows, behind this line.
    Started(Started),
    /// A token that was made.
    WebToken(NewWebToken),
    /// The tokens there are.
    WebTokens(Vec<WebToken>),
    /// It is done.
    Done(Done),
    /// The configuration was read again.
    Reloaded(Reloaded),
    /// It isn't done; the text says why and what would help, in one line.
    Error(Refused),
    /// It isn't done, as the configuration has mistakes: a line each.
    Misconfigured(String),
}

impl Response {
    /// What it is, as a noun with its article.
    pub(super) fn noun(&self) -> &'static str {
        match self {
            Self::Status(_) => "a status",
            Self::Stats(_) => "statistics",
            Self::Overview(_) => "an overview",
            Self::Usage(_) => "usage",
            Self::Explanation(_) => "an explanation",
            Self::FleetStatus(_) => "a fleet's status",
            Self::PeerEdited(_) => "a changed peer",
            Self::Started(_) => "packets",
            Self::Export(_) => "a file",
            Self::WebToken(_) => "a token",
            Self::WebTokens(_) => "tokens",
            Self::Done(_) | Self::Reloaded(_) | Self::Error(_) | Self::Misconfigured(_) => {
                "a sentence"
            }
        }
    }
}

/// What a command is answered with when it is done.
pub trait Answer: Sized {
    /// As it goes over the socket.
    fn into_response(self) -> Response;
    /// As it came over the socket; an answer of another kind comes back.
    fn of(response: Response) -> Result<Self, Response>;
}

macro_rules! answers {
    ($($variant:ident: $kind:ty $(, or $other:pat => $made:expr)?;)*) => {
        $(impl Answer for $kind {
            fn into_response(self) -> Response {
                Response::$variant(self)
            }

            fn of(response: Response) -> Result<Self, Response> {
                match response {
                    Response::$variant(answer) => Ok(answer),
                    $($other => Ok($made),)?
                    other => Err(other),
                }
            }
        })*
    };
}

answers! {
    Status: Box<Status>;
    Stats: Box<Stats>;
    Overview: Box<Overview>;
    Export: SecretText;
    Usage: Box<Usage>;
    Explanation: Box<Explanation>;
    FleetStatus: Box<FleetStatus>;
    PeerEdited: Box<PeerEdited>;
    Started: Started;
    WebToken: NewWebToken;
    WebTokens: Vec<WebToken>;
    Done: Done;
    // A tunnel that runs since before there were warnings has a sentence only.
    Reloaded: Reloaded, or Response::Done(done) => Reloaded { done, warnings: Vec::new() };
}

/// From now on packets are written to the connection.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Started {
    /// Name of the TUN interface.
    pub interface: String,
    /// Who writes them.
    #[serde(skip)]
    pub(super) flow: Flow,
}

/// A token for the page, told this once.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NewWebToken {
    /// What it is called.
    pub name: String,
    /// The token itself.
    pub token: SecretText,
    /// When it ends.
    pub ends_at: UnixTime,
    /// Where browsers connect to.
    pub listen: Vec<String>,
}

/// What was done, in a sentence for people.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Done(pub String);

/// What a reload did.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Reloaded {
    /// That, in a sentence for people.
    pub done: Done,
    /// What is odd about the configuration, a sentence each.
    pub warnings: Vec<String>,
}

/// Where the answer to one command goes. Who asked may have left meanwhile.
#[derive(Debug)]
pub(super) struct Reply<A> {
    to: AnswerTo<Response>,
    answer: PhantomData<A>,
}

impl<A: Answer> Reply<A> {
    pub(super) fn new(to: impl Into<AnswerTo<Response>>) -> Self {
        Self {
            to: to.into(),
            answer: PhantomData,
        }
    }

    /// Whether nobody waits for it any more.
    pub(super) fn is_closed(&self) -> bool {
        self.to.is_closed()
    }

    /// It is done, or it isn't.
    pub(super) fn outcome(self, outcome: Result<A, Refused>) {
        let response = outcome.map_or_else(Response::Error, A::into_response);
        self.to.send(response);
    }

    /// The configuration has mistakes.
    pub(super) fn misconfigured(self, mistakes: String) {
        self.to.send(Response::Misconfigured(mistakes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_on_the_socket_what_they_have_always_been() {
        let reloaded = Reloaded {
            done: Done("reloaded".into()),
            warnings: vec!["odd".into()],
        };
        for (response, json) in [
            (
                Done("banned".into()).into_response(),
                r#"{"done":"banned"}"#,
            ),
            (
                reloaded.into_response(),
                r#"{"reloaded":{"done":"reloaded","warnings":["odd"]}}"#,
            ),
            (
                SecretText::from("k".to_owned()).into_response(),
                r#"{"export":"k"}"#,
            ),
            (Response::Error("busy".into()), r#"{"error":"busy"}"#),
            (
                Response::Misconfigured("line".into()),
                r#"{"misconfigured":"line"}"#,
            ),
        ] {
            assert_eq!(serde_json::to_string(&response).unwrap(), json);
            let back: Response = serde_json::from_str(json).unwrap();
            assert_eq!(format!("{back:?}"), format!("{response:?}"));
        }
    }

    #[test]
    fn an_answer_is_of_the_kind_that_was_asked_for() {
        let done = || Response::Done(Done("reloaded".into()));
        assert!(Done::of(done()).is_ok());
        assert!(SecretText::of(done()).is_err());
        let reloaded = Reloaded::of(done()).unwrap();
        assert_eq!(reloaded.done.0, "reloaded");
        assert!(reloaded.warnings.is_empty());
    }
}
