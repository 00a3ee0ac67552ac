"""Drawing three-dimensional objects, held in a hand before a background, with numpy and Pillow alone."""
