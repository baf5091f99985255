"""One side of a benchmark, in this fresh process: `python -m benchmarks.child MODULE:FUNCTION '{"argument": …}'`.

Prints one line of JSON: seconds, peak_bytes, result.
"""

from __future__ import annotations

import json
import sys
import time
from importlib import import_module
from pathlib import Path


def peak_bytes() -> int:
    """Highest resident memory of this process so far.

    Linux's own count for this program is used where there is one: `ru_maxrss` starts at what the parent had.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main(target: str, arguments: str) -> None:
    module, function = target.split(":")
    work = getattr(import_module(module), function)(**json.loads(arguments))
    start = time.perf_counter()
    result = work()
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "peak_bytes": peak_bytes(), "result": result}))


if __name__ == "__main__":
    main(*sys.argv[1:])
