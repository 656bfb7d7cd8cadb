"""How many bytes does a GRPO step need? Weights, adapters, gradients, optimizer, activations and the cache of the rollouts, from the
numbers of an architecture alone: known before the download, and before the out-of-memory error.

The rows follow what rftlab does (rftlab/logprobs.py: each prompt once, its completions packed after it, no logits of a whole batch
under adapters), at its dearest: completions that begin alike need less. rftlab/memory_measured.py counts the same with torch's
allocator.
"""
from dataclasses import dataclass

GIB = 2**30
METHODS = ("full", "full-mixed", "lora", "lora-merged", "qlora")
NF4_BYTES = (4 + 8 / 64 + 32 / (64 * 256)) / 8  # a weight: 4 bits, a byte for 64, four more for 256 of these (double quantisation)
GPUS = {"T4 16 GB": 15360 * 2**20, "A100 40 GB": 40960 * 2**20, "A100 80 GB": 81920 * 2**20, "H100 80 GB": 81559 * 2**20}
CONTEXT, FRAGMENTED = 0.8 * GIB, 1.1  # of a CUDA process: its context, and what the allocator holds and cannot use. Not measured here


@dataclass(frozen=True)
class Architecture:
    """The numbers in the config.json of a Llama-like model (Llama, Qwen2, SmolLM2)."""

    name: str
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    tied: bool
    qkv_bias: bool = False

    @classmethod
    def of(cls, model, name=""):
        """Read off a transformers model."""
        c = model.config
        return cls(name, c.hidden_size, c.intermediate_size, c.num_hidden_layers, c.num_attention_heads, c.num_key_value_heads,
                   getattr(c, "head_dim", None) or c.hidden_size // c.num_attention_heads, c.vocab_size, c.tie_word_embeddings,
                   c.model_type == "qwen2")

    @property
    def linears(self) -> dict:
        """name -> (in, out) of the linear layers of one block."""
        q, kv = self.heads * self.head_dim, self.kv_heads * self.head_dim
        return {"q_proj": (self.hidden, q), "k_proj": (self.hidden, kv), "v_proj": (self.hidden, kv), "o_proj": (q, self.hidden),
                "gate_proj": (self.hidden, self.intermediate), "up_proj": (self.hidden, self.intermediate),
                "down_proj": (self.intermediate, self.hidden)}

    def linear_weights(self, targets=None) -> int:
        """Weights in the linear layers of all blocks, or in those of the given names."""
        return self.layers * sum(i * o for name, (i, o) in self.linears.items() if targets is None or name in targets)

    @property
    def parameters(self) -> int:
        norms = self.layers * 2 * self.hidden + self.hidden
        bias = self.layers * (self.heads + 2 * self.kv_heads) * self.head_dim if self.qkv_bias else 0
        return self.linear_weights() + norms + bias + self.vocabulary * self.hidden * (1 if self.tied else 2)

    def adapter_parameters(self, spec) -> int:
        """Trained parameters of a LoraSpec: rank (in + out) for each target."""
        return self.layers * sum(spec.rank * (i + o) for name, (i, o) in self.linears.items() if name in spec.target_modules)


# config.json of the published checkpoints (Qwen/Qwen2.5-1.5B-Instruct, meta-llama/Llama-3.1-8B-Instruct, Qwen/Qwen2.5-32B-Instruct)
KNOWN = {a.name: a for a in (
    Architecture("tiny", 128, 384, 4, 4, 2, 32, 640, True),
    Architecture("smollm2", 576, 1536, 30, 9, 3, 64, 49152, True),
    Architecture("1.5B", 1536, 8960, 28, 12, 2, 128, 151936, True, True),
    Architecture("8B", 4096, 14336, 32, 32, 8, 128, 128256, False),
    Architecture("32B", 5120, 27648, 64, 40, 8, 128, 152064, False, True))}


@dataclass(frozen=True)
class Work:
    """A step: `prompts` x `group` completions, all rolled out at once; `per_pass` prompts in a training pass.

    checkpointing: only the input of each block is kept, and the rest computed twice. TRL and Unsloth can do that, rftlab cannot.
    """

    prompts: int = 8
    group: int = 8
    prompt_tokens: int = 256
    completion_tokens: int = 512
    per_pass: int = 1
    checkpointing: bool = False

    @property
    def row(self) -> int:
        """Tokens of a packed row: the prompt, and its completions without their last tokens."""
        return self.prompt_tokens + self.group * (self.completion_tokens - 1)


@dataclass(frozen=True)
class Memory:
    """Bytes by what they are for."""

    weights: float
    adapters: float
    gradients: float
    optimizer: float
    activations: float
    head: float
    cache: float
    passes: int = 1

    @property
    def static(self) -> float:
        return self.weights + self.adapters + self.optimizer

    @property
    def rollout(self) -> float:
        return self.static + self.cache

    @property
    def update(self) -> float:
        """In the first pass activations are freed on the way back while gradients come, so the two are never there in full together;
        a further pass begins with the gradients of those before."""
        if self.passes > 1:
            return self.static + self.gradients + self.activations + self.head
        return self.static + max(self.activations + self.head, self.gradients)

    @property
    def peak(self) -> float:
        return max(self.rollout, self.update)

    def on_gpu(self) -> float:
        """The peak with a CUDA context and a fragmented allocator."""
        return self.peak * FRAGMENTED + CONTEXT


def estimate(architecture, method, work=Work(), spec=None, width=2, cache_width=None) -> Memory:
    """Bytes of a step. width: of a weight and an activation (4 float32, 2 bfloat16); cache_width: of a cache entry, `width` by default.

    full: weights, gradients and both moments of AdamW in the format of the weights (what rftlab does); full-mixed: 16 bytes a
    parameter, with a float32 copy of the weights (Rajbhandari et al. 2020, section 3.1); lora: adapters beside the weights, as PEFT
    does; lora-merged: rftlab's way, with a merged copy of each target; qlora: `lora` over 4-bit linear layers.
    Raises ValueError for another method.
    """
    from rftlab.lora import LoraSpec

    if method not in METHODS:
        raise ValueError(f"method is {method!r}; expected one of {', '.join(METHODS)}")
    full, spec = method.startswith("full"), spec or LoraSpec()
    trained = architecture.parameters if full else architecture.adapter_parameters(spec)
    linear = architecture.linear_weights()
    weights = architecture.parameters * width + (4 * trained if method == "full-mixed" else 0)
    if method == "qlora":
        weights -= linear * (width - NF4_BYTES)
    if method == "lora-merged":
        weights += architecture.linear_weights(spec.target_modules) * width
    own = {"full": width, "full-mixed": 4}.get(method, 4)  # adapters are float32
    extra = max(i * o for i, o in architecture.linears.values()) * width if method == "qlora" else 0  # one layer, written out
    return Memory(weights, 0 if full else trained * 4, trained * (width if full else 4), 2 * trained * own,
                  activations(architecture, method, work, spec, width) + extra, head(architecture, full, work, width),
                  rollout_cache(architecture, work, cache_width or width), -(-work.prompts // work.per_pass))


def activations(architecture, method, work, spec, width) -> float:
    """Bytes that a training pass keeps for the way back, head excepted."""
    a, tokens = architecture, work.per_pass * work.row
    q, kv, small = a.heads * a.head_dim, a.kv_heads * a.head_dim, work.row**2 <= 200 * 200
    half = width < 4
    kept = (2 * a.hidden + 2 * q + 2 * kv + 4 * a.intermediate) * width  # inputs of the linear layers, q, k, v, gate, silu, up, product
    kept += 2 * a.hidden * 4  # what each norm reads, in float32
    kept += 2 * a.hidden * width if method.startswith("full") else 0  # what the trained scale of each norm multiplies
    if small:  # rftlab/attention.py writes the scores out: float32, their copy in half precision, the mask
        kept += a.heads * work.row * (4 + width * half) + a.heads // a.kv_heads * work.row
    else:
        # the fused kernel keeps its result, its sums, and the mask twice: as it is, and as numbers to add to the scores
        kept += q * width + a.heads * 4 + a.heads // a.kv_heads * work.row * (1 + width)
    if method in ("lora", "qlora"):  # each adapter's own input in float32, and the rank numbers after A
        kept += sum((i * half + spec.rank) * 4 for name, (i, _) in a.linears.items() if name in spec.target_modules)
    if work.checkpointing:  # the input of each block, and one block in full
        return tokens * (a.layers * a.hidden * width + kept)
    return tokens * a.layers * kept


def head(architecture, full, work, width) -> float:
    """Bytes for the log-probabilities: whole logits where the head trains, else a gradient for each token and 128 rows at a time."""
    tokens, V = work.per_pass * work.group * work.completion_tokens, architecture.vocabulary
    if full:
        return tokens * (V * (width * (width < 4) + 4 + 4) + architecture.hidden * width)
    return 2 * tokens * architecture.hidden * width + min(128, tokens) * V * (width + 4)


def rollout_cache(architecture, work, width) -> float:
    """Keys and values of all completions at their full length."""
    tokens = work.prompts * work.group * (work.prompt_tokens + work.completion_tokens)
    return 2.0 * tokens * architecture.layers * architecture.kv_heads * architecture.head_dim * width


def fits(memory, gpu) -> bool:
    return memory.on_gpu() <= GPUS[gpu]
