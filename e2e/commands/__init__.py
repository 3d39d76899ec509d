"""The sub-commands of windtunnel, one file each; e2e.cli puts them together."""
