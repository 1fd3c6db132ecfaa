"""Management over HTTP: an ASGI application for an app of your own, or served by a node itself.

    from cajun_fast.management.http import management_app

    app = FastAPI()
    app.mount("/cajun", management_app(system))

Laws: read-only unless it is told otherwise; needs ``pip install 'cajun-fast[http]'``; nothing else imports this
room.
"""

from cajun_fast.management.http.app import management_app
from cajun_fast.management.http.server import HttpServer
from cajun_fast.management.http.settings import HttpSettings

__all__ = ["HttpServer", "HttpSettings", "management_app"]
