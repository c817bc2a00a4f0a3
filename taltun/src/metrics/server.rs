//! The HTTP server of the metrics: `GET /metrics`, one answer a connection.
//!
//! Nobody can hold more of it than one connection for a few seconds, and all together no more
//! than so many of them.

// What comes from outside must not be able to make anything here panic.
#![cfg_attr(
    not(test),
    warn(clippy::arithmetic_side_effects, clippy::indexing_slicing)
)]

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, ALLOW, CONTENT_TYPE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::registry::Registry;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{sleep, timeout};

use super::accept::Format;
use super::classic;
use super::families::Exposed;
use super::seen::Seen;

/// Connections of a listener that are open at the same time; others wait.
const CONNECTIONS: usize = 16;
/// How long a scraper may take to ask.
const TO_ASK: Duration = Duration::from_secs(5);
/// How long all of it may take, its reading included.
const TO_READ: Duration = Duration::from_secs(30);

/// A scraper's question: where the answer goes.
pub(super) type Question = oneshot::Sender<Result<Arc<Seen>, String>>;

/// Where scrapers come to.
#[derive(Debug)]
pub(super) enum Listener {
    /// An address and a port.
    Tcp(tokio::net::TcpListener),
    /// A file.
    Unix(tokio::net::UnixListener),
}

/// Serves scrapers for ever. Their questions go to `ask`.
pub(super) async fn serve(listener: Listener, ask: mpsc::Sender<Question>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let accepted: io::Result<Box<dyn Stream>> = match &listener {
            Listener::Tcp(listener) => listener.accept().await.map(|(it, _)| Box::new(it) as _),
            Listener::Unix(listener) => listener.accept().await.map(|(it, _)| Box::new(it) as _),
        };
        let Ok(stream) = accepted else {
            // Out of files, or it was gone again already: that passes.
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        let ask = ask.clone();
        tokio::spawn(async move {
            let _ = timeout(TO_READ, converse(stream, ask)).await;
            drop(place);
        });
    }
}

/// A connection.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// One question, one answer.
async fn converse(stream: Box<dyn Stream>, ask: mpsc::Sender<Question>) {
    let service = service_fn(|request| {
        let ask = ask.clone();
        async move { Ok::<_, Infallible>(respond(&request, &ask).await) }
    });
    // What goes wrong with a scraper is its own affair.
    let _ = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(TO_ASK)
        .keep_alive(false)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn respond(
    request: &Request<Incoming>,
    ask: &mpsc::Sender<Question>,
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
    match seen(ask).await {
        Ok(seen) => typed(StatusCode::OK, expose(seen, format), format.content_type()),
        Err(reason) => text(StatusCode::SERVICE_UNAVAILABLE, &format!("{reason}\n")),
    }
}

async fn seen(ask: &mpsc::Sender<Question>) -> Result<Arc<Seen>, String> {
    let (answer, answered) = oneshot::channel();
    let gone = || "the tunnel is gone".to_owned();
    ask.send(answer).await.map_err(|_| gone())?;
    answered.await.map_err(|_| gone())?
}

/// The metrics in a format.
pub(super) fn expose(seen: Arc<Seen>, format: Format) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Exposed(seen)));
    let mut text = String::new();
    // A text takes all that is written to it.
    let _ = prometheus_client::encoding::text::encode(&mut text, &registry);
    match format {
        Format::OpenMetrics => text,
        Format::Classic => classic::of(&text),
    }
}

fn text(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    typed(status, text.to_owned(), "text/plain; charset=utf-8")
}

fn typed(status: StatusCode, body: String, content_type: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let content_type = hyper::header::HeaderValue::from_static(content_type);
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::report::schema;

    /// A server whose tunnel answers as often as it is asked, or says no.
    async fn start(works: bool) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (ask, mut questions) = mpsc::channel::<Question>(1);
        tokio::spawn(serve(Listener::Tcp(listener), ask));
        tokio::spawn(async move {
            while let Some(question) = questions.recv().await {
                let (status, stats) = schema::full();
                let seen = if works {
                    Ok(Arc::new(Seen { status, stats }))
                } else {
                    Err("the tunnel is busy; try again".to_owned())
                };
                let _ = question.send(seen);
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

    #[tokio::test(start_paused = true)]
    async fn those_who_say_nothing_give_way_to_those_who_wait() {
        let address = start(true).await;
        let mut silent = Vec::new();
        for _ in 0..CONNECTIONS * 2 {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        let answer = answer(address, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}
