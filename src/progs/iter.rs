//! Targets of BPF iterators: what a program of each finds in its context, as the kernel's `bpf_iter_reg` structures and
//! `DEFINE_BPF_ITER_FUNC` say. The context has a pointer to `struct bpf_iter_meta` first, then the arguments.

use crate::verifier::reg_type::RegType;
use crate::verifier::reg_type::flag::{MEM_RDONLY, PTR_MAYBE_NULL, PTR_TRUSTED};

/// What the name of an iterator's function begins with: `BPF_ITER_FUNC_PREFIX`.
const BPF_ITER_FUNC_PREFIX: &str = "bpf_iter_";

/// A pointer in the context of a tracing program that is more, or less, than its type says: `struct bpf_ctx_arg_aux`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CtxArg {
    /// Byte in the context.
    pub offset: i32,
    pub reg_type: RegType,
    /// Structure that it points to, for a `PTR_TO_BTF_ID`.
    pub btf_struct: Option<&'static str>,
}

/// `struct bpf_iter_reg`
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IterTarget {
    pub name: &'static str,
    /// Sleeps between elements, so that sleepable programs may be attached: `BPF_ITER_RESCHED`.
    pub resched: bool,
    pub ctx_args: &'static [CtxArg],
}

const BTF_ID_OR_NULL: RegType = RegType::PTR_TO_BTF_ID_OR_NULL;
const TRUSTED_OR_NULL: RegType = RegType::PTR_TO_BTF_ID_OR_NULL.with(PTR_TRUSTED);
const BUF_OR_NULL: RegType = RegType::PTR_TO_BUF.with(PTR_MAYBE_NULL);
const RDONLY_BUF_OR_NULL: RegType = RegType::PTR_TO_BUF.with(PTR_MAYBE_NULL | MEM_RDONLY);

const fn to(offset: i32, reg_type: RegType, name: &'static str) -> CtxArg {
    CtxArg { offset, reg_type, btf_struct: Some(name) }
}

const fn buf(offset: i32, reg_type: RegType) -> CtxArg {
    CtxArg { offset, reg_type, btf_struct: None }
}

const fn target(name: &'static str, ctx_args: &'static [CtxArg]) -> IterTarget {
    IterTarget { name, resched: false, ctx_args }
}

const fn resched(name: &'static str, ctx_args: &'static [CtxArg]) -> IterTarget {
    IterTarget { name, resched: true, ctx_args }
}

static TARGETS: [IterTarget; 18] = [
    target("bpf_link", &[to(8, BTF_ID_OR_NULL, "bpf_link")]),
    target("bpf_map", &[to(8, TRUSTED_OR_NULL, "bpf_map")]),
    // `map` is between the meta data and these.
    target("bpf_map_elem", &[buf(16, RDONLY_BUF_OR_NULL), buf(24, BUF_OR_NULL)]),
    target("bpf_prog", &[to(8, BTF_ID_OR_NULL, "bpf_prog")]),
    target("bpf_sk_storage_map", &[to(16, BTF_ID_OR_NULL, "sock"), buf(24, BUF_OR_NULL)]),
    resched("cgroup", &[to(8, TRUSTED_OR_NULL, "cgroup")]),
    resched("dmabuf", &[to(8, BTF_ID_OR_NULL, "dma_buf")]),
    target("ipv6_route", &[to(8, BTF_ID_OR_NULL, "fib6_info")]),
    resched("kmem_cache", &[to(8, TRUSTED_OR_NULL, "kmem_cache")]),
    resched("ksym", &[to(8, BTF_ID_OR_NULL, "kallsym_iter")]),
    target("netlink", &[to(8, BTF_ID_OR_NULL, "netlink_sock")]),
    target("sockmap", &[buf(16, RDONLY_BUF_OR_NULL), to(24, BTF_ID_OR_NULL, "sock")]),
    resched("task", &[to(8, TRUSTED_OR_NULL, "task_struct")]),
    // The descriptor is between the two.
    resched("task_file", &[to(8, BTF_ID_OR_NULL, "task_struct"), to(24, BTF_ID_OR_NULL, "file")]),
    resched("task_vma", &[to(8, BTF_ID_OR_NULL, "task_struct"), to(16, BTF_ID_OR_NULL, "vm_area_struct")]),
    target("tcp", &[to(8, TRUSTED_OR_NULL, "sock_common")]),
    target("udp", &[to(8, TRUSTED_OR_NULL, "udp_sock")]),
    target("unix", &[to(8, BTF_ID_OR_NULL, "unix_sock")]),
];

/// Target of the iterator whose function has this name; none for other functions.
pub fn iter_target(attach_func_name: &str) -> Option<&'static IterTarget> {
    let name = attach_func_name.strip_prefix(BPF_ITER_FUNC_PREFIX)?;
    TARGETS.iter().find(|target| target.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_of_iterators() {
        assert_eq!(iter_target("bpf_iter_tcp").map(|target| target.resched), Some(false));
        assert!(iter_target("bpf_iter_task_new").is_none());
        assert!(iter_target("tcp").is_none());
    }
}
