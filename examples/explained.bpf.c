// SPDX-License-Identifier: GPL-2.0-only
// Rejected programs, each for another reason: see `bpftwin explain`.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/tcp.h>
#include <bpf/bpf_helpers.h>

#define LEN 16

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64[LEN]);
} values SEC(".maps");

static __always_inline __u64 *first_value(void)
{
	__u32 key = 0;

	return bpf_map_lookup_elem(&values, &key);
}

// Safe: half of the index is compared, which bounds the index too.
SEC("socket")
int half_is_checked(struct __sk_buff *skb)
{
	__u64 *value = first_value();
	__u64 index = skb->len & 0xff;
	__u64 half = index;

	if (!value)
		return 0;
	asm volatile("%0 >>= 1" : "+r"(half));
	if (half >= LEN / 2)
		return 0;
	return value[index];
}

// A bug: two bytes are read behind a check for one.
SEC("xdp")
int one_byte_is_checked(struct xdp_md *ctx)
{
	__u8 *data = (void *)(long)ctx->data;
	__u8 *end = (void *)(long)ctx->data_end;

	if (data + sizeof(struct ethhdr) + 1 > end)
		return XDP_PASS;
	return *(__u16 *)(data + sizeof(struct ethhdr)) == 7 ? XDP_DROP : XDP_PASS;
}

// Unknown: the length is read twice, and the verifier does not know that it stays what it was.
SEC("socket")
int read_twice(struct __sk_buff *skb)
{
	volatile __u32 *len = &skb->len;
	__u64 *value = first_value();

	if (!value || *len >= LEN)
		return 0;
	return value[*len];
}

// No condition: the helper is not for this program type.
SEC("socket")
int wrong_helper(struct __sk_buff *skb)
{
	return bpf_redirect(1, 0);
}

// A reference that is not released.
SEC("tc")
int not_released(struct __sk_buff *skb)
{
	struct bpf_sock_tuple tuple = {};
	struct bpf_sock *sk = bpf_sk_lookup_tcp(skb, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);

	return sk ? sk->state : 0;
}

char _license[] SEC("license") = "GPL";
