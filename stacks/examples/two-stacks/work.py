"""A job: ask URL, push the length of the answer to LIST of the Redis at HOST:PORT, and end."""

import socket
import sys
import urllib.request

url, redis, name = sys.argv[1:]
with urllib.request.urlopen(url, timeout=5) as answer:
    length = len(answer.read())
host, _, port = redis.partition(":")
with socket.create_connection((host, int(port)), 5) as queue:
    queue.sendall(f"RPUSH {name} {length}\r\n".encode())
    reply = queue.recv(100).decode()
if not reply.startswith(":"):
    sys.exit(f"{redis} says {reply}")
print(f"{url}: {length} bytes, noted in {name}")
