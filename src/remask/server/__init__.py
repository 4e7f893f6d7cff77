"""OpenAI's protocol over the engine (extra `serve`).

protocol.py     the bodies that are accepted
asked.py        a body as rows of the engine, or an error that names the field
respond.py      from a body to its answer, whole or streamed
answer.py       the text of a row that can no longer change: stops, settled prefix, log-probabilities
bridge.py       the engine's thread and the event loop
chunks.py       answers as OpenAI's objects
limits.py       keys, sizes, slow readers
metrics.py      what /metrics counts
service.py      a model behind an engine, and how it is offered
app.py          the routes
replicas.py     one app a replica through Ray Serve (extra `ray`)
"""
