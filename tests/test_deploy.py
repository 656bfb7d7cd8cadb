"""Adapters, merged weights, GGUF and ONNX answer alike; a served model answers the official client, and says what is wrong with a request."""
import asyncio
import json
import os
import socket
import sys

import pytest
import torch

import rftlab
from rftlab import deploy, feedback, serving
from rftlab.evaluate import Estimate
from rftlab.serving_guard import Doorman, fault

QUESTION = "What is 34 + 51? Answer with the number only."


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A policy whose adapters change what it says, and its three forms on disk."""
    folder = tmp_path_factory.mktemp("deploy")
    policy = rftlab.load_policy("tiny", lora=rftlab.LoraSpec(rank=4, alpha=8))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in policy.parameters:
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.05)
    policy.after_step()
    deploy.adapters(policy, folder / "adapters")
    deploy.merged(policy, folder / "merged")
    return policy, folder


def logits(model):
    with torch.no_grad():
        return model(input_ids=torch.arange(3, 67)[None]).logits


def test_adapters_and_merged_weights_give_the_same_logits(trained):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    policy, folder = trained
    ours = logits(policy.model)
    assert (ours - logits(rftlab.load_policy("tiny").model)).abs().max() > 0.5, "the adapters do something"
    base = AutoModelForCausalLM.from_pretrained(policy.folder)
    torch.testing.assert_close(logits(PeftModel.from_pretrained(base, folder / "adapters")), ours, atol=2e-4, rtol=1e-3)
    merged = rftlab.load_policy(str(folder / "merged"), dtype="float32")
    torch.testing.assert_close(logits(merged.model), ours, atol=2e-4, rtol=1e-3)
    assert merged.generate([QUESTION], 16) == policy.generate([QUESTION], 16)


def test_an_adapter_from_disk_is_merged_as_the_one_in_memory(trained, tmp_path):
    from safetensors.torch import load_file

    _, folder = trained
    loaded = rftlab.load_policy("tiny", lora=folder / "adapters")
    assert loaded.folder == str(folder / "adapters")
    ours, theirs = (load_file(f / "model.safetensors") for f in (deploy.merged(loaded, tmp_path / "m"), folder / "merged"))
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_merged_weights_and_adapters_do_not_share_a_folder(trained, tmp_path):
    policy, folder = trained
    deploy.merged(policy, deploy.adapters(policy, tmp_path / "x"))
    assert not (tmp_path / "x" / "adapter_config.json").exists()
    torch.testing.assert_close(logits(rftlab.load_policy(tmp_path / "x", dtype="float32").model), logits(policy.model), atol=2e-4, rtol=1e-3)
    with pytest.raises(ValueError, match="holds a whole model .*save them to another folder"):
        deploy.adapters(policy, folder / "merged")


@pytest.mark.parametrize("kind, most", [("F32", 1e-5), ("F16", 0.02), ("Q8_0", 0.3)])
def test_gguf_comes_back_through_transformers(trained, kind, most):
    _, folder = trained
    loaded = deploy.read_gguf(deploy.gguf(folder / "merged", folder / f"{kind}.gguf", kind))
    expected = logits(rftlab.load_policy(str(folder / "merged"), dtype="float32").model)
    error = (logits(loaded) - expected).abs().max()
    assert error < most and (kind == "F32" or error > 0), error
    assert (logits(loaded).argmax(-1) == expected.argmax(-1)).float().mean() > 0.9
    assert (folder / "Q8_0.gguf").exists() is False or (folder / "Q8_0.gguf").stat().st_size < (folder / "F16.gguf").stat().st_size


def described(path):
    """What a GGUF file says of itself: name -> value, and its tensors by name."""
    import gguf

    reader = gguf.GGUFReader(path)
    return {name: field.contents() for name, field in reader.fields.items()}, {one.name: one.data for one in reader.tensors}


def small_llama(folder, **more):
    """A folder with a random Llama of two layers and the tokenizer of `tiny`, to which a token is added that is no special one."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(rftlab.models.tiny_folder())
    tokenizer.add_tokens(["<think>"])
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(hidden_size=64, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
                                 vocab_size=len(tokenizer), bos_token_id=None, **more)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


LLAMA3 = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 64}


def test_gguf_keeps_stretched_positions_and_kinds_of_tokens(tmp_path):
    """The factors are checked against the formula of Llama 3.1 as llama.cpp's converter has it, written anew here."""
    import math

    from transformers import AutoTokenizer

    folder = small_llama(tmp_path / "llama3", rope_parameters=LLAMA3)
    fields, tensors = described(deploy.gguf(folder, tmp_path / "new" / "m.gguf", "F32"))
    expected = []
    for i in range(8):
        wave = 2 * math.pi * 500000.0 ** (2 * i / 16)
        smooth = (64 / wave - 1.0) / (4.0 - 1.0)
        expected.append(1.0 if wave < 64 / 4 else 8.0 if wave > 64 / 1 else 1 / ((1 - smooth) / 8.0 + smooth))
    assert tensors["rope_freqs.weight"].tolist() == pytest.approx(expected, rel=1e-5) and len(set(expected)) > 2
    kinds, tokenizer = fields["tokenizer.ggml.token_type"], AutoTokenizer.from_pretrained(folder)
    assert kinds[tokenizer.convert_tokens_to_ids("<think>")] == 4 and kinds[tokenizer.eos_token_id] == 3 and kinds[100] == 1
    plain = described(deploy.gguf(small_llama(tmp_path / "plain"), tmp_path / "p.gguf", "F32"))[1]
    assert "rope_freqs.weight" not in plain
    with pytest.raises(ValueError, match="positions are stretched by 'yarn'; this writes none and Llama 3's"):
        deploy.gguf(small_llama(tmp_path / "yarn", rope_parameters={"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0}), tmp_path / "y.gguf")
    assert not (tmp_path / "y.gguf").exists()


DIGITS = {"type": "Digits", "individual_digits": True}
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}


def split(numbers):
    regex = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|NUMBERS| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    return {"type": "Split", "pattern": {"Regex": regex.replace("NUMBERS", numbers)}, "behavior": "Isolated", "invert": False}


@pytest.mark.parametrize("steps, name", [
    ([BYTES], "gpt-2"), ([DIGITS, BYTES], "smollm"), ([split(r"\p{N}"), {**BYTES, "use_regex": False}], "qwen2"),
    ([split(r"\p{N}{1,3}"), {**BYTES, "use_regex": False}], "llama-bpe"), ([split("[0-9]"), {**BYTES, "use_regex": False}], "default"),
    ([{**BYTES, "use_regex": False}], "default")])
def test_llama_cpp_is_told_how_text_is_divided(steps, name):
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    said = json.loads(Tokenizer.from_file(str(rftlab.models.tiny_folder() / "tokenizer.json")).to_str())
    said["pre_tokenizer"] = steps[0] if len(steps) == 1 else {"type": "Sequence", "pretokenizers": steps}
    assert deploy._pre_tokenizer(PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(said)))) == name


@pytest.mark.slow
def test_llama_cpp_computes_the_same_logits(trained, tmp_path):
    """Where it is installed: `tiny`, and a model whose positions are stretched as Llama 3.1's."""
    llama_cpp = pytest.importorskip("llama_cpp")
    for source, most in (trained[1] / "merged", 0.02), (small_llama(tmp_path / "llama3", rope_parameters=LLAMA3), 0.002):
        file = deploy.gguf(source, tmp_path / f"{source.name}.gguf", "F32")
        loaded = llama_cpp.Llama(str(file), n_ctx=256, n_batch=256, logits_all=True, verbose=False, n_threads=1)
        loaded.eval(list(range(3, 67)))
        expected = logits(rftlab.load_policy(str(source), dtype="float32").model)[0]
        found = torch.tensor(loaded.scores[:64])
        assert (found - expected).abs().max() < most < expected.std(), (source, (found - expected).abs().max())
        loaded.close()


@pytest.mark.slow
def test_llama_cpp_serves_the_gguf_file(trained, tmp_path, monkeypatch):
    """Where llama-cpp-python and its server are installed; elsewhere it is said how to get them."""
    file = deploy.gguf(trained[1] / "merged", tmp_path / "m.gguf", "F32")
    with monkeypatch.context() as patch:
        patch.setattr(serving.importlib.util, "find_spec", lambda name: None)
        with pytest.raises(ModuleNotFoundError, match="served by llama-cpp-python, which is not installed: `pip install"):
            serving.command(file, 8000)
    for name in ("llama_cpp", "pydantic_settings", "sse_starlette", "starlette_context"):
        pytest.importorskip(name)
    openai = pytest.importorskip("openai")
    with serving.Server(file) as server:
        client = openai.OpenAI(base_url=server.address, api_key="none", max_retries=0)
        asked = {"model": server.model, "messages": [{"role": "user", "content": QUESTION}], "temperature": 0, "max_tokens": 8}
        whole = client.chat.completions.create(**asked).choices[0].message.content
        pieces = [c.choices[0].delta.content or "" for c in client.chat.completions.create(**asked, stream=True) if c.choices]
        assert whole and "".join(pieces) == whole
        with pytest.raises(openai.APIStatusError):
            client.chat.completions.create(**{**asked, "messages": "hi"})


def full_disk(*given, **more):
    raise OSError(28, "No space left on device")


def test_a_full_disk_leaves_what_was_there(trained, tmp_path, monkeypatch):
    import gguf
    import transformers

    policy, folder = trained
    deploy.merged(policy, tmp_path / "merged")
    (tmp_path / "m.gguf").write_bytes(b"the old one")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with monkeypatch.context() as patch:
        patch.setattr(gguf.GGUFWriter, "write_tensors_to_file", full_disk)
        with pytest.raises(OSError, match="No space left"):
            deploy.gguf(folder / "merged", tmp_path / "m.gguf")
        patch.setattr(type(policy.tokenizer), "save_pretrained", full_disk)
        patch.setattr(transformers.PreTrainedModel, "save_pretrained", full_disk)
        with pytest.raises(OSError, match="No space left"):
            deploy.merged(rftlab.load_policy("tiny"), tmp_path / "merged")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before, "and no half file beside it"
    assert sorted(os.listdir(tmp_path)) == ["m.gguf", "merged"] and not [n for n in os.listdir(tmp_path / "merged") if n.startswith(".")]


def test_what_is_no_whole_model_is_not_converted(trained, tmp_path):
    _, folder = trained
    pytest.importorskip("onnx"), pytest.importorskip("onnxscript")
    for write in (deploy.gguf, deploy.onnx):
        with pytest.raises(ValueError, match="nowhere does not exist; expected a folder that rftlab.deploy.merged wrote"):
            write(tmp_path / "nowhere", tmp_path / "x")
        with pytest.raises(ValueError, match="holds adapters only"):
            write(folder / "adapters", tmp_path / "x")
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="file is a file; expected the name of a folder"):
        deploy.merged(rftlab.load_policy("tiny"), tmp_path / "file")
    with pytest.raises(FileNotFoundError, match="there is no file .*nothing.gguf; expected one that rftlab.deploy.gguf wrote"):
        deploy.read_gguf(tmp_path / "nothing.gguf")


PROMPTS = [QUESTION, "2 + 2", "What is 8 - 3? Answer with the number only."]  # of three lengths: two rows are padded


@pytest.fixture(scope="module")
def graph(trained):
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name)
    _, folder = trained
    return deploy.read_onnx(deploy.onnx(folder / "merged", folder / "model.onnx"))


@pytest.mark.slow
def test_onnx_gives_the_same_logits_and_the_same_greedy_tokens(trained, graph):
    from transformers import AutoModelForCausalLM

    policy, folder = trained
    ids, mask = policy.encode(PROMPTS)
    assert not mask.all()
    model = AutoModelForCausalLM.from_pretrained(folder / "merged", dtype=torch.float32)
    with torch.no_grad():
        expected = model(input_ids=ids, attention_mask=mask).logits[mask.bool()]
        other = rftlab.load_policy("tiny").model(input_ids=ids, attention_mask=mask).logits[mask.bool()]
    found = graph(ids, mask).logits[mask.bool()]
    assert (found - expected).abs().max() < 1e-3 < 0.5 < (found - other).abs().max()
    assert torch.equal(found.argmax(-1), expected.argmax(-1))
    for each in range(3), [0], [1]:  # one row and several, padded and not
        prompts = [PROMPTS[i] for i in each]
        told = graph.generate(*policy.encode(prompts), 24, policy.end_ids)
        assert policy.tokenizer.batch_decode(told, skip_special_tokens=True) == policy.generate(prompts, 24)
    assert (folder / "model.onnx").stat().st_size < 1.3 * (folder / "merged" / "model.safetensors").stat().st_size, "one copy of the weights"


@pytest.mark.slow
def test_the_cache_of_the_graph_is_a_cache(graph):
    """A prompt in one call, token by token, and in two parts: the same logits."""
    ids = torch.arange(3, 15)[None]
    whole, single, past = graph(ids).logits, [], None
    for i in range(12):
        out = graph(ids[:, i:i + 1], past=past)
        single.append(out.logits)
        past = out.past
    torch.testing.assert_close(torch.cat(single, 1), whole, atol=1e-4, rtol=1e-3)
    first = graph(ids[:, :7])
    torch.testing.assert_close(graph(ids[:, 7:], past=first.past).logits, whole[:, 7:], atol=1e-4, rtol=1e-3)
    assert (graph(ids[:, 7:]).logits - whole[:, 7:]).abs().max() > 0.1, "without the cache it is another question"


def test_onnx_says_what_is_missing_or_wrong(trained, tmp_path, monkeypatch):
    onnx, _ = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    from transformers import GPT2Config, GPT2LMHeadModel, Qwen2Config, Qwen2ForCausalLM

    _, folder = trained
    GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=1, n_embd=8, vocab_size=16)).save_pretrained(tmp_path / "gpt2")
    with pytest.raises(ValueError, match="is a gpt2 model; this writes llama, qwen2, qwen3"):
        deploy.onnx(tmp_path / "gpt2", tmp_path / "x.onnx")
    sliding = Qwen2Config(hidden_size=8, intermediate_size=8, num_hidden_layers=2, num_attention_heads=1, num_key_value_heads=1,
                          vocab_size=16, use_sliding_window=True, max_window_layers=1)
    Qwen2ForCausalLM(sliding).save_pretrained(tmp_path / "sliding")
    with pytest.raises(ValueError, match="with full attention in every layer"):
        deploy.onnx(tmp_path / "sliding", tmp_path / "x.onnx")
    with pytest.raises(ValueError, match="cannot be loaded"):
        deploy.read_onnx(tmp_path / "x.onnx")
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    foreign = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["x"], ["y"])], "g", [value],
                                     [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])])
    onnx.save(onnx.helper.make_model(foreign, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10), tmp_path / "foreign.onnx")
    with pytest.raises(ValueError, match="takes x; expected a file that rftlab.deploy.onnx wrote"):
        deploy.read_onnx(tmp_path / "foreign.onnx")
    for name in ("onnxscript", "onnxruntime"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ValueError, match="ONNX needs onnxscript, which is not installed: `pip install"):
        deploy.onnx(folder / "merged", tmp_path / "x.onnx")
    with pytest.raises(ValueError, match="ONNX needs onnxruntime, which is not installed: `pip install"):
        deploy.read_onnx(tmp_path / "x.onnx")


def test_what_cannot_be_written_is_refused(trained, tmp_path):
    _, folder = trained
    with pytest.raises(ValueError, match="kind='Q4'; expected one of F32, F16, Q8_0"):
        deploy.gguf(folder / "merged", tmp_path / "x.gguf", "Q4")
    with pytest.raises(ValueError, match="this policy has no adapters"):
        deploy.adapters(rftlab.load_policy("tiny"), tmp_path)
    with pytest.raises(ValueError, match="holds adapters only; expected a folder that rftlab.deploy.merged wrote"):
        serving.command(folder / "adapters", 8000)
    with pytest.raises(ValueError, match="holds no model"):
        serving.command(tmp_path, 8000)
    with pytest.raises(ValueError, match="nowhere does not exist; expected a folder"):
        serving.command(tmp_path / "nowhere", 8000)


def test_the_official_client_is_answered(trained):
    openai = pytest.importorskip("openai")
    policy, folder = trained
    expected, messages = policy.generate([QUESTION], 16)[0], [{"role": "user", "content": QUESTION}]
    with serving.Server(folder / "merged") as server:
        client = openai.OpenAI(base_url=server.address, api_key="none", max_retries=0)
        asked = {"model": server.model, "messages": messages, "temperature": 0, "max_tokens": 16}
        whole = client.chat.completions.create(**asked)
        assert whole.choices[0].message.content == expected and whole.usage.completion_tokens <= 16
        pieces = [c.choices[0].delta.content or "" for c in client.chat.completions.create(**asked, stream=True) if c.choices]
        assert "".join(pieces) == expected and len([p for p in pieces if p]) > 1
        with pytest.raises(openai.NotFoundError, match="no model 'other' here; this server has"):
            client.chat.completions.create(**{**asked, "model": "other"})
        for wrong, named in ({"messages": []}, "messages"), ({"messages": [{"role": "user"}]}, r"messages\[0\]"), ({"max_tokens": 0}, "max_tokens"):
            with pytest.raises(openai.BadRequestError, match=named):
                client.chat.completions.create(**{**asked, **wrong})
        assert [one.id for one in client.models.list()] == [server.model]
        in_parts = {"messages": [{"role": "user", "content": [{"type": "text", "text": QUESTION[:9]}, {"type": "text", "text": QUESTION[9:]}]}]}
        assert client.chat.completions.create(**{**asked, **in_parts}).choices[0].message.content == expected
        short = {k: v for k, v in asked.items() if k != "max_tokens"}
        assert client.chat.completions.create(**short, max_completion_tokens=1).usage.completion_tokens == 1
        assert client.chat.completions.create(**short).choices[0].message.content == expected
        with pytest.raises(openai.BadRequestError, match="have room: shorten the messages, or lower max_tokens"):
            client.chat.completions.create(**{**asked, "messages": [{"role": "user", "content": "1 + 1 " * 1000}], "stream": True})
        with pytest.raises(openai.NotFoundError, match="there is no POST /v1/completions here; this server answers POST /v1/chat"):
            client.completions.create(model=server.model, prompt="2 + 2 =")
        with pytest.raises(ValueError, match="no server can listen at localhost.*take another port"):
            serving.Server(folder / "merged", port=server.port)
        assert client.chat.completions.create(**asked).choices[0].message.content == expected, "it goes on after wrong requests"
        process = server.process
    assert process.poll() is not None, "the server ends with the block"


@pytest.mark.parametrize("change, status, parameter", [
    ({}, None, None), ({"model": None}, 404, "model"), ({"messages": "hi"}, 400, "messages"), ({"messages": [1]}, 400, "messages[0]"),
    ({"messages": [{"role": "tool", "content": "x"}]}, 400, "messages[0]"), ({"temperature": "hot"}, 400, "temperature"),
    ({"temperature": 2.5}, 400, "temperature"), ({"temperature": float("nan")}, 400, "temperature"), ({"top_p": True}, 400, "top_p"),
    ({"max_tokens": -1}, 400, "max_tokens"), ({"max_tokens": 2.5}, 400, "max_tokens"), ({"max_completion_tokens": "9"}, 400, "max_completion_tokens"),
    ({"seed": "x"}, 400, "seed"), ({"stream": "yes"}, 400, "stream"), ({"stop": 1}, 400, "stop"), ({"stop": ["."], "n": 1, "logprobs": False}, None, None),
    ({"n": 2}, 400, "n"), ({"logprobs": True}, 400, "logprobs"), ({"response_format": {"type": "json_object"}}, 400, "response_format"),
    ({"response_format": {"type": "text"}}, None, None), ({"messages": [{"role": "developer", "content": "hi"}]}, None, None),
    ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400, "messages[0]"),
    ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, 400, "messages[0]"),
    ({"messages": [{"role": "user", "content": "half \ud800"}]}, 400, "messages[0]"),
    ({"messages": [{"role": ["user"], "content": "x"}]}, 400, "messages[0]"), ({"seed": 10**30}, 400, "seed"), ({"seed": 2**63 - 1}, None, None),
    ({"frequency_penalty": -1}, 400, "frequency_penalty"), ({"frequency_penalty": -0.5}, None, None), ({"stop": "\ud800"}, 400, "stop"),
    ({"stop": [".", "half \ud800"]}, 400, "stop"), ({"stop": "\U0001f600"}, None, None), ({"chat_template_kwargs": 3}, 400, "chat_template_kwargs"),
    ({"generation_config": "{"}, 400, "generation_config"), ({"chat_template_kwargs": None, "generation_config": None}, None, None)])
def test_wrong_requests_are_named(change, status, parameter):
    found = fault({"model": "m", "messages": [{"role": "user", "content": "hi"}], **change}, "m")
    assert (found or (None, None))[:2] == (status, parameter)
    assert fault([], "m")[0] == 400


def knock(app, body=b"", method="POST", path="/v1/chat/completions", **more):
    """(status, answer, what the app behind the doorman was given) of one request, without a server."""
    sent, given = [], []

    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}

    async def behind(scope, take, send):
        given.append(json.loads((await take())["body"]))
        await app(send)

    async def send(message):
        sent.append(message)

    try:
        asyncio.run(Doorman(behind, "m", **more)({"type": "http", "method": method, "path": path, "headers": []}, receive, send))
    except ZeroDivisionError:
        pass  # the server's log shows it
    return sent[0]["status"], json.loads(sent[1]["body"]), given


async def well(send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b'"well"'})


async def breaks(send):
    raise ZeroDivisionError("deep inside")


def test_the_doorman_translates_and_no_request_ends_without_a_word():
    asks = {"model": "m", "messages": [{"role": "developer", "content": [{"type": "text", "text": "Be "}, {"type": "text", "text": "short."}]},
                                       {"role": "user", "content": "hi"}]}
    status, answer, (given,) = knock(well, json.dumps({**asks, "max_completion_tokens": 7}).encode())
    assert (status, answer) == (200, "well") and given["max_tokens"] == 7 and "max_completion_tokens" not in given
    assert given["messages"][0] == {"role": "system", "content": "Be short."}
    status, answer, _ = knock(breaks, json.dumps(asks).encode())
    assert status == 500 and "the model failed: ZeroDivisionError: deep inside" in answer["error"]["message"]
    for body in b"{bad", b"\xff\xfe", b"[" * 100000:
        status, answer, given = knock(well, body)
        assert status == 400 and not given and "the body is no JSON" in answer["error"]["message"]
    assert knock(well, method="GET")[0] == knock(well, path="/load_model")[0] == 404, "no other model can be asked for"
    tokenizer, wrong = rftlab.load_policy("tiny").tokenizer, "{{ raise_exception('roles must alternate') }}"
    status, _, (given,) = knock(well, json.dumps(asks).encode(), tokenizer=tokenizer, longest=100)
    assert status == 200 and 50 < given["max_tokens"] < 100, "what is left, where nothing was said"
    tokenizer.chat_template = wrong
    status, answer, _ = knock(well, json.dumps(asks).encode(), tokenizer=tokenizer)
    assert status == 400 and "template refuses these messages: roles must alternate" in answer["error"]["message"]


def right(completion, problem):
    return float(completion.strip() == problem.answer)


def test_failures_become_the_next_training_set(tmp_path):
    path = tmp_path / "served" / "log.jsonl"
    for prompt, completion, answer, liked in [("2 + 3", "5", "5", None), ("2 + 4", "7", "6", None), ("2+ 4", "8", "6", None),
                                              ("2 + 5", "7", "7", False), ("why?", "so", None, False), ("held out", "no", "yes", None)]:
        feedback.log(path, prompt, completion, answer, liked)
    rows, unanswered = feedback.next_examples(path, right, known=["Held out"])
    assert [(r["prompt"], r["answer"]) for r in rows] == [("2 + 4", "6"), ("2 + 5", "7")] and unanswered == ["why?"]
    assert [p.answer for p in rftlab.data.parse(rows).usable().problems] == ["6", "7"]
    drifted, served = feedback.drift(path, right, Estimate(0.95, 0.9, 1.0, 100))
    assert (drifted, served.n, served.mean) == (True, 5, pytest.approx(0.4))
    assert not feedback.drift(path, right, Estimate(0.5, 0.3, 0.7, 20))[0]
    path.write_text('{"prompt": "x"}\n')
    with pytest.raises(ValueError, match="line 1 of .* is no entry"):
        feedback.read(path)


def test_the_columns_that_a_reward_reads_are_kept(tmp_path):
    def in_its_unit(completion, problem):
        return float(completion == f"{problem.answer} {problem.info['unit']}")

    path = tmp_path / "log.jsonl"
    chat = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "How long?"}]
    feedback.log(path, "How far?", "3 km", answer="3", info={"unit": "km"})
    feedback.log(path, chat, "3 km", answer="3", liked=False, info={"unit": "h"})
    rows, _ = feedback.next_examples(path, in_its_unit)
    assert rows == [{"unit": "h", "prompt": chat, "answer": "3", "source": "served"}]
    problem, = rftlab.data.parse(rows).usable().problems
    assert problem.prompt == chat and problem.info["unit"] == "h"
    assert feedback.rewards(feedback.read(path), in_its_unit) == [1.0, 0.0]


def test_the_command_refuses_a_folder_without_a_model(tmp_path, capsys):
    from rftlab.__main__ import main

    assert main(["serve", str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert "holds no model" in said.err and "serving" not in said.out
    assert os.listdir(tmp_path) == []


def test_a_port_that_is_taken_or_none_is_refused(trained, capsys):
    from rftlab.__main__ import main

    folder = str(trained[1] / "merged")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        assert main(["serve", folder, "--port", str(taken)]) == 1
        said = capsys.readouterr()
        assert f"no server can listen at localhost:{taken} (" in said.err and "take another port" in said.err and not said.out
    serving.check_port(taken)
    for port, host, words in (99999, "localhost", "expected a number from 1 to 65535"), (taken, "no.such.host.invalid", "no server can listen"):
        with pytest.raises(ValueError, match=words):
            serving.check_port(port, host)


def test_a_log_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file .*; rftlab.feedback.log writes it"):
        feedback.drift(tmp_path / "none.jsonl", right, Estimate(0.5, 0.3, 0.7, 20))
    (tmp_path / "binary.jsonl").write_bytes(bytes(range(128, 256)))
    with pytest.raises(ValueError, match="binary.jsonl is no text in UTF-8"):
        feedback.read(tmp_path / "binary.jsonl")
    feedback.log(tmp_path / "odd.jsonl", "a\u2028b", "c\x85")  # line ends to str.splitlines, and not in JSON
    assert feedback.read(tmp_path / "odd.jsonl")[0]["prompt"] == "a\u2028b"
    feedback.log(tmp_path / "log.jsonl", "2 + 3", "5", "5")
    assert feedback.next_examples(tmp_path / "log.jsonl", right) == ([], []), "nothing failed, and that is no fault"
