#!/usr/bin/env python3
"""Draws loss and throughput of training runs as a PNG.

    scripts/plot_metrics.py RUN… [-o FILE]

RUN is an output_dir of llmlaunch-train, its metrics.jsonl (--report_to json), or the trainer_state.json of a checkpoint,
also one of Hugging Face's Trainer. Of an output_dir metrics.jsonl is taken, and without one the newest checkpoint. FILE is
metrics.png unless told otherwise. Needs Matplotlib (python3-matplotlib, or pip install matplotlib).
"""
import argparse
import json
import pathlib
import re
import sys


def fail(what, hint=None, status=65):
    print(f"plot_metrics: error: {what}" + (f"\n   hint: {hint}" if hint else ""), file=sys.stderr)
    sys.exit(status)


def file_of(run):
    """The file that tells of a run."""
    path = pathlib.Path(run)
    if not path.is_dir():
        return path
    if (path / "metrics.jsonl").is_file():
        return path / "metrics.jsonl"
    if (path / "trainer_state.json").is_file():
        return path / "trainer_state.json"
    steps = [(int(found[1]), folder) for folder in path.iterdir() if (found := re.fullmatch(r"checkpoint-(\d+)", folder.name))]
    if not steps:
        fail(f"{path}: neither metrics.jsonl nor a checkpoint is in it", "llmlaunch-train writes it with --report_to json", 66)
    return max(steps)[1] / "trainer_state.json"


def records_in(path):
    """[{"step": …}, …]"""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        fail(f"{path}: {getattr(error, 'strerror', None) or error}", status=66)
    if path.suffix == ".json":
        try:
            records = json.loads(text)["log_history"]
        except (ValueError, KeyError, TypeError) as error:
            fail(f"{path}: is no trainer_state.json ({error!r})")
    else:
        records = []
        lines = text.splitlines(keepends=True)
        for number, line in enumerate(lines, 1):
            try:
                records.append(json.loads(line))
            except ValueError as error:
                # A run that was killed while it wrote, or that is writing now.
                if number < len(lines) or line.endswith("\n") or not records:
                    fail(f"{path}:{number}: {error}")
                print(f"plot_metrics: warning: {path}:{number}: the last line is cut off, and left out", file=sys.stderr)
    if not all(isinstance(record, dict) and isinstance(record.get("step"), int) for record in records):
        fail(f"{path}: a record has no step")
    return records


def curve(records, key):
    """Steps and values; what is no number is left out."""
    found = [(record["step"], record[key]) for record in records if isinstance(record.get(key), (int, float))]
    return [step for step, _ in found], [value for _, value in found]


def main():
    parser = argparse.ArgumentParser(description="Draws loss and throughput of training runs as a PNG.")
    parser.add_argument("runs", nargs="+", metavar="RUN", help="an output_dir, a metrics.jsonl or a trainer_state.json")
    parser.add_argument("-o", "--output", default="metrics.png", help="the PNG (default: metrics.png)")
    options = parser.parse_args()
    runs = [(run, records_in(file_of(run))) for run in options.runs]
    for run, records in runs:
        if not curve(records, "loss")[0] and not curve(records, "eval_loss")[0]:
            told = any("loss" in record or "eval_loss" in record for record in records)
            fail(f"{run}: no loss is in it", "all that it has are no numbers: see --on_nan" if told else
                 "a run shorter than --logging_steps tells nothing")
    try:
        import matplotlib
    except ImportError:
        fail("Matplotlib is not installed for this Python", "apt install python3-matplotlib, or pip install matplotlib", 69)
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (losses, speeds) = pyplot.subplots(2, 1, figsize=(8, 8), sharex=True, layout="constrained")
    for run, records in runs:
        (line,) = losses.plot(*curve(records, "loss"), label=run if len(runs) > 1 else "loss")
        steps, values = curve(records, "eval_loss")
        if steps:
            losses.plot(steps, values, "o--", color=line.get_color(), label=f"{run}: test" if len(runs) > 1 else "test loss")
        speeds.plot(*curve(records, "samples_per_second"), color=line.get_color())
    losses.set_ylabel("loss")
    losses.legend()
    speeds.set_ylabel("samples/s")
    speeds.set_xlabel("step")
    speeds.set_ylim(bottom=0)
    for axes in (losses, speeds):
        axes.grid(alpha=0.3)
    try:
        figure.savefig(options.output, format="png", dpi=100)
    except OSError as error:
        fail(f"{options.output}: {error.strerror}", status=74)
    print(f"{options.output}: {', '.join(options.runs)}")


if __name__ == "__main__":
    main()
