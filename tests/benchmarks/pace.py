"""pace.py PORT CONNECTIONS RATE FRAMES LENGTHS TIMES: clients that log at a steady rate together.

Sends the frames of a file, whose lengths another one has, each at its time and as a stock SocketHandler does,
from one connection after the other. Writes when each was handed to the kernel, in nanoseconds of the
monotonic clock.
"""

import socket
import sys
import time
from array import array

port, connections, rate = (int(argument) for argument in sys.argv[1:4])
with open(sys.argv[4], "rb") as file:
    data = file.read()
with open(sys.argv[5], "rb") as file:
    lengths = array("q", file.read())
frames, start = [], 0
for length in lengths:
    frames.append(data[start : start + length])
    start += length
sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(connections)]
senders = [sock.sendall for sock in sockets]
times = array("q", bytes(8 * len(frames)))
clock, sleep = time.monotonic_ns, time.sleep

print("ready", flush=True)
sys.stdin.readline()
used = time.process_time()
pause = 1e9 / rate
begun = clock()
for number, frame in enumerate(frames):
    early = begun + number * pause - clock()
    if early > 0:
        sleep(early / 1e9)
    times[number] = clock()
    senders[number % connections](frame)
with open(sys.argv[6], "wb") as file:
    times.tofile(file)
print(time.process_time() - used, flush=True)
sys.stdin.readline()
