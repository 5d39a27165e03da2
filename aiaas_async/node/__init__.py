"""Nodes: actors that own a mailbox, a memory budget and one worker."""
