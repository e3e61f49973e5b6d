"""The measurements of the project itself, each beside a peer in the same run."""
