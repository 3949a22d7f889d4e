"""placeholder"""
def tasks():
    return iter(())
