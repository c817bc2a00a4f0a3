//! The texts that scrapers get, each made once for all who ask within a moment.
//!
//! A text stays in memory as long as somebody reads it, so there is a limit to how many there are:
//! at the limit an older one is handed out, and once that is too old, those who still read the
//! oldest one are cut off.

use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;

use hyper::body::Bytes;
use prometheus_client::registry::Registry;
use tokio::sync::watch;
use tokio::time::Instant;

use super::accept::Format;
use super::classic;
use super::families::Exposed;
use super::seen::{Answer, Seen};

/// An answer is as good as new for so long: many scrapers cost the tunnel no more than one.
const FRESH: Duration = Duration::from_millis(200);
/// The most texts in memory.
const MOST: usize = 4;
/// How old a text may be at that limit. So each reader has three times that to read.
const OLDEST: Duration = Duration::from_secs(5);

/// A text for a scraper.
#[derive(Debug, Clone)]
pub(super) struct Text {
    pub(super) bytes: Bytes,
    /// Which one it is: those that are made later have higher ones.
    pub(super) number: u64,
}

/// The texts in memory.
#[derive(Debug)]
pub(super) struct Texts {
    /// What the tunnel answered last.
    seen: Option<(Instant, Arc<Seen>)>,
    made: Vec<Made>,
    /// The last text, which is kept for those who come right after.
    kept: Option<Arc<String>>,
    number: u64,
    /// Bytes of the longest text yet: the next one will be about as long.
    longest: usize,
    /// Who reads a text before this one is cut off.
    first: watch::Sender<u64>,
}

#[derive(Debug)]
struct Made {
    format: Format,
    at: Instant,
    number: u64,
    text: Weak<String>,
}

/// Who can tell how the tunnel is.
pub(super) trait Tunnel {
    async fn ask(&mut self) -> io::Result<Answer>;
}

/// A text that goes with its last reader.
struct Shared(Arc<String>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl Texts {
    /// None yet; with what tells readers which texts they may still read.
    pub(super) fn new() -> (Self, watch::Receiver<u64>) {
        let (first, told) = watch::channel(0);
        let texts = Self {
            seen: None,
            made: Vec::new(),
            kept: None,
            number: 0,
            longest: 0,
            first,
        };
        (texts, told)
    }

    /// The text to hand out now, or why there is none. An error is the end of the tunnel.
    pub(super) async fn get(
        &mut self,
        format: Format,
        tunnel: &mut impl Tunnel,
    ) -> io::Result<Result<Text, String>> {
        self.made.retain(|it| it.text.strong_count() > 0);
        let limit = if self.made.len() < MOST {
            FRESH
        } else {
            OLDEST
        };
        if let Some(text) = self.last(format, limit) {
            return Ok(Ok(text));
        }
        let fresh = self.seen.take_if(|(at, _)| at.elapsed() < FRESH);
        let (at, seen) = match fresh {
            Some(fresh) => fresh,
            None => match tunnel.ask().await? {
                Answer::Seen(seen) => (Instant::now(), Arc::from(seen)),
                Answer::Not(reason) => return Ok(Err(reason)),
            },
        };
        self.seen = Some((at, Arc::clone(&seen)));
        Ok(Ok(self.make(format, seen)))
    }

    /// Drops what nobody will get any more.
    pub(super) fn forget(&mut self) {
        self.seen.take_if(|(at, _)| at.elapsed() >= FRESH);
        let is_fresh = |it: &Made| it.at.elapsed() < FRESH;
        if !self.made.last().is_some_and(is_fresh) {
            self.kept = None;
        }
    }

    fn last(&self, format: Format, limit: Duration) -> Option<Text> {
        let mut made = self.made.iter().rev();
        let last = made.find(|it| it.format == format && it.at.elapsed() < limit)?;
        let (number, text) = (last.number, last.text.upgrade()?);
        let bytes = Bytes::from_owner(Shared(text));
        Some(Text { bytes, number })
    }

    fn make(&mut self, format: Format, seen: Arc<Seen>) -> Text {
        self.kept = None;
        self.made.retain(|it| it.text.strong_count() > 0);
        if self.made.len() >= MOST {
            let oldest = self.made.remove(0);
            self.first.send_replace(oldest.number.saturating_add(1));
        }
        let text = Arc::new(expose(seen, format, self.longest));
        self.longest = self.longest.max(text.len());
        self.number = self.number.saturating_add(1);
        self.made.push(Made {
            format,
            at: Instant::now(),
            number: self.number,
            text: Arc::downgrade(&text),
        });
        self.kept = Some(Arc::clone(&text));
        Text {
            bytes: Bytes::from_owner(Shared(text)),
            number: self.number,
        }
    }
}

/// The metrics in a format; about so many bytes of them.
pub(super) fn expose(seen: Arc<Seen>, format: Format, bytes: usize) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Exposed(seen)));
    let mut text = String::with_capacity(bytes);
    // A text takes all that is written to it.
    let _ = prometheus_client::encoding::text::encode(&mut text, &registry);
    match format {
        Format::OpenMetrics => text,
        Format::Classic => classic::of(&text),
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;
    use crate::metrics::seen::example;

    #[derive(Default)]
    struct Asked(usize);

    impl Tunnel for Asked {
        async fn ask(&mut self) -> io::Result<Answer> {
            self.0 += 1;
            Ok(Answer::Seen(Box::new(example::seen())))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_text_is_made_once_for_who_comes_within_a_moment() {
        let (mut texts, _told) = Texts::new();
        let mut tunnel = Asked::default();
        let mut get = async |format| {
            let text = texts.get(format, &mut tunnel).await.unwrap().unwrap();
            texts.forget();
            (text.number, tunnel.0)
        };
        assert_eq!(get(Format::Classic).await, (1, 1));
        assert_eq!(get(Format::Classic).await, (1, 1));
        // Of the same answer.
        assert_eq!(get(Format::OpenMetrics).await, (2, 1));
        sleep(FRESH).await;
        assert_eq!(get(Format::Classic).await, (3, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn there_are_no_more_than_so_many_texts_and_the_oldest_is_cut_off() {
        let (mut texts, told) = Texts::new();
        let mut tunnel = Asked::default();
        let mut read = Vec::new();
        for second in 0..60 {
            let text = texts.get(Format::Classic, &mut tunnel).await;
            read.push(text.unwrap().unwrap());
            // As a reader does that is told so.
            read.retain(|it| it.number >= *told.borrow());
            let mut numbers: Vec<u64> = read.iter().map(|it| it.number).collect();
            numbers.dedup();
            assert!(numbers.len() <= MOST, "{second}: {numbers:?}");
            sleep(Duration::from_secs(1)).await;
        }
        assert!(*told.borrow() > 1);
        // Once four are there, there is a new one every five seconds.
        assert!((10..=20).contains(&tunnel.0), "{}", tunnel.0);
        // Nobody reads any more, and then it is as at the beginning.
        read.clear();
        let before = tunnel.0;
        for _ in 0..5 {
            texts
                .get(Format::Classic, &mut tunnel)
                .await
                .unwrap()
                .unwrap();
            sleep(FRESH).await;
        }
        assert!(tunnel.0 >= before + 4);
    }
}
