// Attention in bf16 on tiles (amx/attention_block.h); what is in f32 has the bits of AVX-512.
#include "cpu/attention.cc"
