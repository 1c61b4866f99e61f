"""send.py PORT CONNECTIONS FILE LENGTHS: sends parts of a file, each over a connection of its own.

A thread per connection hands all it has to the kernel in one call, which blocks there: that costs the copy.
"""

import json
import mmap
import socket
import sys
import threading
import time

port, connections = int(sys.argv[1]), int(sys.argv[2])
path, lengths = sys.argv[3], json.loads(sys.argv[4])
threading.stack_size(256 * 1024)
sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(connections)]
with open(path, "rb") as file:
    data = memoryview(mmap.mmap(file.fileno(), 0, mmap.MAP_SHARED | mmap.MAP_POPULATE, mmap.PROT_READ))
threads, start = [], 0
for sock, length in zip(sockets, lengths, strict=False):  # the others are idle
    threads.append(threading.Thread(target=sock.sendall, args=(data[start : start + length],)))
    start += length

print("ready", flush=True)
sys.stdin.readline()
used = time.process_time()
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(time.process_time() - used, flush=True)
sys.stdin.read()
