// SPDX-License-Identifier: GPL-2.0-only
// Marks traffic with a checksum over the first bytes of its payload: a bounded loop, a static and a global function.
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

#define BYTES 64

static __noinline __u32 mix(__u32 hash, __u8 byte)
{
	hash = (hash ^ byte) * 16777619u;
	return hash ^ hash >> 15;
}

__noinline int bucket(__u32 hash, __u32 buckets)
{
	if (!buckets)
		return 0;
	return hash % buckets;
}

SEC("tc")
int mark(struct __sk_buff *skb)
{
	__u8 bytes[BYTES];
	__u32 hash = 2166136261u;
	int i;

	if (skb->len < BYTES || bpf_skb_load_bytes(skb, 0, bytes, sizeof(bytes)))
		return TC_ACT_OK;
	for (i = 0; i < BYTES; i++)
		hash = mix(hash, bytes[i]);
	skb->mark = bucket(hash, 16);
	return TC_ACT_OK;
}

char _license[] SEC("license") = "GPL";
