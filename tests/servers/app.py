"""What the servers serve: an example, and a look at who is connected."""

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from examples.guide.starlette_app import app, channels, gateway


async def counts(request: Request) -> JSONResponse:
    return JSONResponse([gateway.connection_count, channels.subscriber_count("news")])


app.router.routes.append(Route("/counts", counts))

__all__ = ["app"]
