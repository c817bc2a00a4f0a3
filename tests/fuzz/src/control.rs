//! Control messages: whatever a peer seals is one of them or isn't, and what is understood is the
//! same once it is written again.

use taltun_protocol::control_message::{CONTROL_LEN, ControlMessage, is_control};

pub(crate) fn run(plaintext: &[u8]) {
    let parsed = ControlMessage::parse(plaintext);
    if let Ok(message) = parsed {
        assert!(is_control(plaintext));
        let bytes = message.to_bytes();
        assert_eq!(ControlMessage::parse(&bytes), Ok(message));
        // All but the bytes that nobody looks at.
        assert_eq!(bytes[..5], plaintext[..5]);
        assert_eq!(bytes[8..], plaintext[8..CONTROL_LEN]);
    }
    // No packet of either family is one.
    if matches!(plaintext.first().map(|byte| byte >> 4), Some(4 | 6)) {
        assert!(!is_control(plaintext) && parsed.is_err());
    }
}
