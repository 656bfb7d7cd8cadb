"""transformers' server with a doorman: wrong requests get 400 or 404 in OpenAI's form, where it would answer 500 without a word.

Run by `rftlab.serving`: python -m rftlab.serving_guard serve FOLDER --host ... --port ...
"""
import json
import sys

MESSAGE = 'a list of at least one {"role": "system" | "user" | "assistant", "content": text}'
NUMBERS = {"temperature": (0, 2), "top_p": (0, 1), "max_tokens": (1, None), "max_completion_tokens": (1, None)}


def fault(body, served) -> tuple[int, str, str] | None:
    """(status, parameter, what is wrong) of a chat request's body, None where nothing is."""
    if not isinstance(body, dict):
        return 400, "body", "the body is no JSON object"
    if body.get("model") != served:
        return 404, "model", f"there is no model {body.get('model')!r} here; this server has {served!r}"
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        return 400, "messages", f"messages is {messages!r:.60}; expected {MESSAGE}"
    for i, one in enumerate(messages):
        if not isinstance(one, dict) or one.get("role") not in ("system", "user", "assistant") or not isinstance(one.get("content"), str):
            return 400, f"messages[{i}]", f"messages[{i}] is {one!r:.80}; expected {MESSAGE}"
    for name, (low, high) in NUMBERS.items():
        value = body.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float)) or value < low or (high and value > high)):
            return 400, name, f"{name} is {value!r:.40}; expected a number " + (f"from {low} to {high}" if high else f"of at least {low}")
    return None


class Doorman:
    """ASGI middleware: reads the body of a chat request, answers it where it is wrong, hands it on where it is not."""

    def __init__(self, app, served):
        self.app, self.served = app, served

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http" or scope["path"] != "/v1/chat/completions" or scope["method"] != "POST":
            return await self.app(scope, receive, send)
        body, more = b"", True
        while more:
            part = await receive()
            if part["type"] == "http.disconnect":
                return None
            body, more = body + part.get("body", b""), part.get("more_body", False)
        try:
            wrong = fault(json.loads(body), self.served)
        except ValueError as error:
            wrong = 400, "body", f"the body is no JSON: {error}"
        if wrong:
            return await _refuse(send, *wrong)
        parts = [{"type": "http.request", "body": body, "more_body": False}]

        async def again():
            return parts.pop() if parts else await receive()

        return await self.app(scope, again, send)


async def _refuse(send, status, parameter, message) -> None:
    kind = "not_found_error" if status == 404 else "invalid_request_error"
    body = json.dumps({"error": {"message": message, "type": kind, "param": parameter, "code": None}}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def main() -> None:
    """`transformers serve` with the doorman in front; the arguments are those of `transformers`."""
    from transformers.cli import serve
    from transformers.cli.serving import server
    from transformers.cli.transformers import main as transformers

    build, served = server.build_server, sys.argv[2]

    def guarded(*given, **more):
        app = build(*given, **more)
        app.add_middleware(Doorman, served=served)
        return app

    server.build_server = guarded
    if hasattr(serve, "build_server"):
        serve.build_server = guarded
    sys.argv[0] = "transformers"
    transformers()


if __name__ == "__main__":
    main()
