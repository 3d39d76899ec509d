"""`python -m reference.router [--config FILE]`."""

from reference.router.server import router_application
from reference.router.settings import RouterSettings
from reference.wire.serving import serve
from reference.wire.settings import read_settings

if __name__ == "__main__":
    settings = read_settings(RouterSettings, "router")
    serve(router_application(settings), settings)
