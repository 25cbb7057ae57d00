"""The names of the transport package, their docstrings and examples."""

import dataclasses
import doctest
import inspect

import numpy as np
import pytest

import kullback as kb
from kullback import transport

FUNCTIONS = [name for name in transport.__all__ if inspect.isfunction(getattr(transport, name))]


def test_all_lists_what_is_defined():
    assert list(transport.__all__) == sorted(transport.__all__)
    for name in transport.__all__:
        assert getattr(transport, name).__module__.startswith("kullback.")


def test_names_that_are_both_here_and_at_the_top_are_one_thing():
    both = set(transport.__all__) & set(kb.__all__)
    assert {"sinkhorn_points", "sinkhorn_divergence"} <= both
    for name in both:
        assert getattr(transport, name) is getattr(kb, name)


@pytest.mark.parametrize("name", transport.__all__)
def test_examples(backend, name):
    thing = getattr(transport, name)
    examples = doctest.DocTestParser().get_doctest(inspect.getdoc(thing), {"np": np}, name, None, 0)
    assert examples.examples or not inspect.isfunction(thing)
    output = []
    runner = doctest.DocTestRunner(optionflags=doctest.FAIL_FAST)
    runner.run(examples, out=output.append)
    assert runner.failures == 0, "".join(output)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_docstrings_name_every_parameter(name):
    function = getattr(transport, name)
    text = inspect.getdoc(function)
    for section in ("Parameters", "Returns", "Raises", "Examples"):
        assert f"\n{section}\n---" in text
    listed = text.split("Parameters\n")[1].split("Returns\n")[0]
    for parameter in inspect.signature(function).parameters:
        assert any(parameter in line.split(" : ")[0].split(", ") for line in listed.splitlines()), parameter


@pytest.mark.parametrize("name", [name for name in transport.__all__ if name not in FUNCTIONS])
def test_results_document_their_fields(name):
    record = getattr(transport, name)
    text = inspect.getdoc(record)
    listed = [name for line in text.splitlines() if " : " in line for name in line.split(" : ")[0].split(", ")]
    fields = dataclasses.fields(record) if dataclasses.is_dataclass(record) else []
    for field in fields:
        assert field.name in listed
