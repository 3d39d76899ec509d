"""`python -m reference.worker.vllm [--config FILE]`."""

from reference.wire.settings import read_settings
from reference.worker.ending import Ending, serve_until
from reference.worker.supervised.server import supervised_application
from reference.worker.vllm.recipe import VllmSettings, vllm_recipe

if __name__ == "__main__":
    settings = read_settings(VllmSettings, "vllm-worker")
    ending = Ending()
    serve_until(ending, supervised_application(vllm_recipe(settings), settings, ending), settings)
