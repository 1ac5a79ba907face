"""The same scores computed with many methods: each file is a program, `FILE INPUT`, that serves requests on stdin.

INPUT is what inputs.py wrote: a base model, an adapter with random B, and sets of samples. A score is the product of
one sample's gradient (its own mean over its label tokens, with respect to all LoRA weights) with one test vector. A
request names a set of samples and a number of vectors; the answer is wall and CPU seconds of scoring the set once and
the peak memory of the process so far. Loading, imports and the preparation of the vectors are not counted.
"""
