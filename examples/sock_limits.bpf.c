// SPDX-License-Identifier: GPL-2.0-only
// Cgroup programs: a port range that bind(2) may use, and a window clamp on connections to one network.
#include <linux/bpf.h>
#include <linux/in.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#ifndef SOL_TCP
#define SOL_TCP 6
#endif
#define TCP_WINDOW_CLAMP 10
#define AF_INET 2

const volatile __u16 first_port = 1024;
const volatile __u16 last_port = 65535;

SEC("cgroup/bind4")
int bind_range(struct bpf_sock_addr *ctx)
{
	__u16 port = bpf_ntohs(ctx->user_port);

	if (ctx->type != 1 /* SOCK_STREAM */)
		return 1;
	return port == 0 || (port >= first_port && port <= last_port);
}

SEC("sockops")
int clamp_window(struct bpf_sock_ops *ops)
{
	int clamp = 64 * 1024;

	if (ops->op != BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB || ops->family != AF_INET)
		return 1;
	if ((bpf_ntohl(ops->remote_ip4) >> 24) == 10)
		bpf_setsockopt(ops, SOL_TCP, TCP_WINDOW_CLAMP, &clamp, sizeof(clamp));
	return 1;
}

char _license[] SEC("license") = "GPL";
