"""SmolLM2-135M in NumPy: everything ``examples/demo.py`` needs to make logits of a real language model.

Reading order: :mod:`fetch` (the weights file, verified), :mod:`text` (what is read), :mod:`tokenizer` (text to
token ids), :mod:`weights` (quantised blocks to float32, and round trips through other formats), :mod:`model` (token
ids to logits), :mod:`logits` (which ones the demo makes, and their files), :mod:`cache` (what is made already),
:mod:`sample` (a few rows in a small file).
"""
