"""`python -m reference.worker.bert [--config FILE]`."""

import sys

from reference.wire.settings import read_settings
from reference.worker.bert.layout import LayoutError, read_layout
from reference.worker.bert.server import bert_application
from reference.worker.bert.settings import BertSettings
from reference.worker.ending import Ending, serve_until

if __name__ == "__main__":
    settings = read_settings(BertSettings, "bert-worker")
    try:
        layout = read_layout(settings.model_dir)
    except LayoutError as error:
        print(f"bert-worker: error: {error}", file=sys.stderr)
        sys.exit(2)
    ending = Ending()
    serve_until(ending, bert_application(settings, layout, ending), settings)
