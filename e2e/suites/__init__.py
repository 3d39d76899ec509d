"""Suites that a cluster with the stack has to pass: `tox -e kind`, or `pytest e2e/suites --kubeconfig FILE`."""
