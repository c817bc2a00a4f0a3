//! From a frame to the UDP datagram in it, if it is of the plain sort.
//!
//! Plain means: Ethernet, then IPv4 without options or IPv6 without extension headers,
//! not fragmented, then UDP. Anything else is `None`, for the kernel and user space. Only who asks
//! for it gets the first fragment of a datagram, and no length then means the whole.
//!
//! Every header is read at an offset known when compiling, and every read is checked
//! against the end of the frame: that is also the only form the verifier of older kernels
//! follows.

use core::mem::MaybeUninit;
use core::ptr;

use aya_ebpf::programs::XdpContext;

use taltun_common::address::{Address, v4_mapped};
use taltun_common::headers::{
    ETHERNET_LEN, Ethernet, IPV4_LEN, IPV6_FRAGMENT_LEN, IPV6_LEN, Ipv4, Ipv6, Ipv6Fragment,
    UDP_LEN, Udp, ethertype, protocol,
};
use zerocopy::{FromBytes, Immutable, Unaligned};

const PAYLOAD_V4: usize = ETHERNET_LEN + IPV4_LEN + UDP_LEN;
const PAYLOAD_V6: usize = ETHERNET_LEN + IPV6_LEN + UDP_LEN;
const PAYLOAD_V6_FRAGMENT: usize = PAYLOAD_V6 + IPV6_FRAGMENT_LEN;

/// Four bytes of a message.
pub type Word = [u8; 4];

/// What the headers of a UDP datagram say. The lengths may contradict each other: see
/// [`Datagram::payload_len`].
///
/// Aligned, so that addresses are compared eight bytes at a time.
#[repr(C, align(8))]
pub struct Headers {
    pub source: Address,
    pub destination: Address,
    pub source_port: u16,
    pub destination_port: u16,
    /// The UDP header's length field, which counts the header itself.
    pub udp_length: u16,
    /// The UDP header's checksum field, as a number.
    pub checksum: u16,
    /// What the IP header leaves for UDP, header included.
    ip_payload: u16,
}

impl Headers {
    /// Reads the headers of a frame to `place`; gives the offset of the UDP payload, or 0 if
    /// there is none.
    ///
    /// A function of its own that leaves all of it in memory: the compiler would else keep
    /// every byte of the addresses in eight bytes of stack.
    ///
    /// # Safety
    ///
    /// `place` is valid to write to. (A `MaybeUninit` would have a name that the kernel
    /// doesn't take for the type of an argument.)
    #[inline(never)]
    unsafe fn read(frame: XdpContext, place: *mut Self) -> usize {
        // Opaque, or the compiler would rather be handed the frame's ends, as integers.
        let frame = XdpContext::new(core::hint::black_box(frame.ctx));
        let Some(ethernet) = header::<Ethernet>(&frame, 0) else {
            return 0;
        };
        match ethernet.ethertype {
            ethertype::IPV4 => Self::read_v4(&frame).map_or(0, |headers| {
                // SAFETY: the caller vouches for it.
                unsafe { place.write(headers) };
                PAYLOAD_V4
            }),
            ethertype::IPV6 => Self::read_v6(&frame).map_or(0, |headers| {
                // SAFETY: the caller vouches for it.
                unsafe { place.write(headers) };
                PAYLOAD_V6
            }),
            _ => 0,
        }
    }

    #[inline(always)]
    fn read_v4(frame: &XdpContext) -> Option<Self> {
        let ip: &Ipv4 = header(frame, ETHERNET_LEN)?;
        if ip.version_and_length != Ipv4::PLAIN || ip.protocol != protocol::UDP || ip.is_fragment()
        {
            return None;
        }
        let udp: &Udp = header(frame, ETHERNET_LEN + IPV4_LEN)?;
        Self::of_v4(ip, udp)
    }

    #[inline(always)]
    fn of_v4(ip: &Ipv4, udp: &Udp) -> Option<Self> {
        Some(Self {
            source: v4_mapped(ip.source),
            destination: v4_mapped(ip.destination),
            source_port: udp.source.get(),
            destination_port: udp.destination.get(),
            udp_length: udp.length.get(),
            checksum: u16::from_be_bytes(udp.checksum),
            ip_payload: ip.total_length.get().checked_sub(IPV4_LEN as u16)?,
        })
    }

    #[inline(always)]
    fn read_v6(frame: &XdpContext) -> Option<Self> {
        let ip: &Ipv6 = header(frame, ETHERNET_LEN)?;
        if ip.version() != 6 || ip.next_header != protocol::UDP {
            return None;
        }
        let udp: &Udp = header(frame, ETHERNET_LEN + IPV6_LEN)?;
        Some(Self::of_v6(ip, udp))
    }

    #[inline(always)]
    fn of_v6(ip: &Ipv6, udp: &Udp) -> Self {
        Self {
            source: ip.source,
            destination: ip.destination,
            source_port: udp.source.get(),
            destination_port: udp.destination.get(),
            udp_length: udp.length.get(),
            checksum: u16::from_be_bytes(udp.checksum),
            ip_payload: ip.payload_length.get(),
        }
    }

    /// The same as [`read`](Self::read), of the first fragment of a datagram.
    ///
    /// # Safety
    ///
    /// `place` is valid to write to.
    #[inline(never)]
    unsafe fn read_first_fragment(frame: XdpContext, place: *mut Self) -> usize {
        let frame = XdpContext::new(core::hint::black_box(frame.ctx));
        let Some(ethernet) = header::<Ethernet>(&frame, 0) else {
            return 0;
        };
        match ethernet.ethertype {
            ethertype::IPV4 => Self::read_v4_fragment(&frame).map_or(0, |headers| {
                // SAFETY: the caller vouches for it.
                unsafe { place.write(headers) };
                PAYLOAD_V4
            }),
            ethertype::IPV6 => Self::read_v6_fragment(&frame).map_or(0, |headers| {
                // SAFETY: the caller vouches for it.
                unsafe { place.write(headers) };
                PAYLOAD_V6_FRAGMENT
            }),
            _ => 0,
        }
    }

    #[inline(always)]
    fn read_v4_fragment(frame: &XdpContext) -> Option<Self> {
        let ip: &Ipv4 = header(frame, ETHERNET_LEN)?;
        if ip.version_and_length != Ipv4::PLAIN
            || ip.protocol != protocol::UDP
            || !ip.is_fragment()
            || ip.is_later_fragment()
        {
            return None;
        }
        Self::of_v4(ip, header(frame, ETHERNET_LEN + IPV4_LEN)?)
    }

    #[inline(always)]
    fn read_v6_fragment(frame: &XdpContext) -> Option<Self> {
        let ip: &Ipv6 = header(frame, ETHERNET_LEN)?;
        if ip.version() != 6 || ip.next_header != protocol::IPV6_FRAGMENT {
            return None;
        }
        let fragment: &Ipv6Fragment = header(frame, ETHERNET_LEN + IPV6_LEN)?;
        if fragment.next_header != protocol::UDP || fragment.is_later() {
            return None;
        }
        let udp = header(frame, ETHERNET_LEN + IPV6_LEN + IPV6_FRAGMENT_LEN)?;
        Some(Self::of_v6(ip, udp))
    }
}

/// A UDP datagram in a frame.
pub struct Datagram<'a> {
    pub headers: &'a Headers,
    /// Offset of the UDP payload in the frame.
    payload: usize,
}

impl<'a> Datagram<'a> {
    /// The datagram in this frame, whose headers are kept at `place`.
    #[inline(always)]
    pub fn parse(frame: &XdpContext, place: &'a mut MaybeUninit<Headers>) -> Option<Self> {
        // SAFETY: a reference is valid to write to.
        let payload = unsafe { Headers::read(XdpContext::new(frame.ctx), place.as_mut_ptr()) };
        // Told apart once more, so that below every offset is one of two constants.
        let payload = match payload {
            PAYLOAD_V4 => PAYLOAD_V4,
            PAYLOAD_V6 => PAYLOAD_V6,
            _ => return None,
        };
        // SAFETY: where there is a payload, the headers have been written.
        let headers = unsafe { place.assume_init_ref() };
        Some(Self { headers, payload })
    }

    /// The datagram whose first fragment is in this frame.
    #[inline(always)]
    pub fn parse_first_fragment(
        frame: &XdpContext,
        place: &'a mut MaybeUninit<Headers>,
    ) -> Option<Self> {
        // SAFETY: a reference is valid to write to.
        let payload =
            unsafe { Headers::read_first_fragment(XdpContext::new(frame.ctx), place.as_mut_ptr()) };
        // As for a whole one.
        let payload = match payload {
            PAYLOAD_V4 => PAYLOAD_V4,
            PAYLOAD_V6_FRAGMENT => PAYLOAD_V6_FRAGMENT,
            _ => return None,
        };
        // SAFETY: where there is a payload, the headers have been written.
        let headers = unsafe { place.assume_init_ref() };
        Some(Self { headers, payload })
    }

    /// Bytes of the UDP payload, if all who speak of it agree.
    ///
    /// IP and UDP must name the same length, and the frame must hold it. It may hold more:
    /// Ethernet pads short frames to 60 bytes, so the frame's end says nothing about the
    /// datagram's. It may also hold less than it should, because only the first part of
    /// a packet may be in reach of this program; that is no proof of a bad datagram.
    #[inline(always)]
    pub fn payload_len(&self, frame: &XdpContext) -> Option<usize> {
        let udp_length = self.headers.udp_length;
        let length = usize::from(udp_length).checked_sub(UDP_LEN)?;
        let in_frame = frame_len(frame).checked_sub(self.payload)?;
        (udp_length == self.headers.ip_payload && length <= in_frame).then_some(length)
    }

    /// The little-endian word `offset` bytes into the UDP payload, if the frame holds it.
    #[inline(always)]
    pub fn payload_word(&self, frame: &XdpContext, offset: usize) -> Option<u32> {
        self.payload_at(frame, offset)
            .map(|bytes: &Word| u32::from_le_bytes(*bytes))
    }

    /// The bytes `offset` bytes into the UDP payload, if the frame holds them.
    #[inline(always)]
    pub fn payload_at<'f, T: View>(&self, frame: &'f XdpContext, offset: usize) -> Option<&'f T> {
        header(frame, self.payload + offset)
    }

    /// The UDP header, to be written to.
    #[inline(always)]
    pub fn udp(&self, frame: &XdpContext) -> Option<*mut Udp> {
        let start = frame.data() + self.payload - UDP_LEN;
        let fits = start + UDP_LEN <= frame.data_end();
        fits.then(|| ptr::with_exposed_provenance_mut(start))
    }
}

/// Bytes of the frame.
///
/// Read in a way the compiler can't look through. If it could, it would conclude from a
/// length that lies within the frame that a read up to that length needs no check, and
/// leave the check out; and the verifier, which doesn't draw such conclusions, would
/// refuse the program.
#[inline(always)]
pub fn frame_len(frame: &XdpContext) -> usize {
    // SAFETY: the kernel hands the program a valid context for as long as it runs.
    let (start, end) = unsafe {
        (
            ptr::read_volatile(&raw const (*frame.ctx).data),
            ptr::read_volatile(&raw const (*frame.ctx).data_end),
        )
    };
    (end as usize).wrapping_sub(start as usize)
}

/// What any bytes are a valid value of, at any address.
pub trait View: FromBytes + Immutable + Unaligned {}

impl<T: FromBytes + Immutable + Unaligned> View for T {}

/// A view of the frame at this offset, if it is that long.
#[inline(always)]
fn header<T: View>(frame: &XdpContext, offset: usize) -> Option<&T> {
    let start = frame.data() + offset;
    if start + size_of::<T>() > frame.data_end() {
        return None;
    }
    // SAFETY: the whole of T lies between the frame's start and end, as just checked (the
    // verifier refuses the program otherwise); T has no alignment and no invalid values;
    // nobody writes to the frame as long as the view is used (`hop::turn` writes when the
    // verdict is known).
    Some(unsafe { &*ptr::with_exposed_provenance::<T>(start) })
}
