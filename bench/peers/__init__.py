"""This server beside its peers: same weights, same bodies, same load generator, interleaved.

    python -m bench peers prepare [NAME…]   virtual environments, weights and bodies (once)
    python -m bench peers [NAME…]           measure what is there, write the table and the plot

Preparing installs packages, measuring does not. Every peer runs in an environment of its own in
its best setting (`servers/`), beside a floor: bare aiohttp + uvloop that computes in line.
"""
