"""Files of requests: `remask batch IN.jsonl OUT.jsonl`.

lines.py     a line as a request, and what came of it as a line
parts.py     the parts that spec strings name, each read once a run
results.py   the file of results, which a kill leaves whole
run.py       lines through an engine of this process
cluster.py   lines through Ray Data, on many GPUs or machines (extra `ray`)
"""

from remask.batch.lines import Settings
from remask.batch.run import run

__all__ = ["Settings", "run"]
