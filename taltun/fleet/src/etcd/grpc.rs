//! gRPC over one connection of HTTP/2: a call with one answer, and a call with many.
//!
//! This is all that etcd's calls need of gRPC: each message has five bytes before it, and a
//! status follows the last one.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use prost::Message;
use tokio::task::AbortHandle;

use super::endpoint::{Endpoint, Tls, connect};
use super::error::Error;

/// Bytes of one message at the most: a page of a list, or what a watch tells at once.
const MAX_MESSAGE: usize = 64 << 20;
/// Bytes that may be under way in one stream, and in a connection.
const WINDOW: u32 = 1 << 20;

/// A connection to one endpoint.
#[derive(Debug)]
pub(super) struct Connection {
    endpoint: Endpoint,
    send: SendRequest<Bytes>,
    driver: AbortHandle,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Connection {
    /// Connects. It takes as long as it takes: the caller has a limit.
    pub async fn open(endpoint: &Endpoint, tls: Option<&Tls>) -> Result<Self, Error> {
        let unreachable = |why: String| Error::Unreachable {
            endpoint: endpoint.to_string(),
            why,
        };
        let wire = connect(endpoint, tls).await;
        let wire = wire.map_err(|error| unreachable(error.to_string()))?;
        let shaken = h2::client::Builder::new()
            .initial_window_size(WINDOW)
            .initial_connection_window_size(4 * WINDOW)
            .max_header_list_size(64 << 10)
            .enable_push(false)
            .handshake(wire)
            .await;
        let (send, connection) = shaken.map_err(|error| unreachable(error.to_string()))?;
        let driver = tokio::spawn(async move {
            // Each call is told by itself.
            let _ = connection.await;
        });
        Ok(Self {
            endpoint: endpoint.clone(),
            send,
            driver: driver.abort_handle(),
        })
    }

    /// Whom it leads to.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Whether it is over.
    pub fn is_over(&self) -> bool {
        self.driver.is_finished()
    }

    /// A call with one answer.
    pub async fn call<Q: Message, A: Message + Default>(
        &self,
        method: &str,
        question: &Q,
    ) -> Result<A, Error> {
        let (_, mut answers) = self.stream(method, question, true).await?;
        let answer = answers.next().await?;
        let answer = answer.ok_or_else(|| answers.broken("no answer"))?;
        // The status is what counts, and comes after it.
        match answers.next::<A>().await? {
            None => Ok(answer),
            Some(_) => Err(answers.broken("two answers to one question")),
        }
    }

    /// A call with many answers. Questions may follow, unless this is the `last`.
    pub async fn stream<Q: Message>(
        &self,
        method: &str,
        question: &Q,
        last: bool,
    ) -> Result<(Questions, Answers), Error> {
        let broken = |error: h2::Error| Error::broken(&self.endpoint, error);
        let request = Request::post(format!("{}/etcdserverpb.{method}", self.endpoint))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("user-agent", concat!("taltun/", env!("CARGO_PKG_VERSION")))
            // A member that lost the others says so instead of waiting for them.
            .header("hasleader", "true")
            .body(())
            .map_err(|error| Error::broken(&self.endpoint, error))?;
        let mut send = self.send.clone().ready().await.map_err(broken)?;
        let (response, stream) = send.send_request(request, false).map_err(broken)?;
        let mut questions = Questions {
            endpoint: self.endpoint.clone(),
            stream,
        };
        questions.send(question, last)?;
        let response = response.await.map_err(broken)?;
        let answers = Answers::new(&self.endpoint, response)?;
        Ok((questions, answers))
    }
}

/// What is asked in one call.
#[derive(Debug)]
pub(super) struct Questions {
    endpoint: Endpoint,
    stream: SendStream<Bytes>,
}

impl Questions {
    /// Asks. It waits for nothing: what can't leave yet is kept.
    pub fn send<Q: Message>(&mut self, question: &Q, last: bool) -> Result<(), Error> {
        let length = question.encoded_len();
        let mut frame = BytesMut::with_capacity(5 + length);
        frame.put_u8(0);
        frame.put_u32(length as u32);
        question
            .encode(&mut frame)
            .expect("there is room for all of it");
        let sent = self.stream.send_data(frame.freeze(), last);
        sent.map_err(|error| Error::broken(&self.endpoint, error))
    }
}

/// What is answered in one call.
#[derive(Debug)]
pub(super) struct Answers {
    endpoint: Endpoint,
    body: RecvStream,
    read: BytesMut,
}

impl Answers {
    fn new(endpoint: &Endpoint, response: Response<RecvStream>) -> Result<Self, Error> {
        let (head, body) = response.into_parts();
        if head.status != 200 {
            return Err(Error::broken(
                endpoint,
                format_args!("HTTP {}", head.status),
            ));
        }
        // An error without any answer comes in the head.
        if head.headers.contains_key("grpc-status") {
            status(endpoint, &head.headers)?;
        }
        Ok(Self {
            endpoint: endpoint.clone(),
            body,
            read: BytesMut::new(),
        })
    }

    /// The next answer; `None` after the last one, if all is well.
    pub async fn next<A: Message + Default>(&mut self) -> Result<Option<A>, Error> {
        loop {
            if let Some(message) = self.whole_message()? {
                let answer = A::decode(message);
                return answer.map(Some).map_err(|error| self.broken(error));
            }
            match self.body.data().await {
                Some(Ok(data)) => {
                    let released = self.body.flow_control().release_capacity(data.len());
                    released.map_err(|error| self.broken(error))?;
                    self.read.extend_from_slice(&data);
                }
                Some(Err(error)) => return Err(self.broken(error)),
                None => {
                    let trailers = self.body.trailers().await;
                    let trailers = trailers.map_err(|error| self.broken(error))?;
                    status(&self.endpoint, &trailers.unwrap_or_default())?;
                    return Ok(None);
                }
            }
        }
    }

    fn whole_message(&mut self) -> Result<Option<Bytes>, Error> {
        let Some(head) = self.read.first_chunk::<5>() else {
            return Ok(None);
        };
        let [compressed, length @ ..] = *head;
        let length = u32::from_be_bytes(length) as usize;
        if compressed != 0 || length > MAX_MESSAGE {
            return Err(self.broken("a message that is compressed or too long"));
        }
        if self.read.len() < 5 + length {
            return Ok(None);
        }
        self.read.advance(5);
        Ok(Some(self.read.split_to(length).freeze()))
    }

    fn broken(&self, why: impl std::fmt::Display) -> Error {
        Error::broken(&self.endpoint, why)
    }
}

/// The status of a call.
fn status(endpoint: &Endpoint, headers: &HeaderMap) -> Result<(), Error> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let code = text("grpc-status").and_then(|code| code.parse::<u32>().ok());
    match code {
        Some(0) => Ok(()),
        Some(code) => {
            let message = text("grpc-message").unwrap_or_default();
            // Another's text, which ends in logs.
            let message = message.chars().filter(|each| !each.is_control());
            Err(Error::status(code, message.take(256).collect()))
        }
        None => Err(Error::broken(endpoint, "an answer without a gRPC status")),
    }
}
