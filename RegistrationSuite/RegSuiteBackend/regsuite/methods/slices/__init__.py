"""Methods that find where 2D slices lie in a volume."""
