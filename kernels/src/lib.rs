//! Numeric kernels shared by the host and the shipped plugins.
