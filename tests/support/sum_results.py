"""Adds up what the test runners wrote: "N passed, N failed, N skipped" as the last line, the failed ones by name before.

    sum_results.py [--add-failed N] DIRECTORY…

Each directory holds ctest.xml and, for every ctest entry that is a Python file, NAME.xml with the single tests in it;
those stand in for the entry. A directory without ctest.xml is a suite that did not run to its end: one failure.
"""
import argparse
import pathlib
import sys
import xml.etree.ElementTree as xml


def outcomes(file):
    """[(name, "passed" | "failed" | "skipped")] of one JUnit file, as ctest or pytest writes it."""
    found = []
    for case in xml.parse(file).getroot().iter("testcase"):
        name = case.get("name", "?")
        if case.get("classname") and case.get("classname") != name:
            name = f"{case.get('classname')}.{name}"
        status = case.get("status", "")
        if case.find("failure") is not None or case.find("error") is not None or status == "fail":
            found.append((name, "failed"))
        elif case.find("skipped") is not None or status in ("disabled", "notrun"):
            found.append((name, "skipped"))
        else:
            found.append((name, "passed"))
    return found


def of_suite(directory):
    total = directory / "ctest.xml"
    if not total.is_file():
        return [(f"{directory}: the suite did not run to its end", "failed")]
    found = []
    for name, outcome in outcomes(total):
        inside = directory / f"{name}.xml"
        single = outcomes(inside) if inside.is_file() else []
        found += single or [(name, outcome)]
        # A Python file can fail beyond its tests (killed at its time limit, a broken fixture): that must not vanish.
        if single and outcome == "failed" and all(result != "failed" for _, result in single):
            found.append((f"{name} as a whole", "failed"))
    return [(f"{directory.parent.name}: {name}", outcome) for name, outcome in found]


def main():
    parser = argparse.ArgumentParser(description="sums the results of the test runners")
    parser.add_argument("--add-failed", type=int, default=0, help="failures of stages that are no test")
    parser.add_argument("directories", nargs="+", type=pathlib.Path)
    arguments = parser.parse_args()
    found = [one for directory in arguments.directories for one in of_suite(directory)]
    for name, outcome in found:
        if outcome == "failed":
            print(f"failed: {name}")
    count = {outcome: sum(1 for _, each in found if each == outcome) for outcome in ("passed", "failed", "skipped")}
    count["failed"] += arguments.add_failed
    print(f"{count['passed']} passed, {count['failed']} failed, {count['skipped']} skipped")
    return 1 if count["failed"] or not count["passed"] else 0


if __name__ == "__main__":
    sys.exit(main())
