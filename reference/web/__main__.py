"""`python -m reference.web [--config FILE]`."""

from reference.web.server import WebSettings, web_application
from reference.wire.serving import serve
from reference.wire.settings import read_settings

if __name__ == "__main__":
    settings = read_settings(WebSettings, "web")
    serve(web_application(settings), settings)
