"""What the command line, the worker and the Python shortcuts share: files in, a method, files, figures and a verdict out."""
