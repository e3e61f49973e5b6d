"""What is drawn: the students' observation, thumbnails of tracks, trajectories from above."""
