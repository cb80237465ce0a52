"""Effects of Slicer's Segment Editor; Slicer loads each by its path, under the name of this folder."""
