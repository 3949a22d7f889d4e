"""Networks: plain torch modules with a batch axis, (N, C, D, H, W). What they are trained for and with lives in `methods`."""
