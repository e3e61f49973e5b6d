"""A bundle of results in, a picture or table out."""
