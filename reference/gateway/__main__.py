"""`python -m reference.gateway [--config FILE]`."""

import sys

from reference.gateway.server import gateway_application
from reference.gateway.settings import GatewaySettings
from reference.wire.serving import serve
from reference.wire.settings import SettingsError, read_settings

if __name__ == "__main__":
    settings = read_settings(GatewaySettings, "gateway")
    try:
        application = gateway_application(settings)
    except SettingsError as error:
        print(f"gateway: error: {error}", file=sys.stderr)
        sys.exit(2)
    serve(application, settings)
