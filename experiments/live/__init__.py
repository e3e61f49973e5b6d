"""The live page: sessions that know nothing of any page, and a thin page over them."""
