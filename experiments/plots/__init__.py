"""Numbers and arrays in, a picture, table or page out."""
