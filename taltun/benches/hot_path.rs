//! What a packet costs, piece by piece: `cargo bench -p taltun --bench hot_path`.
//!
//! Times depend on the machine and its neighbours; compare two runs on one machine, and see
//! `cargo xtask bench` for what the whole reaches.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use taltun::crypto::{PresharedKey, PrivateKey};
use taltun::dataplane::offload::coalesce::{Coalescer, Join};
use taltun::dataplane::offload::split::Segments;
use taltun::dataplane::offload::vnet::{Gso, NEEDS_CSUM, VnetHeader};
use taltun::protocol::allowed_ips::AllowedIps;
use taltun::protocol::device::{Device, PeerSettings, Settings};
use taltun::protocol::messages::Message;
use taltun::protocol::peer::Endpoint;
use taltun::protocol::replay::ReplayWindow;
use taltun::protocol::time::Time;

const NOW: Time = Time::START;
const PACKETS: usize = 45;

/// A device at `10.0.0.me` that knows the one at `10.0.0.them`.
fn device(me: u8, them: u8) -> Device {
    let key = |of: u8| PrivateKey::from_bytes([of; 32]);
    let mut device = Device::new(Settings {
        private_key: key(me),
        seed: [me; 32],
        wall_clock_at_zero: Duration::from_secs(1_700_000_000),
        mtu: 1420,
        local_addresses: vec![IpAddr::from([10, 0, 0, me])],
        relay: false,
    });
    let peer = PeerSettings {
        public_key: key(them).public_key(),
        preshared_key: PresharedKey::default(),
        endpoint: Some(endpoint(them)),
        allowed_ips: vec![IpAddr::from([10, 0, 0, them]).into()],
        persistent_keepalive: None,
    };
    device.add_peer(peer, NOW).expect("a peer of its own key");
    device
}

fn endpoint(of: u8) -> Endpoint {
    Endpoint::from(SocketAddr::from(([192, 0, 2, of], 9000)))
}

/// Two devices with a session that both may use.
fn connected() -> (Device, Device) {
    let (mut a, mut b) = (device(1, 2), device(2, 1));
    let key = *b.public_key();
    a.initiate(&key, NOW);
    while let Some(mut transmit) = a.poll_transmit() {
        deliver(&mut b, &mut transmit.payload, endpoint(1));
        while let Some(mut answer) = b.poll_transmit() {
            deliver(&mut a, &mut answer.payload, endpoint(2));
        }
    }
    (a, b)
}

fn deliver(device: &mut Device, payload: &mut [u8], from: Endpoint) {
    match Message::parse(payload) {
        Ok(Message::Data { receiver, counter }) => {
            let _ = device
                .tunnel()
                .batch(NOW)
                .open(receiver, counter, payload, from);
        }
        _ => device
            .handle_handshake(payload, from, false, NOW)
            .expect("the two know each other"),
    }
    device.handle_requests(NOW);
}

/// An IPv4 packet of `len` bytes from `10.0.0.1` to `10.0.0.2`, a plain TCP segment.
fn packet(len: usize, sequence: u32) -> Vec<u8> {
    let mut packet = vec![0; len];
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&(len as u16).to_be_bytes());
    packet[8] = 64;
    packet[9] = 6;
    packet[12..20].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
    packet[24..28].copy_from_slice(&sequence.to_be_bytes());
    packet[32] = 5 << 4;
    packet[33] = 0x10;
    packet
}

fn seal_and_open(criterion: &mut Criterion) {
    for len in [64, 1420] {
        let mut group = criterion.benchmark_group(format!("{PACKETS} packets of {len} bytes"));
        group.throughput(Throughput::Bytes((PACKETS * len) as u64));
        let (a, b) = connected();
        let mut plain = vec![0; 16 + len + 32];
        plain[16..16 + len].copy_from_slice(&packet(len, 0));
        let batch = vec![plain; PACKETS];
        group.bench_function("seal", |bencher| {
            bencher.iter_batched_ref(
                || batch.clone(),
                |batch| {
                    let mut sealer = a.tunnel().batch(NOW);
                    for buffer in batch {
                        black_box(sealer.seal(buffer, len)).expect("there is a session");
                    }
                },
                BatchSize::LargeInput,
            );
        });
        group.bench_function("open", |bencher| {
            let sealed = || {
                let mut sealer = a.tunnel().batch(NOW);
                let mut batch = batch.clone();
                for buffer in &mut batch {
                    let sealed = sealer.seal(buffer, len).expect("there is a session");
                    buffer.truncate(sealed.len);
                }
                batch
            };
            bencher.iter_batched_ref(
                sealed,
                |batch| {
                    let mut opener = b.tunnel().batch(NOW);
                    for message in batch {
                        let Ok(Message::Data { receiver, counter }) = Message::parse(message)
                        else {
                            unreachable!("it was sealed as data");
                        };
                        black_box(opener.open(receiver, counter, message, endpoint(1)))
                            .expect("it is fresh and authentic");
                    }
                },
                BatchSize::LargeInput,
            );
        });
        group.finish();
    }
}

fn longest_prefix(criterion: &mut Criterion) {
    let mut table = AllowedIps::default();
    for number in 0..100_000_u32 {
        let address = Ipv4Addr::from(number.wrapping_mul(2_654_435_761));
        let len = 16 + (number % 17) as u8;
        let net = ipnet::Ipv4Net::new(address, len).expect("16 to 32 bits");
        table.insert(net.trunc().into(), number);
    }
    let mut number = 0_u32;
    criterion.bench_function("longest prefix among 100,000", |bencher| {
        bencher.iter(|| {
            number = number.wrapping_add(0x9e37_79b9);
            black_box(table.lookup(IpAddr::V4(number.into())).is_some())
        });
    });
}

fn replay(criterion: &mut Criterion) {
    let mut window = ReplayWindow::default();
    let mut counter = 0;
    criterion.bench_function("replay check", |bencher| {
        bencher.iter(|| {
            counter += 1;
            black_box(window.accept(counter))
        });
    });
}

fn split(criterion: &mut Criterion) {
    let whole = packet(40 + PACKETS * 1380, 0);
    let header = VnetHeader {
        flags: NEEDS_CSUM,
        gso: Gso::Tcp,
        gso_size: 1380,
        csum_start: 20,
        csum_offset: 16,
        ..VnetHeader::default()
    };
    let mut out = vec![0; 1500];
    let mut group = criterion.benchmark_group("offloads");
    group.throughput(Throughput::Bytes(whole.len() as u64));
    group.bench_function("cut a piece of a stream", |bencher| {
        bencher.iter(|| {
            let mut segments = Segments::new(&header, &whole).expect("header and packet agree");
            while let Some(len) = segments.next_len() {
                segments.write_next(&mut out[..len]);
                black_box(&out);
            }
        });
    });
    let mut arena = Vec::new();
    for number in 0..PACKETS as u32 {
        arena.extend(packet(1420, number * 1380));
    }
    let join = Join {
        tcp: true,
        udp: true,
    };
    let mut coalescer = Coalescer::with_capacity(PACKETS);
    group.bench_function("join the segments of a stream", |bencher| {
        bencher.iter(|| {
            coalescer.clear();
            for number in 0..PACKETS {
                coalescer.push(&arena, number * 1420, 1420, join);
            }
            black_box(coalescer.len())
        });
    });
    group.finish();
}

criterion_group!(benches, seal_and_open, longest_prefix, replay, split);
criterion_main!(benches);
