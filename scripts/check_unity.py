#!/usr/bin/env python3
"""Finds functions of an anonymous namespace whose name another file of the same room has, too.

    scripts/check_unity.py [ROOT]      one line per finding; status 1 when there is any

The release and sanitizer presets compile several files of a library as one (CMAKE_UNITY_BUILD). There the overload that
fits best is taken, whichever file it was written in, and nothing says so. Test files have the same few names on purpose
(Bench, plan_of): each is a namespace, named as the file. Needs nothing but Python.
"""
import collections
import pathlib
import re
import sys

ROOMS = ["cli", "launcher", "launcher/agent", "launcher/ssh", "rendezvous", "rendezvous/base", "trainer"]
FUNCTION = re.compile(r"(?:(?:constexpr|inline|static|template <[^>]*>) )*[A-Za-z_][\w:<>,*& ]*?[ *&](\w+)\(")
NO_FUNCTION = re.compile(r"[ #/}]|return\b|using\b|else\b")


def functions(path):
    """(name, line number, whether it is in an anonymous namespace) of what begins at the start of a line."""
    anonymous = False
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line == "namespace {":
            anonymous = True
        elif line == "}  // namespace":
            anonymous = False
        elif not NO_FUNCTION.match(line) and (match := FUNCTION.match(line)):
            yield match.group(1), number, anonymous


def clashes(root, room):
    places = collections.defaultdict(list)
    for path in sorted((root / room).glob("*.[ch]pp")):
        for name, number, anonymous in functions(path):
            places[name].append((path, number, anonymous))
    for name, found in places.items():
        if len({path for path, _, _ in found}) > 1 and any(anonymous for _, _, anonymous in found):
            private = next((path, number) for path, number, anonymous in found if anonymous)
            other = next((path, number) for path, number, _ in found if path != private[0])
            yield "{}:{}: '{}' is also in {}:{}; give it a name of its own, or share it".format(
                private[0].relative_to(root), private[1], name, other[0].relative_to(root), other[1])


def open_tests(root):
    """Test files that are not a namespace of their own."""
    for path in sorted((root / "tests/unit").glob("*_test.cpp")):
        lines = path.read_text(encoding="utf-8").splitlines()
        if f"namespace {path.stem} {{" not in lines or lines[-1] != f"}}  // namespace {path.stem}":
            yield f"{path.relative_to(root)}:1: put all after the includes into namespace {path.stem}"


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).resolve().parent.parent)
    found = [line for room in ROOMS for line in clashes(root, room)] + list(open_tests(root))
    print("\n".join(found + [f"check_unity: {len(found)} findings"]))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
