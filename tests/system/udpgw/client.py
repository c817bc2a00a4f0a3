"""A client of BadVPN's UDP gateway, written from the protocol and not from Taltun.

    client.py serve ADDRESS PORT          answer datagrams: `who` with where it came from, all
                                          others with themselves
    client.py SCENARIO GATEWAY PORT ...   play a scenario; prints `ok` at its end
"""

import select
import socket
import struct
import sys
import threading
import time

KEEPALIVE, REBIND, DNS, IPV6 = 1, 2, 4, 8
LIMIT = 10


class Client:
    def __init__(self, gateway, receive_buffer=None):
        family = socket.AF_INET6 if ":" in gateway[0] else socket.AF_INET
        self.tcp = socket.socket(family, socket.SOCK_STREAM)
        if receive_buffer:
            self.tcp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.tcp.settimeout(LIMIT)
        self.tcp.connect(gateway)
        self.tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.input = b""

    def send(self, conid, to, data, flags=0):
        self.tcp.sendall(frame(conid, to, data, flags))

    def read(self):
        """The next frame, without its length."""
        while True:
            if len(self.input) >= 2:
                (length,) = struct.unpack_from("<H", self.input)
                if len(self.input) >= 2 + length:
                    found = self.input[2 : 2 + length]
                    self.input = self.input[2 + length :]
                    return found
            more = self.tcp.recv(1 << 20)
            if not more:
                raise EOFError
            self.input += more

    def receive(self):
        """The next datagram: the id, where it came from, what it carries."""
        message = self.read()
        flags, conid = struct.unpack_from("<BH", message)
        assert flags in (0, IPV6), flags
        size, family = (16, socket.AF_INET6) if flags & IPV6 else (4, socket.AF_INET)
        ip = socket.inet_ntop(family, message[3 : 3 + size])
        (port,) = struct.unpack_from(">H", message, 3 + size)
        return conid, (ip, port), message[5 + size :]

    def asks(self, conid, to, data, flags=0):
        """Sends a datagram and returns what comes back for it."""
        self.send(conid, to, data, flags)
        got, origin, answer = self.receive()
        assert (got, origin) == (conid, to), (got, origin)
        return answer

    def echoes(self, conid, to, data, flags=0):
        answer = self.asks(conid, to, data, flags)
        assert answer == data, (len(answer), len(data))

    def is_ended(self, limit=LIMIT):
        self.tcp.settimeout(limit)
        try:
            return self.tcp.recv(1) == b""
        except ConnectionError:
            return True

    def is_silent(self, limit=0.5):
        return not self.input and not select.select([self.tcp], [], [], limit)[0]


def frame(conid, to, data, flags=0):
    if ":" in to[0]:
        flags |= IPV6
        address = socket.inet_pton(socket.AF_INET6, to[0])
    else:
        address = socket.inet_pton(socket.AF_INET, to[0])
    message = struct.pack("<BH", flags, conid) + address + struct.pack(">H", to[1]) + data
    return struct.pack("<H", len(message)) + message


def payload(seed, length):
    return bytes((seed * 31 + n * 7 + (n >> 8)) & 0xFF for n in range(length))


def serve(address, port):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    udp = socket.socket(family, socket.SOCK_DGRAM)
    udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    udp.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
    udp.bind((address, int(port)))
    print("ready", flush=True)
    while True:
        data, origin = udp.recvfrom(65535)
        if data == b"who":
            data = "{}:{}".format(*origin).encode()
        udp.sendto(data, origin)


def echo(gateway, v4, v6):
    client = Client(gateway)
    # Byte for byte, without what builds and reads frames above.
    port = struct.pack(">H", v4[1])
    ip = bytes(int(part) for part in v4[0].split("."))
    client.tcp.sendall(b"\x0b\x00" + b"\x00" + b"\x02\x01" + ip + port + b"hi")
    assert client.read() == b"\x00" + b"\x02\x01" + ip + port + b"hi"
    ip = socket.inet_pton(socket.AF_INET6, v6[0])
    port = struct.pack(">H", v6[1])
    client.tcp.sendall(b"\x17\x00" + b"\x08" + b"\xff\xff" + ip + port + b"hi")
    assert client.read() == b"\x08" + b"\xff\xff" + ip + port + b"hi"
    for n, to in enumerate((v4, v6)):
        for length in (0, 1, 100, 1400, 8000, 60000):
            client.echoes(n, to, payload(length, length))
    # Keepalives and unknown flags are answered by nothing, and end nothing.
    client.tcp.sendall(b"\x03\x00\x01\x00\x00" + b"\x05\x00\x01\x07\x00??")
    client.tcp.sendall(b"\x0b\x00" + b"\x40" + b"\x02\x01" + ip[:4] + port + b"hi")
    assert client.is_silent()
    # In pieces, and many at once.
    for byte in frame(3, v4, b"in pieces"):
        client.tcp.sendall(bytes([byte]))
    assert client.receive() == (3, v4, b"in pieces")
    client.tcp.sendall(b"".join(frame(n, v4, payload(n, 200)) for n in range(8)))
    got = dict((conid, data) for conid, _, data in (client.receive() for _ in range(8)))
    assert got == {n: payload(n, 200) for n in range(8)}


def dns(gateway, named, answer):
    query = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00"
    query += b"\x07example\x03com\x00\x00\x01\x00\x01"
    client = Client(gateway)
    got = client.asks(9, named, query, DNS)
    assert got[:2] == query[:2] and got.endswith(socket.inet_aton(answer[0])), got
    # It is asked under the address that the client named, though that one is denied.
    client.send(10, named, query)
    assert client.is_silent()


def dns_next(gateway, named, answer):
    """Asks again until it is answered, as resolvers do."""
    query = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00"
    query += b"\x07example\x03com\x00\x00\x01\x00\x01"
    client = Client(gateway)
    for turn in range(5):
        client.send(9, named, query, DNS)
        if not client.is_silent(1.2):
            got = client.receive()
            assert got[:2] == (9, named) and got[2].endswith(socket.inet_aton(answer[0])), got
            assert turn > 0, "the first name server answers"
            # From then on the other one is asked at once, for other ids as well.
            assert client.asks(10, named, query, DNS)[:2] == query[:2]
            return
    raise AssertionError("no name server answers")


def dns_in_time(gateway, named, answer):
    """Asks again until it is answered, be it at once."""
    query = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00"
    query += b"\x07example\x03com\x00\x00\x01\x00\x01"
    client = Client(gateway)
    for _ in range(5):
        client.send(9, named, query, DNS)
        if not client.is_silent(1.2):
            return
    raise AssertionError("no name server answers")


def dns_each(gateway, named, answer, other):
    """Asks until the other name server answers, and has an answer to each question."""
    query = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00"
    query += b"\x07example\x03com\x00\x00\x01\x00\x01"
    client = Client(gateway)
    assert client.asks(9, named, query, DNS).endswith(socket.inet_aton(answer[0]))
    print("ready", flush=True)
    while not client.asks(9, named, query, DNS).endswith(socket.inet_aton(other[0])):
        time.sleep(0.05)


def dns_in_vain(gateway, named, *answers):
    client = Client(gateway)
    client.send(9, named, b"a question", DNS)
    assert client.is_silent()


def dns_at_once(gateway, named, *answers):
    query = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00"
    query += b"\x07example\x03com\x00\x00\x01\x00\x01"
    assert Client(gateway).asks(9, named, query, DNS)[:2] == query[:2]


def dns_new_ids(gateway, named, answer):
    """Asks again with a new id each time, until it is answered."""
    query = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00"
    query += b"\x07example\x03com\x00\x00\x01\x00\x01"
    client = Client(gateway)
    for turn in range(3):
        client.send(turn, named, query, DNS)
        if not client.is_silent(1.2):
            assert client.receive()[:2] == (turn, named)
            assert turn > 0, "the first name server answers"
            return
    raise AssertionError("the next name server isn't asked")


def rebind(gateway, v4, v6):
    client = Client(gateway)
    first = client.asks(1, v4, b"who")
    assert client.asks(1, v4, b"who") == first
    second = client.asks(1, v4, b"who", REBIND)
    assert second != first
    assert client.asks(1, v4, b"who") == second
    client.echoes(1, v6, b"elsewhere")
    assert client.asks(1, v4, b"who") not in (first, second)


def is_refused(gateway):
    try:
        return Client(gateway).is_ended()
    except ConnectionError:
        return True  # reset before it was any use


def limits(gateway, v4):
    """With three connections a client and two clients."""
    client = Client(gateway)
    ports = {n: client.asks(n, v4, b"who") for n in (1, 2, 3)}
    assert client.asks(1, v4, b"who") == ports[1]
    client.asks(4, v4, b"who")
    # The second was used least recently.
    assert client.asks(1, v4, b"who") == ports[1]
    assert client.asks(3, v4, b"who") == ports[3]
    ports[2], before = client.asks(2, v4, b"who"), ports[2]
    assert ports[2] != before
    # What can't be sent at all closes none of them.
    client.send(5, ("2606:4700::1111", 53), b"nowhere")
    assert all(client.asks(n, v4, b"who") == ports[n] for n in (1, 2, 3))
    for n in range(1000, 3000):
        client.send(n, v4, b"")
    # What comes back for those that are still open.
    while not client.is_silent():
        client.receive()
    second = Client(gateway)
    second.echoes(1, v4, b"second")
    assert is_refused(gateway)
    second.tcp.close()
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline:
        try:
            third = Client(gateway)
            third.echoes(1, v4, b"third")
            return
        except (EOFError, ConnectionError):
            time.sleep(0.1)
    raise AssertionError("a place that is free isn't given away")


def slow(gateway, v4):
    reader = Client(gateway, receive_buffer=4096)
    other = Client(gateway)
    count, size = 6000, 1000
    for n in range(count):
        reader.send(n % 5, v4, struct.pack(">I", n) + payload(n, size - 4))
        if n % 50 == 0:
            before = time.monotonic()
            other.echoes(1, v4, b"not slow")
            assert time.monotonic() - before < LIMIT / 2
    time.sleep(0.5)
    reader.tcp.settimeout(1)
    numbers = []
    try:
        while True:
            conid, origin, data = reader.receive()
            (n,) = struct.unpack_from(">I", data)
            assert (conid, origin, data[4:]) == (n % 5, v4, payload(n, size - 4))
            numbers.append(n)
    except socket.timeout:
        pass
    assert 100 < len(numbers) < count, len(numbers)
    reader.tcp.settimeout(LIMIT)
    reader.echoes(1, v4, b"in step again")


def liars(gateway, v4):
    """With a client timeout of 2 s."""
    good = Client(gateway)
    good.echoes(1, v4, b"before")
    lies = (
        b"\x00\x00",
        b"\x02\x00",
        b"\x08\x00\x00\x00\x00\x01\x02\x03\x04\x00",
        b"\x09\x00\x08\x00\x00\x01\x02\x03\x04\x00\x01",
        b"\xff\xff",  # longer than --udp-mtu 2000 allows
    )
    for lie in lies:
        client = Client(gateway)
        client.echoes(1, v4, b"true so far")
        client.tcp.sendall(lie)
        assert client.is_ended(), lie
    silent = Client(gateway)
    half = Client(gateway)
    half.tcp.sendall(frame(1, v4, payload(1, 1000))[:300])
    for _ in range(14):
        time.sleep(0.25)
        good.echoes(1, v4, b"meanwhile")
        try:
            half.tcp.sendall(b"x")  # bytes alone are no message
        except ConnectionError:
            break
    assert half.is_ended(1)
    assert silent.is_ended(1)
    good.echoes(1, v4, b"after")


def denied(gateway, *to):
    client = Client(gateway)
    for n, address in enumerate(to):
        client.send(n, address, b"who")
    assert client.is_silent(1), client.receive()


def allowed(gateway, *to):
    client = Client(gateway)
    for n, address in enumerate(to):
        client.echoes(n, address, b"allowed")


def crowd(gateway, v4):
    clients = [Client(gateway) for _ in range(200)]
    errors = []

    def play(some):
        try:
            for turn in range(5):
                for number, client in some:
                    frames = (frame(n, v4, payload(number + turn, 100 + n)) for n in range(10))
                    client.tcp.sendall(b"".join(frames))
                for number, client in some:
                    got = sorted(client.receive()[::2] for _ in range(10))
                    wanted = [(n, payload(number + turn, 100 + n)) for n in range(10)]
                    assert got == wanted, number
        except BaseException as error:
            errors.append(error)
            raise

    numbered = list(enumerate(clients))
    threads = [threading.Thread(target=play, args=(numbered[n::4],)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors


def stay(gateway, v4):
    """Uses three connections, says so, and waits for the end."""
    client = Client(gateway)
    for n in range(3):
        client.echoes(n, v4, b"here")
    print("ready", flush=True)
    assert client.is_ended(60)


def until_silent(gateway, v4):
    """Uses one connection until nothing comes back any more; says so when it works."""
    client = Client(gateway)
    client.echoes(1, v4, b"first")
    print("ready", flush=True)
    for n in range(100):
        client.send(1, v4, b"more")
        if client.is_silent(1):
            return
        client.receive()
        time.sleep(0.2)
    assert False, "it still answers"


def sends(gateway, v4):
    """Uses one connection for ever, whatever comes back; says so when it works."""
    client = Client(gateway)
    client.echoes(1, v4, b"first")
    print("ready", flush=True)
    while True:
        client.send(1, v4, b"more")
        time.sleep(0.1)


def main():
    name, *words = sys.argv[1:]
    if name == "serve":
        serve(*words)
    addresses = [(words[n], int(words[n + 1])) for n in range(0, len(words), 2)]
    scenarios = (echo, dns, dns_next, dns_at_once, dns_in_time, dns_each, dns_in_vain, dns_new_ids, rebind, limits, slow, liars, denied, allowed, crowd, stay,
                 until_silent, sends)
    {scenario.__name__: scenario for scenario in scenarios}[name](*addresses)
    print("ok", flush=True)


main()
