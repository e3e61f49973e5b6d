"""The road: control points and centre lines, their files, and the tiles made of them."""
