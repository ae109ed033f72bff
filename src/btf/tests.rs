use std::path::Path;

use super::*;

/// The running kernel's BTF, where it has one.
fn vmlinux() -> Option<Btf> {
    Btf::from_kernel_file(Path::new("/sys/kernel/btf/vmlinux")).ok()
}

#[test]
fn finds_kernel_types_by_name() {
    let Some(btf) = vmlinux() else {
        eprintln!("skipped: no /sys/kernel/btf/vmlinux");
        return;
    };
    let id = btf.find_struct("task_struct").unwrap();
    let task = btf.type_by_id(id).unwrap();
    assert!(task.is_strict_struct());
    assert_eq!(btf.type_name(&task), "task_struct");
    assert!(task.members().any(|m| btf.str_is(m.name_off, "pid")));
    assert_eq!(btf.resolve_size(task).unwrap().size, task.size());
    assert!(btf.find_by_name_kind("task_struct", kind::UNION).is_err());
    let first = (1..btf.nr_types()).find(|&id| {
        btf.type_by_id(id).is_some_and(|t| t.is_func() && btf.str_is(t.name_off, "bpf_prog_test_run_xdp"))
    });
    assert_eq!(btf.find_by_name_kind("bpf_prog_test_run_xdp", kind::FUNC).ok(), first);
}

#[test]
fn truncated_kernel_btf_is_refused() {
    let Some(btf) = vmlinux() else {
        eprintln!("skipped: no /sys/kernel/btf/vmlinux");
        return;
    };
    for len in [0, 1, 8, 23, 24, 25, 4096] {
        assert!(Btf::from_kernel_bytes(btf.raw()[..len].to_vec(), "vmlinux", None).is_none());
    }
}
