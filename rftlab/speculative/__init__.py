"""Speculative decoding: guess several tokens cheaply, verify them in one pass, keep what the policy would have written anyway.

rule: what is kept, and why nothing changes. ngram, draft_model, heads: three ways to guess. decode: the loop. cost: when it
pays. training: speculators from the policy's own answers. files: one file to save.
"""
from rftlab.speculative.decode import Decoded, decode
from rftlab.speculative.draft_model import DraftModel
from rftlab.speculative.files import file_of, load, save
from rftlab.speculative.heads import Heads
from rftlab.speculative.ngram import NGram
from rftlab.speculative.training import train_draft, train_heads

__all__ = ["Decoded", "DraftModel", "Heads", "NGram", "decode", "file_of", "find", "load", "save", "train_draft", "train_heads"]


def find(policy, speculate):
    """The speculator that `speculate` means for this policy: None, a speculator, or "ngram", "draft" or "turbo".

    A named one is the policy's own (trained in this session), or stands in the folder that the policy was loaded from. Raises
    ValueError for an unknown name, and where there is none.
    """
    if speculate is None or hasattr(speculate, "draft"):
        return speculate
    if speculate == "ngram":
        return NGram()
    if speculate not in ("draft", "turbo"):
        raise ValueError(f"speculate is {speculate!r}; expected None, \"ngram\", \"draft\", \"turbo\" or a speculator")
    if speculate not in policy.speculators:
        if not policy.folder or not file_of(policy.folder, speculate).is_file():
            make = "train_heads" if speculate == "turbo" else "train_draft"
            raise ValueError(f"this policy has no speculator {speculate!r}; make one with rftlab.speculative.{make}(policy, prompts), or "
                             "pass one that rftlab.speculative.load(policy, path) read")
        policy.speculators[speculate] = load(policy, file_of(policy.folder, speculate))
    return policy.speculators[speculate]
