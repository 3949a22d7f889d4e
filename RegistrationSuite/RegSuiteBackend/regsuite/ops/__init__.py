"""Pure functions on tensors (C, D, H, W): sampling, filters, derivatives, pyramids, descriptors."""
