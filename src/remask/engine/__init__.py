"""Many requests, one network: rows join and leave a running batch at any step.

    engine = Engine(model, max_rows=32)
    engine.start()                                            # a thread of its own; without one, call engine.step()
    ticket = engine.submit(Request(prompt_ids, 128, decoder=Threshold(0.9), seed=7))     # QueueFull when too many wait
    for update in ticket: ...                                 # what each step did to this row
    ticket.result().answer                                    # (max_new_tokens,) int64
    engine.close()                                            # what runs and waits is finished first

request.py      Request, Update, Ticket: what callers see
row.py          a request in the batch, and what its caller is told
cohort.py       rows of similar length that share a forward, as a pure function
packing.py      which cohorts should be one
room.py         the bytes of a row
waiting.py      whose turn it is
engine.py       admission and the loop
"""

from remask.engine.engine import Engine
from remask.engine.request import QueueFull, Request, Ticket, Update

__all__ = ["Engine", "QueueFull", "Request", "Ticket", "Update"]
