"""The numeric engine: layer graphs described by data, run forward and backward in pure numpy.

Layers keep no state: parameters come in, outputs and what the backward pass needs go out.
Arrays lead with the batch dimension; images are NHWC.
"""
