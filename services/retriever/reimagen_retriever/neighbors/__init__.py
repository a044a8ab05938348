"""KNN-ImageText (Re-Imagen, section 3.3): the pairs of a knowledge base with their neighbors, for training."""
