"""Registration of the breathing lung."""
