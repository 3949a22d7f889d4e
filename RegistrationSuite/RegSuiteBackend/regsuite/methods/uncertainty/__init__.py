"""Where a deformation can be trusted."""
