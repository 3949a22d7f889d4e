"""Bridge between the scene of 3D Slicer and regsuite's files. It runs in the window's process, so it never imports torch.

world     where a node lies: its parent transforms as one map; the preview of a result
nodes     nodes <-> arrays and files: volumes, label maps, segmentations, markups, transforms, tables
results   a finished job's folder into the scene
views     overlay, checkerboard, flicker, grid, glyphs
install   torch, on demand and with consent

The scene and these modules are RAS mm throughout: files carry RAS (NRRD, csv) or are written and read by Slicer's own
storage nodes, which know about LPS.
"""
