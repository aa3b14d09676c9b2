"""scripts/check_includes.py catches what it is there to catch: small trees, each with one fault, and the real tree."""
import importlib.util
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
_spec = importlib.util.spec_from_file_location("check_includes", ROOT / "scripts" / "check_includes.py")
check_includes = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(check_includes)


def violations(tmp_path, path, line, *others):
    for other in others:
        (tmp_path / other).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / other).write_text("#pragma once\n")
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / path).write_text("// a comment first\n" + line + "\n")
    return check_includes.check_tree(tmp_path)[0]


@pytest.mark.parametrize(
    "path, line, others, complaint",
    [
        ("rendezvous/x.cpp", '#include "launcher/plan.hpp"', ["launcher/plan.hpp"],
         'rendezvous may not include "launcher/plan.hpp" of room launcher (it may include: rendezvous/base)'),
        ("rendezvous/base/x.cpp", '#include "rendezvous/server.hpp"', ["rendezvous/server.hpp"],
         'rendezvous/base may not include "rendezvous/server.hpp" of room rendezvous (it may include: nothing else)'),
        ("trainer/x.cpp", '#include "rendezvous/server.hpp"', ["rendezvous/server.hpp"],
         'trainer may not include "rendezvous/server.hpp" of room rendezvous'),
        ("launcher/x.cpp", '#include "trainer/model.hpp"', ["trainer/model.hpp"],
         'launcher may not include "trainer/model.hpp" of room trainer'),
        ("cli/x.cpp", '#include "launcher/job_state.hpp"', ["launcher/job_state.hpp"],
         '"launcher/job_state.hpp" is private to room launcher'),
        ("launcher/agent/x.cpp", '#include "rendezvous/asio.hpp"', ["rendezvous/asio.hpp"],
         'launcher/agent may not include "rendezvous/asio.hpp" of room rendezvous'),
        ("cli/x.cpp", '#include "options.hpp"', ["cli/options.hpp"],
         '"options.hpp" must be written from the root: "cli/options.hpp"'),
        ("cli/x.cpp", '#include "nowhere.hpp"', [], '"nowhere.hpp" is no file of this tree'),
        ("cli/x.cpp", "#include <cli/options.hpp>", ["cli/options.hpp"], "<cli/options.hpp> is ours"),
        ("launcher/launch.cpp", "#include <yaml-cpp/yaml.h>", [],
         "<yaml-cpp/yaml.h>: yaml-cpp may be used in launcher/config[a-z_]*.cpp, trainer/config_file.cpp, not in launcher"),
        ("launcher/launch.cpp", "  #  include <libssh/libssh.h>", [],
         "<libssh/libssh.h>: libssh may be used in launcher/ssh, not in launcher"),
        ("rendezvous/server.cpp", "#include <boost/asio/write.hpp>", [], "Asio may be used in rendezvous/asio(_tls)?.[hc]pp"),
        ("trainer/x.cpp", "#include <cuda_runtime.h>", [], "CUDA may be used in trainer/cuda, trainer/examples, not in trainer"),
        ("launcher/x.cpp", "#include <CLI/CLI.hpp>", [], "CLI11 may be used in cli, trainer, not in launcher"),
        ("launcher/x.cpp", "#include <absl/strings/str_cat.h>", [], "belongs to no library of the table"),
        ("tests/unit/x_test.cpp", '#include "x.hpp"', ["tests/unit/x.hpp"], "must be written from the root"),
    ],
)
def test_a_violation_is_named_with_file_and_line(tmp_path, path, line, others, complaint):
    found = violations(tmp_path, path, line, *others)
    assert len(found) == 1
    assert found[0].startswith(f"{path}:2: ")
    assert complaint in found[0]


@pytest.mark.parametrize(
    "path, line, others",
    [
        ("cli/x.cpp", '#include "launcher/launch.hpp"', ["launcher/launch.hpp"]),
        ("trainer/x.cpp", '#include "rendezvous/client.hpp"', ["rendezvous/client.hpp"]),
        ("launcher/ssh/x.cpp", '#include "launcher/agent/protocol.hpp"', ["launcher/agent/protocol.hpp"]),
        ("launcher/ssh/x.cpp", "#include <libssh/libssh.h>", []),
        ("launcher/config_parse.cpp", "#include <yaml-cpp/yaml.h>", []),
        ("rendezvous/asio.hpp", "#include <boost/asio/write.hpp>", []),
        ("launcher/agent/x.cpp", "#include <sys/prctl.h>", []),
        ("launcher/x.cpp", "#include <string_view>", []),
        ("tests/unit/x_test.cpp", "#include <gloo/context.h>", []),
        ("cli/x.cpp", '// #include "trainer/model.hpp"', []),
    ],
)
def test_what_the_table_allows_passes(tmp_path, path, line, others):
    assert violations(tmp_path, path, line, *others) == []


def test_an_empty_tree_is_an_error_and_not_a_pass(tmp_path, capsys):
    assert check_includes.main(["check_includes", str(tmp_path)]) == 1
    assert "no source files" in capsys.readouterr().err


def test_this_tree_keeps_the_rules():
    found, files, includes = check_includes.check_tree(ROOT)
    assert found == []
    assert files > 20 and includes > 100
