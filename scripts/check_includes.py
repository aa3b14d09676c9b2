#!/usr/bin/env python3
"""Compares every #include with the table of rooms: who may include whom, and which outside library lives where.

    scripts/check_includes.py [ROOT]      one line per violation "file:line: …"; status 1 when there is any

The table below is the rule; a room that needs more gets it here, in the commit that says why. `tests/` may include
everything, so it is only held to writing includes from the root. Needs nothing but Python.
"""
import pathlib
import re
import sys

# A directory's rules. `rooms`: whose headers it may include beside its own (a room name, or one header).
# `libraries`: outside libraries that every file of it may include; FILES adds to that for single files.
ROOMS = {
    "cli": {
        "rooms": ["launcher", "rendezvous", "rendezvous/base"],
        "libraries": ["CLI11", "fmt"],
    },
    "launcher": {
        "rooms": ["launcher/agent", "launcher/ssh", "rendezvous", "rendezvous/base"],
        "libraries": ["fmt", "json", "libcrypto", "zlib"],
    },
    "launcher/agent": {  # a small static program: neither Asio nor libssh nor the head's half
        "rooms": ["rendezvous/base"],
        "libraries": ["libcrypto"],  # SHA-256 of pushed files; fmt would double the program
    },
    "launcher/ssh": {
        "rooms": ["launcher", "launcher/agent", "rendezvous", "rendezvous/base"],
        "libraries": ["libssh", "fmt", "libcrypto"],
    },
    "rendezvous": {
        "rooms": ["rendezvous/base"],
        "libraries": ["fmt", "libcrypto"],
    },
    "rendezvous/base": {
        "rooms": [],
        "libraries": ["fmt", "expected"],
    },
    "trainer": {
        "rooms": ["trainer/cuda", "rendezvous/client.hpp", "rendezvous/message.hpp", "rendezvous/base"],
        "libraries": ["fmt", "CLI11", "zlib", "libcrypto", "oneDNN", "OpenMP", "Gloo", "json"],
    },
    "trainer/cuda": {
        "rooms": ["trainer", "rendezvous/client.hpp", "rendezvous/message.hpp", "rendezvous/base"],
        "libraries": ["fmt", "CUDA", "NCCL"],
    },
    "trainer/examples": {  # programs of users: what is installed, and nothing of ours beside it
        "rooms": [],
        "libraries": ["llmlaunch", "Gloo", "CUDA", "NCCL"],
    },
    "tests": {"rooms": None, "libraries": None},  # everything
}

# Single files that hold a library on behalf of their room.
FILES = {
    r"rendezvous/asio(_tls)?\.[hc]pp": ["Asio"],
    r"launcher/config[a-z_]*\.cpp": ["yaml-cpp"],
    r"trainer/config_file\.cpp": ["yaml-cpp"],
}

# The headers of a room that other rooms may include. A room that is not listed here shows all of its headers.
PUBLIC = {
    "cli": [],
    "launcher": ["config.hpp", "config_schema.hpp", "config_json_schema.hpp", "config_text.hpp", "config_answers.hpp",
                 "hostlist.hpp", "hostlist_fold.hpp", "plan.hpp", "remote.hpp", "launch.hpp", "exec.hpp",
                 "hostfile.hpp", "host_expression.hpp", "group_file.hpp", "genders.hpp", "versions.hpp", "accelerate_hosts.hpp",
                 "call_token.hpp", "member.hpp", "survey.hpp", "survey_report.hpp", "survey_run.hpp", "host_keys.hpp", "key_install.hpp",
                 "running_jobs.hpp", "store_view.hpp", "store_watch.hpp", "store_text.hpp"],
    "rendezvous": ["message.hpp", "address_list.hpp", "server.hpp", "client.hpp", "asio.hpp", "asio_tls.hpp"],
    "trainer": [],
}
# Parts of one room see each other's private headers.
SAME_ROOM = [{"launcher", "launcher/agent", "launcher/ssh"}, {"trainer", "trainer/cuda"}]

# How an outside library's headers begin.
LIBRARIES = {
    "Asio": ["boost/asio", "boost/system/"],
    "Boost": ["boost/"],
    "CLI11": ["CLI/"],
    "CUDA": ["cuda", "cublas", "cudnn", "nvml.h", "curand", "nvtx"],
    "NCCL": ["nccl.h"],
    "Catch2": ["catch2/"],
    "Gloo": ["gloo/"],
    "MPI": ["mpi.h"],
    "OpenMP": ["omp.h"],
    "expected": ["tl/expected.hpp"],
    "fmt": ["fmt/"],
    "json": ["nlohmann/"],
    "libcrypto": ["openssl/"],
    "llmlaunch": ["llmlaunch_rendezvous.h"],  # our C library as others find it, for programs that show its use
    "libssh": ["libssh/"],
    "oneDNN": ["dnnl", "oneapi/"],
    "yaml-cpp": ["yaml-cpp/"],
    "zlib": ["zlib.h", "zconf.h"],
}
# What belongs to the compiler, the C library and the kernel. C++'s own headers have no dot and no slash.
SYSTEM = re.compile(
    r"[a-z0-9_]+$|(sys|linux|netinet|arpa|net|asm|bits|gnu|sanitizer)/[\w.]+$|[a-z0-9]*intrin\.h$"
    r"|(aio|dirent|dlfcn|elf|endian|errno|execinfo|fcntl|fnmatch|getopt|glob|grp|ifaddrs|inttypes|limits|link|locale|malloc|math|netdb"
    r"|poll|pthread|pty|pwd|regex|sched|setjmp|shadow|signal|spawn|stdarg|stddef|stdint|stdio|stdlib|string|strings"
    r"|sysexits|syslog|termios|time|ucontext|unistd|utime|utmp|wait|wordexp)\.h$"
)
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]')
SOURCES = {".cpp", ".hpp", ".cc", ".h", ".cu", ".cuh"}


def room_of(path):
    """The longest room name that the path lies below, or None."""
    parts = path.split("/")[:-1]
    for length in range(len(parts), 0, -1):
        name = "/".join(parts[:length])
        if name in ROOMS:
            return name
    return None


def library_of(header):
    for name, beginnings in LIBRARIES.items():
        if any(header.startswith(beginning) for beginning in beginnings):
            return name
    return None


def check_own(path, room, header, root):
    """An include in quotes: one of ours, written from the root."""
    if not (root / header).is_file():
        beside = pathlib.PurePosixPath(path).parent / header
        if (root / beside).is_file():
            return f'"{header}" must be written from the root: "{beside}"'
        return f'"{header}" is no file of this tree (outside libraries are included with <>)'
    rules, target = ROOMS[room], room_of(header)
    if rules["rooms"] is None or target == room:
        return None
    if target is None:
        return f'"{header}" lies in no room'
    if target not in rules["rooms"] and header not in rules["rooms"]:
        allowed = ", ".join(rules["rooms"]) or "nothing else"
        return f'{room} may not include "{header}" of room {target} (it may include: {allowed})'
    together = any(room in group and target in group for group in SAME_ROOM)
    if not together and target in PUBLIC and header.split("/")[-1] not in PUBLIC[target]:
        return f'"{header}" is private to room {target} (public: {", ".join(PUBLIC[target]) or "none"})'
    return None


def check_outside(path, room, header, root):
    """An include in angle brackets: the system, or a library that this room may use."""
    if SYSTEM.match(header):
        return None
    if (root / header).is_file():
        return f"<{header}> is ours and is included with quotes"
    library = library_of(header)
    if library is None:
        return f"<{header}> belongs to no library of the table (name it in scripts/check_includes.py)"
    allowed = ROOMS[room]["libraries"]
    if allowed is None or library in allowed:
        return None
    if any(re.fullmatch(pattern, path) and library in extra for pattern, extra in FILES.items()):
        return None
    homes = [name for name, rules in ROOMS.items() if library in (rules["libraries"] or [])]
    homes += [pattern.replace("\\", "") for pattern, extra in FILES.items() if library in extra]
    return f"<{header}>: {library} may be used in {', '.join(homes) or 'tests only'}, not in {room}"


def sources(root):
    for top in sorted({name.split("/")[0] for name in ROOMS}):
        for file in sorted((root / top).rglob("*")):
            if file.suffix in SOURCES and file.is_file():
                yield file


def check_tree(root):
    """All violations as text, and how many files and includes were read."""
    violations, files, includes = [], 0, 0
    for file in sources(root):
        path = file.relative_to(root).as_posix()
        room = room_of(path)
        files += 1
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            match = INCLUDE.match(line)
            if not match:
                continue
            includes += 1
            check = check_own if match[1] == '"' else check_outside
            complaint = check(path, room, match[2], root)
            if complaint:
                violations.append(f"{path}:{number}: {complaint}")
    return violations, files, includes


def main(arguments):
    root = pathlib.Path(arguments[1] if len(arguments) > 1 else pathlib.Path(__file__).parent.parent).resolve()
    violations, files, includes = check_tree(root)
    for violation in violations:
        print(violation)
    if not files:
        print(f"check_includes: no source files below {root}", file=sys.stderr)
        return 1
    print(f"check_includes: {files} files, {includes} includes, {len(violations)} violations", file=sys.stderr)
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
