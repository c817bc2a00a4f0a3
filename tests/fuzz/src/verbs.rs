//! What the privileged process is asked, and what it answers: no frame makes either side fail, and one that is taken is the
//! same once it is written again, short, and within bounds.

use taltun::verbs::{Answer, FRAME_MAX, MOST_SOCKETS, Question, Verb};

pub(crate) fn run(frame: &[u8]) {
    let frame = &frame[..frame.len().min(FRAME_MAX)];
    if let Some(question) = Question::of(frame) {
        let written = question.to_frame();
        assert!(written.len() <= FRAME_MAX);
        assert_eq!(Question::of(&written), Some(question));
        if let Verb::Listen { count, .. } = question.verb {
            assert!((1..=MOST_SOCKETS).contains(&count));
        }
    }
    if let Some(answer) = Answer::of(frame) {
        assert_eq!(answer.to_frame(), frame);
    }
}
