"""transformers' server with a doorman: wrong requests get 400 or 404 in OpenAI's form, where it would answer 500, or something else.

Run by `rftlab.serving`: python -m rftlab.serving_guard serve FOLDER --host ... --port ...

It lets through POST /v1/chat/completions, for the one model that is served; GET /v1/models it answers itself. What transformers would
ignore without a word is translated (`max_completion_tokens`, a content in parts) or refused (`n`, `logprobs`, `response_format` ...).
"""
import json
import sys

ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
MESSAGE = 'a list of at least one {"role": "system" | "user" | "assistant", "content": text}'
# The least and the most; a negative least is excluded: 1 + frequency_penalty becomes transformers' repetition_penalty, which must be above 0.
NUMBERS = {"temperature": (0, 2), "top_p": (0, 1), "frequency_penalty": (-1, 2)}
MOST = 2**63 - 1  # what torch takes as a whole number
WHOLE = {"max_tokens": 1, "max_completion_tokens": 1, "seed": 0}
# What this server cannot do, and the values that do not ask for it.
CANNOT = {"n": (1,), "logprobs": (False,), "top_logprobs": (0,), "response_format": ({"type": "text"},), "presence_penalty": (0,), "audio": (),
          "functions": ([],), "prediction": (), "web_search_options": (), "chat_template_kwargs": ({},), "generation_config": ()}
DEFAULT_TOKENS = 1024  # of an answer, where the request does not say, as transformers has it
HERE = "this server answers POST /v1/chat/completions, GET /v1/models and GET /health"


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
        if not isinstance(one, dict) or one.get("role") not in [*ROLES] or _text(one.get("content")) is None:  # a role may be a list, too
            return 400, f"messages[{i}]", f"messages[{i}] is {one!r:.80}; expected {MESSAGE}"
    return _settings(body)


def _settings(body) -> tuple[int, str, str] | None:
    for name, (low, high) in NUMBERS.items():
        value = body.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high or value == low < 0):
            return 400, name, f"{name} is {value!r:.40}; expected a number {'above' if low < 0 else 'from'} {low} to {high}"
    for name, low in WHOLE.items():
        value = body.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not low <= value <= MOST):
            return 400, name, f"{name} is {value!r:.40}; expected a whole number of at least {low} and below 2**63"
    if body.get("stream") not in (None, True, False):
        return 400, "stream", f"stream is {body['stream']!r:.40}; expected true or false"
    stop = body.get("stop") or []
    if not isinstance(stop, (str, list)) or not all(isinstance(one, str) and _text(one) for one in stop):
        return 400, "stop", f"stop is {stop!r:.60}; expected a string, or a list of strings, of whole characters"
    for name, nothing in CANNOT.items():
        if body.get(name) is not None and body[name] not in nothing:
            return 400, name, f"{name} is {body[name]!r:.60}, which this server cannot do; leave it out"
    return None


def _text(content) -> str | None:
    """A message's text, given whole or in parts of the type "text"; None for anything else, half a surrogate pair included."""
    if isinstance(content, list) and content and all(isinstance(one, dict) and one.get("type") == "text" for one in content):
        content = "".join(one["text"] for one in content) if all(isinstance(one.get("text"), str) for one in content) else None
    return content if isinstance(content, str) and content == content.encode("utf-8", "ignore").decode() else None


class Doorman:
    """ASGI middleware: reads the body of a chat request, answers it where it is wrong, hands it on where it is not.

    tokenizer, longest: the served model's, to count what a request asks for; without them nothing is counted.
    """

    def __init__(self, app, served, tokenizer=None, longest=None):
        self.app, self.served, self.tokenizer, self.longest = app, served, tokenizer, longest

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http" or scope["path"] == "/health" or scope["method"] == "OPTIONS":
            return await self.app(scope, receive, send)
        if (scope["method"], scope["path"]) == ("GET", "/v1/models"):
            return await _answer(send, 200, {"object": "list", "data": [{"id": self.served, "object": "model", "created": 0, "owned_by": "rftlab"}]})
        if (scope["method"], scope["path"]) != ("POST", "/v1/chat/completions"):
            return await _refuse(send, 404, None, f"there is no {scope['method']} {scope['path']} here; {HERE}")
        body = await _read(receive)
        if body is None:
            return None
        try:
            wrong = fault(body := json.loads(body), self.served) or self._prepare(body)
        except (ValueError, RecursionError) as error:
            wrong = 400, "body", f"the body is no JSON: {error}"
        if wrong:
            return await _refuse(send, *wrong)
        await self._hand_on(body, scope, receive, send)

    def _prepare(self, body) -> tuple[int, str, str] | None:
        """Bring the body into the form that transformers reads, and say whether its tokens have room."""
        body["messages"] = [{**one, "role": ROLES[one["role"]], "content": _text(one["content"])} for one in body["messages"]]
        asked = body.pop("max_completion_tokens", None) or body.get("max_tokens")
        body["max_tokens"] = asked or DEFAULT_TOKENS
        body.pop("chat_template_kwargs", None)  # null or empty by now, and transformers fails at null
        if self.tokenizer is None:
            return None
        try:
            text = self.tokenizer.apply_chat_template(body["messages"], tools=body.get("tools"), add_generation_prompt=True, tokenize=False)
        except Exception as error:  # a template is a program, and some refuse roles or their order
            return 400, "messages", f"the model's chat template refuses these messages: {error}"
        count = len(self.tokenizer(text, add_special_tokens=False)["input_ids"])
        if self.longest and count + (asked or 1) > self.longest:
            return 400, "messages", (f"the messages have {count} tokens and the answer {'up to ' + str(asked) if asked else 'at least 1'}; together at "
                                     f"most {self.longest} have room: shorten the messages, or lower max_tokens")
        if self.longest and not asked:
            body["max_tokens"] = min(DEFAULT_TOKENS, self.longest - count)
        return None

    async def _hand_on(self, body, scope, receive, send):
        content = json.dumps(body).encode()
        parts = [{"type": "http.request", "body": content, "more_body": False}]
        headers = [(k, v) for k, v in scope["headers"] if k != b"content-length"] + [(b"content-length", str(len(content)).encode())]
        begun = []

        async def again():
            return parts.pop() if parts else await receive()

        async def watched(message):
            begun.append(message["type"])
            await send(message)

        try:
            await self.app({**scope, "headers": headers}, again, watched)
        except Exception as error:
            if not begun:
                await _refuse(send, 500, None, f"the model failed: {type(error).__name__}: {error}; the server's log has the rest")
            raise


async def _read(receive) -> bytes | None:
    """The whole body, None where the client has gone."""
    body, more = b"", True
    while more:
        part = await receive()
        if part["type"] == "http.disconnect":
            return None
        body, more = body + part.get("body", b""), part.get("more_body", False)
    return body


async def _refuse(send, status, parameter, message) -> None:
    kind = {404: "not_found_error", 500: "server_error"}.get(status, "invalid_request_error")
    await _answer(send, status, {"error": {"message": message, "type": kind, "param": parameter, "code": None}})


async def _answer(send, status, content) -> None:
    body = json.dumps(content).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def main() -> None:
    """`transformers serve` with the doorman in front; the arguments are those of `transformers`."""
    from transformers import AutoConfig, AutoTokenizer
    from transformers.cli import serve
    from transformers.cli.serving import server
    from transformers.cli.transformers import main as transformers

    build, served = server.build_server, sys.argv[2]

    def guarded(*given, **more):
        app = build(*given, **more)
        longest = getattr(AutoConfig.from_pretrained(served), "max_position_embeddings", None)
        app.add_middleware(Doorman, served=served, tokenizer=AutoTokenizer.from_pretrained(served), longest=longest)
        return app

    server.build_server = guarded
    if hasattr(serve, "build_server"):
        serve.build_server = guarded
    sys.argv[0] = "transformers"
    transformers()


if __name__ == "__main__":
    main()
