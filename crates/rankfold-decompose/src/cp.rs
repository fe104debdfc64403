//! CP decompositions of convolution kernels.
