"""The products of a network on a CPU, at the cost of the weights that its masks leave.

`choose` decides whether a run has them, `use` gives them to a model, and `convolve` and `matmul` of
`ssm_jax.nn.convolution` take them. They are C++ that the system's compiler compiles at their first use.
"""
