"""Benchmarks: programs that print numbers, run by hand or by `tox -e bench`."""
