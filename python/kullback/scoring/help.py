"""Examples at the end of ``--help``, one block a command."""

from __future__ import annotations

import click

__all__ = [
    "COMPLETION_EXAMPLES",
    "INSPECT_EXAMPLES",
    "PACK_EXAMPLES",
    "REPORT_EXAMPLES",
    "SCORE_EXAMPLES",
    "PlainEpilog",
]

SCORE_EXAMPLES = """\
Examples:

  Two quantised models against the original, with perplexities:
    kullback score original.npy q8.npy q4.npy --targets tokens.npy --out scores

  A llama.cpp base file as the reference, and its own way of counting:
    kullback score base.kld q4.npy --out scores --kld-rule llama.cpp

  Shards of safetensors in a folder; one tensor of a file:
    kullback score reference/ 'candidate/*.safetensors' --out scores
    kullback score reference.safetensors::logits q4.npz::logits --out scores

  A Zarr array in a bucket, a padded vocabulary:
    kullback score s3://bucket/reference.zarr q4.npy --vocab-size 151669 --out scores

  On the machines of a Ray cluster, which all see the files:
    kullback score reference.npy q4.npy --out scores --engine ray --ray-address 10.0.0.1:6379

  Bare numbers, as a program dumped them:
    kullback score p.bin q.bin --dtype bfloat16 --shape -1,128256 --out scores

  A second run of the original as the floor of noise; fail a pipeline on regressions:
    kullback score original.npy q4.npy --noise-floor again.npy --out scores
    kullback score original.npy q4.npy --out scores --fail-if 'kl.mean > 0.01' --fail-if 'same_top < 0.98'

  Which tokens suffer: numbers, line breaks, the marks of a chat?
    kullback score original.npy q4.npy --targets tokens.npy --token-texts tokenizer.json --out scores

  Top log-probabilities from a server; the unseen rest is one outcome more:
    kullback score original.jsonl q4.jsonl --vocab-size 151936 --tail bucket --out scores

Exit status: 0 done, 1 failed, 2 wrong usage, 3 a condition of --fail-if is met, 130 interrupted.
"""

PACK_EXAMPLES = """\
Examples:

  Keep a reference at half the size of float32, and score with it:
    kullback pack original.npy reference.zarr --targets tokens.npy --model llama-3-8b
    kullback score reference.zarr q4.npy --out scores

  What was it made from, and what does it cost?
    kullback inspect reference.zarr
"""

REPORT_EXAMPLES = """\
Examples:

  A page about a run, as scores/report.html:
    kullback score original.npy q8.npy q4.npy --targets tokens.npy --out scores
    kullback report scores

  Elsewhere, with the texts of tokens:
    kullback report scores --html page.html --token-texts model/tokenizer.json
"""

INSPECT_EXAMPLES = """\
Examples:

    kullback inspect base.kld
    kullback inspect logits.npz::logits reference.zarr --json
"""

COMPLETION_EXAMPLES = """\
Examples:

  bash, in ~/.bashrc:
    eval "$(kullback completion bash)"

  zsh, in ~/.zshrc:
    eval "$(kullback completion zsh)"

  fish:
    kullback completion fish > ~/.config/fish/completions/kullback.fish
"""


class PlainEpilog(click.Command):
    """A command whose epilog is printed as it stands, not filled into paragraphs."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the epilog below the options."""
        if self.epilog:
            formatter.write("\n" + self.epilog)
