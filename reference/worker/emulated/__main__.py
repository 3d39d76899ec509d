"""`python -m reference.worker.emulated [--config FILE]`."""

from reference.wire.serving import serve
from reference.wire.settings import read_settings
from reference.worker.emulated.server import EmulatedSettings, emulated_application

if __name__ == "__main__":
    settings = read_settings(EmulatedSettings, "emulated-worker")
    serve(emulated_application(settings), settings)
