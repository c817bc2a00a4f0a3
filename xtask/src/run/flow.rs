//! A TCP stream that goes on as long as the lab does, through bans and a hub that is killed.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Error, Result, ensure};
use taltun_tests::netns::Namespace;
use taltun_tests::traffic::stream::{Stream, WrongByte, gbps};

use super::report::Check;
use super::units;

/// TCP doubles its pauses while nothing gets through, so it notices late that something does.
const RETURN_LIMIT: Duration = Duration::from_secs(15);
/// How much of that somebody waits for who ends the lab by a key.
const IMPATIENT_LIMIT: Duration = Duration::from_secs(5);

/// A stream.
pub struct Flow<'a> {
    /// What it is called.
    pub name: &'static str,
    ends: [&'a Namespace; 2],
    to: SocketAddr,
    stream: Result<Stream>,
    /// Gbit/s in each undisturbed second so far.
    rates: Vec<f64>,
    /// Bytes of streams that were cut by something that we did, all right as far as they came.
    carried: u64,
    /// How many these were.
    cuts: u64,
    /// While it is disturbed, and until it moves again: how much it had received.
    stalled_at: Option<u64>,
    /// How much it had received when its rate was last taken.
    sampled: u64,
    /// The same of its marks.
    leveled: u64,
    /// How much it had received when it was begun to count anew.
    marked: u64,
}

impl<'a> Flow<'a> {
    /// Starts it.
    pub fn start(
        name: &'static str,
        from: &'a Namespace,
        to: &'a Namespace,
        at: SocketAddr,
    ) -> Self {
        Self {
            name,
            ends: [from, to],
            to: at,
            stream: Stream::start(from, to, at),
            rates: Vec::new(),
            carried: 0,
            cuts: 0,
            stalled_at: None,
            sampled: 0,
            leveled: 0,
            marked: 0,
        }
    }

    /// Bytes received so far, each of them right.
    pub fn received(&self) -> u64 {
        self.carried + self.stream.as_ref().map_or(0, Stream::received)
    }

    /// Bytes received since [`Flow::mark`].
    pub fn received_since_mark(&self) -> u64 {
        self.received() - self.marked
    }

    /// Begins to count anew.
    pub fn mark(&mut self) {
        self.marked = self.received();
    }

    /// To be called often: `is_calm` unless we disturb it.
    pub fn note(&mut self, is_calm: bool) {
        let received = self.received();
        if !is_calm {
            self.stalled_at = Some(received);
        } else if self.stalled_at.is_some_and(|before| received > before) {
            self.stalled_at = None;
        }
    }

    /// Starts it anew if a disturbance has cut it. To be called when the way is open: connecting
    /// takes as long as it takes.
    pub fn revive(&mut self) {
        let is_cut = match &self.stream {
            Ok(stream) => stream.is_broken(),
            // It couldn't be started the last time.
            Err(error) => self.cuts > 0 && !error.is::<WrongByte>(),
        };
        if !is_cut || self.stalled_at.is_none() {
            return;
        }
        self.give_up();
        if self
            .stream
            .as_ref()
            .is_err_and(|error| !error.is::<WrongByte>())
        {
            self.stream = Stream::start(self.ends[0], self.ends[1], self.to);
        }
    }

    /// Ends a stream that was cut. What it has received is right, or is an error for good.
    fn give_up(&mut self) {
        let stream = std::mem::replace(&mut self.stream, Err(Error::msg("it was cut")));
        if let Ok(stream) = stream {
            self.carried += stream.received();
            self.cuts += 1;
            if stream.is_broken()
                && let Err(error) = stream.finish()
                && error.is::<WrongByte>()
            {
                self.stream = Err(error);
            }
        }
    }

    /// The rate since the last call, in bits a second. It is remembered unless it was touched by a
    /// disturbance or by TCP's wait after it.
    pub fn sample(&mut self, elapsed: Duration) -> f64 {
        let received = self.received();
        let rate = gbps(received - self.sampled, elapsed);
        self.sampled = received;
        if self.stalled_at.is_none() {
            self.rates.push(rate);
        }
        rate * 1e9
    }

    /// The rate since the last call, in bits a second, for a mark.
    pub fn level(&mut self, elapsed: Duration) -> f64 {
        let received = self.received();
        let rate = gbps(received - self.leveled, elapsed);
        self.leveled = received;
        rate * 1e9
    }

    /// Ends it; it has to have moved again after the last disturbance. Somebody who ends the lab
    /// by a key doesn't wait long for that.
    pub fn finish(&mut self, by_key: bool) -> Check {
        if by_key && let Some(before) = self.stalled_at {
            let moves = |stream: &Stream| {
                let before = before.saturating_sub(self.carried);
                stream.wait_for_more_than(before, IMPATIENT_LIMIT).is_ok()
            };
            if !self.stream.as_ref().is_ok_and(moves) {
                self.give_up();
            }
        }
        let result = self.end();
        Check::from_result(self.name, result)
    }

    fn end(&mut self) -> Result<String> {
        let ended = Err(Error::msg("it was ended"));
        match std::mem::replace(&mut self.stream, ended) {
            Ok(stream) => {
                if let Some(before) = self.stalled_at {
                    stream
                        .wait_for_more_than(before.saturating_sub(self.carried), RETURN_LIMIT)
                        .context("after the disturbance")?;
                }
                self.carried += stream.finish()?.bytes;
            }
            Err(error) if self.cuts == 0 || error.is::<WrongByte>() => return Err(error),
            Err(_) => {}
        }
        ensure!(self.carried > 0, "not a byte arrived");
        let mut text = format!(
            "{}, all intact, median {}",
            units::bytes(self.carried),
            units::rate(self.median_gbps() * 1e9)
        );
        if self.cuts > 0 {
            text.push_str(", cut ");
            text.push_str(&units::counted(self.cuts, "time"));
        }
        Ok(text)
    }

    /// The median over the undisturbed seconds.
    pub fn median_gbps(&self) -> f64 {
        let mut rates = self.rates.clone();
        rates.sort_by(f64::total_cmp);
        rates.get(rates.len() / 2).copied().unwrap_or_default()
    }
}
