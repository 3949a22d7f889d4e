"""Methods for brains."""
