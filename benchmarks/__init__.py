"""Paired measurements of the course's tools against their peers.

`python -m benchmarks` lists them, `python -m benchmarks NAME` runs one. Each is one module with a `BENCHMARK`.
"""
