"""Objects rendered on this machine in CORe50's layout, and the small network pretrained on such objects."""
