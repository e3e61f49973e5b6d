"""What is drawn: the students' observation, thumbnails of tracks, maps of trajectories."""
