//! Asks each Taltun of a lab how it is, again and again, on a thread of its own: keys and drawing
//! don't wait for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

use taltun_tests::control::Control;
use taltun_tests::report::{Stats, Status};

/// The pause between two rounds of questions.
const PAUSE: Duration = Duration::from_millis(900);
/// How often it looks whether it is to end.
const LOOK: Duration = Duration::from_millis(20);

/// A Taltun to be asked.
pub struct Watched {
    /// The machine's name.
    pub name: String,
    /// How to ask it.
    pub control: Control,
    /// Whether it is the hub, which is asked for its drops as well.
    pub is_hub: bool,
}

/// What one said; nothing if it doesn't run, or is just being started.
pub struct Answer {
    /// The machine's name.
    pub name: String,
    /// When.
    pub at: Instant,
    /// How it is.
    pub status: Option<Status>,
    /// What it counted, of the hub.
    pub stats: Option<Stats>,
}

/// Asks until dropped.
pub struct Watch {
    answers: Receiver<Answer>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Begins.
    pub fn start(all: Vec<Watched>) -> Self {
        let (sender, answers) = mpsc::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            while !told.load(Ordering::Relaxed) {
                for watched in &all {
                    // A machine without a directory has no Taltun, or none yet.
                    if !watched.control.directory().exists() {
                        continue;
                    }
                    let stats = watched.is_hub.then(|| watched.control.stats().ok());
                    let answer = Answer {
                        name: watched.name.clone(),
                        at: Instant::now(),
                        status: watched.control.status().ok(),
                        stats: stats.flatten(),
                    };
                    if sender.send(answer).is_err() {
                        return;
                    }
                }
                let round = Instant::now();
                while round.elapsed() < PAUSE && !told.load(Ordering::Relaxed) {
                    sleep(LOOK);
                }
            }
        });
        Self {
            answers,
            stop,
            thread: Some(thread),
        }
    }

    /// What has come since the last call.
    pub fn answers(&self) -> Vec<Answer> {
        self.answers.try_iter().collect()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed already.
            let _ = thread.join();
        }
    }
}
