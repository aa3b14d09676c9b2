"""What PyTorch's tests ask of a TCPStore, asked of the one at MASTER_ADDR:MASTER_PORT, and beside it of PyTorch's own
server where an answer is nowhere written. Each case prints its name when it holds; what this release lacks is skipped.
"""
import datetime
import os
import socket
import struct
import threading

import torch.distributed as dist

ADDRESS, PORT = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
SHORT = datetime.timedelta(milliseconds=200)
LONG = datetime.timedelta(seconds=60)


def client(timeout=LONG):
    return dist.TCPStore(ADDRESS, PORT, None, False, timeout, wait_for_workers=False)


def raises(function, words=""):
    try:
        function()
    except (RuntimeError, dist.DistStoreError) as error:
        assert words in str(error), error
        return str(error)
    raise AssertionError("nothing was raised")


def there(store, *keys):
    """PyTorch 2.2 has CHECK on the wire, and no word for it in Python."""
    if hasattr(store, "check"):
        return store.check(list(keys))
    try:
        store.wait(list(keys), SHORT)
        return True
    except RuntimeError:
        return False


def settled(store):
    """SET, APPEND and QUEUE_PUSH have no answer: what has one, behind them on their connection, tells that they are done."""
    store.num_keys()


def set_and_get(store, other):
    store.set("a", "1")
    assert other.get("a") == b"1"
    store.set("a", "")
    settled(store)
    assert other.get("a") == b""
    store.set("bytes", b"\x00\xff\n" if hasattr(store, "queue_push") else "\n")
    assert other.get("bytes").endswith(b"\n")


def add(store, other):
    assert store.add("n", 5) == 5
    assert other.add("n", -7) == -2
    assert store.get("n") == b"-2"
    store.set("m", "40")
    assert store.add("m", 2) == 42


def compare_set(store, other):
    assert store.compare_set("c", "something", "new") == b"something"
    assert not there(store, "c")
    assert store.compare_set("c", "", "first") == b"first"
    assert other.compare_set("c", "wrong", "second") == b"first"
    assert other.compare_set("c", "first", "second") == b"second"
    assert store.get("c") == b"second"


def check(store, other):
    assert not there(store, "k1", "k2")
    other.set("k1", "v")
    settled(other)
    assert not there(store, "k1", "k2")
    other.set("k2", "v")
    settled(other)
    assert there(store, "k1", "k2")


def delete_key(store, other):
    store.set("gone", "v")
    settled(store)
    assert other.delete_key("gone")
    assert not other.delete_key("gone")
    assert not there(store, "gone")


def num_keys(store, other):
    before = store.num_keys()
    other.set("one more", "v")
    settled(other)
    assert store.num_keys() == before + 1
    other.delete_key("one more")
    assert store.num_keys() == before


def wait_is_answered(store, other):
    got = []
    waiting = threading.Thread(target=lambda: (store.wait(["w1", "w2"], LONG), got.append(store.get("w1"))))
    waiting.start()
    other.set("w1", "v1")
    assert not got
    other.set("w2", "v2")
    waiting.join(60)
    assert got == [b"v1"]


def get_waits(store, other):
    got = []
    waiting = threading.Thread(target=lambda: got.append(store.get("later")))
    waiting.start()
    other.set("later", "v")
    waiting.join(60)
    assert got == [b"v"]


def wait_is_canceled(store, other):
    del other
    for _ in range(3):
        raises(lambda: store.wait(["never"], SHORT), "never" if hasattr(store, "queue_push") else "")
    store.set("after", "v")  # the connection is in step
    assert store.get("after") == b"v"
    store.set_timeout(SHORT)
    raises(lambda: store.get("never"))
    store.set_timeout(LONG)
    assert store.get("after") == b"v"


def wait_races_its_cancel(store, other):
    """Keys that come about when the wait ends: whoever is first, the next answer belongs to the next question."""
    for round_ in range(30):
        key = f"race {round_}"
        setter = threading.Timer(0.02, lambda key=key: other.set(key, "v"))
        setter.start()
        try:
            store.wait([key], datetime.timedelta(milliseconds=18 + round_ % 5))
        except RuntimeError:
            pass
        assert store.add(f"race sum {round_}", 3) == 3
        setter.join()


def append(store, other):
    if not hasattr(store, "append"):
        return "append"
    store.append("log", "po")
    settled(store)
    other.append("log", "tato")
    settled(other)
    assert store.get("log") == b"potato"


def multi(store, other):
    if not hasattr(store, "multi_get"):
        return "multi_get"
    store.multi_set(["m1", "m2", "m3"], ["v1", "", "v3"])
    settled(store)
    assert other.multi_get(["m3", "m2", "m1"]) == [b"v3", b"", b"v1"]


def queues(store, other):
    if not hasattr(store, "queue_push"):
        return "queue_push"
    assert store.queue_len("q") == 0
    raises(lambda: store.queue_pop("q", block=False))
    store.queue_push("q", "1")
    store.queue_push("q", "")
    settled(store)
    assert other.queue_len("q") == 2
    assert other.queue_pop("q") == b"1"
    assert other.queue_pop("q") == b""
    got = []
    waiting = [threading.Thread(target=lambda one=one: got.append(one.queue_pop("q"))) for one in (client(), client())]
    for thread in waiting:
        thread.start()
    store.queue_push("q", "a")
    store.queue_push("q", "b")
    for thread in waiting:
        thread.join(60)
    assert sorted(got) == [b"a", b"b"] and store.queue_len("q") == 0
    raises(lambda: _with_timeout(store, lambda: store.queue_pop("q")))


def _with_timeout(store, function):
    store.set_timeout(SHORT)
    try:
        return function()
    finally:
        store.set_timeout(LONG)


def large_values(store, other):
    value = "x" * (8 << 20)
    store.set("large", value)
    assert other.get("large") == value.encode()
    other.delete_key("large")


def many_keys(store, other):
    count = 5000
    for i in range(count):
        store.set(f"many {i}", str(i))
    settled(store)
    assert there(other, *(f"many {i}" for i in range(count)))
    if hasattr(store, "multi_get"):
        assert other.multi_get([f"many {i}" for i in range(count)]) == [str(i).encode() for i in range(count)]


def prefixes(store, other):
    outer = dist.PrefixStore("outer", store)
    inner = dist.PrefixStore("inner", outer)
    inner.set("k", "v")
    assert dist.PrefixStore("inner", dist.PrefixStore("outer", other)).get("k") == b"v"
    assert other.get("outer/inner/k") == b"v"
    assert not there(outer, "k")
    assert inner.add("n", 1) == 1 and outer.add("n", 5) == 5


def what_cannot_be(store, other):
    """The protocol has no word for no: a client whose request cannot be loses its connection, and nobody else."""
    store.set("text", "no number")
    settled(store)
    lost = client()
    raises(lambda: lost.add("text", 1))
    large = client()
    raises(lambda: (large.set("big", "x" * ((8 << 20) + 1)), large.get("text")))
    assert not there(other, "big")
    assert other.get("text") == b"no number"


def list_keys(store, other):
    if not hasattr(store, "list_keys"):
        return "list_keys"
    store.set("listed", "v")
    settled(store)
    assert other.list_keys().count("listed") == 1
    assert len(other.list_keys()) <= other.num_keys()  # others' prefixes are not told
    inner = dist.PrefixStore("inner", store)
    inner.set("inside", "v")
    settled(store)
    assert "inside" in dist.PrefixStore("inner", other).list_keys()
    assert "listed" not in inner.list_keys()


def barrier(store, other):
    if not hasattr(store, "barrier"):
        return "barrier"
    passed = []
    waiting = threading.Thread(target=lambda: (store.barrier("meet", 2, LONG), passed.append("first")))
    waiting.start()
    while not there(other, "meet"):
        pass
    assert not passed
    other.barrier("meet", 2, LONG)
    waiting.join(60)
    assert passed == ["first"]
    raises(lambda: store.barrier("alone", 2, SHORT), "alone")
    assert store.add("after the barrier", 2) == 2  # the connection is in step
    store.barrier("by one", 1, LONG)
    dist.PrefixStore("inner", store).barrier("wrapped", 1, LONG)


CASES = [set_and_get, add, compare_set, check, delete_key, num_keys, wait_is_answered, get_waits, wait_is_canceled,
         wait_races_its_cancel, append, multi, queues, list_keys, barrier, large_values, many_keys, prefixes, what_cannot_be]


# --- answers that are nowhere written: byte for byte those of PyTorch's own server --------------------------------------


class Raw:
    def __init__(self, port, address="127.0.0.1"):
        self.socket = socket.create_connection((address, port), 60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.sendall(b"\x00" + struct.pack("<I", 0x3C85F7CE))

    def ask(self, request):
        """The answer, up to that of a ping behind it."""
        self.socket.sendall(request + b"\x0d" + b"\xa5\x5a\xa5\x5a")
        got = b""
        while not got.endswith(b"\xa5\x5a\xa5\x5a"):
            piece = self.socket.recv(1 << 16)
            assert piece, (request, got)
            got += piece
        return got[:-4]


def text(value):
    return struct.pack("<Q", len(value)) + value


def several(*values):
    return struct.pack("<Q", len(values)) + b"".join(text(value) for value in values)


DIALOGUE = [
    b"\x07", b"\x03" + text(b"no"), b"\x08" + text(b"no"), b"\x05" + several(), b"\x06" + several(),
    b"\x02" + text(b"c") + text(b"x") + text(b"y"), b"\x02" + text(b"c") + text(b"") + text(b""),
    b"\x02" + text(b"c") + text(b"") + text(b"z"), b"\x02" + text(b"c") + text(b"no") + text(b"y"), b"\x07",
    b"\x04" + text(b"n") + struct.pack("<q", -3), b"\x03" + text(b"n"), b"\x04" + text(b"n") + struct.pack("<q", 3),
    b"\x0a" + several(b"n", b"c", b"n"), b"\x0b" + struct.pack("<q", 2) + text(b"a") + text(b"1") + text(b"b") + text(b""),
    b"\x05" + several(b"a", b"b"), b"\x05" + several(b"a", b"no"), b"\x09" + text(b"a") + text(b"2"), b"\x03" + text(b"a"),
    b"\x09" + text(b"fresh") + text(b"f"), b"\x06" + several(b"a", b"a", b"b"), b"\x01" + text(b"") + text(b"empty key"),
    b"\x03" + text(b""), b"\x07", b"\x0c", b"\x08" + text(b"a"), b"\x08" + text(b"a"), b"\x07",
]
QUEUES = [
    b"\x10" + text(b"q"), b"\x0f" + text(b"q"), b"\x0e" + text(b"q") + text(b"one"), b"\x0e" + text(b"q") + text(b"two"),
    b"\x10" + text(b"q"), b"\x05" + several(b"q"), b"\x06" + several(b"q"), b"\x07", b"\x08" + text(b"q"),
    b"\x10" + text(b"q"), b"\x0f" + text(b"q"), b"\x0f" + text(b"q"), b"\x0f" + text(b"q"), b"\x10" + text(b"q"), b"\x07",
    b"\x05" + several(b"q"),
]


NEWEST = [
    b"\x12" + text(b"met") + struct.pack("<q", 1), b"\x03" + text(b"met"), b"\x12" + text(b"met") + struct.pack("<q", 0),
    b"\x12" + text(b"met") + struct.pack("<q", -1), b"\x03" + text(b"met"), b"\x07",
    b"\x0e" + text(b"left") + text(b"v"), b"\x12" + text(b"left") + struct.pack("<q", 1), b"\x10" + text(b"left"), b"\x07",
]


def answers_like_pytorchs(store, other):
    if not hasattr(store, "check"):
        return "ping"
    del other
    own = dist.TCPStore("127.0.0.1", 0, None, True, LONG, wait_for_workers=False)
    ours, theirs = Raw(PORT, ADDRESS), Raw(own.port)
    # What this job has set so far is not what a fresh server has.
    keys = struct.unpack("<q", ours.ask(b"\x07"))[0] - struct.unpack("<q", theirs.ask(b"\x07"))[0]
    for request in (DIALOGUE + (QUEUES if hasattr(store, "queue_push") else [])
                    + (NEWEST if hasattr(store, "list_keys") else [])):
        got, expected = ours.ask(request), theirs.ask(request)
        if request == b"\x07":
            got = struct.pack("<q", struct.unpack("<q", got)[0] - keys)
        assert got == expected, (request, got, expected)


CASES.append(answers_like_pytorchs)

if __name__ == "__main__":
    for case in CASES:
        lacks = case(client(), client())
        print(f"{case.__name__}: {'this release has no ' + lacks if lacks else 'holds'}", flush=True)
