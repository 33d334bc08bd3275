//! The compact flow model: a small convolutional velocity field on space-to-depth latents of luma.
