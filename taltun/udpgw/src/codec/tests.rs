use super::*;

/// Numbers that look random and are the same each time (xorshift).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }
}

/// What a decoder makes of pieces, as text.
fn decoded<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<String>, Malformed> {
    let mut decoder = Decoder::new(65_520);
    let mut messages = Vec::new();
    for piece in pieces {
        let mut input = piece;
        while let Some(message) = decoder.next(&mut input)? {
            messages.push(format!("{message:?}"));
        }
        assert!(input.is_empty());
        assert!(decoder.partial.capacity() <= MAX_FRAME);
    }
    Ok(messages)
}

fn one(frame: &[u8]) -> Message<'_> {
    let (length, message) = frame.split_at(LENGTH);
    assert_eq!(length, (message.len() as u16).to_le_bytes());
    parse(message).unwrap()
}

#[test]
fn byte_examples_mean_what_badvpn_says() {
    assert_eq!(
        one(&[3, 0, 1, 0x34, 0x12]),
        Message::Keepalive { id: 0x1234 }
    );
    let v4 = [
        11, 0, // length
        0, // flags
        0x02, 0x01, // id 0x0102
        192, 0, 2, 7, // address
        0x1f, 0x90, // port 8080
        b'h', b'i',
    ];
    assert_eq!(
        one(&v4),
        Message::Datagram(Datagram {
            id: 0x0102,
            address: "192.0.2.7:8080".parse().unwrap(),
            rebind: false,
            dns: false,
            payload: b"hi",
        })
    );
    let v6 = [
        22,
        0,
        8 | 2 | 4,
        0xff,
        0xff,
        0x20,
        0x01,
        0x0d,
        0xb8,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        1,
        0,
        53,
        b'?',
    ];
    assert_eq!(
        one(&v6),
        Message::Datagram(Datagram {
            id: 0xffff,
            address: "[2001:db8::1]:53".parse().unwrap(),
            rebind: true,
            dns: true,
            payload: b"?",
        })
    );
    assert_eq!(one(&[3, 0, 0x20, 0, 0]), Message::Unknown { flags: 0x20 });
    let empty = [9, 0, 0, 0, 0, 1, 2, 3, 4, 0, 1];
    assert!(matches!(one(&empty), Message::Datagram(datagram) if datagram.payload.is_empty()));
}

#[test]
fn answers_are_the_bytes_that_badvpn_sends() {
    let mut frames = Vec::new();
    assert!(encode(
        &mut frames,
        0x0102,
        "192.0.2.7:8080".parse().unwrap(),
        b"hi"
    ));
    assert_eq!(
        frames,
        [11, 0, 0, 2, 1, 192, 0, 2, 7, 0x1f, 0x90, b'h', b'i']
    );
    frames.clear();
    assert!(encode(
        &mut frames,
        7,
        "[2001:db8::1]:53".parse().unwrap(),
        b""
    ));
    assert_eq!(
        frames,
        [
            21, 0, 8, 7, 0, 0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 53
        ]
    );
}

#[test]
fn what_no_frame_holds_is_not_sent() {
    let v4: SocketAddr = "192.0.2.7:1".parse().unwrap();
    let v6: SocketAddr = "[2001:db8::1]:1".parse().unwrap();
    for (address, most) in [(v4, 65_526), (v6, 65_514)] {
        let payload = vec![7; most + 1];
        let mut frames = Vec::new();
        assert!(!encode(&mut frames, 1, address, &payload) && frames.is_empty());
        assert!(encode(&mut frames, 1, address, &payload[..most]));
        assert_eq!(frames.len(), MAX_FRAME);
        assert_eq!(frame_length(address, most), Some(MAX_FRAME));
        assert!(matches!(one(&frames), Message::Datagram(found) if found.payload.len() == most));
    }
}

#[test]
fn lengths_that_cannot_be_end_it() {
    for (frame, error) in [
        (&[0, 0][..], Malformed::TooShort(0)),
        (&[2, 0, 1, 0], Malformed::TooShort(2)),
        (&[8, 0, 0, 0, 0, 1, 2, 3, 4, 0], Malformed::TooShort(8)),
        (
            &[9, 0, IPV6, 0, 0, 1, 2, 3, 4, 0, 1],
            Malformed::TooShort(9),
        ),
    ] {
        assert_eq!(decoded([frame]), Err(error));
        // As soon by single bytes.
        assert_eq!(decoded(frame.chunks(1)), Err(error));
    }
    let mut decoder = Decoder::new(100);
    let mut fits = &[121, 0][..];
    assert_eq!(decoder.next(&mut fits), Ok(None));
    let mut decoder = Decoder::new(100);
    let mut lies = &[122, 0][..];
    assert_eq!(decoder.next(&mut lies), Err(Malformed::TooLong(122)));
}

#[test]
fn datagrams_survive_the_way_there_in_any_pieces() {
    let mut numbers = Numbers(0x7ab1_e5ee_d5a1_7ab1);
    for _ in 0..300 {
        let mut frames = Vec::new();
        let mut sent = Vec::new();
        for _ in 0..numbers.below(20) {
            let ip: IpAddr = if numbers.below(2) == 0 {
                Ipv4Addr::from(numbers.next() as u32).into()
            } else {
                Ipv6Addr::from(u128::from(numbers.next()) << 64 | u128::from(numbers.next())).into()
            };
            let address = SocketAddr::new(ip, numbers.next() as u16);
            let id = numbers.next() as u16;
            let length = [0, 1, 100, 1400, 65_000][numbers.below(5)];
            let payload = numbers.bytes(length);
            assert!(encode(&mut frames, id, address, &payload));
            sent.push(format!(
                "{:?}",
                Message::Datagram(Datagram {
                    id,
                    address,
                    rebind: false,
                    dns: false,
                    payload: &payload,
                })
            ));
        }
        let mut pieces = Vec::new();
        let mut rest = &frames[..];
        while !rest.is_empty() {
            let most = [1, 3, 50, 5000, 70_000][numbers.below(5)];
            let (piece, left) = rest.split_at(rest.len().min(1 + numbers.below(most)));
            pieces.push(piece);
            rest = left;
        }
        assert_eq!(decoded(pieces), Ok(sent));
    }
}

#[test]
fn random_bytes_never_panic_and_mean_the_same_in_any_pieces() {
    let mut numbers = Numbers(42);
    let mut understood = 0;
    for _ in 0..3000 {
        let length = numbers.below(400);
        let mut bytes = numbers.bytes(length);
        // Lengths that could be, as nearly all random ones are too long to be complete.
        let mut at = 0;
        while at + 2 < bytes.len() && numbers.below(20) != 0 {
            let length = numbers.below(40);
            bytes[at] = length as u8;
            bytes[at + 1] = 0;
            bytes[at + 2] &= 0x0f;
            at += 2 + length;
        }
        let whole = decoded([&bytes[..]]);
        assert_eq!(whole, decoded(bytes.chunks(1)));
        assert_eq!(whole, decoded(bytes.chunks(7)));
        understood += whole.map_or(0, |messages| messages.len());
    }
    assert!(understood > 500, "{understood}");
}
