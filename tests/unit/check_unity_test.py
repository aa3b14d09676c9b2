"""scripts/check_unity.py finds a name that two files of a room have, where one of them thinks it has it for itself."""
import importlib.util
import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[2]
_spec = importlib.util.spec_from_file_location("check_unity", ROOT / "scripts" / "check_unity.py")
check_unity = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(check_unity)

PRIVATE = "namespace {\nint shown(int x) {\n}\n}  // namespace\n"
PUBLIC = "int shown(const char* x) {\n}\n"


def clashes(root, **files):
    (root / "cli").mkdir()
    for name, text in files.items():
        (root / "cli" / f"{name}.cpp").write_text(text)
    return list(check_unity.clashes(root, "cli"))


def test_a_private_function_with_the_name_of_another_files_is_found(tmp_path):
    assert clashes(tmp_path, a=PRIVATE, b=PRIVATE) == [
        "cli/a.cpp:2: 'shown' is also in cli/b.cpp:2; give it a name of its own, or share it"]


def test_a_private_function_with_the_name_of_a_public_one_is_found(tmp_path):
    assert clashes(tmp_path, a=PUBLIC, b=PRIVATE) == [
        "cli/b.cpp:2: 'shown' is also in cli/a.cpp:1; give it a name of its own, or share it"]


def test_overloads_of_a_public_function_and_of_one_file_are_no_finding(tmp_path):
    assert clashes(tmp_path, a=PUBLIC, b=PUBLIC, c=PRIVATE.replace("shown", "other") * 2) == []


def test_a_call_or_a_macro_at_the_start_of_a_line_is_no_function(tmp_path):
    assert clashes(tmp_path, a=PRIVATE, b="return shown(3);\n#define shown(x) x\n") == []


def test_a_test_file_is_a_namespace_of_its_own(tmp_path):
    (tmp_path / "tests/unit").mkdir(parents=True)
    (tmp_path / "tests/unit/a_test.cpp").write_text("namespace a_test {\nstruct Bench {};\n}  // namespace a_test\n")
    (tmp_path / "tests/unit/b_test.cpp").write_text("struct Bench {};\n")
    assert list(check_unity.open_tests(tmp_path)) == [
        "tests/unit/b_test.cpp:1: put all after the includes into namespace b_test"]
