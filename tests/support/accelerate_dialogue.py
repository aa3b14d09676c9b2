#!/usr/bin/env python3
"""Writes the files of tests/fixtures/accelerate/dialogue with the real `accelerate config` in a pseudo-terminal.

    PYTHON tests/support/accelerate_dialogue.py [NAME…]       PYTHON has accelerate; without names: all of them
    PYTHON tests/support/accelerate_dialogue.py --check       writes nothing; says which files differ (status 1)

Each dialogue is a list of answers, each with a part of its question; every other question gets its default. An answer whose
question never came, and a dialogue that does not end, are errors. accelerate asks about DeepSpeed and FP8 only where these
are installed, so empty packages of their names lie on its path: the dialogue looks at nothing but their presence.
"""
import argparse
import os
import pathlib
import pty
import re
import select
import signal
import sys
import tempfile
import termios
import time
import traceback

TARGET = pathlib.Path(__file__).resolve().parent.parent / "fixtures" / "accelerate" / "dialogue"
PATIENCE_S = 60.0  # for one question
PRESENT = {"deepspeed": "0.18.2", "torchao": "0.13.0", "transformer-engine": "2.8.0", "ms-amp": "0.4.0", "transformers": "4.57.0"}
MODULES = {"transformer-engine": "transformer_engine", "ms-amp": "msamp"}

# A menu's answer is the number of its line, from 0; a text's answer is the text.
MACHINE, MACHINES = "type of machine", "different machines"
GPU, CPU = 4, 1
TWO_MACHINES = [(MACHINES, "2"), ("rank of this machine", 0), ("IP address", "10.0.0.1"), ("port you will use", "29501")]

DIALOGUES = {
    "single": [("CPU only", "no")],
    "single_cpu": [("CPU only", "yes")],
    "single_bf16_affinity": [("numa efficiency", "yes"), ("(by id)", "0"), ("mixed precision", 2)],
    "single_deepspeed": [("use DeepSpeed", "yes"), ("gradient clipping?", "yes"), ("clipping value", "0.5")],
    "cpu": [(MACHINE, CPU), ("How many processes", "4")],
    "cpu_mpirun": [(MACHINE, CPU), (MACHINES, "2"), ("IP address", "10.0.0.1"), ("port you will use", "29500"),
                   ("launch mpirun", "yes"), ("path to the hostfile", "/etc/hosts.mpi"), ("How many processes", "8")],
    "cpu_dynamo": [(MACHINE, CPU), ("torch dynamo", "yes"), ("How many processes", "2")],
    "gpu": [(MACHINE, GPU), ("How many GPU", "8"), ("mixed precision", 2)],
    "gpu_ids_debug": [(MACHINE, GPU), ("checked while running", "yes"), ("How many GPU", "2"), ("(by id)", "1,3"),
                      ("mixed precision", 1)],
    "gpu_two_machines": [(MACHINE, GPU), *TWO_MACHINES, ("How many GPU", "16")],
    "gpu_c10d": [(MACHINE, GPU), *TWO_MACHINES, ("same local network", "no"), ("rendezvous backend", "c10d"),
                 ("How many GPU", "16")],
    "gpu_second_machine": [(MACHINE, GPU), (MACHINES, "2"), ("rank of this machine", 1), ("IP address", "10.0.0.1"),
                           ("port you will use", "0"), ("How many GPU", "16")],
    "gpu_dynamo": [(MACHINE, GPU), ("torch dynamo", "yes"), ("customize the defaults", "yes"), ("Which mode", 1),
                   ("fullgraph", "yes"), ("dynamic shape", "yes"), ("regional", "yes"), ("How many GPU", "4")],
    "gpu_dynamo_eager": [(MACHINE, GPU), ("torch dynamo", "yes"), ("dynamo backend", 0), ("How many GPU", "4")],
    "deepspeed_zero2": [(MACHINE, GPU), ("use DeepSpeed", "yes"), ("How many GPU", "8"), ("mixed precision", 2)],
    "deepspeed_zero3": [(MACHINE, GPU), ("use DeepSpeed", "yes"), ("ZeRO optimization", 3), ("offload optimizer", 1),
                        ("offload parameters", 1), ("accumulation steps", "4"), ("save 16-bit", "yes"),
                        ("zero.Init", "yes"), ("How many GPU", "8"), ("mixed precision", 1)],
    "deepspeed_nvme": [(MACHINE, GPU), ("use DeepSpeed", "yes"), ("ZeRO optimization", 3), ("Where to offload optimizer", 2),
                       ("Where to offload parameters", 2), ("Path to offload parameters", "/nvme/p"),
                       ("Path to offload optimizer", "/nvme/o"), ("How many GPU", "8")],
    "deepspeed_moe": [(MACHINE, GPU), ("use DeepSpeed", "yes"), ("Mixture-of-Experts", "yes"),
                      ("layer class names", "MixtralSparseMoeBlock"), ("How many GPU", "8")],
    "deepspeed_json": [(MACHINE, GPU), ("use DeepSpeed", "yes"), ("specify a json", "yes"),
                       ("path to the json", "/data/ds.json"), ("How many GPU", "8")],
    "deepspeed_hostfile": [(MACHINE, GPU), *TWO_MACHINES, ("use DeepSpeed", "yes"), ("location of hostfile", "hosts.txt"),
                           ("specify exclusion", "yes"), ("exclusion filter string:", "node2:1"), ("How many GPU", "16")],
    "deepspeed_inclusion": [(MACHINE, GPU), *TWO_MACHINES, ("use DeepSpeed", "yes"), ("location of hostfile", "hosts.txt"),
                            ("specify inclusion", "yes"), ("inclusion filter string:", "node1:0,2@node2"),
                            ("How many GPU", "16")],
    "deepspeed_standard": [(MACHINE, GPU), *TWO_MACHINES, ("use DeepSpeed", "yes"), ("Type of launcher", 1),
                           ("How many GPU", "16")],
    "fsdp1": [(MACHINE, GPU), ("FullyShardedDataParallel", "yes"), ("FSDP version", 0), ("_no_split_modules", "no"),
              ("layer class names", "BertLayer,BertEmbeddings"), ("How many GPU", "8")],
    "fsdp2": [(MACHINE, GPU), ("FullyShardedDataParallel", "yes"), ("How many GPU", "8"), ("mixed precision", 2)],
    "fsdp2_size": [(MACHINE, GPU), ("FullyShardedDataParallel", "yes"), ("auto wrap policy", 1), ("minimum number", "2000"), ("How many GPU", "8")],
    "fsdp2_parallelism": [(MACHINE, GPU), ("FullyShardedDataParallel", "yes"), ("parallelism config?", "yes"),
                          ("replicate size", "2"), ("FSDP shard size", "2"), ("tensor parallelism size", "1"),
                          ("context parallelism size", "2"), ("communication strategy", 1), ("How many GPU", "8")],
    "megatron": [(MACHINE, GPU), ("use Megatron", "yes"), ("Tensor Parallelism degree", "2"), ("Pipeline Parallelism degree", "2"),
                 ("micro-batches", "4"), ("clipping value", "0.5"), ("How many GPU", "8"), ("mixed precision", 2)],
    "fp8_te": [(MACHINE, GPU), ("How many GPU", "8"), ("mixed precision", 3), ("FP8 backend", 1),
               ("length of history", "16"), ("`fprop`, `dgrad`", "yes"), ("Should `dgrad`", "yes")],
    "fp8_msamp": [(MACHINE, GPU), ("How many GPU", "8"), ("mixed precision", 3), ("FP8 backend", 2),
                  ("optimization level", 0)],
    "fp8_ao": [(MACHINE, GPU), ("How many GPU", "8"), ("mixed precision", 3), ("pad the inner", "no")],
}

MENU_IS_READY = "\x1b[?25l"  # the cursor is hidden while a menu waits
TEXT_IS_READY = re.compile(r"(\]: ?|: |\? ?)$")
TERMINAL_WORDS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Dialogue:
    """One `accelerate config` and what it has said since the last answer."""

    def __init__(self, start):
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            status = 1
            try:
                start()
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status)
        self.said = ""
        self.whole = ""

    def _read(self, seconds):
        """More text, or False when there is none in that time, or None at the end."""
        if not select.select([self.terminal], [], [], seconds)[0]:
            return False
        try:
            got = os.read(self.terminal, 65536)
        except OSError:  # Linux: the other side is closed
            return None
        if not got:
            return None
        self.said += got.decode(errors="replace")
        self.whole += got.decode(errors="replace")
        return True

    def _keys_are_read(self):
        return not termios.tcgetattr(self.terminal)[3] & termios.ICANON

    def wait(self):
        """The question that waits for an answer and whether it is a menu; None at the end."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            more = self._read(0.05)
            if more is None:
                return None
            if more:
                continue
            if MENU_IS_READY in self.said and self._keys_are_read():
                return TERMINAL_WORDS.sub("", self.said), True
            text = TERMINAL_WORDS.sub("", self.said)
            if MENU_IS_READY not in self.said and TEXT_IS_READY.search(text):
                return text, False
        raise SystemExit(f"no question within {PATIENCE_S:.0f} s; so far:\n{self.whole}")

    def choose(self, line):
        if line is not None:
            self.said = MENU_IS_READY
            os.write(self.terminal, str(line).encode())
            self.wait()
        self.said = ""
        os.write(self.terminal, b"\r")

    def type(self, text):
        self.said = ""
        os.write(self.terminal, text.encode() + b"\r")

    def end(self):
        os.close(self.terminal)
        _, status = os.waitpid(self.pid, 0)
        return os.waitstatus_to_exitcode(status)


def hold(name, answers, start):
    """Has the dialogue; what remains of the answers is an error."""
    left = list(answers)
    talk = Dialogue(start)
    try:
        while True:
            asked = talk.wait()
            if asked is None:
                break
            question, menu = asked
            found = next((one for one in left if one[0] in question), None)
            if found:
                left.remove(found)
            if menu:
                talk.choose(found[1] if found else None)
            else:
                talk.type(found[1] if found else "")
    except BaseException:
        os.kill(talk.pid, signal.SIGKILL)
        talk.end()
        raise
    status = talk.end()
    if status != 0 or left:
        raise SystemExit(f"{name}: status {status}, answers without a question: {left}\n{talk.whole}")


def present_packages(folder):
    for name, version in PRESENT.items():
        module = MODULES.get(name, name)
        (folder / module).mkdir()
        (folder / module / "__init__.py").write_text(f'__version__ = "{version}"\n')
        info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def main():
    words = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    words.add_argument("--check", action="store_true")
    words.add_argument("names", nargs="*")
    given = words.parse_args()
    different = []
    with tempfile.TemporaryDirectory(prefix="accelerate-dialogue-") as scratch:
        folder = pathlib.Path(scratch)
        (folder / "packages").mkdir()
        (folder / "home").mkdir()
        present_packages(folder / "packages")
        os.environ.update(HOME=str(folder / "home"), HF_HOME=str(folder / "home"), HF_HUB_OFFLINE="1", TERM="xterm")
        sys.path.insert(0, str(folder / "packages"))
        # PyTorch is imported once; each dialogue is a fork of this process.
        from accelerate.commands.config import config as dialogue
        for name in given.names or DIALOGUES:
            out = folder / f"{name}.yaml"
            parsed = dialogue.config_command_parser().parse_args(["--config_file", str(out)])
            # The first menu asks where the job runs: here.
            hold(name, DIALOGUES[name], lambda: dialogue.config_command(parsed))
            kept = TARGET / out.name
            if given.check:
                if not kept.exists() or kept.read_text() != out.read_text():
                    different.append(name)
            else:
                kept.write_text(out.read_text())
            print(f"{name}: ok", flush=True)
    if different:
        print(f"differ: {', '.join(different)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
