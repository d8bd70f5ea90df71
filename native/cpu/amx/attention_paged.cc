// On tiles, as amx/attention.cc has them.
#include "cpu/attention_paged.cc"
