"""Methods for images of different modalities."""
