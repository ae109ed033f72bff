//! Helpers of the cgroup program types.

use bpftwin_uapi::AttachType::{self, *};
use bpftwin_uapi::HelperId::{self, *};

use super::base::{bpf_base_func_proto, bpf_sk_base_func_proto};
use super::net::sk_filter_func_proto;
use crate::helpers::proto::ProgCtx;
use crate::helpers::protos::{base, cgroup, skb, sock, storage};
use crate::helpers::select::Proto;

/// What all cgroup types share; LSM programs of cgroups too.
pub(super) fn cgroup_common_func_proto(func_id: HelperId, prog: &ProgCtx) -> Proto {
    match func_id {
        GetLocalStorage => Some(&cgroup::GET_LOCAL_STORAGE),
        GetRetval if has_retval(prog) => Some(&cgroup::GET_RETVAL),
        SetRetval if has_retval(prog) => Some(&cgroup::SET_RETVAL),
        _ => None,
    }
}

/// The hook's caller looks at the return value, so that programs may pass it on.
fn has_retval(prog: &ProgCtx) -> bool {
    !matches!(
        AttachType::from_u32(prog.expected_attach_type),
        Some(
            CgroupInetIngress
                | CgroupInetEgress
                | CgroupSockOps
                | CgroupUdp4Recvmsg
                | CgroupUdp6Recvmsg
                | CgroupUnixRecvmsg
                | CgroupInet4Getpeername
                | CgroupInet6Getpeername
                | CgroupUnixGetpeername
                | CgroupInet4Getsockname
                | CgroupInet6Getsockname
                | CgroupUnixGetsockname
        )
    )
}

/// Hooks of `BPF_PROG_TYPE_CGROUP_SOCK_ADDR` that run with the socket locked: all of its own.
fn sock_addr_may_use_sockopt(attach_type: Option<AttachType>) -> bool {
    matches!(
        attach_type,
        Some(
            CgroupInet4Bind
                | CgroupInet6Bind
                | CgroupInet4Connect
                | CgroupInet6Connect
                | CgroupUnixConnect
                | CgroupUdp4Recvmsg
                | CgroupUdp6Recvmsg
                | CgroupUnixRecvmsg
                | CgroupUdp4Sendmsg
                | CgroupUdp6Sendmsg
                | CgroupUnixSendmsg
                | CgroupInet4Getpeername
                | CgroupInet6Getpeername
                | CgroupUnixGetpeername
                | CgroupInet4Getsockname
                | CgroupInet6Getsockname
                | CgroupUnixGetsockname
        )
    )
}

/// `BPF_PROG_TYPE_CGROUP_SKB`
pub(super) fn cg_skb_func_proto(func_id: HelperId, prog: &ProgCtx) -> Proto {
    if let Some(proto) = cgroup_common_func_proto(func_id, prog) {
        return Some(proto);
    }
    let config = prog.config;
    Some(match func_id {
        SkFullsock => &sock::SK_FULLSOCK,
        SkStorageGet => &storage::SK_STORAGE_GET,
        SkStorageDelete => &storage::SK_STORAGE_DELETE,
        PerfEventOutput => &skb::SKB_EVENT_OUTPUT,
        SkbCgroupId if config.sock_cgroup_data => &skb::SKB_CGROUP_ID,
        SkbAncestorCgroupId if config.sock_cgroup_data => &skb::SKB_ANCESTOR_CGROUP_ID,
        SkCgroupId if config.sock_cgroup_data => &sock::SK_CGROUP_ID,
        SkAncestorCgroupId if config.sock_cgroup_data => &sock::SK_ANCESTOR_CGROUP_ID,
        SkLookupTcp if config.inet => &sock::SK_LOOKUP_TCP,
        SkLookupUdp if config.inet => &sock::SK_LOOKUP_UDP,
        SkRelease if config.inet => &sock::SK_RELEASE,
        SkcLookupTcp if config.inet => &sock::SKC_LOOKUP_TCP,
        TcpSock if config.inet => &sock::TCP_SOCK,
        GetListenerSock if config.inet => &sock::GET_LISTENER_SOCK,
        SkbEcnSetCe if config.inet => &skb::SKB_ECN_SET_CE,
        _ => return sk_filter_func_proto(func_id, prog),
    })
}

/// `BPF_PROG_TYPE_CGROUP_SOCK`
pub(super) fn sock_filter_func_proto(func_id: HelperId, prog: &ProgCtx) -> Proto {
    if let Some(proto) = cgroup_common_func_proto(func_id, prog) {
        return Some(proto);
    }
    Some(match func_id {
        GetSocketCookie => &sock::GET_SOCKET_COOKIE_SOCK,
        GetNetnsCookie => &sock::GET_NETNS_COOKIE_SOCK,
        PerfEventOutput => &base::EVENT_OUTPUT_DATA,
        SkStorageGet => &storage::SK_STORAGE_GET_CG_SOCK,
        KtimeGetCoarseNs => &base::KTIME_GET_COARSE_NS,
        _ => return bpf_base_func_proto(func_id, prog),
    })
}

/// `BPF_PROG_TYPE_CGROUP_SOCK_ADDR`
pub(super) fn sock_addr_func_proto(func_id: HelperId, prog: &ProgCtx) -> Proto {
    if let Some(proto) = cgroup_common_func_proto(func_id, prog) {
        return Some(proto);
    }
    let config = prog.config;
    let attach_type = AttachType::from_u32(prog.expected_attach_type);
    let may_set_sockopt = sock_addr_may_use_sockopt(attach_type);
    Some(match func_id {
        Bind => match attach_type {
            Some(AttachType::CgroupInet4Connect | AttachType::CgroupInet6Connect) => &sock::BIND,
            _ => return None,
        },
        GetSocketCookie => &sock::GET_SOCKET_COOKIE_SOCK_ADDR,
        GetNetnsCookie => &sock::GET_NETNS_COOKIE_SOCK_ADDR,
        PerfEventOutput => &base::EVENT_OUTPUT_DATA,
        SkLookupTcp if config.inet => &sock::SOCK_ADDR_SK_LOOKUP_TCP,
        SkLookupUdp if config.inet => &sock::SOCK_ADDR_SK_LOOKUP_UDP,
        SkRelease if config.inet => &sock::SK_RELEASE,
        SkcLookupTcp if config.inet => &sock::SOCK_ADDR_SKC_LOOKUP_TCP,
        SkStorageGet => &storage::SK_STORAGE_GET,
        SkStorageDelete => &storage::SK_STORAGE_DELETE,
        Setsockopt => {
            if may_set_sockopt {
                &sock::SOCK_ADDR_SETSOCKOPT
            } else {
                return None;
            }
        }
        Getsockopt => {
            if may_set_sockopt {
                &sock::SOCK_ADDR_GETSOCKOPT
            } else {
                return None;
            }
        }
        _ => return bpf_sk_base_func_proto(func_id, prog),
    })
}

/// `BPF_PROG_TYPE_SOCK_OPS`
pub(super) fn sock_ops_func_proto(func_id: HelperId, prog: &ProgCtx) -> Proto {
    if let Some(proto) = cgroup_common_func_proto(func_id, prog) {
        return Some(proto);
    }
    let config = prog.config;
    Some(match func_id {
        Setsockopt => &sock::SOCK_OPS_SETSOCKOPT,
        Getsockopt => &sock::SOCK_OPS_GETSOCKOPT,
        SockOpsCbFlagsSet => &sock::SOCK_OPS_CB_FLAGS_SET,
        SockMapUpdate => &sock::SOCK_MAP_UPDATE,
        SockHashUpdate => &sock::SOCK_HASH_UPDATE,
        GetSocketCookie => &sock::GET_SOCKET_COOKIE_SOCK_OPS,
        PerfEventOutput => &base::EVENT_OUTPUT_DATA,
        SkStorageGet => &storage::SK_STORAGE_GET,
        SkStorageDelete => &storage::SK_STORAGE_DELETE,
        GetNetnsCookie => &sock::GET_NETNS_COOKIE_SOCK_OPS,
        LoadHdrOpt if config.inet => &sock::SOCK_OPS_LOAD_HDR_OPT,
        StoreHdrOpt if config.inet => &sock::SOCK_OPS_STORE_HDR_OPT,
        ReserveHdrOpt if config.inet => &sock::SOCK_OPS_RESERVE_HDR_OPT,
        TcpSock if config.inet => &sock::TCP_SOCK,
        _ => return bpf_sk_base_func_proto(func_id, prog),
    })
}

/// `BPF_PROG_TYPE_CGROUP_DEVICE`
pub(super) fn cgroup_dev_func_proto(func_id: HelperId, prog: &ProgCtx) -> Proto {
    if let Some(proto) = cgroup_common_func_proto(func_id, prog) {
        return Some(proto);
    }
    Some(match func_id {
        PerfEventOutput => &base::EVENT_OUTPUT_DATA,
        _ => return bpf_base_func_proto(func_id, prog),
    })
}

/// `BPF_PROG_TYPE_CGROUP_SYSCTL`
pub(super) fn sysctl_func_proto(func_id: HelperId, prog: &ProgCtx) -> Proto {
    if let Some(proto) = cgroup_common_func_proto(func_id, prog) {
        return Some(proto);
    }
    Some(match func_id {
        SysctlGetName => &cgroup::SYSCTL_GET_NAME,
        SysctlGetCurrentValue => &cgroup::SYSCTL_GET_CURRENT_VALUE,
        SysctlGetNewValue => &cgroup::SYSCTL_GET_NEW_VALUE,
        SysctlSetNewValue => &cgroup::SYSCTL_SET_NEW_VALUE,
        KtimeGetCoarseNs => &base::KTIME_GET_COARSE_NS,
        PerfEventOutput => &base::EVENT_OUTPUT_DATA,
        _ => return bpf_base_func_proto(func_id, prog),
    })
}

/// `BPF_PROG_TYPE_CGROUP_SOCKOPT`
pub(super) fn cg_sockopt_func_proto(func_id: HelperId, prog: &ProgCtx) -> Proto {
    if let Some(proto) = cgroup_common_func_proto(func_id, prog) {
        return Some(proto);
    }
    let config = prog.config;
    let may_set_sockopt = prog.attaches_as(CgroupSetsockopt);
    Some(match func_id {
        GetNetnsCookie => &cgroup::GET_NETNS_COOKIE_SOCKOPT,
        SkStorageGet => &storage::SK_STORAGE_GET,
        SkStorageDelete => &storage::SK_STORAGE_DELETE,
        Setsockopt => {
            if may_set_sockopt {
                &sock::SK_SETSOCKOPT
            } else {
                return None;
            }
        }
        Getsockopt => {
            if may_set_sockopt {
                &sock::SK_GETSOCKOPT
            } else {
                return None;
            }
        }
        TcpSock if config.inet => &sock::TCP_SOCK,
        PerfEventOutput => &base::EVENT_OUTPUT_DATA,
        _ => return bpf_base_func_proto(func_id, prog),
    })
}
