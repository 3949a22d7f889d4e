"""A headless Slicer: real MRML, logics, displayable managers and slicer.util; stand-ins for Qt widgets and the app.

    from harness import app, panel, views
    app.start()
"""
