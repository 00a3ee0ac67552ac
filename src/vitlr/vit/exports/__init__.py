"""A trained network for use elsewhere: Hugging Face directory, ONNX file, model card."""
