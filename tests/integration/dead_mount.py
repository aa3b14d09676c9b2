"""A file system that stops answering, as NFS does whose server is gone: one program in one directory, which can be looked
up and not opened. A FUSE server of its own in a thread, spoken by hand, as libfuse may not be there. Needs root.

A process that opens the program waits in the kernel. `killable`: a signal ends the wait, as on NFS; otherwise not even
SIGKILL does, until the mount is gone."""

import ctypes
import errno
import os
import select
import stat
import struct
import threading

LOOKUP, GETATTR, OPEN, INIT, INTERRUPT, ACCESS, FORGET, BATCH_FORGET = 1, 3, 14, 26, 36, 34, 2, 42
ROOT, PROGRAM = 1, 2
MNT_FORCE, MNT_DETACH = 1, 2
LIBC = ctypes.CDLL(None, use_errno=True)


def attributes(node):
    mode, size = (stat.S_IFDIR | 0o755, 0) if node == ROOT else (stat.S_IFREG | 0o755, 4096)
    return struct.pack("<6Q10I", node, size, 1, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)


class DeadMount:
    """`directory`/prog hangs whoever executes it, from the start to close(); with `hangs=LOOKUP` who looks for it, too."""

    def __init__(self, directory, killable=True, hangs=OPEN):
        self.directory, self.killable, self.hangs = str(directory), killable, hangs
        self.reached = threading.Event()
        self._ended, self._end = os.pipe()
        self._device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        options = f"fd={self._device},rootmode=40000,user_id=0,group_id=0,allow_other"
        if LIBC.mount(b"dead", self.directory.encode(), b"fuse.dead", 0, options.encode()) != 0:
            number = ctypes.get_errno()
            os.close(self._device)
            raise OSError(number, os.strerror(number), self.directory)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def program(self):
        return self.directory + "/prog"

    def close(self):
        """Who still waits gets an error. A second time does nothing."""
        if not self._thread.is_alive():
            return
        LIBC.umount2(self.directory.encode(), MNT_FORCE | MNT_DETACH)
        os.write(self._end, b"x")
        self._thread.join()
        for fd in (self._device, self._ended, self._end):
            os.close(fd)

    def _serve(self):
        while True:
            ready, _, _ = select.select([self._device, self._ended], [], [])
            if self._ended in ready:
                return
            try:
                request = os.read(self._device, 1 << 18)
            except OSError as error:
                if error.errno in (errno.EINTR, errno.EAGAIN, errno.ENOENT):
                    continue
                return  # unmounted
            self._take(request)

    def _take(self, request):
        _, opcode, unique, node = struct.unpack_from("<IIQQ", request)
        if opcode == self.hangs:
            self.reached.set()
        elif opcode == INIT:
            self._answer(unique, struct.pack("<4I2H2I", 7, 31, 0, 0, 1, 1, 4096, 1) + bytes(32))
        elif opcode == LOOKUP:
            found = node == ROOT and request[40:] == b"prog\0"
            entry = struct.pack("<4Q2I", PROGRAM, 0, 0, 0, 0, 0) + attributes(PROGRAM)
            self._answer(unique, entry) if found else self._answer(unique, error=errno.ENOENT)
        elif opcode == GETATTR:
            self._answer(unique, struct.pack("<Q2I", 0, 0, 0) + attributes(node))
        elif opcode == ACCESS:
            self._answer(unique)
        elif opcode == INTERRUPT:
            if self.killable:
                self._answer(struct.unpack_from("<Q", request, 40)[0], error=errno.EINTR)
        elif opcode not in (FORGET, BATCH_FORGET):
            self._answer(unique, error=errno.ENOSYS)

    def _answer(self, unique, data=b"", error=0):
        try:
            os.write(self._device, struct.pack("<IiQ", 16 + len(data), -error, unique) + data)
        except OSError:
            pass  # an interrupt may come after the end of what it interrupts
