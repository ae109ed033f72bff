// SPDX-License-Identifier: GPL-2.0-only
// Two mistakes that the verifier finds: a map value that may be missing, and an index without a bound.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u64[16]);
} values SEC(".maps");

SEC("socket")
int unchecked_value(struct __sk_buff *skb)
{
	__u32 key = skb->len;
	__u64 *value = bpf_map_lookup_elem(&values, &key);

	return *value;
}

SEC("socket")
int unchecked_index(struct __sk_buff *skb)
{
	__u32 key = 0;
	__u64 *value = bpf_map_lookup_elem(&values, &key);

	if (!value)
		return 0;
	return value[skb->len];
}

char _license[] SEC("license") = "GPL";
