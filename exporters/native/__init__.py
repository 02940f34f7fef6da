"""The sparse engine: a C library of one model that depends on nothing but libc and libm."""
