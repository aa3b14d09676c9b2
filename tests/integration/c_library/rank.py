"""A rank in Python: the C library by ctypes, nothing compiled. rank.py LIBRARY [NCCL_VERSION_OF_RANK…]"""
import ctypes
import os
import sys

library = ctypes.CDLL(sys.argv[1])
library.llmlaunch_rdv_error_text.restype = ctypes.c_char_p
library.llmlaunch_rdv_rank.restype = ctypes.c_uint32
library.llmlaunch_rdv_free.argtypes = [ctypes.c_void_p]
library.llmlaunch_rdv_rank.argtypes = library.llmlaunch_rdv_leave.argtypes = [ctypes.c_void_p]


def call(name, *arguments):
    if getattr(library, "llmlaunch_rdv_" + name)(*arguments) != 0:
        sys.exit(f"{name}: {library.llmlaunch_rdv_error_text().decode()}")


job = ctypes.c_void_p()
versions = sys.argv[2:]
call("join_environment", int(versions[int(os.environ["RANK"])]) if versions else 0, ctypes.byref(job))
rank = library.llmlaunch_rdv_rank(job)
call("set", job, f"{rank}".encode(), b"from %d" % rank, ctypes.c_size_t(6))
value, size = ctypes.c_void_p(), ctypes.c_size_t()
call("get", job, f"{1 - rank}".encode(), ctypes.c_int64(-1), ctypes.byref(value), ctypes.byref(size))
print("other rank:", ctypes.string_at(value, size.value).decode())
library.llmlaunch_rdv_free(value)
call("barrier", job, b"end", ctypes.c_int64(-1))
library.llmlaunch_rdv_leave(job)
