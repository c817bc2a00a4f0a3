"""A plain gateway of BadVPN's protocol to compare with: a thread for each client."""

import resource
import select
import socket
import struct
import sys
import threading


def serve(tcp):
    tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    poll = select.poll()
    poll.register(tcp, select.POLLIN)
    connections = {}
    by_file = {}
    data = b""
    while True:
        for number, _ in poll.poll():
            if number == tcp.fileno():
                more = tcp.recv(65536)
                if not more:
                    return
                data += more
                while len(data) >= 2:
                    (length,) = struct.unpack_from("<H", data)
                    if len(data) < 2 + length:
                        break
                    message, data = data[2 : 2 + length], data[2 + length :]
                    if message[0] & 1:
                        continue
                    header = message[:9]
                    udp = connections.get(header)
                    if udp is None:
                        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                        (port,) = struct.unpack_from(">H", message, 7)
                        udp.connect((socket.inet_ntoa(message[3:7]), port))
                        connections[header] = udp
                        by_file[udp.fileno()] = header, udp
                        poll.register(udp, select.POLLIN)
                    udp.send(message[9:])
            else:
                header, udp = by_file[number]
                answer = header + udp.recv(65535)
                tcp.sendall(struct.pack("<H", len(answer)) + answer)


resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
threading.stack_size(256 << 10)
listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("127.0.0.1", int(sys.argv[1])))
listener.listen(1024)
while True:
    client, _ = listener.accept()
    threading.Thread(target=serve, args=(client,), daemon=True).start()
