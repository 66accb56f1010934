"""What compilers make of the training step for accelerators that need not be there.

`python -m benchmarks.compiled --target h100 --networks fcn conv8` compiles a step's program for a GPU or a
TPU without one and counts what is in it: kernels, CUDA graphs, library calls, copies, collectives,
operations, bytes. The time it gives is an estimate from these counts, not a measurement.
"""
