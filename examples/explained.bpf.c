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

// A bug: the packet is accessed through a pointer from before it was changed.
SEC("xdp")
int changed_in_between(struct xdp_md *ctx)
{
	struct ethhdr *eth = (void *)(long)ctx->data;

	if ((void *)(eth + 1) > (void *)(long)ctx->data_end)
		return XDP_PASS;
	if (bpf_xdp_adjust_head(ctx, 4))
		return XDP_DROP;
	eth->h_proto = 0;
	return XDP_PASS;
}

// Unknown: the size is compared in 32 bits, and passed on in 64. The helper takes 32 of them.
SEC("socket")
int half_a_register(struct __sk_buff *skb)
{
	__u64 *value = first_value();

	if (!value)
		return 0;
	asm volatile("r4 = *(u64 *)(%[value] + 8);"
		     "r3 = %[value];"
		     "r2 = 0;"
		     "r1 = %[skb];"
		     "if w4 > 64 goto +2;"
		     "if w4 == 0 goto +1;"
		     "call %[load];"
		     :
		     : [value] "r"(value), [skb] "r"(skb), [load] "i"(BPF_FUNC_skb_load_bytes)
		     : "r0", "r1", "r2", "r3", "r4", "r5", "memory");
	return 0;
}

// Unknown: a remainder is in bounds, of which the verifier has none.
SEC("socket")
int some_remainder(struct __sk_buff *skb)
{
	__u64 *value = first_value();

	return value ? value[skb->hash % 7] : 0;
}

// A bug: this program type returns 0 to 3.
SEC("cgroup_skb/egress")
int returns_any(struct __sk_buff *skb)
{
	return skb->len;
}

__u32 rounds[LEN / 2 - 1];

static long count_round(__u32 i, void *unused)
{
	rounds[i]++;
	return 0;
}

// A bug in the last round of a loop, which the verifier rejects in the first.
SEC("socket")
int eight_rounds(struct __sk_buff *skb)
{
	return bpf_loop(LEN / 2, count_round, 0, 0);
}

struct numbers {
	__u64 number[LEN];
};

__noinline int any_number(struct numbers *numbers, __u32 index)
{
	return numbers ? numbers->number[index & (2 * LEN - 1)] : 0;
}

// A bug in a global function: it is verified for any arguments, whatever its callers pass.
SEC("socket")
int calls_any(struct __sk_buff *skb)
{
	return any_number((void *)first_value(), 3);
}

char _license[] SEC("license") = "GPL";
