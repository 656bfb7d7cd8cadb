"""What a program may name: imports, builtins, and what it may use of torch, Triton and tensors. `policy` enforces it.

Every entry is harmless however it is called, stored or passed on. When Triton grows a function, add it here if that holds.
"""


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


IMPORTS = _names(
    "torch triton triton.language triton.language.math math typing __future__ triton.tools.tensor_descriptor triton.language.extra.libdevice "
    "triton.language.extra triton.language.extra.cuda triton.language.extra.cuda.libdevice"
)
BUILTINS = _names(
    "range len min max int float bool abs tuple list dict set isinstance print slice str round zip enumerate sum sorted "
    "reversed any all map filter hash iter next frozenset divmod pow Exception ArithmeticError AttributeError LookupError MemoryError OverflowError ValueError TypeError AssertionError RuntimeError NotImplementedError IndexError "
    "KeyError ZeroDivisionError Ellipsis NotImplemented"
)
TORCH = _names(
    "empty empty_like empty_strided zeros zeros_like ones ones_like full full_like device dtype Size float32 float16 "
    "bfloat16 float64 float half double int8 int16 int32 int64 uint8 int long short bool strided contiguous_format "
    "preserve_format inf nan pi no_grad inference_mode is_tensor is_floating_point numel finfo iinfo"
)
LIMITS = _names("min max eps tiny smallest_normal bits")  # of torch.finfo(...) and torch.iinfo(...), where they are called
TORCH_CUDA = _names("is_available device device_of synchronize current_device device_count get_device_properties")  # see `devices`
CONTEXTS = _names("torch.no_grad torch.inference_mode torch.cuda.device torch.cuda.device_of")
DRIVER = "triton.runtime.driver.active"
DRIVER_FUNCTIONS = _names("get_active_torch_device get_current_target")
TORCH_TYPES = _names("Tensor FloatTensor HalfTensor BFloat16Tensor IntTensor LongTensor")  # in annotations and isinstance only
TRITON = _names("jit autotune heuristics Config cdiv next_power_of_2 set_allocator")
TL_HOST = _names(
    "constexpr cdiv dtype float16 float32 float64 bfloat16 int1 int8 int16 int32 int64 uint8 uint16 uint32 uint64 "
    "float8e4nv float8e5 pointer_type"
)
TL = TL_HOST | _names(
    "PropagateNan TRITON_MAX_TENSOR_NUMEL program_id load_tensor_descriptor store_tensor_descriptor "
    "make_tensor_descriptor tensor_descriptor abs add advance arange argmax argmin associative_scan assume atomic_add "
    "atomic_and atomic_cas atomic_max atomic_min atomic_or atomic_xchg atomic_xor bitonic_merge block_type broadcast "
    "broadcast_to cast cat ceil clamp condition const cos cumprod cumsum debug_barrier device_assert device_print div_rn "
    "dot dot_scaled erf exp exp2 expand_dims fdiv flip floor fma full gather histogram interleave join load log log2 "
    "make_block_ptr max max_constancy max_contiguous maximum min minimum mul multiple_of num_programs permute philox rand "
    "rand4x randint randint4x randn randn4x range ravel reduce reduce_or reshape rsqrt sigmoid sin softmax sort split "
    "sqrt sqrt_rn squeeze static_assert static_print static_range store sub sum swizzle2d tensor to_tensor topk trans "
    "tuple umulhi unsqueeze view void where xor_sum zeros zeros_like atomic_load atomic_store atomic_poll expect_zero "
    "pi32_t float8e4b15 float8e4b8 float8e5b16"
)
TL_MATH = _names("abs ceil cos div_rn erf exp exp2 fdiv floor fma log log2 rsqrt sin sqrt sqrt_rn umulhi")
SHARED_ATTRIBUTES = _names("shape dtype T")
HOST_ATTRIBUTES = SHARED_ATTRIBUTES | _names(
    "device numel size stride dim ndim nelement contiguous is_contiguous view reshape flatten t mT transpose permute "
    "unsqueeze squeeze expand expand_as narrow new_empty new_zeros new_full new_ones new_empty_strided element_size "
    "itemsize nbytes is_cuda is_cpu is_floating_point is_complex view_as reshape_as unflatten clone detach zero_ fill_ to "
    "float half bfloat16 layout storage_offset requires_grad movedim swapaxes ravel append items keys values get extend "
    "pop from_tensor type get_device bit_length join index backend arch warp_size multi_processor_count kwargs num_warps num_stages"
)
KERNEL_ATTRIBUTES = SHARED_ATTRIBUTES | _names(
    "abs advance argmax argmin associative_scan atomic_add atomic_and atomic_cas atomic_max atomic_min atomic_or "
    "atomic_xchg atomic_xor broadcast_to cast cdiv ceil cos cumprod cumsum erf exp exp2 expand_dims flip floor gather "
    "histogram log log2 logical_and logical_or max min permute ravel reduce reduce_or reshape rsqrt sigmoid sin softmax "
    "sort split sqrt sqrt_rn store sum to trans view xor_sum load scatter block_shape block_type type element_ty value "
    "scalar numel is_floating is_int is_ptr is_block is_fp16 is_bf16 is_fp32 is_fp64 is_fp8 is_int8 is_int16 is_int32 "
    "is_int64 is_int1 is_bool primitive_bitwidth itemsize strides append"
)
LIBDEVICE = ("triton.language.extra.libdevice", "triton.language.extra.cuda.libdevice")
LAUNCH_OPTIONS = _names("num_warps num_stages num_ctas maxnreg enable_fp_fusion")
DECORATOR_OPTIONS = {
    "triton.jit": _names("do_not_specialize do_not_specialize_on_alignment noinline debug"),
    "triton.autotune": _names("configs key reset_to_zero restore_value prune_configs_by warmup rep use_cuda_graph"),
    "triton.heuristics": _names("values"),
    "triton.Config": _names("kwargs num_warps num_stages num_ctas maxnreg pre_hook"),
}
