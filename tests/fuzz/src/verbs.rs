//! What the privileged process is asked: no frame makes it fail, and one that is taken is the same once it is written
//! again, short, and within bounds.

use taltun::verbs::{Answer, FRAME_MAX, MOST_SOCKETS, Verb};

pub(crate) fn run(frame: &[u8]) {
    let frame = &frame[..frame.len().min(FRAME_MAX)];
    if let Some(verb) = Verb::of(frame) {
        let written = verb.to_frame();
        assert!(written.len() <= FRAME_MAX);
        assert_eq!(Verb::of(&written), Some(verb));
        if let Verb::Listen { count, .. } = verb {
            assert!((1..=MOST_SOCKETS).contains(&count));
        }
    }
    if let Some(answer) = Answer::of(frame) {
        assert_eq!(answer.to_frame(), frame);
    }
}
