"""This code on one device: its kernels against the CPU's, and its speed."""
