"""Methods for growing brains."""
