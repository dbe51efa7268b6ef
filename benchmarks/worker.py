"""The process in which a case runs: a JSON object comes in, one goes out.

    in:  {"function": "module:function", "arguments": {...}, "core": "measured"}
    out: {"metric": value, ...}

It needs the standard library and what the case measures. What a library prints goes to stderr.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import os
import sys

from benchmarks import machine


def main() -> None:
    """Run the case that stdin names."""
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    task = json.loads(sys.stdin.readline())
    machine.pin(task["core"])
    module, _, name = task["function"].partition(":")
    function = getattr(importlib.import_module(f"benchmarks.subjects.{module}"), name)
    sample = function(**task["arguments"])
    if inspect.iscoroutine(sample):
        sample = asyncio.run(sample)
    json.dump(sample, answer)
    answer.flush()


if __name__ == "__main__":
    main()
