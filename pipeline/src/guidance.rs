//! Classifier-free guidance, fixed and dynamic.
