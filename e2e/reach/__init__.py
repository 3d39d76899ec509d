"""Who can reach whom: network-policy reachability, predicted, measured, and their difference."""
