"""Benchmarks: what Channels costs, beside its rivals and beside the bare floor, in one run.

``nox -s bench -- --help`` tells how to run them. A part is one module in ``parts/``: the cases that
it measures and the figures that it makes of them. What a case runs stands in ``subjects/``.
"""
