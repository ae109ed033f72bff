// SPDX-License-Identifier: GPL-2.0-only
// A safe access that the verifier rejects: it knows the range of each register, not that two of them are sides of one number.
// `bpftwin verify --bcf` proves it.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u8[12]);
} bytes SEC(".maps");

// The compiler is not to work out what this is.
#define opaque(x) asm volatile("" : "+r"(x))

static __always_inline int look_up(struct __sk_buff *skb, __u64 least)
{
	__u32 key = 0;
	__u8 *array = bpf_map_lookup_elem(&bytes, &key);
	__u64 i, rest;

	if (!array)
		return 0;
	i = skb->len & 15;
	opaque(i);
	rest = 15 - i;
	opaque(rest);
	if (rest < least)
		return 0;
	return array[i];
}

SEC("socket")
int masked_index(struct __sk_buff *skb)
{
	return look_up(skb, 4);
}

// Here the array ends one byte too early: 12 is its length, and no index.
SEC("socket")
int masked_index_off_by_one(struct __sk_buff *skb)
{
	return look_up(skb, 3);
}

char _license[] SEC("license") = "GPL";
