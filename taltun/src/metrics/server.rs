//! The HTTP server of the metrics: `GET /metrics`, one answer a connection.
//!
//! Who has asked may take its time to read, but not so long that too many texts are in memory.

// What comes from outside must not be able to make anything here panic.
#![cfg_attr(
    not(test),
    warn(clippy::arithmetic_side_effects, clippy::indexing_slicing)
)]

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, ALLOW, CONTENT_TYPE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use super::accept::Format;
use super::texts::Text;
use crate::server_process::{self, Limits, Listener, Stream};

/// How many scrapers there may be.
pub(super) const LIMITS: Limits = Limits {
    connections: 16,
    share: 4,
};
/// The longest head of a request, bytes.
const HEAD_MAX: usize = 16 << 10;
/// How long all of it may take, its reading included.
const TO_READ: Duration = Duration::from_secs(30);

/// A scraper's question.
#[derive(Debug)]
pub(super) struct Question {
    /// What it wants to read.
    pub(super) format: Format,
    /// Where the answer goes.
    pub(super) answer: oneshot::Sender<Result<Text, String>>,
}

/// How far a connection is.
#[derive(Debug)]
struct Progress {
    has_asked: Arc<AtomicBool>,
    /// The number of the text that it reads; 0 before it has one.
    text: AtomicU64,
}

/// Serves scrapers for ever. Their questions go to `ask`; who reads a text before `first` is cut off.
pub(super) async fn serve(
    listener: Listener,
    ask: mpsc::Sender<Question>,
    first: watch::Receiver<u64>,
) {
    server_process::serve(listener, LIMITS, |stream, has_asked| {
        let progress = Arc::new(Progress {
            has_asked,
            text: AtomicU64::new(0),
        });
        let talk = converse(stream, ask.clone(), Arc::clone(&progress));
        let mut first = first.clone();
        async move {
            let cut_off = first.wait_for(|first| {
                let text = progress.text.load(Ordering::Relaxed);
                text != 0 && text < *first
            });
            tokio::select! {
                _ = timeout(TO_READ, talk) => {}
                Ok(_) = cut_off => {}
            }
        }
    })
    .await;
}

/// One question, one answer.
async fn converse(stream: Box<dyn Stream>, ask: mpsc::Sender<Question>, progress: Arc<Progress>) {
    let service = service_fn(|request| {
        let (ask, progress) = (ask.clone(), Arc::clone(&progress));
        async move {
            progress.has_asked.store(true, Ordering::Relaxed);
            Ok::<_, Infallible>(respond(&request, &ask, &progress).await)
        }
    });
    // What goes wrong with a scraper is its own affair.
    let mut connection =
        server_process::http(HEAD_MAX).serve_connection(TokioIo::new(stream), service);
    let _ = (&mut connection).await;
    // The kernel has the rest of it.
    progress.text.store(0, Ordering::Relaxed);
    server_process::close(connection.into_parts().io.into_inner()).await;
}

async fn respond(
    request: &Request<Incoming>,
    ask: &mpsc::Sender<Question>,
    progress: &Progress,
) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
        let allowed = hyper::header::HeaderValue::from_static("GET, HEAD");
        refused.headers_mut().insert(ALLOW, allowed);
        return refused;
    }
    match request.uri().path() {
        "/metrics" => {}
        "/" => return text(StatusCode::OK, "Taltun's metrics are at /metrics\n"),
        _ => {
            return text(
                StatusCode::NOT_FOUND,
                "not found; the metrics are at /metrics\n",
            );
        }
    }
    let accept = request.headers().get_all(ACCEPT).iter();
    let accept: Vec<&str> = accept.filter_map(|value| value.to_str().ok()).collect();
    let format = Format::preferred(&accept.join(","));
    match text_of(format, ask).await {
        Ok(text) => {
            progress.text.store(text.number, Ordering::Relaxed);
            typed(StatusCode::OK, text.bytes, format.content_type())
        }
        Err(reason) => text(StatusCode::SERVICE_UNAVAILABLE, &format!("{reason}\n")),
    }
}

async fn text_of(format: Format, ask: &mpsc::Sender<Question>) -> Result<Text, String> {
    let (answer, answered) = oneshot::channel();
    let gone = || "the tunnel is gone".to_owned();
    let question = Question { format, answer };
    ask.send(question).await.map_err(|_| gone())?;
    answered.await.map_err(|_| gone())?
}

fn text(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    typed(status, text.to_owned().into(), "text/plain; charset=utf-8")
}

fn typed(status: StatusCode, body: Bytes, content_type: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let content_type = hyper::header::HeaderValue::from_static(content_type);
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::net::SocketAddr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::metrics::seen::{Answer, example};
    use crate::metrics::texts::{Texts, Tunnel};
    use crate::server_process::TO_ASK;

    struct Works(bool);

    impl Tunnel for Works {
        async fn ask(&mut self) -> io::Result<Answer> {
            Ok(if self.0 {
                Answer::Seen(Box::new(example::seen()))
            } else {
                Answer::Not("the tunnel is busy; try again".to_owned())
            })
        }
    }

    /// A server whose tunnel answers as often as it is asked, or says no.
    async fn start(works: bool) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (ask, mut questions) = mpsc::channel::<Question>(1);
        let (mut texts, first) = Texts::new();
        tokio::spawn(serve(Listener::Tcp(listener), ask, first));
        tokio::spawn(async move {
            while let Some(question) = questions.recv().await {
                let text = texts.get(question.format, &mut Works(works)).await;
                let _ = question.answer.send(text.unwrap());
            }
        });
        address
    }

    async fn answer(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // A server that closes with something unread resets the connection.
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8(answer).unwrap()
    }

    #[tokio::test]
    async fn requests_get_what_they_ask_for() {
        let address = start(true).await;
        let many = "a".repeat(20_000);
        for (request, status, holds) in [
            (
                "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n",
                "200",
                "\ntaltun_peers{",
            ),
            ("GET /metrics HTTP/1.0\r\n\r\n", "200", "\ntaltun_peers{"),
            (
                "GET /metrics?x=1 HTTP/1.1\r\nHost: x\r\n\r\n",
                "200",
                "text/plain; version=0.0.4",
            ),
            (
                "GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: application/openmetrics-text\r\n\r\n",
                "200",
                "# EOF",
            ),
            (
                "HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n",
                "200",
                "content-length",
            ),
            ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", "200", "/metrics"),
            ("GET /../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n", "404", ""),
            (
                "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
                "405",
                "GET, HEAD",
            ),
            ("nonsense\r\n\r\n", "400", ""),
            (&format!("GET /{many} HTTP/1.1\r\nHost: x\r\n\r\n"), "4", ""),
        ] {
            let answer = answer(address, request).await;
            let head = format!("HTTP/1.{} {status}", u8::from(!request.contains("/1.0")));
            assert!(answer.starts_with(&head), "{request}: {answer}");
            assert!(answer.contains(holds), "{request}: {answer}");
        }
    }

    #[tokio::test]
    async fn a_tunnel_that_does_not_answer_is_an_error_of_the_server() {
        let address = start(false).await;
        let answer = answer(address, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        assert!(
            answer.ends_with("the tunnel is busy; try again\n"),
            "{answer}"
        );
    }

    #[tokio::test]
    async fn who_closes_its_half_gets_its_answer() {
        let address = start(true).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";
        stream.write_all(request).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    /// Without any wait of the server's: the clock stands still until all is done.
    #[tokio::test(start_paused = true)]
    async fn those_who_say_nothing_give_way_at_once() {
        let address = start(true).await;
        let mut silent = Vec::new();
        for _ in 0..LIMITS.connections * 4 {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        let answer = answer(address, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    #[tokio::test]
    async fn who_is_hung_up_on_is_reset() {
        let address = start(true).await;
        let mut first = TcpStream::connect(address).await.unwrap();
        let mut others = Vec::new();
        for _ in 0..LIMITS.share {
            others.push(TcpStream::connect(address).await.unwrap());
        }
        let end = timeout(TO_ASK / 2, first.read(&mut [0])).await.unwrap();
        assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }
}
