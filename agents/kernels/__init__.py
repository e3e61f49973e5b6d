"""Compiled arithmetic of the recurrent student on a processor: small products, and the LSTM through time."""
