"""`python -m reference.worker.emulated [--config FILE]`."""

from reference.wire.serving import serve
from reference.wire.settings import read_settings
from reference.worker.emulated.server import emulated_application
from reference.worker.emulated.settings import EmulatedSettings

if __name__ == "__main__":
    settings = read_settings(EmulatedSettings, "emulated-worker")
    serve(emulated_application(settings), settings)
