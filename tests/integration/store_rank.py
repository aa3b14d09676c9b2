"""A rank for the tests of `llmlaunch store`: it speaks PyTorch's TCPStore dialect by hand, so that it needs no PyTorch.
store_rank.py STEP…   set KEY VALUE | push KEY VALUE | wait KEY | get KEY | say TEXT; {rank} is its rank, VALUE may have \\xNN in it."""
import os
import socket
import struct
import sys


class Store:
    def __init__(self):
        self.socket = socket.create_connection((os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])))
        self.socket.sendall(b"\x00" + struct.pack("<I", 0x3C85F7CE))

    def take(self, size):
        taken = b""
        while len(taken) < size:
            piece = self.socket.recv(size - len(taken))
            if not piece:
                sys.exit("the store has gone")
            taken += piece
        return taken

    @staticmethod
    def text(data):
        return struct.pack("<Q", len(data)) + data

    def set(self, key, value):
        self.socket.sendall(b"\x01" + self.text(key) + self.text(value))

    def push(self, key, value):
        self.socket.sendall(b"\x0e" + self.text(key) + self.text(value))

    def wait(self, key):
        self.socket.sendall(b"\x06" + struct.pack("<Q", 1) + self.text(key))
        self.take(1)

    def get(self, key):
        self.wait(key)
        self.socket.sendall(b"\x03" + self.text(key))
        return self.take(*struct.unpack("<Q", self.take(8)))


store, words = Store(), iter(sys.argv[1:])
for step in words:
    word = next(words).replace("{rank}", os.environ["RANK"])
    key = word.encode()
    if step in ("set", "push"):
        getattr(store, step)(key, next(words).encode().decode("unicode_escape").encode("latin-1"))
    elif step == "wait":
        store.wait(key)
    elif step == "get":
        print("got", store.get(key).decode(), flush=True)
    elif step == "say":
        print(word, flush=True)
    elif step == "exit":
        sys.exit(int(word))
