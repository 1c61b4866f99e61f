"""How fast a server takes what stock clients send, and what it costs: `python -m tests.benchmarks`.

A workload (`workload.py`) is sent to a server (`servers.py`), and one run of that gives a result (`runs.py`).
"""
