// SPDX-License-Identifier: GPL-2.0-only
// Counts packets by their class of service (DSCP, 0 to 63), for as many classes as there are counters. The bound is one too high.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define CLASSES 48

struct counters {
	__u64 packets[CLASSES];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct counters);
} counters SEC(".maps");

SEC("xdp")
int count_classes(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	struct iphdr *ip = (void *)(eth + 1);
	struct counters *counter;
	__u32 key = 0;
	__u32 dscp;

	if ((void *)(ip + 1) > end)
		return XDP_PASS;
	if (eth->h_proto != bpf_htons(ETH_P_IP))
		return XDP_PASS;
	counter = bpf_map_lookup_elem(&counters, &key);
	if (!counter)
		return XDP_PASS;
	dscp = ip->tos >> 2;
	if (dscp > CLASSES)
		return XDP_PASS;
	counter->packets[dscp]++;
	return XDP_PASS;
}

char _license[] SEC("license") = "GPL";
