"""The actor kernel: bounded mailboxes, envelopes that carry their return address, supervision.

It knows nothing of models; nodes, jobs and the deployer are built on it.
"""
