"""The format ONNX: graphs written from networks, read from anybody, and run by onnxruntime."""
