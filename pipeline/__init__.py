"""The vocabulary every stage shares: records, canonical pixels, manifests, storage, configuration; no engine."""

import os

# ONNX Runtime's official builds report usage over the network unless told otherwise before they load. Telltale sends
# nothing anywhere; whoever wants that report sets the variable to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
