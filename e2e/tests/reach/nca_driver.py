"""Runs in network-config-analyzer's own environment: a directory a line in, its connections as a JSON line out."""

import contextlib
import io
import json
import sys

from nca.nca_cli import nca_main

for line in sys.stdin:
    said, complaints = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(complaints):
        code = nca_main(
            ["--connectivity", "-r", line.strip(), "-o", "txt_no_fw_rules", "--output_endpoints", "pods", "--return_0"]
        )
    print(json.dumps({"code": code, "said": said.getvalue(), "complaints": complaints.getvalue()}), flush=True)
