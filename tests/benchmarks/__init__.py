"""How fast a server takes what stock clients send, and what it costs: `python -m tests.benchmarks`.

Workloads (`workload.py`) are prepared as files, and sent from processes of their own (`loads.py`, `send.py`,
`stock_client.py`) to the collector and to its peers (`servers.py`, `python_peers.py`) in turn. Each run has a
result (`runs.py`, `processes.py`; `latency.py`, `pace.py`), and all of them make tables (`tables.py`). What a
record costs is also counted, the same each time (`instructions.py`, `frames_to_lines.py`).
"""
