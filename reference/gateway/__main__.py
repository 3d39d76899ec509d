"""`python -m reference.gateway [--config FILE]`."""

from reference.gateway.server import gateway_application
from reference.gateway.settings import GatewaySettings
from reference.wire.serving import serve
from reference.wire.settings import read_settings

if __name__ == "__main__":
    settings = read_settings(GatewaySettings, "gateway")
    serve(gateway_application(settings), settings)
