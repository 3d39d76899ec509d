"""`python -m reference.worker.trt [--config FILE]`."""

from reference.wire.settings import read_settings
from reference.worker.ending import Ending, serve_until
from reference.worker.supervised.server import supervised_application
from reference.worker.trt.recipe import TrtSettings, trt_recipe

if __name__ == "__main__":
    settings = read_settings(TrtSettings, "trt-worker")
    ending = Ending()
    serve_until(ending, supervised_application(trt_recipe(settings), settings, ending), settings)
