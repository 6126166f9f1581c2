"""From trained generators to images: sets of files, interpolations, grids."""
