//! Sets of kernel functions that bear on what a program attached to them may call.

/// Hooks that may sleep: `sleepable_lsm_hooks`.
const SLEEPABLE_LSM_HOOKS: &[&str] = &[
    "bpf_lsm_bpf",
    "bpf_lsm_bpf_map",
    "bpf_lsm_bpf_map_create",
    "bpf_lsm_bpf_map_free",
    "bpf_lsm_bpf_prog",
    "bpf_lsm_bpf_prog_free",
    "bpf_lsm_bpf_prog_load",
    "bpf_lsm_bpf_token_capable",
    "bpf_lsm_bpf_token_cmd",
    "bpf_lsm_bpf_token_create",
    "bpf_lsm_bpf_token_free",
    "bpf_lsm_bprm_check_security",
    "bpf_lsm_bprm_committed_creds",
    "bpf_lsm_bprm_committing_creds",
    "bpf_lsm_bprm_creds_for_exec",
    "bpf_lsm_bprm_creds_from_file",
    "bpf_lsm_capget",
    "bpf_lsm_capset",
    "bpf_lsm_cred_prepare",
    "bpf_lsm_file_ioctl",
    "bpf_lsm_file_lock",
    "bpf_lsm_file_open",
    "bpf_lsm_file_post_open",
    "bpf_lsm_file_receive",
    "bpf_lsm_inet_conn_established",
    "bpf_lsm_inode_create",
    "bpf_lsm_inode_free_security",
    "bpf_lsm_inode_getattr",
    "bpf_lsm_inode_getxattr",
    "bpf_lsm_inode_mknod",
    "bpf_lsm_inode_need_killpriv",
    "bpf_lsm_inode_post_removexattr",
    "bpf_lsm_inode_post_setxattr",
    "bpf_lsm_inode_readlink",
    "bpf_lsm_inode_removexattr",
    "bpf_lsm_inode_rename",
    "bpf_lsm_inode_rmdir",
    "bpf_lsm_inode_setattr",
    "bpf_lsm_inode_setxattr",
    "bpf_lsm_inode_symlink",
    "bpf_lsm_inode_unlink",
    "bpf_lsm_kernel_module_request",
    "bpf_lsm_kernel_read_file",
    "bpf_lsm_kernfs_init_security",
    "bpf_lsm_mmap_file",
    "bpf_lsm_netlink_send",
    "bpf_lsm_path_chmod",
    "bpf_lsm_path_chown",
    "bpf_lsm_path_link",
    "bpf_lsm_path_mkdir",
    "bpf_lsm_path_notify",
    "bpf_lsm_path_rename",
    "bpf_lsm_path_rmdir",
    "bpf_lsm_path_symlink",
    "bpf_lsm_path_truncate",
    "bpf_lsm_path_unlink",
    "bpf_lsm_release_secctx",
    "bpf_lsm_sb_alloc_security",
    "bpf_lsm_sb_eat_lsm_opts",
    "bpf_lsm_sb_kern_mount",
    "bpf_lsm_sb_mount",
    "bpf_lsm_sb_remount",
    "bpf_lsm_sb_set_mnt_opts",
    "bpf_lsm_sb_show_options",
    "bpf_lsm_sb_statfs",
    "bpf_lsm_sb_umount",
    "bpf_lsm_settime",
    "bpf_lsm_socket_accept",
    "bpf_lsm_socket_bind",
    "bpf_lsm_socket_connect",
    "bpf_lsm_socket_create",
    "bpf_lsm_socket_getpeername",
    "bpf_lsm_socket_getpeersec_dgram",
    "bpf_lsm_socket_getsockname",
    "bpf_lsm_socket_getsockopt",
    "bpf_lsm_socket_listen",
    "bpf_lsm_socket_post_create",
    "bpf_lsm_socket_recvmsg",
    "bpf_lsm_socket_sendmsg",
    "bpf_lsm_socket_shutdown",
    "bpf_lsm_socket_socketpair",
    "bpf_lsm_syslog",
    "bpf_lsm_task_alloc",
    "bpf_lsm_task_prctl",
    "bpf_lsm_task_setscheduler",
    "bpf_lsm_task_to_inode",
    "bpf_lsm_userns_create",
];

/// Hooks called with the socket locked: `bpf_lsm_locked_sockopt_hooks`.
const LOCKED_SOCKOPT_HOOKS: &[&str] =
    &["bpf_lsm_inet_conn_established", "bpf_lsm_inet_csk_clone", "bpf_lsm_sock_graft"];

/// Hooks called on a socket so young that nobody else can lock it: `bpf_lsm_unlocked_sockopt_hooks`.
const UNLOCKED_SOCKOPT_HOOKS: &[&str] = &["bpf_lsm_socket_post_create", "bpf_lsm_socket_socketpair"];

/// Functions in which resolving a path cannot deadlock: `btf_allowlist_d_path`.
const D_PATH_FUNCTIONS: &[&str] = &[
    "dentry_open",
    "filp_close",
    "security_file_open",
    "security_file_permission",
    "security_inode_getattr",
    "security_path_truncate",
    "vfs_fallocate",
    "vfs_getattr",
    "vfs_truncate",
];

/// `bpf_lsm_is_sleepable_hook`, by the hook's name (`bpf_lsm_file_open`).
pub fn is_sleepable_hook(hook: &str) -> bool {
    SLEEPABLE_LSM_HOOKS.binary_search(&hook).is_ok()
}

/// The socket is locked while the hook runs.
pub(super) fn is_locked_sockopt_hook(hook: &str) -> bool {
    LOCKED_SOCKOPT_HOOKS.contains(&hook)
}

/// The socket needs no lock while the hook runs.
pub(super) fn is_unlocked_sockopt_hook(hook: &str) -> bool {
    UNLOCKED_SOCKOPT_HOOKS.contains(&hook)
}

/// `bpf_d_path` may be called while tracing this function.
pub(super) fn is_d_path_function(function: &str) -> bool {
    D_PATH_FUNCTIONS.contains(&function)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hooks_are_sorted_for_binary_search() {
        assert!(SLEEPABLE_LSM_HOOKS.is_sorted());
        assert!(is_sleepable_hook("bpf_lsm_file_open") && !is_sleepable_hook("bpf_lsm_file_permission"));
    }
}
